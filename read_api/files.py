"""Rows as files: CSV, lines of JSON, Excel workbooks, Parquet, written page by page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import chain
from math import isfinite
from typing import IO, Annotated, Any, BinaryIO, NamedTuple, cast, get_args, get_origin
from uuid import UUID

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xlsxwriter
from pydantic import BaseModel, create_model

from analytics.facts.fact import rounded_array
from events.values import Money
from projections.asking.money import Balance
from projections.asking.rows import plain
from projections.asking.shape import made

Pages = Iterable[Sequence[Any]]
"""The rows, some at a time."""

COLUMNS = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    Decimal: pa.decimal128(38, 6),
    date: pa.date32(),
    datetime: pa.timestamp("us", tz="UTC"),
}
FORMULA = ("=", "+", "-", "@", "\t", "\r")
DIGITS = 15
"""That a workbook keeps of a number."""
LONGEST_CELL = 32_767
ROWS_OF_A_SHEET = 1_048_575


class TooLongForASheet(ValueError):
    """A text is longer than a cell of a workbook may be."""


def json_default(value: Any) -> Any:
    """What orjson does not know: parts of answers, and decimals, which are texts."""
    if isinstance(value, BaseModel):
        return fields_of(value)
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(type(value).__name__)


def fields_of(part: BaseModel) -> dict[str, Any]:
    """A part's fields, by the names that answers give them."""
    fields = part.__dict__
    aliases = _aliases(type(part))
    return {aliases.get(n, n): v for n, v in fields.items()} if aliases else fields


@lru_cache(1_000)
def _aliases(kind: type[BaseModel]) -> dict[str, str]:
    return {name: field.alias for name, field in kind.model_fields.items() if field.alias}


def _json(value: Any) -> str:
    return orjson.dumps(value, default=json_default, option=orjson.OPT_UTC_Z).decode()


def write_csv(out: IO[bytes], pages: Pages, model: Any) -> None:
    """A column a field, nested ones as ``a.b``; nothing that a sheet would compute.

    Args:
        model: of a row; gives the columns, which so are the same whatever is null.
    """
    columns = [field.name for field in columns_of(model)]
    text = io.TextIOWrapper(cast("BinaryIO", out), "utf-8-sig", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(columns)
    for page in pages:
        writer.writerows([_cell(row.get(name)) for name in columns] for row in map(_flat, page))
    text.detach()


def write_ndjson(out: IO[bytes], pages: Pages, _: Any) -> None:
    """A line a row, each the JSON that a page would hold."""
    for page in pages:
        for item in page:
            line = orjson.dumps(item, default=json_default, option=orjson.OPT_UTC_Z)
            out.write(line + b"\n")


def write_xlsx(out: IO[bytes], pages: Pages, model: Any) -> None:
    """The columns of CSV: numbers are numbers unless a workbook would round them, times in UTC.

    Raises:
        TooLongForASheet: when a text does not fit into a cell.
    """
    columns = [field.name for field in columns_of(model)]
    with xlsxwriter.Workbook(out, {"constant_memory": True, "remove_timezone": True}) as book:
        bold = book.add_format({"bold": True})
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        moment = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        sheet, number = _sheet(book, columns, bold), 0
        for row in map(_flat, chain.from_iterable(pages)):
            if number == ROWS_OF_A_SHEET:
                sheet, number = _sheet(book, columns, bold), 0
            number += 1
            for place, name in enumerate(columns):
                value = row.get(name)
                match value:
                    case None:
                        pass
                    case float() if not isfinite(value):
                        pass
                    case bool():
                        sheet.write_boolean(number, place, value)
                    case int() | float() | Decimal() if _is_exact(value):
                        sheet.write_number(number, place, value)
                    case datetime():
                        sheet.write_datetime(number, place, value.astimezone(UTC), moment)
                    case date():
                        sheet.write_datetime(number, place, value, day)
                    case _:
                        text = value if isinstance(value, str) else _text(value)
                        if len(text) > LONGEST_CELL:
                            raise TooLongForASheet(f"{name} has {len(text)} characters")
                        sheet.write_string(number, place, text)


def _sheet(book: Any, columns: Sequence[str], bold: Any) -> Any:
    sheet = book.add_worksheet()
    sheet.freeze_panes(1, 0)
    for place, name in enumerate(columns):
        sheet.write_string(0, place, name, bold)
    return sheet


def _is_exact(number: float | Decimal) -> bool:
    digits = Decimal(number).normalize().as_tuple() if not isinstance(number, float) else None
    return digits is None or len(digits.digits) <= DIGITS


def write_parquet(out: IO[bytes], pages: Pages, model: Any) -> None:
    """The columns of CSV: numbers are numbers, ids and lists are text."""
    schema = pa.schema([*columns_of(model)])
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for page in pages:
            rows = [*map(_flat, page)]
            arrays = [
                rounded_array([_typed(row.get(field.name), field.type) for row in rows], field.type)
                for field in schema
            ]
            writer.write_table(pa.table(arrays, schema=schema))


class Form(NamedTuple):
    """A kind of file.

    Attributes:
        suffix: of its name.
        write: writes rows into it.
        charset: of its text.
    """

    suffix: str
    write: Callable[[IO[bytes], Pages, Any], None]
    charset: str = ""


CSV = "text/csv"
NDJSON = "application/x-ndjson"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PARQUET = "application/vnd.apache.parquet"
FORMS = {
    CSV: Form("csv", write_csv, "; charset=utf-8"),
    NDJSON: Form("ndjson", write_ndjson),
    XLSX: Form("xlsx", write_xlsx),
    PARQUET: Form("parquet", write_parquet),
}
"""By media type."""


def columns_of(model: Any, prefix: str = "") -> Iterator[pa.Field]:
    """The columns of a row's model: an amount has two, a part within a row one for each field."""
    for name, field in model.model_fields.items():
        kind = plain(field.annotation)
        column = prefix + (field.alias or name)
        if kind in (Money, Balance):
            yield pa.field(f"{column}.amount", pa.decimal128(38, 4))
            yield pa.field(f"{column}.currency", pa.string())
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from columns_of(kind, f"{column}.")
        else:
            yield pa.field(column, COLUMNS.get(kind, pa.string()))


def _typed(value: Any, kind: pa.DataType) -> Any:
    if value is None or not pa.types.is_string(kind) or isinstance(value, str):
        return value
    return _text(value)


def _text(value: Any) -> str:
    return str(value) if isinstance(value, UUID | date | Decimal) else _json(value)


def _flat(item: Any) -> dict[str, Any]:
    return dict(_flattened(item, ""))


def _flattened(item: BaseModel, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in fields_of(item).items():
        if isinstance(value, Money | Balance):
            yield f"{prefix}{name}.amount", Decimal(value.amount)
            yield f"{prefix}{name}.currency", value.currency
        elif isinstance(value, BaseModel):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def harmless(text: str) -> str:
    """A text of which a spreadsheet computes nothing: behind an apostrophe.

    One that is there already gets another, so that whoever reads takes away exactly one.
    """
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return harmless(value)
    if isinstance(value, list | dict | bool):
        return _json(value)
    return _json(value)[1:-1] if isinstance(value, datetime) else str(value)


def rows_of(shape: Any) -> tuple[str, Any] | None:
    """The field of an answer that holds its rows, and their model: its ``items``, or only list."""
    lists = _lists(shape)
    if "items" in lists:
        return "items", lists["items"]
    return next(iter(lists.items())) if len(lists) == 1 else None


def unrolled(rows: Sequence[Any], model: Any) -> tuple[list[Any], Any]:
    """Rows of which each has a list of parts, as a row for each part; and their model."""
    for name, part in _lists(model).items():
        flat = _with_one(model, name, part)
        return [
            made(flat, {**row.__dict__, name: one})
            for row in rows
            for one in row.__dict__[name] or (None,)
        ], flat
    return [*rows], model


@lru_cache(100)
def _with_one(model: Any, name: str, part: Any) -> Any:
    field: dict[str, Any] = {name: (part | None, None)}
    return create_model(f"{model.__name__}Row", __base__=model, **field)


def _lists(shape: Any) -> dict[str, Any]:
    """By field, the model of the parts in its list."""
    found = {}
    for name, field in shape.model_fields.items():
        if get_origin(field.annotation) is list:
            part = get_args(field.annotation)[0]
            part = get_args(part)[0] if get_origin(part) is Annotated else part
            if isinstance(part, type) and issubclass(part, BaseModel):
                found[name] = part
    return found
