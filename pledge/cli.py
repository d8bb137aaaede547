"""``pledge``: the command line."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import orjson
import psycopg
import structlog
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from events.ledger.keys import WrongMasterKey
from events.ledger.migrate import OtherVersion
from pledge.embedded import EmbeddedPostgresFailed
from pledge.settings import Settings
from pledge.wiring import Misconfigured, facts, parts
from projections.engine.model import ReadModel
from projections.engine.tables import Connection

app = typer.Typer(
    name="pledge",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
export = typer.Typer(help="Take data out.", no_args_is_help=True)
project = typer.Typer(
    help="Read models: how far they are, building them anew.", no_args_is_help=True
)
policies = typer.Typer(help="What follows from events.", no_args_is_help=True)
analytics = typer.Typer(help="Figures, and the facts behind them.", no_args_is_help=True)
audit = typer.Typer(help="Proofs.", no_args_is_help=True)
app.add_typer(export, name="export")
app.add_typer(project, name="project")
app.add_typer(policies, name="policies")
app.add_typer(analytics, name="analytics")
app.add_typer(audit, name="audit")

out = Console()
err = Console(stderr=True)
EXPORT_CHUNK = 1_000
REBUILD_TRIES = 20
EARLIEST = date(1903, 1, 1)


@app.callback()
def begin(*, until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False) -> None:
    """An event-sourced CRM: who promised what to which customer, and the evidence for it."""
    if until_eof:
        from pledge import serving

        serving.end_with_input()


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
    """Take commands over HTTP, and nothing else (PLEDGE_PORT)."""
    from pledge import serving

    serving.serve_commands(Settings(), err)


@app.command(name="read-api")
def read_api() -> None:
    """Answer questions over HTTP, and nothing else (PLEDGE_PORT)."""
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
    from pledge import serving

    stop = threading.Event()
    serving.on_signals(stop.set)
    serving.relay(Settings(), stop, start_over=start_over)


@app.command()
def healthy(
    part: Annotated[str, typer.Argument(help="relay, projections, policies or analytics.")],
) -> None:
    """For health checks: end with 1, and say why, if a part that speaks no HTTP stands still."""
    from read_api import health

    looks: dict[str, Callable[[Connection], str | None]] = {
        "relay": health.relay_stands,
        "projections": health.projections_stand,
        "policies": health.policies_stand,
        "analytics": partial(health.facts_stand, store=facts(Settings())),
    }
    if part not in looks:
        raise _Failed(f"No part is called {part}. There are: {', '.join(looks)}.")
    with parts(Settings()) as found, found.connect() as conn:
        why = looks[part](conn)
    if why is not None:
        raise _Failed(f"{part}: {why}")


@app.command()
def stack(
    nodes: Annotated[int, typer.Option(help="Of Kafka: 1, or 3 of which one may die.")] = 1,
    projections: Annotated[int, typer.Option(min=1, max=12, help="Projectors' processes.")] = 2,
) -> None:
    """Run every process of the deployment with Kafka on this machine, watched, on two ports."""
    from pledge import stack as deployment
    from pledge.broker import BrokerFailed

    if nodes not in (1, 3):
        raise _Failed("A Kafka has 1 node or 3; of two none could be spared.")
    try:
        deployment.run(Settings(), err, nodes=nodes, projections=projections)
    except BrokerFailed as error:
        raise _Failed(str(error)) from error


@app.command(name="import")
def import_(
    source: Annotated[Path, typer.Argument(help="A CSV or Excel file, or a folder of them.")],
    mapping: Annotated[str, typer.Option(help="A shipped mapping's name, or a mapping file.")],
    url: Annotated[str | None, typer.Option(help="A running Pledge (default PLEDGE_URL).")] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, send nothing.")
    ] = False,
) -> None:
    """Turn the rows of files into commands and send them to a running Pledge. Safe to repeat."""
    from commands.http.wire import ENTRIES, check_line
    from pledge.importing import ImportFailedError, run_import

    try:
        report = run_import(
            source,
            mapping,
            url=url or Settings().url,
            dry_run=dry_run,
            check=check_line,
            known_commands=ENTRIES,
            console=err,
        )
    except ImportFailedError as error:
        raise _Failed(str(error)) from error
    report.show(out)
    if report.rejected:
        raise typer.Exit(2)


@app.command(name="demo")
def demo_(
    size: Annotated[int, typer.Option(min=1, help="How many customers.")] = 120,
    seed: Annotated[int, typer.Option(help="Of every choice; another seed, another company.")] = 1,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The two years end before this day (today)."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="A running Pledge (default PLEDGE_URL).")] = None,
    *,
    only_print: Annotated[
        bool, typer.Option("--print", help="Write the commands to standard output, send nothing.")
    ] = False,
) -> None:
    """Make a believable company of two years in a running Pledge. Safe to repeat."""
    from pledge import demo
    from pledge.importing import ImportFailedError
    from pledge.importing.sending import Sender

    today = datetime.now(UTC).date()
    day = until.date() if until is not None else today
    if day < EARLIEST:
        raise _Failed(f"{day} is too early; the story has two years before it")
    if day > today:
        raise _Failed(f"{day} lies ahead; what has not happened cannot be told")
    lines = demo.story(size, seed, day)
    if only_print:
        sys.stdout.buffer.writelines(line.raw + b"\n" for line in lines)
        return
    refused = 0
    try:
        with Sender(url or Settings().url) as sender, _progress("commands") as bar:
            task = bar.add_task("telling", total=len(lines))
            for done in range(0, len(lines), demo.CHUNK):
                chunk = lines[done : done + demo.CHUNK]
                answers = sender.send([line.raw for line in chunk])
                for line, answer in zip(chunk, answers, strict=True):
                    demo.check(line, answer.status, answer.reason or "")
                    refused += line.refused_by is not None
                _advance(bar, task, done + len(chunk), len(lines))
    except (ImportFailedError, demo.StoryFailed) as error:
        raise _Failed(str(error)) from error
    err.print(f"{len(lines)} commands; {refused} of them refused by a rule, as the story has it")


@export.command(name="events")
def export_events(
    to: Annotated[Path | None, typer.Option(help="A file; standard output if none.")] = None,
    after: Annotated[int, typer.Option(help="Only events above this position.")] = 0,
) -> None:
    """Every event with its envelope, one JSON object a line, in the order of the ledger."""
    from events.ledger import ledger
    from projections.engine.folding import readable

    with parts(Settings()) as found, found.connect() as conn:
        keyring = found.keyring()
        file = sys.stdout.buffer if to is None else to.open("wb")
        position, count = after, 0
        while rows := ledger.read(conn, position, EXPORT_CHUNK):
            batch = readable(conn, keyring, rows)
            for poison in batch.broken.values():
                err.print(f"[yellow]left out:[/] {poison}")
            for recorded in batch.events:
                line = recorded._asdict()
                line["data"] = line.pop("event").model_dump(mode="json", exclude_none=True)
                file.write(orjson.dumps(line, option=orjson.OPT_UTC_Z) + b"\n")
            position = rows[-1][0]
            count += len(batch.events)
        file.flush()
        if to is not None:
            file.close()
            err.print(f"{count} events written to {to}")


@project.command()
def status() -> None:
    """How far each read model is behind the ledger, whether it halted, what it parked."""
    from read_api.health import projections

    with parts(Settings()) as found, found.connect() as conn:
        shown = projections(conn)
    table = Table(title=f"Ledger at position {shown['position']}")
    for column in ("Read model", "Position", "Behind", "Seconds", "Parked", "Status"):
        table.add_column(column, justify="left" if column in ("Read model", "Status") else "right")
    for item in shown["items"]:
        table.add_row(
            item["name"],
            f"{item['position']}",
            f"{item['lag_positions']}",
            f"{item['lag_seconds']:.1f}",
            f"{len(item['parked'])}",
            item["status"] if item["halted"] is None else f"halted: {item['halted']}",
        )
    out.print(table)


@project.command()
def rebuild(
    names: Annotated[list[str] | None, typer.Argument(help="Read models; all if none.")] = None,
) -> None:
    """Build read models anew from the first event, beside the live ones, and swap."""
    from projections.engine.building import CannotBuild
    from projections.engine.rebuild import rebuild as build

    with parts(Settings()) as found, found.connect() as conn, _progress() as bar:
        for model in _chosen(names):
            task = bar.add_task(model.name, total=None)
            try:
                position = build(
                    conn,
                    found.keyring(),
                    model,
                    partial(_advance, bar, task),
                )
            except CannotBuild as error:
                raise _Failed(f"{model.name} was left as it is: {error}") from error
            bar.update(task, total=1, completed=1)
            err.print(f"{model.name}: built up to position {position}")


@project.command()
def resume(name: str) -> None:
    """Let a halted read model try again, after what was wrong was mended."""
    from projections.engine import progress

    with parts(Settings()) as found, found.connect() as conn:
        progress.resume(conn, _chosen([name])[0].name)
    err.print(f"{name} tries again")


@project.command()
def skip(
    name: str,
    position: Annotated[int, typer.Argument(help="Of the event to pass over.")],
    actor: Annotated[str, typer.Option(help="Who decides this.")],
    reason: Annotated[str, typer.Option(help="Why; it stays on record.")],
) -> None:
    """Tell a halted read model to pass over one event, and let it go on. This is on record."""
    from events.ledger import checkpoints
    from projections.engine import progress

    with parts(Settings()) as found, found.connect() as conn, conn.transaction():
        model = _chosen([name])[0]
        places = [checkpoint.halted_at for checkpoint in checkpoints.fetch_all(conn, model.name)]
        stands = ", ".join(str(place) for place in places if place is not None)
        if position not in places:
            raise _Failed(
                f"{name} is not halted at position {position}"
                + (f" but at {stands}." if stands else "; it is not halted at all.")
            )
        progress.skip(conn, model.name, position, actor, reason)
        progress.resume(conn, model.name)
    err.print(f"{name} passes over position {position} and goes on")


@policies.command("status")
def policies_status() -> None:
    """Show what policies wanted done and a rule refused."""
    from read_api.health import policies as found_of

    with parts(Settings()) as found, found.connect() as conn:
        acted = found_of(conn)
    err.print(f"policies have acted up to position {acted['position']}")
    if acted["halted"] is not None:
        err.print(f"halted: {acted['halted']}")
    table = Table("position", "policy", "command", "rule", "attempts", "why")
    for item in acted["items"]:
        table.add_row(
            str(item["position"]),
            item["policy"],
            item["command"],
            item["rule"],
            str(item["attempts"]),
            item["detail"],
        )
    out.print(table)


@policies.command("retry")
def policies_retry(
    position: Annotated[int, typer.Argument(help="Of the event that the policy answered.")],
    actor: Annotated[str, typer.Option(help="Who asks for it.")],
) -> None:
    """Have a policy's refused command tried again, after its cause was mended."""
    from commands.policies import retry

    with parts(Settings()) as found, found.connect() as conn:
        names = retry(conn, position, actor)
    if not names:
        raise _Failed(f"Nothing of position {position} is parked. See: pledge policies status")
    err.print(f"{', '.join(names)} tries again within a second, while the service runs")


@policies.command("resume")
def policies_resume() -> None:
    """Let halted policies answer what comes from now on."""
    from commands.policies import begin_at_the_end

    with parts(Settings()) as found, found.connect() as conn:
        begin_at_the_end(conn)
    err.print("policies go on from the ledger's end")


@policies.command("run")
def policies_run() -> None:
    """Do what follows from events; of several such processes one acts."""
    from pledge import serving

    stop = threading.Event()
    serving.on_signals(stop.set)
    serving.follow(Settings(), stop)


@analytics.command("show")
def analytics_show(
    figure: Annotated[
        str, typer.Argument(help="Like rfm, cohorts, lifetime, deals/closings, receipts.")
    ],
    asked: Annotated[
        list[str] | None, typer.Argument(help="Parameters: from=2026-01-01 scheme=named …")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it into an .svg or .png.")] = None,
    to: Annotated[
        Path | None, typer.Option(help="Write it into a .json, .csv or .parquet.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's own answer.")] = False,
) -> None:
    """Compute a figure, with the parameters of GET /analytics/FIGURE, and show it."""
    from pledge import figures

    pairs = [pair.partition("=") for pair in asked or ()]
    if wrong := [name for name, sign, _ in pairs if not (name and sign)]:
        raise _Failed(f"{wrong[0]!r} is no parameter; write NAME=VALUE, like from=2026-01-01.")
    form = "json" if to is None else to.suffix.lower().removeprefix(".")
    if form not in {"json", "csv", "parquet"}:
        raise _Failed(f"{to} should end with .json, .csv or .parquet.")
    if form != "json" and (plot is not None or as_json):
        raise _Failed(f"--to {to.name if to else ''} goes neither with --plot nor with --json.")
    settings = Settings()
    given = {name: value for name, _, value in pairs}
    try:
        with parts(settings) as found:
            every_page = to is not None
            store = facts(settings)
            answer = figures.ask(found, store, figure, given, form, every_page=every_page)
        if to is not None:
            to.write_bytes(answer)
        if plot is not None:
            figures.plot(answer, figure, plot)
    except figures.NoSuchFigure as error:
        raise _Failed(str(error)) from error
    except OSError as error:
        raise _Failed(f"{error.filename} cannot be written: {error.strerror}") from error
    if as_json:
        sys.stdout.buffer.write(answer + b"\n")
    elif to is None and plot is None:
        figures.show(answer, figure, out)
    for path in (to, plot):
        if path is not None:
            err.print(f"written to {path}")


@analytics.command("run")
def analytics_run() -> None:
    """Keep the facts behind figures up to the ledger; of several such processes one acts."""
    from pledge import serving

    stop = threading.Event()
    serving.on_signals(stop.set)
    serving.write_facts(Settings(), stop)


@analytics.command("rebuild")
def analytics_rebuild() -> None:
    """Have the facts written again from the first event on, by the process that writes them."""
    from analytics.facts.store import WrittenByOthers
    from analytics.facts.writing import begin_anew

    settings = Settings()
    with parts(settings) as found, found.connect() as conn:
        for _ in range(REBUILD_TRIES):
            with suppress(WrittenByOthers):
                begin_anew(conn, facts(settings))
                break
        else:
            raise _Failed("A writer of facts was faster each time. Try again.")
    err.print("the facts are written again from the first event on")


@project.command()
def run(
    *,
    from_ledger: Annotated[
        bool, typer.Option("--from-ledger", help="Even if a Kafka is named.")
    ] = False,
) -> None:
    """Keep the read models up to date; from Kafka, if PLEDGE_KAFKA_BOOTSTRAP names one.

    Several such processes share the topic's partitions.
    """
    from pledge import serving

    stop = threading.Event()
    serving.on_signals(stop.set)
    serving.project(Settings(), stop, from_ledger=from_ledger)


@audit.command()
def replay(
    names: Annotated[list[str] | None, typer.Argument(help="Read models; all if none.")] = None,
    shuffle: Annotated[
        str | None, typer.Option(help="A seed: replay the streams in an order made from it.")
    ] = None,
) -> None:
    """Rebuild read models aside, compare them row for row with the live ones, say what differs."""
    from projections.engine.building import CannotBuild
    from projections.engine.rebuild import differences

    found_any = False
    with parts(Settings()) as found, found.connect() as conn, _progress() as bar:
        for model in _chosen(names):
            task = bar.add_task(model.name, total=None)
            try:
                position, differing = differences(
                    conn,
                    found.keyring(),
                    model,
                    shuffle=shuffle,
                    report=partial(_advance, bar, task),
                )
            except CannotBuild as error:
                raise _Failed(f"{model.name} cannot be replayed: {error}") from error
            bar.update(task, total=1, completed=1)
            verdict = "[red]differs[/]" if differing else "equal row for row"
            err.print(f"{model.name}: {verdict} at position {position}")
            for difference in differing:
                found_any = True
                out.print(
                    f"  {difference.table}: only {difference.side}: "
                    f"{orjson.dumps(difference.row).decode()}",
                    markup=False,
                )
    if found_any:
        raise typer.Exit(1)


def _chosen(names: list[str] | None) -> list[ReadModel]:
    from projections.catalog import BY_NAME, MODELS

    strange = [name for name in names or [] if name not in BY_NAME]
    if strange:
        raise _Failed(f"No read model is called {strange[0]}. There are: {', '.join(BY_NAME)}.")
    return [BY_NAME[name] for name in names] if names else list(MODELS)


def _progress(of: str = "events") -> Progress:
    return Progress(
        TextColumn("{task.description:<14}"),
        BarColumn(),
        TextColumn(f"{{task.completed}} {of}"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        auto_refresh=False,  # its thread would keep a build from forking
    )


def _advance(bar: Progress, task: TaskID, done: int, _head: int) -> None:
    bar.update(task, completed=done, refresh=True)


class _Failed(RuntimeError):
    """Ends the program with one clear sentence."""


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
    except (_Failed, Misconfigured, EmbeddedPostgresFailed, OtherVersion, WrongMasterKey) as error:
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
    except KeyboardInterrupt:
        raise SystemExit(0) from None


if __name__ == "__main__":
    main()
