"""By which of its columns a list may be sorted."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from events.values import Money
from projections.asking.money import Balance
from projections.asking.rows import plain
from projections.asking.shape import Shape

KINDS: dict[Any, type] = {
    **{kind: kind for kind in (bool, date, datetime, Decimal, int, str, UUID)},
    Money: Decimal,
    Balance: Decimal,
}
"""Types of fields that can be sorted by, and those of their columns."""
SORTED_BY = "sorted by"


class Sorts:
    """Marks a list's parameter ``sort``: these columns, or with ``-`` the other way round.

    A column is named as the field of the answer, a part of a part with a dot: ``customer.name``.
    """

    def __init__(self, *columns: str) -> None:
        self.columns = columns

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        every = [f"{sign}{column}" for column in self.columns for sign in ("", "-")]
        return {"anyOf": [{"type": "string", "enum": every}, {"type": "null"}]}

    def _known(self, sort: str | None) -> str | None:
        if sort is not None and sort.removeprefix("-") not in self.columns:
            raise PydanticCustomError(
                "sort",
                "must be one of {columns}; with - before it the other way round",
                {"columns": ", ".join(self.columns)},
            )
        return sort


class Column(NamedTuple):
    """A column to sort by, as a part of an order.

    Attributes:
        sql: the expression that is compared; of a text without its case.
        kind: of its values.
        name: the column that has its value.
    """

    sql: str
    kind: Any
    name: str = SORTED_BY

    @classmethod
    def of(cls, shape: type[Shape], name: str) -> Column:
        """The column of a query ``x`` that fills a field of the shape."""
        kind = kind_of(shape, name)
        column = f'x."{name}"'
        return cls(f"lower({column})" if kind is str else column, kind)


def sorts_of(asks: type[BaseModel]) -> tuple[str, ...]:
    """The columns that a list may be sorted by, of what may be asked of it."""
    field = asks.model_fields.get("sort")
    marks = () if field is None else field.metadata
    return next((mark.columns for mark in marks if isinstance(mark, Sorts)), ())


def kind_of(shape: type[Shape], name: str) -> type | None:
    """The type of a column to sort by; None where there is none, or it has no order."""
    kind: Any = shape
    for part in name.split("."):
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return None
        if part not in kind.model_fields:
            return None
        kind = plain(kind.model_fields[part].annotation)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return str
    return KINDS.get(kind)
