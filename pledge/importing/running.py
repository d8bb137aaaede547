"""The run of an import: rows in, commands out, refusals noted."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from pledge.importing.archives import unpacked
from pledge.importing.compiling import compile_mapping
from pledge.importing.delivering import Check, Delivery, Rehearsal
from pledge.importing.errors import MappingError, SourceError, UnfitError
from pledge.importing.mapping import SourceRule, load_mapping
from pledge.importing.plan import FilePlan, LookupPlan, Plan, check_header
from pledge.importing.reading import Reader, filled
from pledge.importing.report import Origin, Rejects, Report
from pledge.importing.rows import Row, UnreadableRow
from pledge.importing.sending import Sender
from pledge.importing.sources import CHANGED, REJECTED, locate, open_table

SHOWN_EVERY = 100
"""Records between two steps of the progress bar."""


def run_import(
    source: Path,
    mapping: str | Path,
    *,
    url: str,
    dry_run: bool = False,
    check: Check | None = None,
    rehearsal: Rehearsal | None = None,
    known_commands: Iterable[str] | None = None,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Import a file or a folder through a mapping; nothing is added twice, however often it runs.

    Args:
        source: a file, a folder that holds the mapping's files, or a zip archive of either.
        mapping: the name of a shipped mapping, or the path of a TOML file.
        url: the service, "http://127.0.0.1:8000".
        dry_run: make and check every command, and record none; a service that answers is asked
            what is there already.
        check: in a dry run, judges each line.
        rehearsal: in a dry run, says by which rules the service would refuse.
        known_commands: the commands that the service has, "customers/register"; a mapping that
            names another is refused at once. None leaves that to the service.
        console: where progress is shown, if anywhere.
        sleep: waits so many seconds between two tries.

    Raises:
        MappingError: the mapping is wrong, or does not fit the files; nothing was sent.
        SourceError: a file is missing or cannot be read.
        ServiceUnreachableError: nothing listens at the url; nothing was sent.
        ServiceFailedError: the service stopped answering; a second run is safe.
    """
    label = str(mapping)
    plan = compile_mapping(load_mapping(mapping), label, known_commands)
    with ExitStack() as opened:
        files, unused = _open_all(plan, opened.enter_context(unpacked(source)))
        report = Report(plan.mapping.name, source, dry_run, tuple(sorted(unused)))
        rejects = opened.enter_context(Rejects(source, REJECTED, tidy=not dry_run))
        changes = opened.enter_context(Rejects(source, CHANGED, tidy=not dry_run))
        sender = opened.enter_context(Sender(url, sleep, actor=plan.mapping.actor, checks=dry_run))
        judges = (check, rehearsal) if dry_run else ()
        delivery = opened.enter_context(Delivery(report, rejects, changes, sender, *judges))
        progress = opened.enter_context(_progress(console))
        for command in plan.before:
            delivery.take(Origin(label, 0), [command], {"row": {}})
        for file, path in files:
            task = progress.add_task(_title(file.rule, path), total=1.0)
            reader = opened.enter_context(Reader(file, path.name, report, rejects))
            records = reader.records(_rows(file.rule, path))
            for number, (origin, values) in enumerate(records):
                if number % SHOWN_EVERY == 0:
                    progress.update(task, completed=reader.read)
                delivery.take(origin, file.commands, values)
            progress.update(task, completed=1.0)
        delivery.finish()
        report.rejected, report.rejects = rejects.count, rejects.path
        report.changed, report.changes = changes.count, changes.path
    return report


def _open_all(plan: Plan, source: Path) -> tuple[list[tuple[FilePlan, Path]], set[str]]:
    rules: list[SourceRule] = [*plan.mapping.lookups.values(), *plan.mapping.files]
    located, unused = locate(source, rules)
    paths = {id(rule): path for rule, path in located}
    absent = {lookup.rule.file for lookup in plan.lookups if id(lookup.rule) not in paths}
    if absent:
        raise SourceError(f"the mapping looks things up in {', '.join(absent)}; give its folder")
    files = [(file, paths[id(file.rule)]) for file in plan.files if id(file.rule) in paths]
    faults = []
    every: list[FilePlan | LookupPlan] = [*plan.lookups, *(file for file, _ in files)]
    for asked in every:
        with open_table(paths[id(asked.rule)], asked.rule) as table:
            faults += [f"{plan.label}: {fault}" for fault in check_header(asked, table.columns)]
    if faults:
        raise MappingError("\n".join(faults))
    for lookup in plan.lookups:
        _fill(lookup, paths[id(lookup.rule)])
    return files, unused


def _fill(lookup: LookupPlan, path: Path) -> None:
    for row in _rows(lookup.rule, path):
        if isinstance(row, UnreadableRow):
            raise SourceError(f"{path.name} line {row.line}, looked up: {row.reason}")
        values = {**row.cells, "row": row.cells, "_line": row.line, "_file": path.name}
        try:
            lookup.found.setdefault(lookup.key.render(values), lookup.value.render(values))
        except UnfitError as error:
            raise SourceError(f"{path.name} line {row.line}, looked up: {error}") from error


def _rows(rule: SourceRule, path: Path) -> Iterator[Row | UnreadableRow]:
    with open_table(path, rule) as table:
        yield from filled(table.rows(), rule.fill) if rule.fill else table.rows()


def _title(rule: SourceRule, path: Path) -> str:
    part = rule.sheet or rule.table
    return f"{path.name} · {part}" if part else path.name


def _progress(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=console is None or not console.is_terminal,
    )
