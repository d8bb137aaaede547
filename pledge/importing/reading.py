"""From rows to records: cells filled down, rows counted and grouped; what is unfit is rejected."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from pledge.importing.errors import UnfitError
from pledge.importing.plan import CountPlan, FilePlan
from pledge.importing.report import Origin, Rejects, Report
from pledge.importing.rows import Row, UnreadableRow
from pledge.importing.stores import Store, gathered

TOO_LONG = (
    "holds the number {}, and a workbook keeps only 15 digits of a number: format the column as "
    "text and enter it anew, or export the sheet as CSV from where it came"
)
Record = tuple[Origin, dict[str, Any]]
"""Where a record comes from, and what templates see of it."""


class Reader:
    """Reads one file of a mapping.

    Attributes:
        read: the part of the file that has been read, 0 to 1.
    """

    def __init__(self, file: FilePlan, name: str, report: Report, rejects: Rejects) -> None:
        self._file = file
        self._name = name
        self._report = report
        self._rejects = rejects
        self._counts = [(plan, Store()) for plan in file.counts]
        self.read = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for _, store in self._counts:
            store.__exit__(kind, error, trace)

    def records(self, rows: Iterable[Row | UnreadableRow]) -> Iterator[Record]:
        """Each row that is fit, or each group of such rows."""
        if self._file.group is None:
            for row in self._readable(rows):
                yield from self._record([row])
        else:
            for group in gathered(self._with_group(rows)):
                yield from self._record(group)

    def _readable(self, rows: Iterable[Row | UnreadableRow]) -> Iterator[Row]:
        for row in rows:
            self._report.rows += 1
            self.read = row.read
            if isinstance(row, UnreadableRow):
                self._rejects.add(Origin(self._name, row.line, row.cells), "", row.reason)
                continue
            if row.swallowed:
                self._report.warn_of_swallowed(f"{self._name} line {row.line}", row.swallowed)
            yield row

    def _with_group(self, rows: Iterable[Row | UnreadableRow]) -> Iterator[tuple[str, Row]]:
        assert self._file.group is not None
        for row in self._readable(rows):
            try:
                yield self._file.group(self._values(row)), row
            except UnfitError as error:
                self._rejects.add(Origin(self._name, row.line, row.cells), "", str(error))

    def _record(self, rows: Sequence[Row]) -> Iterator[Record]:
        first = rows[0]
        origin = Origin(self._name, first.line, first.cells, [(r.line, r.cells) for r in rows[1:]])
        if (number := self._inexact(rows)) is not None:
            self._rejects.add(origin, "", TOO_LONG.format(number))
            return
        seen = [self._values(row) for row in rows]
        try:
            for values in seen if self._counts else ():
                for plan, store in self._counts:
                    values[plan.name] = _counted(plan, store, values)
        except UnfitError as error:
            self._rejects.add(origin, "", str(error))
            return
        if self._file.group is not None:
            yield origin, {**seen[0], "_rows": seen}
        else:
            yield origin, seen[0]

    def _values(self, row: Row) -> dict[str, Any]:
        own = {"row": row.cells, "_line": row.line, "_file": self._name}
        return {**row.cells, **own}

    def _inexact(self, rows: Sequence[Row]) -> str | None:
        """A number that a row does not hold exactly, in a column that the mapping uses."""
        for row in rows:
            for _, column in self._file.columns if row.inexact is not None else ():
                if row.inexact is not None and column in row.inexact:
                    return row.inexact[column]
        return None


def _counted(plan: CountPlan, store: Store, values: dict[str, Any]) -> int:
    """How many rows of its group there were, with this one.

    Before the first row for which `since` holds nothing is counted; the store then has no entry.
    """
    key = plan.of(values).encode()
    before = store.get(key)
    if plan.since is not None and plan.since(values):
        number = 0
    elif plan.since is not None and before is None:
        return 0
    else:
        counts = plan.when is None or plan.when(values)
        number = int(before or 0) + (1 if counts else 0)
    store.put(key, b"%d" % number)
    return number


def filled(
    rows: Iterable[Row | UnreadableRow], columns: Sequence[str]
) -> Iterator[Row | UnreadableRow]:
    """The same rows, where an empty cell of these columns is as the one above it.

    Below a row that cannot be read nobody knows what an empty cell means.
    """
    above: dict[str, tuple[str, str | None]] | None = {}
    for row in rows:
        if isinstance(row, UnreadableRow):
            above = None
            yield row
            continue
        empty = [column for column in columns if not row.cells.get(column)]
        if empty and above is None:
            reason = f"{empty[0]} is empty below a row that cannot be read, so it is not known"
            yield UnreadableRow(row.line, row.read, list(row.cells.values()), reason)
            continue
        above = above or {}
        inexact = dict(row.inexact or {})
        cells = dict(row.cells) if empty else row.cells
        for column in empty:
            if isinstance(cells, dict) and column in above:
                cells[column], number = above[column]
                inexact |= {} if number is None else {column: number}
        above |= {column: (cells.get(column, ""), inexact.get(column)) for column in columns}
        yield replace(row, cells=cells, inexact=inexact or None)
