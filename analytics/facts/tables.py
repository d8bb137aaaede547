"""The tables of facts: what orders add to them, and the schema that readers may rely on.

A fact is added and never changed. It holds no personal data: erasing somebody leaves it as it is.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa

from analytics.facts import sales as sales_facts
from analytics.facts.fact import AMOUNT, QUANTITY, TEXT, Facts, FactTable, columns
from events.envelope import Recorded
from events.lines import PricedLine
from events.order import GoodsReturned, OrderCancelled, OrderLineAdded, OrderPlaced
from events.payment import AllocationReleased, PaymentAllocated, PaymentRefunded

MONEY_KINDS = {
    PaymentAllocated: "allocated",
    AllocationReleased: "released",
    PaymentRefunded: "refunded",
}


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
    event, order, payment = recorded.event, str(recorded.stream_id), None
    match event:
        case OrderLineAdded():
            kind, amount = "line-added", event.line.total
        case OrderCancelled():
            yield order, "cancelled", None, None, None
            return
        case GoodsReturned():
            kind, amount = "returned", event.amount
        case PaymentAllocated() | AllocationReleased() | PaymentRefunded():
            if event.order_id is None:
                return
            kind, amount = MONEY_KINDS[type(event)], event.amount
            order, payment = str(event.order_id), order
        case _:
            return
    yield order, kind, amount.amount, amount.currency, payment


def _lines(recorded: Recorded) -> Facts:
    event = recorded.event
    lines: tuple[PricedLine, ...] = ()
    if isinstance(event, OrderPlaced):
        lines = event.lines
    elif isinstance(event, OrderLineAdded):
        lines = (event.line,)
    for number, line in enumerate(lines, 1):
        yield (
            str(recorded.stream_id),
            number,
            line.product,
            line.quantity,
            line.total.amount,
            line.total.currency,
        )


PURCHASES = FactTable(
    "purchases",
    columns(
        ("order_id", TEXT),
        ("customer_id", TEXT),
        ("owner", TEXT),
        ("amount", AMOUNT),
        ("currency", TEXT),
    ),
    frozenset({"order.placed"}),
    _purchases,
)
CHANGES = FactTable(
    "purchase_changes",
    columns(
        ("order_id", TEXT),
        ("kind", TEXT),
        ("amount", AMOUNT),
        ("currency", TEXT),
        ("payment_id", TEXT),
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
    columns(
        ("order_id", TEXT),
        ("number", pa.int32()),
        ("product", TEXT),
        ("quantity", QUANTITY),
        ("amount", AMOUNT),
        ("currency", TEXT),
    ),
    frozenset({"order.placed", "order.line-added"}),
    _lines,
)
TABLES = (PURCHASES, CHANGES, LINES, *sales_facts.TABLES)
TYPES = frozenset[str]().union(*(table.types for table in TABLES))
VERSION = 1
"""Of what an event adds; to be raised with every change that is no change of a schema."""
SHAPE = hashlib.sha256(
    f"{VERSION} {[(table.name, str(table.schema)) for table in TABLES]}".encode()
).hexdigest()[:16]
"""Of files that this code writes; others are written anew."""
