"""The processes that answer over HTTP: the whole product, or its write or read API alone."""

from __future__ import annotations

import gc
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import structlog
import uvicorn
from rich.console import Console

from commands.handling.writer import Writer
from events.ledger import ledger
from pledge import app, demo
from pledge.front import Front, Server
from pledge.processes import beside
from pledge.settings import Settings
from pledge.tailing import following
from pledge.wiring import Misconfigured, Parts, facts, parts
from read_api.reading import Reader

log = structlog.get_logger()

SWITCH_SECONDS = 0.0005
"""How long a busy thread keeps the interpreter from the writer's thread."""
Places = tuple[tuple[str, str], ...]
PLACES: Places = (
    ("/", "what is here"),
    ("/docs", "the API, to read and to try"),
    ("/promises", "who promised what to whom"),
    ("/payments/receivables", "who owes what"),
    ("/audit/events", "every event there ever was"),
)


def serve(settings: Settings, console: Console) -> None:
    """Run the whole product on one port until SIGINT or SIGTERM.

    Raises:
        Misconfigured: when the port is taken, or the database or the key cannot be used.
    """
    _make_ready(settings)
    console.print(
        "[dim]·[/] starting PostgreSQL"
        if settings.database_url is None
        else "[dim]·[/] connecting to PostgreSQL"
    )
    with parts(settings, supervised=True) as found:
        if settings.demo:
            fill_if_empty(found, console)
        reader = Reader(found.conninfo, found.keyring(), facts=facts(settings))
        with (
            beside(found, settings, "project", "run", "--from-ledger"),
            beside(found, settings, "analytics", "run"),
            following(found),
            _deciding(found) as writer,
            _noted(settings),
        ):
            _serve_http(settings, app.whole(writer, reader, settings), console, PLACES)


def serve_commands(settings: Settings, console: Console) -> None:
    """Run the write API alone until SIGINT or SIGTERM.

    Raises:
        Misconfigured: as ``serve``.
    """
    _make_ready(settings)
    with parts(settings, supervised=True) as found, _deciding(found) as writer:
        reader = Reader(found.conninfo, found.keyring(), size=1)
        places = (("/commands", "what can be asked"), ("/docs", "the API, to read and to try"))
        _serve_http(settings, app.commands_only(writer, reader), console, places)


def serve_questions(settings: Settings, console: Console) -> None:
    """Run the read API alone until SIGINT or SIGTERM.

    Raises:
        Misconfigured: as ``serve``.
    """
    _make_ready(settings)
    with parts(settings, supervised=True) as found:
        reader = Reader(found.conninfo, found.keyring(), facts=facts(settings))
        _serve_http(settings, app.questions_only(reader, settings), console, PLACES)


@contextmanager
def _noted(settings: Settings) -> Iterator[None]:
    """The address stands in the home as long as the block, for the commands of this program."""
    note = settings.note_of_address
    with suppress(OSError):
        note.write_text(settings.address, encoding="utf-8")
    try:
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)


@contextmanager
def _deciding(found: Parts) -> Iterator[Writer]:
    writer = found.writer()
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()


def _serve_http(
    settings: Settings, application: app.Pledge, console: Console, places: Places
) -> None:
    config = uvicorn.Config(
        application,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="error",
        timeout_graceful_shutdown=5,
        server_header=False,
        http=Front,
        ws="none",
        proxy_headers=False,
    )
    server = Server(config)
    threading.Thread(
        target=_greet, args=(server, settings, console, places), name="greeting", daemon=True
    ).start()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        server.run()
    finally:
        console.print("[dim]·[/] stopped")


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _make_ready(settings: Settings) -> None:
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    refuse_taken_port(settings)


def refuse_taken_port(settings: Settings) -> None:
    """Look whether the port can be had.

    Raises:
        Misconfigured: when it cannot.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise Misconfigured(
                f"Port {settings.port} on {settings.host} cannot be used ({error.strerror}). "
                "Another program may have it, perhaps another Pledge. "
                "Stop that one, or choose another port: PLEDGE_PORT=8001 make run"
            ) from error


def fill_if_empty(found: Parts, console: Console) -> None:
    """Fill an empty ledger with the sample company; one that was interrupted is completed."""
    with found.connect() as conn:
        begun = demo.cut_short(conn)
        if ledger.head(conn) > 0 and begun is None:
            return
    writer = found.writer()
    try:
        with console.status("the ledger is empty: making a sample company of two years") as status:
            demo.fill(
                writer,
                begun,
                lambda done, of: status.update(f"making a sample company: {done} of {of} commands"),
            )
    except demo.StoryFailed as error:
        log.error("the sample company stays half made", why=str(error))  # noqa: TRY400 - told whole
        return
    finally:
        writer.stop()
    console.print("[dim]·[/] made a sample company of two years")


def _greet(server: uvicorn.Server, settings: Settings, console: Console, places: Places) -> None:
    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.02)
    base = settings.address
    console.print(f"\n[bold]Pledge runs on[/] {base}")
    for path, about in places:
        console.print(f"  {base}{path:<22} {about}")
    console.print("Ctrl-C stops it; the data stay.\n", style="dim")
