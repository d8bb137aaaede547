"""Files to import: which ones there are, and their rows as text."""

import csv
import gzip
import io
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, Self, TypeVar

from python_calamine import CalamineError, load_workbook

from events.texts import tidy
from pledge.importing.dumps import DumpTable
from pledge.importing.errors import SourceError
from pledge.importing.mapping import DUMP, PARQUET, SPACE, WORKBOOKS, SourceRule
from pledge.importing.rows import Inexact, Row, UnreadableRow, fits, row_of
from pledge.importing.styles import leading_zeros

REJECTED = ".rejected.csv"
CHANGED = ".changed.csv"
LINES_OF_A_CELL = 1_000
"""Over how many lines a record may go whose lines look like rows."""
LONGEST_CELL = csv.field_size_limit()
"""Characters of a cell: where nothing closes a quote, so far is looked ahead."""
ROWS_OF_A_SHEET = 1_048_576
"""Whoever writes more goes on in another sheet, as exports of Pledge do."""
_EXACT_BELOW = 1e15
_ESCAPED = re.compile(r"^'('*[=+\-@\t\r])")
"""An apostrophe that keeps a spreadsheet from computing; exports of Pledge have it too."""
_SEPARATOR = re.compile(r"sep=(.)\s*", re.IGNORECASE)

_READING_FAULTS = (OSError, EOFError, zlib.error, UnicodeError, CalamineError)


R = TypeVar("R", bound=SourceRule)


class Table(Protocol):
    """An open file: its columns from left to right, and its rows, to be read once."""

    columns: Sequence[str]

    def rows(self) -> Iterator[Row | UnreadableRow]:
        """Yield every row that is not blank, in order; SourceError when reading fails."""


def locate(source: Path, rules: Sequence[R]) -> tuple[list[tuple[R, Path]], set[str]]:
    """Find the file of each rule in a folder, or the rules of a single file.

    A single file needs no particular name when the mapping knows only one. Returns the rules with
    their files, and the names of a folder's files that no rule names.

    Raises:
        SourceError: the source or one of the files is missing, or no rule fits the single file.
    """
    names = list(dict.fromkeys(rule.file for rule in rules))
    if source.is_dir():
        missing = [name for name in names if not (source / name).is_file()]
        if missing:
            raise SourceError(f"{source} has no file {', '.join(missing)}, which the mapping names")
        present = {path.name for path in source.iterdir() if path.is_file()}
        unused = {name for name in present - set(names) if not name.endswith((REJECTED, CHANGED))}
        return [(rule, source / rule.file) for rule in rules], unused
    if not source.is_file():
        raise SourceError(f"there is no file or folder {source}")
    chosen = [rule for rule in rules if len(names) == 1 or rule.file == source.name]
    if not chosen:
        raise SourceError(
            f"the mapping says nothing of a file {source.name}; it names {', '.join(names)}"
        )
    return [(rule, source) for rule in chosen], set()


@contextmanager
def open_table(path: Path, rule: SourceRule) -> Iterator[Table]:
    """Open a file as its rule says, and close it at the end.

    Raises:
        SourceError: it cannot be read, is empty, or has no such sheet.
    """
    with ExitStack() as opened:
        try:
            opening: AbstractContextManager[Table]
            suffix = path.suffix.lower()
            if suffix == DUMP:
                opening = nullcontext(DumpTable(path, rule))
            elif suffix == PARQUET:
                from pledge.importing.parquet import parquet_table

                opening = parquet_table(path, rule)
            elif suffix in WORKBOOKS:
                opening = _workbook(path, rule)
            else:
                opening = _csv_file(path, rule)
            table = opened.enter_context(opening)
        except _READING_FAULTS as error:
            raise SourceError(f"{path} cannot be read: {error}") from error
        yield table


@contextmanager
def _csv_file(path: Path, rule: SourceRule) -> Iterator[Table]:
    size = path.stat().st_size or 1
    with ExitStack() as opened:
        raw = opened.enter_context(path.open("rb"))
        plain: BinaryIO = raw
        if path.suffix.lower() == ".gz":
            plain = opened.enter_context(gzip.open(raw))  # type: ignore[assignment]  # it reads bytes
        text = opened.enter_context(
            io.TextIOWrapper(plain, rule.encoding, errors="surrogateescape", newline="")
        )
        yield _CsvTable(path, rule, text, raw, size)


class _Torn(NamedTuple):
    """A line that is no CSV."""

    cells: list[str]
    why: str


class _Lines:
    """The lines of a text, of which those that a record took can be given back."""

    def __init__(self, text: Iterator[str], looks_like_a_row: Callable[[str], bool]) -> None:
        self._text = text
        self._looks_like_a_row = looks_like_a_row
        self._back: deque[str] = deque()
        self._before = 0
        self.taken: list[str] = []

    @property
    def number(self) -> int:
        """The number of the first line that was taken, from 1."""
        return self._before + 1

    def begin(self) -> None:
        """The next line begins a record."""
        self._before += len(self.taken)
        self.taken = []

    def give_back(self, kept: int = 1) -> None:
        """Keep so many of the lines that were taken, and give back the others."""
        self._back.extendleft(reversed(self.taken[kept:]))
        del self.taken[kept:]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        beyond = len(self.taken) - LINES_OF_A_CELL
        doubtful = self.taken[1:] if beyond == 1 else self.taken[-1:] if beyond > 1 else ()
        if any(map(self._looks_like_a_row, doubtful)):
            raise csv.Error(f"a quote is not closed within {LINES_OF_A_CELL} lines")
        line = self._back.popleft() if self._back else next(self._text)
        self.taken.append(line)
        return line


class _CsvTable:
    """A quote that opens where none was meant takes no other row with it.

    A record that goes over several lines has to be as wide as the header, or else its first line
    alone is rejected, and reading goes on with the second one.
    """

    def __init__(
        self, path: Path, rule: SourceRule, text: io.TextIOWrapper, raw: BinaryIO, size: int
    ) -> None:
        self._path = path
        self._encoding = rule.encoding
        self._raw = raw
        self._size = size
        self._lines = _Lines(text, self._looks_like_a_row)
        self._delimiter = rule.delimiter
        for _ in range(rule.skip):
            next(self._lines, None)
            self._lines.begin()
        self._width = 0
        self._heed_separator()
        self.columns: Sequence[str] = rule.columns or self._header()
        self._width = len(self.columns)

    def _heed_separator(self) -> None:
        """Spreadsheets write ``sep=;`` above the header, and mean it."""
        first = next(self._lines, None)
        found = _SEPARATOR.fullmatch(first) if first is not None else None
        if found is not None:
            self._delimiter = found[1]
            self._lines.begin()
        elif first is not None:
            self._lines.give_back(0)

    def _header(self) -> list[str]:
        for _, cells in self._records():
            if isinstance(cells, _Torn):
                raise SourceError(f"{self._path}: the header is no CSV: {cells.why}")
            header = [tidy(cell) for cell in cells]
            if not _encodable(header):
                raise SourceError(
                    f"{self._path}: the header is not {self._encoding}; name the file's encoding "
                    'in the mapping, for example encoding = "cp1252"'
                )
            return header
        raise SourceError(f"{self._path} is empty")

    def rows(self) -> Iterator[Row | UnreadableRow]:
        try:
            for line, cells in self._records():
                read = min(self._raw.tell() / self._size, 1.0)
                if isinstance(cells, _Torn):
                    yield UnreadableRow(line, read, cells.cells, f"no CSV: {cells.why}")
                elif not _encodable(cells):
                    yield UnreadableRow(line, read, cells, f"not {self._encoding} text")
                else:
                    told = [_ESCAPED.sub(r"\1", c) if c[:1] == "'" else c for c in cells]
                    yield row_of(line, read, self.columns, told, self._swallowed())
        except _READING_FAULTS as error:
            raise SourceError(f"{self._path} cannot be read further: {error}") from error

    def _records(self) -> Iterator[tuple[int, list[str] | _Torn]]:
        while True:
            self._lines.begin()
            line = self._lines.number
            cells: list[str] | _Torn
            try:
                cells = self._record()
            except StopIteration:
                return
            except csv.Error as error:
                told = f"a quote is not closed within {LONGEST_CELL:,} characters"
                cells = self._torn(told if "field limit" in str(error) else str(error))
            else:
                long = len(self._lines.taken)
                if long > 1 and self._width > 0 and not fits(cells, self._width):
                    cells = self._torn(
                        f"has a quote, and {len(cells)} cells over {long} lines where there are "
                        f"{self._width} columns"
                    )
            if isinstance(cells, _Torn) or any(map(tidy, cells)):
                yield line, cells

    def _record(self) -> list[str]:
        line = next(self._lines)
        if self._delimiter == SPACE:
            return line.split()
        if '"' not in line:  # nearly every line, and five times as fast
            return line.rstrip("\r\n").split(self._delimiter)
        self._lines.give_back(0)
        return next(csv.reader(self._lines, delimiter=self._delimiter, strict=True))

    def _swallowed(self) -> int:
        """How many of the record's further lines look like rows of their own."""
        return sum(map(self._looks_like_a_row, self._lines.taken[1:]))

    def _looks_like_a_row(self, line: str) -> bool:
        return line.count(self._delimiter) >= max(self._width - 1, 1)

    def _torn(self, why: str) -> _Torn:
        """The first line of a record that is none, with the cells that it has by its delimiters."""
        self._lines.give_back()
        [line] = self._lines.taken
        return _Torn([tidy(cell) for cell in line.rstrip("\r\n").split(self._delimiter)], why)


@contextmanager
def _workbook(path: Path, rule: SourceRule) -> Iterator[Table]:
    with load_workbook(path) as book:
        if not book.sheet_names:
            raise SourceError(f"{path} has no sheet")
        name = rule.sheet or book.sheet_names[0]
        if name not in book.sheet_names:
            raise SourceError(f"{path} has no sheet {name!r}; it has {', '.join(book.sheet_names)}")
        sheets = book.sheet_names[book.sheet_names.index(name) :]
        yield _SheetTable(path, rule, book, sheets[:1] if rule.sheet else sheets)


class _SheetTable:
    """A sheet, and those after it as long as each is full to the last row and has the header."""

    def __init__(self, path: Path, rule: SourceRule, book: Any, names: Sequence[str]) -> None:
        self._path = path
        self._rule = rule
        self._book = book
        self._names = names
        self.columns: Sequence[str] = rule.columns or []
        self._records = self._of(names[0])
        if rule.columns:
            return
        _, _, header = next(self._records, (0, 0.0, None))
        if header is None:
            raise SourceError(f"{path}: sheet {names[0]!r} is empty")
        self.columns = header

    def _of(self, name: str) -> Iterator[tuple[int, float, list[str]]]:
        sheet = self._book.get_sheet_by_name(name)
        zeros = leading_zeros(self._path, name)
        height = max(sheet.total_height, 1)
        left = 1 + (sheet.start or (0, 0))[1]
        for line, cells in enumerate(sheet.iter_rows(), 1):
            if line > self._rule.skip and any(cell != "" for cell in cells):
                texts = [
                    _text(cell, zeros.get((line, at), 0)) for at, cell in enumerate(cells, left)
                ]
                yield line, min(line / height, 1.0), texts

    def rows(self) -> Iterator[Row | UnreadableRow]:
        for place, name in enumerate(self._names):
            records = self._records if place == 0 else self._of(name)
            if place > 0 and not self._rule.columns:
                _, _, header = next(records, (0, 0.0, None))
                if header != self.columns:
                    return
            line = 0
            for line, read, cells in records:
                yield row_of(line, read, self.columns, cells)
            if line < ROWS_OF_A_SHEET:
                return


def _encodable(cells: Sequence[str]) -> bool:
    text = "".join(cells)
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(cell: object, width: int) -> str:
    """A cell as text.

    Args:
        width: to how many digits its format fills it up with zeros in front.
    """
    match cell:
        case bool():
            return "true" if cell else "false"
        case float() if cell.is_integer() and abs(cell) >= _EXACT_BELOW:
            return Inexact(f"{cell:.0f}")
        case float() if cell.is_integer() and width:
            return f"{cell:0{width}.0f}"
        case float():
            return format(Decimal(f"{cell:.15g}"), "f")
        case datetime():
            return cell.isoformat(sep="T")
        case date() | time():
            return cell.isoformat()
        case timedelta():
            return format(Decimal(str(cell.total_seconds())), "f")
        case _:
            return tidy(str(cell))
