"""Parquet files to import: their rows as text, parts of a column as columns of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pledge.importing.errors import SourceError
from pledge.importing.mapping import SourceRule
from pledge.importing.rows import Row, UnreadableRow, row_of

ROWS = 5_000


class ParquetTable:
    """A Parquet file; its rows are numbered from 1."""

    def __init__(self, path: Path, rule: SourceRule, file: pq.ParquetFile) -> None:
        self._path = path
        self._file = file
        self._most = max(file.metadata.num_rows, 1)
        own = _flat(file.schema_arrow.empty_table()).column_names
        if rule.columns is not None and len(rule.columns) != len(own):
            raise SourceError(
                f"{path} has {len(own)} columns ({', '.join(own)}), and the mapping names "
                f"{len(rule.columns)}; a Parquet file needs no columns = [...]"
            )
        self.columns: Sequence[str] = rule.columns or own

    def rows(self) -> Iterator[Row | UnreadableRow]:
        """See ``sources.Table``."""
        line = 0
        try:
            for batch in self._file.iter_batches(ROWS):
                columns = _flat(pa.Table.from_batches([batch])).itercolumns()
                for values in zip(*(column.to_pylist() for column in columns), strict=True):
                    line += 1
                    cells = [_text(value) for value in values]
                    if any(cells):
                        yield row_of(line, line / self._most, self.columns, cells)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{self._path} cannot be read further: {error}") from error


@contextmanager
def parquet_table(path: Path, rule: SourceRule) -> Iterator[ParquetTable]:
    """Open a Parquet file.

    Raises:
        SourceError: when it is none, or damaged.
    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path} cannot be read: {error}") from error
    with file:
        yield ParquetTable(path, rule, file)


def _flat(table: pa.Table) -> pa.Table:
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _text(value: Any) -> str:
    """A value as a CSV file of the same table would have it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return format(Decimal(repr(value)), "f") if math.isfinite(value) else ""
        case datetime():
            return value.isoformat() if value.tzinfo is None else _instant(value)
        case date() | time():
            return value.isoformat()
        case timedelta():
            return format(Decimal(str(value.total_seconds())), "f")
        case Decimal():
            return format(value, "f")
        case bytes():
            return value.decode(errors="replace")
        case list() | dict():
            return orjson.dumps(value, default=str).decode()
        case _:
            return str(value)


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
