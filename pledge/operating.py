"""Commands for operators: read models, policies, facts, proofs."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.table import Table

from pledge.console import Failed, advance, err, out, progress
from pledge.settings import Settings
from pledge.wiring import facts, parts
from projections.engine.model import ReadModel

project = typer.Typer(
    help="Read models: how far they are, building them anew.", no_args_is_help=True
)
policies = typer.Typer(help="What follows from events.", no_args_is_help=True)
analytics = typer.Typer(help="Figures, and the facts behind them.", no_args_is_help=True)
audit = typer.Typer(help="Proofs.", no_args_is_help=True)
REBUILD_TRIES = 20


@project.command()
def status() -> None:
    """Show the lag of each read model, whether it is halted, and the streams that it parked."""
    from read_api.health import projections

    with parts(Settings()) as found, found.connect() as conn:
        shown = projections(conn)
    table = Table(title=f"Ledger at position {shown.position}")
    for column in ("Read model", "Position", "Behind", "Seconds", "Parked", "Status"):
        table.add_column(column, justify="left" if column in ("Read model", "Status") else "right")
    for item in shown.items:
        table.add_row(
            item.name,
            f"{item.position}",
            f"{item.lag_positions}",
            f"{item.lag_seconds:.1f}",
            f"{len(item.parked)}",
            item.status if item.halted is None else f"halted: {item.halted}",
        )
    out.print(table)


@project.command()
def rebuild(
    names: Annotated[list[str] | None, typer.Argument(help="Read models; all if none.")] = None,
) -> None:
    """Rebuild read models from the first event, beside the live ones, then swap them in."""
    from projections.engine.building import CannotBuild
    from projections.engine.rebuild import rebuild as build

    with parts(Settings()) as found, found.connect() as conn, progress() as bar:
        for model in _chosen(names):
            task = bar.add_task(model.name, total=None)
            try:
                position = build(
                    conn,
                    found.keyring(),
                    model,
                    partial(advance, bar, task),
                )
            except CannotBuild as error:
                raise Failed(f"{model.name} was left as it is: {error}") from error
            bar.update(task, total=1, completed=1)
            err.print(f"{model.name}: built up to position {position}")


@project.command()
def resume(name: str) -> None:
    """Resume a halted read model, after the cause was mended."""
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
    """Let a halted read model skip one event and resume. The skip is recorded."""
    from events.ledger import checkpoints
    from projections.engine import progress

    with parts(Settings()) as found, found.connect() as conn, conn.transaction():
        model = _chosen([name])[0]
        places = [checkpoint.halted_at for checkpoint in checkpoints.fetch_all(conn, model.name)]
        stands = ", ".join(str(place) for place in places if place is not None)
        if position not in places:
            raise Failed(
                f"{name} is not halted at position {position}"
                + (f" but at {stands}." if stands else "; it is not halted at all.")
            )
        progress.skip(conn, model.name, position, actor, reason)
        progress.resume(conn, model.name)
    err.print(f"{name} passes over position {position} and goes on")


@policies.command("status")
def policies_status() -> None:
    """List the policies' commands that a rule refused."""
    from read_api.health import policies as found_of

    with parts(Settings()) as found, found.connect() as conn:
        acted = found_of(conn)
    err.print(f"policies have acted up to position {acted.position}")
    if acted.halted is not None:
        err.print(f"halted: {acted.halted}")
    table = Table("position", "policy", "command", "rule", "attempts", "why")
    for item in acted.items:
        table.add_row(
            str(item.position),
            item.policy,
            item.command,
            item.rule,
            str(item.attempts),
            item.detail,
        )
    out.print(table)


@policies.command("retry")
def policies_retry(
    position: Annotated[int, typer.Argument(help="Of the event that the policy answered.")],
    actor: Annotated[str, typer.Option(help="Who asks for it.")],
) -> None:
    """Retry a policy's refused command, after its cause was mended."""
    from commands.policies import retry

    with parts(Settings()) as found, found.connect() as conn:
        names = retry(conn, position, actor)
    if not names:
        raise Failed(f"Nothing of position {position} is parked. See: pledge policies status")
    err.print(f"{', '.join(names)} tries again within a second, while the service runs")


@policies.command("resume")
def policies_resume() -> None:
    """Resume halted policies with the events that come from now on."""
    from commands.policies import begin_at_the_end

    with parts(Settings()) as found, found.connect() as conn:
        begin_at_the_end(conn)
    err.print("policies go on from the ledger's end")


@policies.command("run")
def policies_run() -> None:
    """Run the policies, which answer events with commands; of several such processes one acts."""
    from pledge.processes import on_signals
    from pledge.tailing import follow as run

    stop = threading.Event()
    on_signals(stop.set)
    run(Settings(), stop)


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
        Path | None, typer.Option(help="Write it into a .json, .ndjson, .csv, .xlsx or .parquet.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's own answer.")] = False,
) -> None:
    """Show a figure; it takes the parameters of GET /analytics/FIGURE."""
    from pledge import figures

    pairs = [pair.partition("=") for pair in asked or ()]
    if wrong := [name for name, sign, _ in pairs if not (name and sign)]:
        raise Failed(f"{wrong[0]!r} is no parameter; write NAME=VALUE, like from=2026-01-01.")
    form = "json" if to is None else to.suffix.lower().removeprefix(".")
    if form not in figures.MEDIA:
        raise Failed(f"{to} should end with .{', .'.join(figures.MEDIA)}.")
    if form != "json" and (plot is not None or as_json):
        raise Failed(f"--to {to.name if to else ''} goes neither with --plot nor with --json.")
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
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"{error.filename} cannot be written: {error.strerror}") from error
    if as_json:
        sys.stdout.buffer.write(answer + b"\n")
    elif to is None and plot is None:
        figures.show(answer, figure, out)
    for path in (to, plot):
        if path is not None:
            err.print(f"written to {path}")


@analytics.command("run")
def analytics_run() -> None:
    """Keep the facts behind figures up to date; of several such processes one acts."""
    from pledge.processes import on_signals
    from pledge.tailing import write_facts as run

    stop = threading.Event()
    on_signals(stop.set)
    run(Settings(), stop)


@analytics.command("rebuild")
def analytics_rebuild() -> None:
    """Have the process that writes the facts rewrite them from the first event."""
    from analytics.facts.store import WrittenByOthers
    from analytics.facts.writing import begin_anew

    settings = Settings()
    with parts(settings) as found, found.connect() as conn:
        for _ in range(REBUILD_TRIES):
            with suppress(WrittenByOthers):
                begin_anew(conn, facts(settings))
                break
        else:
            raise Failed("A writer of facts was faster each time. Try again.")
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
    from pledge.processes import on_signals
    from pledge.tailing import project as run

    stop = threading.Event()
    on_signals(stop.set)
    run(Settings(), stop, from_ledger=from_ledger)


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
    with parts(Settings()) as found, found.connect() as conn, progress() as bar:
        for model in _chosen(names):
            task = bar.add_task(model.name, total=None)
            try:
                position, differing = differences(
                    conn,
                    found.keyring(),
                    model,
                    shuffle=shuffle,
                    report=partial(advance, bar, task),
                )
            except CannotBuild as error:
                raise Failed(f"{model.name} cannot be replayed: {error}") from error
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
        raise Failed(f"No read model is called {strange[0]}. There are: {', '.join(BY_NAME)}.")
    return [BY_NAME[name] for name in names] if names else list(MODELS)
