"""Files to import: which ones there are, and their rows as text."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from python_calamine import CalamineError, load_workbook

from events.texts import tidy
from pledge.importing.dumps import DumpTable
from pledge.importing.errors import SourceError
from pledge.importing.mapping import DUMP, SPACE, WORKBOOKS, SourceRule
from pledge.importing.rows import Row, UnreadableRow, row_of

REJECTED = ".rejected.csv"

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
        unused = {name for name in present - set(names) if not name.endswith(REJECTED)}
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


class _Records(Protocol):
    line_num: int

    def __next__(self) -> list[str]: ...


class _Spaced:
    """Lines whose cells stand apart by any white space."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.line_num = 0

    def __next__(self) -> list[str]:
        line = next(self._text)
        self.line_num += 1
        return line.split()


class _CsvTable:
    def __init__(
        self, path: Path, rule: SourceRule, text: io.TextIOWrapper, raw: BinaryIO, size: int
    ) -> None:
        self._path = path
        self._encoding = rule.encoding
        self._raw = raw
        self._size = size
        self._reader: _Records = (
            _Spaced(text)
            if rule.delimiter == SPACE
            else csv.reader(text, delimiter=rule.delimiter, strict=True)
        )
        self.columns: Sequence[str] = rule.columns or self._header()

    def _header(self) -> list[str]:
        for _, cells in self._records():
            if isinstance(cells, csv.Error):
                raise SourceError(f"{self._path}: the header is no CSV: {cells}")
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
                if isinstance(cells, csv.Error):
                    yield UnreadableRow(line, read, [], f"no CSV: {cells}")
                elif not _encodable(cells):
                    yield UnreadableRow(line, read, cells, f"not {self._encoding} text")
                else:
                    yield row_of(line, read, self.columns, cells)
        except _READING_FAULTS as error:
            raise SourceError(f"{self._path} cannot be read further: {error}") from error

    def _records(self) -> Iterator[tuple[int, list[str] | csv.Error]]:
        while True:
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield line, error
                continue
            if any(map(tidy, cells)):
                yield line, cells


@contextmanager
def _workbook(path: Path, rule: SourceRule) -> Iterator[Table]:
    with load_workbook(path) as book:
        if not book.sheet_names:
            raise SourceError(f"{path} has no sheet")
        name = rule.sheet or book.sheet_names[0]
        if name not in book.sheet_names:
            raise SourceError(f"{path} has no sheet {name!r}; it has {', '.join(book.sheet_names)}")
        yield _SheetTable(path, rule, book.get_sheet_by_name(name))


class _SheetTable:
    def __init__(self, path: Path, rule: SourceRule, sheet: Any) -> None:
        self._height = max(sheet.total_height, 1)
        self._records = (
            (line, [_text(cell) for cell in cells])
            for line, cells in enumerate(sheet.iter_rows(), 1)
            if any(cell != "" for cell in cells)
        )
        if rule.columns:
            self.columns: Sequence[str] = rule.columns
            return
        _, header = next(self._records, (0, None))
        if header is None:
            raise SourceError(f"{path}: sheet {sheet.name!r} is empty")
        self.columns = header

    def rows(self) -> Iterator[Row | UnreadableRow]:
        for line, cells in self._records:
            yield row_of(line, min(line / self._height, 1.0), self.columns, cells)


def _encodable(cells: Sequence[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(cell: object) -> str:
    match cell:
        case bool():
            return "true" if cell else "false"
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
