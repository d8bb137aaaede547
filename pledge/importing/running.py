"""The run of an import: rows in, commands out, refusals noted."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from pledge.importing.archives import unpacked
from pledge.importing.compiling import compile_mapping
from pledge.importing.errors import MappingError, SourceError, UnfitError
from pledge.importing.mapping import SourceRule, load_mapping
from pledge.importing.plan import CommandPlan, FilePlan, Line, LookupPlan, Plan, check_header
from pledge.importing.report import Origin, Rejects, Report, Seen
from pledge.importing.rows import Row, UnreadableRow
from pledge.importing.sending import CHUNK_BYTES, CHUNK_LINES, Sender
from pledge.importing.sources import locate, open_table

TOO_LONG = (
    "holds the number {}, and a workbook keeps only 15 digits of a number: format the column as "
    "text and enter it anew, or export the sheet as CSV from where it came"
)
Check = Callable[[bytes], Sequence[str]]
"""Says what is wrong with one line of NDJSON; nothing when it is a good command."""


def run_import(
    source: Path,
    mapping: str | Path,
    *,
    url: str,
    dry_run: bool = False,
    check: Check | None = None,
    known_commands: Iterable[str] | None = None,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Import a file or a folder through a mapping; nothing is added twice, however often it runs.

    Args:
        source: a file, a folder that holds the mapping's files, or a zip archive of either.
        mapping: the name of a shipped mapping, or the path of a TOML file.
        url: the service, "http://127.0.0.1:8000".
        dry_run: make and check every command, and send none.
        check: in a dry run, judges each line.
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
        rejects = opened.enter_context(Rejects(source, tidy=not dry_run))
        seen = opened.enter_context(Seen())
        send = None if dry_run else opened.enter_context(Sender(url, sleep)).send
        progress = opened.enter_context(_progress(console))
        run = _Run(report, rejects, seen, send, check if dry_run else None)
        before = Origin(label, 0)
        for command in plan.before:
            run.take(before, [command], {})
        for file, path in files:
            task = progress.add_task(_title(file.rule, path), total=1.0)
            for row in _rows(file.rule, path):
                progress.update(task, completed=row.read)
                run.take_row(path.name, file, row)
            progress.update(task, completed=1.0)
        run.flush()
        report.rejected, report.rejects = rejects.count, rejects.path
    return report


@dataclass
class _Run:
    report: Report
    rejects: Rejects
    seen: Seen
    send: Callable[[Sequence[bytes]], list[Any]] | None
    check: Check | None
    waiting: list[tuple[Line, Origin]] = field(default_factory=list)
    waiting_bytes: int = 0

    def take_row(self, name: str, file: FilePlan, row: Row | UnreadableRow) -> None:
        self.report.rows += 1
        origin = Origin(name, row.line, row.cells)
        if isinstance(row, UnreadableRow):
            self.rejects.add(origin, "", row.reason)
            return
        if row.swallowed:
            self.report.warn_of_swallowed(f"{origin}", row.swallowed)
        if row.inexact is not None:
            used = [row.inexact[column] for _, column in file.columns if column in row.inexact]
            if used:
                self.rejects.add(origin, "", TOO_LONG.format(used[0]))
                return
        own = {"row": row.cells, "_line": row.line, "_file": name}
        self.take(origin, file.commands, {**row.cells, **own})

    def take(self, origin: Origin, commands: Sequence[CommandPlan], values: dict[str, Any]) -> None:
        lines, fit = [], True
        for command in commands:
            try:
                line = command.line(values)
            except UnfitError as error:
                self.rejects.add(origin, command.rule.command, str(error))
                fit = False
            else:
                lines += [] if line is None else [line]
        for line in lines if fit else ():
            self._take_line(line, origin)

    def _take_line(self, line: Line, origin: Origin) -> None:
        tally = self.report.tally(line.command)
        first = self.seen.first(line, origin)
        if first is not None:
            where, same = first
            if same or line.once:
                tally.repeated += 1
            else:
                self.rejects.add(
                    origin,
                    line.command,
                    f"{where} gave the same key with other content: give the command a `key` that "
                    "tells the rows apart, or `once = true` if the first one counts",
                )
            return
        problems = self.check(line.body) if self.check is not None else ()
        if problems:
            self.rejects.add(origin, line.command, "; ".join(problems))
            return
        tally.made += 1
        if self.send is None:
            return
        self.waiting.append((line, origin))
        self.waiting_bytes += len(line.body)
        if len(self.waiting) >= CHUNK_LINES or self.waiting_bytes >= CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        if self.send is None or not self.waiting:
            return
        answers = self.send([line.body for line, _ in self.waiting])
        for (line, origin), answer in zip(self.waiting, answers, strict=True):
            tally = self.report.tally(line.command)
            if answer.reason is None:
                tally.accepted += 1
            else:
                tally.refused += 1
                self.rejects.add(origin, line.command, answer.reason)
            if answer.position is not None:
                self.report.position = max(self.report.position or 0, answer.position)
        self.waiting.clear()
        self.waiting_bytes = 0


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
        yield from table.rows()


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
