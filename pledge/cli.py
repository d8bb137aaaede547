"""``pledge``: the command line."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, date, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Annotated

import psycopg
import structlog
import typer
from pydantic import ValidationError

from events.ledger.keys import WrongMasterKey
from events.ledger.migrate import OtherVersion
from pledge.console import Failed, advance, err, out, progress
from pledge.embedded import EmbeddedPostgresFailed
from pledge.keeping import backup, restore
from pledge.operating import analytics, audit, policies, project
from pledge.settings import Settings
from pledge.wiring import Misconfigured, facts, parts
from projections.engine.tables import Connection

app = typer.Typer(
    name="pledge",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(project, name="project")
app.add_typer(policies, name="policies")
app.add_typer(analytics, name="analytics")
app.add_typer(audit, name="audit")
app.command()(backup)
app.command()(restore)

EARLIEST = date(1903, 1, 1)
CORRUPT = (psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted, psycopg.errors.IoError)


@app.callback()
def begin(*, until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False) -> None:
    """An event-sourced CRM: who promised what to which customer, and the evidence for it."""
    if until_eof:
        from pledge.processes import end_with_input

        end_with_input()


@app.command()
def serve() -> None:
    """Run the whole product on one port (PLEDGE_PORT, PLEDGE_HOME, PLEDGE_DATABASE_URL)."""
    from pledge.serving import serve as run

    run(Settings(), err)


@app.command()
def migrate() -> None:
    """Bring the database to this version, as every process does at its start; then end."""
    with parts(Settings()):
        err.print("the database is of this version")


@app.command(name="commands")
def commands_() -> None:
    """Run the write API alone (PLEDGE_PORT)."""
    from pledge import serving

    serving.serve_commands(Settings(), err)


@app.command(name="read-api")
def read_api() -> None:
    """Run the read API alone (PLEDGE_PORT)."""
    from pledge import serving

    serving.serve_questions(Settings(), err)


@app.command()
def relay(
    *,
    start_over: Annotated[
        bool,
        typer.Option("--from-the-start", help="Carry everything again, into a topic made anew."),
    ] = False,
) -> None:
    """Carry events to Kafka (PLEDGE_KAFKA_BOOTSTRAP); of several relays one leads."""
    from pledge.processes import on_signals
    from pledge.tailing import relay as run

    stop = threading.Event()
    on_signals(stop.set)
    run(Settings(), stop, start_over=start_over)


@app.command()
def healthy(
    part: Annotated[str, typer.Argument(help="relay, projections, policies or analytics.")],
) -> None:
    """Check the parts that have no HTTP: exit with 1 and say why if one is halted."""
    from read_api import health

    looks: dict[str, Callable[[Connection], str | None]] = {
        "relay": health.relay_stands,
        "projections": health.projections_stand,
        "policies": health.policies_stand,
        "analytics": partial(health.facts_stand, store=facts(Settings())),
    }
    if part not in looks:
        raise Failed(f"No part is called {part}. There are: {', '.join(looks)}.")
    with parts(Settings()) as found, found.connect() as conn:
        why = looks[part](conn)
    if why is not None:
        raise Failed(f"{part}: {why}")


@app.command()
def stack(
    nodes: Annotated[int, typer.Option(help="Of Kafka: 1, or 3 of which one may die.")] = 1,
    projections: Annotated[int, typer.Option(min=1, max=12, help="Projectors' processes.")] = 2,
) -> None:
    """Run every process of the deployment with Kafka on this machine, watched, on two ports."""
    from pledge import stack as deployment
    from pledge.broker import BrokerFailed

    if nodes not in (1, 3):
        raise Failed("A Kafka has 1 node or 3; of two none could be spared.")
    try:
        deployment.run(Settings(), err, nodes=nodes, projections=projections)
    except BrokerFailed as error:
        raise Failed(str(error)) from error


@app.command(name="import")
def import_(
    source: Annotated[Path, typer.Argument(help="A file, or a folder or zip archive of files.")],
    mapping: Annotated[str, typer.Option(help="A shipped mapping's name, or a mapping file.")],
    url: Annotated[
        str | None,
        typer.Option(help="A running Pledge (PLEDGE_URL, or this machine's PLEDGE_PORT)."),
    ] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, record nothing.")
    ] = False,
) -> None:
    """Turn the rows of files into commands and send them to a running Pledge. Safe to repeat."""
    from commands.http.rehearsal import Rehearsal
    from commands.http.wire import ENTRIES, check_line
    from pledge.importing import ImportFailedError, run_import

    try:
        report = run_import(
            source,
            mapping,
            url=url or Settings().service,
            dry_run=dry_run,
            check=check_line,
            rehearsal=Rehearsal(),
            known_commands=ENTRIES,
            console=err,
        )
    except ImportFailedError as error:
        raise Failed(str(error)) from error
    report.show(out)
    if report.rejected or report.changed:
        raise typer.Exit(2)


@app.command(name="demo")
def demo_(
    size: Annotated[int, typer.Option(min=1, help="How many customers.")] = 120,
    seed: Annotated[int, typer.Option(help="Of every choice; another seed, another company.")] = 1,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The two years end before this day (today)."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="A running Pledge (PLEDGE_URL, or this machine's PLEDGE_PORT)."),
    ] = None,
    *,
    only_print: Annotated[
        bool, typer.Option("--print", help="Write the commands to standard output, send nothing.")
    ] = False,
) -> None:
    """Fill a running Pledge with two years of a sample company. Safe to repeat."""
    from pledge import demo
    from pledge.importing import ImportFailedError
    from pledge.importing.sending import Sender

    today = datetime.now(UTC).date()
    day = until.date() if until is not None else today
    if day < EARLIEST:
        raise Failed(f"{day} is too early; the story has two years before it")
    if day > today:
        raise Failed(f"{day} lies ahead; what has not happened cannot be told")
    lines = demo.story(size, seed, day)
    if only_print:
        sys.stdout.buffer.writelines(line.raw + b"\n" for line in lines)
        return
    refused = 0
    try:
        with Sender(url or Settings().service) as sender, progress("commands") as bar:
            task = bar.add_task("telling", total=len(lines))
            for done in range(0, len(lines), demo.CHUNK):
                chunk = lines[done : done + demo.CHUNK]
                answers = sender.send([line.raw for line in chunk])
                for line, answer in zip(chunk, answers, strict=True):
                    is_done = answer.status < HTTPStatus.MULTIPLE_CHOICES
                    demo.check(line, None if is_done else f"{answer.status} {answer.reason}")
                    refused += line.refused_by is not None
                advance(bar, task, done + len(chunk), len(lines))
    except (ImportFailedError, demo.StoryFailed) as error:
        raise Failed(str(error)) from error
    err.print(f"{len(lines)} commands; {refused} of them refused by a rule, as the story has it")


@app.command()
def export(
    what: Annotated[str, typer.Argument(help="events, or a list like customers, orders …")],
    asked: Annotated[
        list[str] | None, typer.Argument(help="Parameters of the list: owner=ada …")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="A .csv, .ndjson, .xlsx or .parquet; lines of JSON if none."),
    ] = None,
    after: Annotated[int, typer.Option(help="Of events, only those above this position.")] = 0,
) -> None:
    """Write every event with its envelope, or the whole of a list as the API gives it."""
    from pledge import exporting

    pairs = [pair.partition("=") for pair in asked or ()]
    if wrong := [name for name, sign, _ in pairs if not (name and sign)]:
        raise Failed(f"{wrong[0]!r} is no parameter; write NAME=VALUE, like owner=ada.")
    is_events = what == exporting.EVENTS
    suffix = "ndjson" if to is None else to.suffix.lower().removeprefix(".")
    if is_events and pairs:
        raise Failed("events have no parameters but --after.")
    if is_events and suffix in exporting.BY_SUFFIX and suffix != "ndjson":
        raise Failed(f"events are lines of JSON: let {to} end with .ndjson.")
    if after and not is_events:
        raise Failed("--after is of events; a list has parameters of its own.")
    with parts(Settings()) as found, ExitStack() as opened:
        file: IO[bytes] = sys.stdout.buffer
        if to is not None:
            file = opened.enter_context(_replacing(to))
        if is_events:
            conn = opened.enter_context(found.connect())
            count = exporting.write_events(conn, found, file, after, err.print)
        else:
            bar = opened.enter_context(progress("rows"))
            task = bar.add_task(what, total=None)
            given = {name: value for name, _, value in pairs}
            report = partial(advance, bar, task)
            count = exporting.write_list(
                found, what, given, file, suffix, lambda done: report(done, done)
            )
        file.flush()
    if to is not None:
        err.print(f"{count} {what if is_events else 'rows'} written to {to}")


@contextmanager
def _replacing(to: Path) -> Iterator[IO[bytes]]:
    """A new file, which takes the place of an old one once it is whole, with its permissions.

    New ones are their owner's alone to read. What is no plain file is written as it is.
    """
    target = to.resolve()
    made = None
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield file
            return
        with NamedTemporaryFile(dir=target.parent, prefix=f".{to.name}.", delete=False) as new:
            made = Path(new.name)
            yield new
        if target.exists():
            made.chmod(target.stat().st_mode)
        made.replace(target)
    except OSError as error:
        raise Failed(f"{error.filename or to} cannot be written: {error.strerror}") from error
    finally:
        if made is not None:
            made.unlink(missing_ok=True)


def main() -> None:
    """Run the command line; problems that a user can mend are said in a sentence."""
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what fails is raised, and logged by us
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer()
            if not sys.stderr.isatty()
            else structlog.dev.ConsoleRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        app()
    except (Failed, Misconfigured, EmbeddedPostgresFailed, OtherVersion, WrongMasterKey) as error:
        err.print(f"[red]pledge:[/] {error}", highlight=False)
        raise SystemExit(1) from None
    except ValidationError as error:
        for item in error.errors():
            name = "PLEDGE_" + "_".join(map(str, item["loc"])).upper()
            err.print(f"[red]pledge:[/] {name}: {item['msg']}", highlight=False)
        raise SystemExit(1) from None
    except psycopg.OperationalError as error:
        err.print(f"[red]pledge:[/] the database does not answer: {error}", highlight=False)
        raise SystemExit(1) from None
    except CORRUPT as error:
        err.print(
            f"[red]pledge:[/] the database is damaged: {error}. Stop Pledge and restore a backup.",
            highlight=False,
        )
        raise SystemExit(1) from None
    except OSError as error:
        _write_no_more()
        where = "" if error.filename is None else f"{error.filename}: "
        err.print(f"[red]pledge:[/] {where}{error.strerror or error}", highlight=False)
        raise SystemExit(1) from None


def _write_no_more() -> None:
    """Drop what standard output did not take: at the end Python would complain of it again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
