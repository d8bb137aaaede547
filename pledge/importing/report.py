"""What an import leaves behind: the rejected rows, and the figures."""

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.table import Table

from pledge.importing.errors import SourceError
from pledge.importing.plan import Line
from pledge.importing.stores import Store, digest
from read_api.files import harmless

SHOWN = 10
"""Of how many rows a warning is shown."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a command comes from: a file's row, or the mapping itself (line 0).

    `others` are the further rows of its group, each with its line and cells.
    """

    file: str
    line: int
    cells: Mapping[str, str] | Sequence[str] = ()
    others: Sequence[tuple[int, Mapping[str, str]]] = ()

    def __str__(self) -> str:
        return f"{self.file} line {self.line}"


@dataclass(slots=True)
class Tally:
    """The commands of one name.

    Attributes:
        made: of rows.
        repeated: of rows, with a key that the same files gave already.
        accepted: recorded now; in a dry run, would be sent.
        there: recorded by an earlier import.
        changed: recorded by an earlier import with other content, which stays.
        refused: by a rule, now or in an earlier import; or malformed.
    """

    made: int = 0
    repeated: int = 0
    accepted: int = 0
    there: int = 0
    changed: int = 0
    refused: int = 0


@dataclass(slots=True)
class Report:
    """The figures of one import.

    `rejected` counts the lines of the file `rejects`, which is there only when there are any, and
    `changed` those of `changes`; `compared` says whether a dry run asked the service what is there;
    `unused` names the folder's files that the mapping does not; `position` is the highest ledger
    position among the answers; `swallowed` are the first rows with a cell that goes over several
    lines, and how many of these look like rows of their own.
    """

    mapping: str
    source: Path
    dry_run: bool
    unused: tuple[str, ...] = ()
    rows: int = 0
    commands: dict[str, Tally] = field(default_factory=dict)
    rejected: int = 0
    rejects: Path | None = None
    changed: int = 0
    changes: Path | None = None
    compared: bool = True
    position: int | None = None
    swallowed: list[tuple[str, int]] = field(default_factory=list)
    more_swallowed: int = 0

    def warn_of_swallowed(self, where: str, lines: int) -> None:
        """Note a row with a cell of several lines of which so many look like rows."""
        if len(self.swallowed) < SHOWN:
            self.swallowed.append((where, lines))
        else:
            self.more_swallowed += 1

    def tally(self, command: str) -> Tally:
        """Return the counts of one command, made when they are first asked for."""
        return self.commands.setdefault(command, Tally())

    def show(self, console: Console) -> None:
        """Print the figures, and where to read what was rejected."""
        title = f"{self.mapping}: {self.rows:,} rows of {self.source.resolve().name}"
        table = Table(title=title, title_justify="left")
        table.add_column("command")
        headings = ("would be sent" if self.dry_run else "accepted", "already there", "changed")
        for heading in (*headings, "rejected", "repeated in the files"):
            table.add_column(heading, justify="right")
        for command, tally in self.commands.items():
            counts = (tally.accepted, tally.there, tally.changed, tally.refused, tally.repeated)
            table.add_row(command, *(f"{count:,}" for count in counts))
        console.print(table)
        tallies = self.commands.values()
        if not self.dry_run and not any(tally.accepted for tally in tallies):
            there = sum(tally.there for tally in tallies)
            console.print(f"nothing was added; {there:,} commands were there", highlight=False)
        if not self.compared:
            told = "no service answers, so it is not known what is there already"
            console.print(told, highlight=False)
        if self.unused:
            console.print(f"not used: {', '.join(self.unused)}", highlight=False, markup=False)
        for where, lines in self.swallowed:
            noun = "line that looks like a row" if lines == 1 else "lines that look like rows"
            told = f"look at {where}: a cell in quotes holds {lines:,} {noun}"
            console.print(told, highlight=False, markup=False, soft_wrap=True)
        if self.more_swallowed:
            console.print(f"… and {self.more_swallowed:,} rows more", highlight=False)
        for what, count, path in (
            ("rejected", self.rejected, self.rejects),
            ("changed", self.changed, self.changes),
        ):
            if path is not None:
                noun = "line" if count == 1 else "lines"
                told = f"{what}: {count:,} {noun}, each with its reason, in {path}"
                console.print(told, highlight=False, markup=False, soft_wrap=True)


class Rejects:
    """A CSV file of what was rejected, or has changed, and why; made when the first line comes.

    It stands beside the source, or in the working directory when that is not writable. With
    `tidy`, one that an earlier import left goes when this one ends well and rejects nothing.
    """

    _HEADER = ("file", "line", "command", "reason", "row")

    def __init__(self, source: Path, suffix: str, *, tidy: bool) -> None:
        self._tidy = tidy
        name = f"{source.resolve().name}{suffix}"
        self._places = (source.resolve().parent / name, Path.cwd() / name)
        self._file: TextIO | None = None
        self._writer: Any = None
        self.count = 0
        self.path: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
        elif self._tidy and error is None:
            for place in self._places:
                with suppress(OSError):
                    place.unlink()

    def add(self, origin: Origin, command: str, reason: str) -> None:
        """Write one line; SourceError when neither place is writable."""
        if self._file is None:
            self._file, self.path = self._open()
            self._writer = csv.writer(self._file)
            self._writer.writerow(self._HEADER)
        for number, found in ((origin.line, origin.cells), *origin.others):
            self.count += 1
            cells = found if isinstance(found, Mapping) else list(found)
            row = json.dumps(cells, ensure_ascii=False) if cells else ""
            told = [harmless(origin.file), number or "", command, harmless(reason), row]
            self._writer.writerow(told)

    def _open(self) -> tuple[TextIO, Path]:
        trouble: OSError | None = None
        for place in self._places:
            try:
                opened = place.open("w", encoding="utf-8-sig", errors="replace", newline="")
            except OSError as error:
                trouble = error
            else:
                return opened, place
        places = " nor ".join(str(place) for place in self._places)
        raise SourceError(f"there are rows to reject, but neither {places} is writable: {trouble}")


class Seen:
    """The keys that were used so far."""

    def __init__(self) -> None:
        self._store = Store()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._store.__exit__(kind, error, trace)

    def knows(self, key: str) -> bool:
        """Whether a line had this key."""
        return self._store.get(key.encode()) is not None

    def first(self, line: Line, origin: Origin) -> tuple[Origin, bool] | None:
        """Take note of a line.

        Returns None for a new key; else where the key was used first, and whether this line says
        the same again.
        """
        key, body = line.key.encode(), digest(line.body)
        known = self._store.get(key)
        if known is None:
            self._store.put(key, b"%s%d %s" % (body, origin.line, origin.file.encode()))
            return None
        number, _, file = known[len(body) :].partition(b" ")
        return Origin(file.decode(), int(number)), known[: len(body)] == body
