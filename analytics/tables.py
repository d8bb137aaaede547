"""The tables of facts: what each event adds to them, and the schema that readers may rely on.

A fact is added and never changed. It holds no personal data: erasing somebody leaves it as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from events.envelope import Recorded
from events.lines import PricedLine
from events.order import GoodsReturned, OrderCancelled, OrderLineAdded, OrderPlaced
from events.payment import AllocationReleased, PaymentAllocated, PaymentRefunded

Facts = Iterator[tuple[Any, ...]]

MOMENT = pa.timestamp("us", tz="UTC")
AMOUNT = pa.decimal128(24, 4)
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


def _purchases(recorded: Recorded) -> Facts:
    event = recorded.event
    if isinstance(event, OrderPlaced):
        yield (
            str(recorded.stream_id),
            str(event.customer_id),
            event.owner,
            event.total.amount,
            event.total.currency,
        )


def _changes(recorded: Recorded) -> Facts:
    event, order = recorded.event, str(recorded.stream_id)
    match event:
        case OrderLineAdded():
            total = event.line.total
            yield order, "line-added", total.amount, total.currency
        case OrderCancelled():
            yield order, "cancelled", None, None
        case GoodsReturned():
            yield order, "returned", event.amount.amount, event.amount.currency
        case PaymentAllocated():
            yield str(event.order_id), "allocated", event.amount.amount, event.amount.currency
        case AllocationReleased():
            yield str(event.order_id), "released", event.amount.amount, event.amount.currency
        case PaymentRefunded() if event.order_id is not None:
            yield str(event.order_id), "refunded", event.amount.amount, event.amount.currency


def _lines(recorded: Recorded) -> Facts:
    event = recorded.event
    lines: tuple[PricedLine, ...] = ()
    if isinstance(event, OrderPlaced):
        lines = event.lines
    elif isinstance(event, OrderLineAdded):
        lines = (event.line,)
    for line in lines:
        yield str(recorded.stream_id), line.product, line.total.amount, line.total.currency


PURCHASES = FactTable(
    "purchases",
    pa.schema(
        [
            *CLOCKS,
            ("order_id", pa.string()),
            ("customer_id", pa.string()),
            ("owner", pa.string()),
            ("amount", AMOUNT),
            ("currency", pa.string()),
        ]
    ),
    frozenset({"order.placed"}),
    _purchases,
)
CHANGES = FactTable(
    "purchase_changes",
    pa.schema(
        [
            *CLOCKS,
            ("order_id", pa.string()),
            ("kind", pa.string()),
            ("amount", AMOUNT),
            ("currency", pa.string()),
        ]
    ),
    frozenset(
        {
            "order.line-added",
            "order.cancelled",
            "order.goods-returned",
            "payment.allocated",
            "payment.allocation-released",
            "payment.refunded",
        }
    ),
    _changes,
)
LINES = FactTable(
    "purchase_lines",
    pa.schema(
        [
            *CLOCKS,
            ("order_id", pa.string()),
            ("product", pa.string()),
            ("amount", AMOUNT),
            ("currency", pa.string()),
        ]
    ),
    frozenset({"order.placed", "order.line-added"}),
    _lines,
)
TABLES = (PURCHASES, CHANGES, LINES)
TYPES = frozenset[str]().union(*(table.types for table in TABLES))
VERSION = 1
"""Of what an event adds; to be raised with every change that is no change of a schema."""
SHAPE = hashlib.sha256(
    f"{VERSION} {[(table.name, str(table.schema)) for table in TABLES]}".encode()
).hexdigest()[:16]
"""Of files that this code writes; others are written anew."""


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
