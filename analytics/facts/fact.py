"""A table of facts in Parquet: which columns of which facts it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from uuid import UUID

import pyarrow as pa

from events.base import Event, Personal
from projections.engine.tables import Row
from projections.facts.fact import Digits

MOMENT = pa.timestamp("us", tz="UTC")
AMOUNT = pa.decimal128(24, 4)
TEXT = pa.string()
CLOCKS = [("position", pa.int64()), ("occurred_at", MOMENT), ("recorded_at", MOMENT)]
KINDS: dict[Any, pa.DataType] = {
    UUID: TEXT,
    str: TEXT,
    int: pa.int32(),
    bool: pa.bool_(),
    date: pa.date32(),
    datetime: MOMENT,
    Decimal: AMOUNT,
}


@dataclass(frozen=True, eq=False)
class FactTable:
    """One table of facts. Its rows begin with the clocks.

    Attributes:
        columns: by name; a fact that has no such column has null there, and one that has null in
            the first of them is not of this table.
        takes: the facts that it holds, and of which events.

    Raises:
        TypeError: when a column is personal, no fact has it, or they do not agree on what it holds.
    """

    name: str
    columns: tuple[str, ...]
    takes: Mapping[type[Row], tuple[type[Event], ...]]

    def __post_init__(self) -> None:
        """Refuse columns that must not, or cannot, be written."""
        _ = self.schema

    @cached_property
    def schema(self) -> pa.Schema:
        """The clocks, then the columns."""
        return pa.schema([*CLOCKS, *((name, self._kind(name)) for name in self.columns)])

    @property
    def types(self) -> frozenset[str]:
        """Of the events whose facts it holds."""
        return frozenset[str]().union(*map(self.types_of, self.takes))

    def types_of(self, fact: type[Row]) -> frozenset[str]:
        """Of the events of which it holds this fact."""
        return frozenset(event.event_type for event in self.takes.get(fact, ()))

    def _kind(self, column: str) -> pa.DataType:
        kinds = [
            kind_of(self.name, column, hints[column])
            for hints in (get_type_hints(fact, include_extras=True) for fact in self.takes)
            if column in hints
        ]
        if not kinds or any(kind != kinds[0] for kind in kinds):
            raise TypeError(f"{self.name}.{column} is {kinds or 'in no fact'}")
        return kinds[0]

    def made(self, facts: Sequence[Any]) -> pa.Table:
        """These facts as rows."""
        arrays = [
            rounded_array([_plain(getattr(fact, field.name, None)) for fact in facts], field.type)
            for field in self.schema
        ]
        return pa.table(arrays, schema=self.schema)


def kind_of(table: str, column: str, hint: Any) -> pa.DataType:
    """How a column of a fact is written.

    Raises:
        TypeError: when it is personal, for what is written cannot be taken back.
    """
    marks: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *marks = get_args(hint)  # type: ignore[assignment]  # a tuple unpacks to a list
    if any(isinstance(mark, Personal) for mark in marks):
        raise TypeError(f"{table}.{column} is personal, so it is no column of Parquet")
    if isinstance(hint, UnionType):
        [hint] = (kind for kind in get_args(hint) if kind is not type(None))
    for mark in marks:
        if isinstance(mark, Digits):
            return pa.decimal128(mark.precision, mark.scale)
    return KINDS[hint]


def rounded_array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """An array of values; decimals of more digits than the type has are rounded half up."""
    try:
        return pa.array(values, type=kind)
    except pa.ArrowInvalid:
        if not pa.types.is_decimal(kind):
            raise
        # Events from before a limit was tightened may be finer than a column.
        coin = Decimal(1).scaleb(-kind.scale)
        with localcontext(prec=60):
            rounded = [v if v is None else v.quantize(coin, ROUND_HALF_UP) for v in values]
        return pa.array(rounded, type=kind)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value
