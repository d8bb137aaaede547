"""One kind of fact: its columns, and what each event adds to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from events.envelope import Recorded
from events.values import Money

Facts = Iterator[tuple[Any, ...]]

MOMENT = pa.timestamp("us", tz="UTC")
AMOUNT = pa.decimal128(24, 4)
QUANTITY = pa.decimal128(18, 3)
TEXT = pa.string()
CLOCKS = [("position", pa.int64()), ("occurred_at", MOMENT), ("recorded_at", MOMENT)]


@dataclass(frozen=True, slots=True)
class FactTable:
    """One kind of fact.

    Attributes:
        facts: what an event adds, without the clocks, which come first in every row.
        types: of the events that add anything.
    """

    name: str
    schema: pa.Schema
    types: frozenset[str]
    facts: Callable[[Recorded], Facts]


def columns(*each: tuple[str, pa.DataType]) -> pa.Schema:
    """A table's schema: the clocks, then its own columns."""
    return pa.schema([*CLOCKS, *each])


def worth(money: Money | None) -> tuple[Any, Any]:
    """An amount and its currency, or neither."""
    return (None, None) if money is None else (money.amount, money.currency)


def rows_of(table: FactTable, events: list[Recorded]) -> pa.Table:
    """What these events add to a table, in the order of their positions."""
    rows = [
        (recorded.position, recorded.occurred_at, recorded.recorded_at, *fact)
        for recorded in events
        if recorded.type in table.types
        for fact in table.facts(recorded)
    ]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(table.schema)
    arrays = [
        pa.array(column, type=field.type)
        for column, field in zip(columns, table.schema, strict=True)
    ]
    return pa.table(arrays, schema=table.schema)
