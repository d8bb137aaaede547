"""The processes of the product: all of it in one, or each part in its own."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import structlog
import uvicorn
from rich.console import Console

from analytics.facts.writing import Writing
from commands.handling.writer import Writer
from commands.policies import Policies
from events.kafka.client import KafkaAway
from events.kafka.leading import from_the_start
from events.kafka.relay import Relay
from events.kafka.topic import TopicUnfit, prepare_topic, tail_of
from events.ledger import ledger
from pledge import app, demo
from pledge.front import Front, Server
from pledge.settings import Settings
from pledge.wiring import Misconfigured, Parts, facts, parts
from projections.catalog import MODELS
from projections.engine.runner import Runner
from projections.engine.sources import FromLedger
from projections.engine.topic import FromTopic
from read_api.reading import Reader

log = structlog.get_logger()

SWITCH_SECONDS = 0.0005
"""How long a busy thread keeps the interpreter from the writer's thread."""
STOP_SECONDS = 10
RESTART_SECONDS = 1.0
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
    with parts(settings) as found:
        if settings.demo:
            fill_if_empty(found, console)
        reader = Reader(found.conninfo, found.keyring(), facts=facts(settings))
        with (
            beside(found, settings, "project", "run", "--from-ledger"),
            beside(found, settings, "analytics", "run"),
            following(found),
            _deciding(found) as writer,
        ):
            _serve_http(settings, app.whole(writer, reader, settings), console, PLACES)


def serve_commands(settings: Settings, console: Console) -> None:
    """Run the write API alone until SIGINT or SIGTERM.

    Raises:
        Misconfigured: as ``serve``.
    """
    _make_ready(settings)
    with parts(settings) as found, _deciding(found) as writer:
        reader = Reader(found.conninfo, found.keyring(), size=1)
        places = (("/commands", "what can be asked"), ("/docs", "the API, to read and to try"))
        _serve_http(settings, app.commands_only(writer, reader), console, places)


def serve_questions(settings: Settings, console: Console) -> None:
    """Run the read API alone until SIGINT or SIGTERM.

    Raises:
        Misconfigured: as ``serve``.
    """
    _make_ready(settings)
    with parts(settings) as found:
        reader = Reader(found.conninfo, found.keyring(), facts=facts(settings))
        _serve_http(settings, app.questions_only(reader, settings), console, PLACES)


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


def project(settings: Settings, stop: threading.Event, *, from_ledger: bool = False) -> None:
    """Run the projectors of all read models until told to stop; from Kafka, if one is named."""
    bootstrap = None if from_ledger else settings.kafka_bootstrap
    source = FromLedger() if bootstrap is None else FromTopic(bootstrap, settings.kafka_topic)
    with parts(settings) as found:
        Runner(found.connect, found.keyring(), MODELS, source=source).run(stop)


def write_facts(settings: Settings, stop: threading.Event) -> None:
    """Keep the facts that figures are computed from up to the ledger until told to stop."""
    with parts(settings) as found:
        Writing(found.connect, found.keyring(), facts(settings)).run(stop)


def follow(settings: Settings, stop: threading.Event) -> None:
    """Run the policies until told to stop."""
    with parts(settings) as found:
        _follow(found, stop)


def relay(settings: Settings, stop: threading.Event, *, start_over: bool = False) -> None:
    """Carry events to Kafka until told to stop.

    Raises:
        Misconfigured: when no Kafka is named, or to start over is asked and it does not answer.
    """
    bootstrap, topic = settings.kafka_bootstrap, settings.kafka_topic
    if bootstrap is None:
        raise Misconfigured(
            "No Kafka is named. Say where it is: PLEDGE_KAFKA_BOOTSTRAP=host:9092 pledge relay"
        )
    with parts(settings) as found:
        if start_over:
            try:
                topic_id = prepare_topic(bootstrap, topic)
                with found.connect() as conn:
                    from_the_start(conn, topic_id, tail_of(bootstrap, topic, lambda: None))
            except (KafkaAway, TopicUnfit) as error:
                raise Misconfigured(str(error)) from error
        Relay(found.connect, bootstrap, topic).run(stop)


def _follow(found: Parts, stop: threading.Event) -> None:
    writer = found.writer()
    try:
        Policies(found.connect, found.keyring(), writer).run(stop)
    finally:
        writer.stop()


@contextmanager
def following(found: Parts) -> Iterator[None]:
    """The policies in a thread of their own; of several processes one acts."""
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(found, stop), name="policies", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_SECONDS)


@contextmanager
def beside(found: Parts, settings: Settings, *arguments: str) -> Iterator[None]:
    """A part of Pledge in a process of its own, started again whenever it dies.

    The child ends when its standard input does, so it never outlives a killed parent.
    """
    stop = threading.Event()
    environment = {
        **os.environ,
        "PLEDGE_DATABASE_URL": found.conninfo,
        "PLEDGE_HOME": str(settings.home.absolute()),
    }
    command = program("--until-eof", *arguments)
    children: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        child = subprocess.Popen(  # noqa: S603 - our own program
            command, env=environment, stdin=subprocess.PIPE, start_new_session=True
        )
        children[:] = [child]

    def watch() -> None:
        while not stop.wait(RESTART_SECONDS / 5):
            code = children[0].poll()
            if code is not None and not stop.is_set():
                log.warning("a part died and is started again", part=arguments[0], code=code)
                stop.wait(RESTART_SECONDS)
                start()

    start()
    watcher = threading.Thread(target=watch, name=f"{arguments[0]} watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        _end(children[0])


def _end(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.close()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def program(*arguments: str) -> list[str]:
    """The command line of another of our processes."""
    return [sys.executable, "-P", "-m", "pledge.cli", *arguments]


def end_with_input() -> None:
    """End this process as SIGTERM does once standard input ends: when its parent is gone."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="until eof", daemon=True).start()


def on_signals(stop: Callable[[], None]) -> None:
    """Call ``stop`` at SIGINT and SIGTERM.

    In a thread of its own: the main thread may hold the very lock that ``stop`` takes, for a signal
    can come between any two of its steps.
    """

    def handle(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=stop, name="stopping", daemon=True).start()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


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
    base = settings.local_url
    console.print(f"\n[bold]Pledge runs on[/] {base}")
    for path, about in places:
        console.print(f"  {base}{path:<22} {about}")
    console.print("Ctrl-C stops it; the data stay.\n", style="dim")
