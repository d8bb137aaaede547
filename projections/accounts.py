"""Accounts, kept: what each customer owes, what each rep sold, and when it is due.

Payments arrive beside orders, in any order; the sums follow from the rows of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from events.company import TimeZoneSet, business_zone
from events.envelope import Recorded
from events.payment import PaymentEvent
from projections.dues import ACCOUNTS, DAYS, NOW, OWED_DAYS, PARTS, REPS, TOTALS
from projections.engine.tables import Row, Rows, Sums, Table
from projections.facts.payments import PaymentFact, facts

NOTHING = Decimal(0)


@dataclass(slots=True)
class CreditRow(Row):
    """A payment: what came in, or was credited, and what was refunded without an order."""

    payment_id: UUID
    position: int = 0
    customer_id: UUID | None = None
    currency: str | None = None
    is_note: bool = False
    received: Decimal = NOTHING
    credited: Decimal = NOTHING
    refunded: Decimal = NOTHING


@dataclass(slots=True)
class AllocationRow(Row):
    """What an order has of a payment, in money or by a credit note, and what it gave back."""

    payment_id: UUID
    order_id: UUID
    position: int = 0
    customer_id: UUID | None = None
    currency: str | None = None
    received: Decimal = NOTHING
    credited: Decimal = NOTHING
    refunded: Decimal = NOTHING


@dataclass(slots=True)
class ZoneRow(Row):
    """The zone of the company's business days."""

    company_id: UUID
    time_zone: str = "UTC"


@dataclass(slots=True)
class AccountRow(Row):
    """What a customer owes in a currency."""

    customer_id: UUID
    currency: str
    count: int = 0
    billed: Decimal = NOTHING
    received: Decimal = NOTHING
    refunded: Decimal = NOTHING
    receivable: Decimal = NOTHING


@dataclass(slots=True)
class DayRow(Row):
    """What of a customer's orders is open and due on a day."""

    customer_id: UUID
    currency: str
    due: date
    count: int = 0
    open: Decimal = NOTHING


@dataclass(slots=True)
class RepRow(Row):
    """Orders and money of a rep; without a name, of none."""

    rep: str
    currency: str
    count: int = 0
    orders: int = 0
    billed: Decimal = NOTHING
    received: Decimal = NOTHING
    refunded: Decimal = NOTHING


@dataclass(slots=True)
class TotalRow(Row):
    """All accounts of a currency in which something is owed, or in which nothing is."""

    currency: str
    is_owing: bool
    count: int = 0
    billed: Decimal = NOTHING
    received: Decimal = NOTHING
    refunded: Decimal = NOTHING
    receivable: Decimal = NOTHING


@dataclass(slots=True)
class OwedRow(Row):
    """What all customers owe that is due on a day."""

    currency: str
    due: date
    count: int = 0
    owed: Decimal = NOTHING


CREDITS = Table("payment_credits", CreditRow, key=("payment_id",))
ALLOCATIONS = Table(
    "allocations", AllocationRow, key=("payment_id", "order_id"), indexes=("(order_id)",)
)
ZONE = Table("order_zone", ZoneRow, key=("company_id",))
RELATIONS = f"WITH {NOW}"
ZONE_SQL = "(SELECT coalesce(max(time_zone), 'UTC') FROM order_zone)"
ORDERED = ("orders.order_id", "allocations.order_id")
SUMS: tuple[Table[Any], ...] = (
    Sums(
        "accounts",
        AccountRow,
        key=("customer_id", "currency"),
        indexes=(
            "(receivable, (customer_id::text || currency))",
            "(currency, receivable, (customer_id::text || currency))",
        ),
        select=f"{RELATIONS} {ACCOUNTS}",
        of=(*ORDERED, "payment_credits.payment_id"),
    ),
    Sums(
        "account_days",
        DayRow,
        key=("customer_id", "currency", "due"),
        select=f"{RELATIONS}, {PARTS.format(zone=ZONE_SQL)} {DAYS}",
        of=ORDERED,
        hangs_on=("order_zone.time_zone",),
    ),
    Sums(
        "rep_sums",
        RepRow,
        key=("rep", "currency"),
        select=f"{RELATIONS} {REPS}",
        of=(*ORDERED, "payment_credits.payment_id"),
    ),
    Sums(
        "account_totals",
        TotalRow,
        key=("currency", "is_owing"),
        select=TOTALS,
        of=("accounts.customer_id",),
    ),
    Sums(
        "owed_days",
        OwedRow,
        key=("currency", "due"),
        select=OWED_DAYS,
        of=("accounts.customer_id", "account_days.customer_id"),
    ),
)
TABLES: tuple[Table[Any], ...] = (CREDITS, ALLOCATIONS, ZONE, *SUMS)


Events = PaymentEvent | TimeZoneSet


def apply(rows: Rows, recorded: Recorded, event: Events) -> None:
    """Change what a payment is for by one event, or the days of the company."""
    if isinstance(event, TimeZoneSet):
        rows.get(ZONE, recorded.stream_id).time_zone = business_zone(event.time_zone).key
        return
    for fact in facts(recorded):
        _fold(rows, fact)


def _fold(rows: Rows, fact: PaymentFact) -> None:
    credit = rows.get(CREDITS, fact.payment_id)
    amount = fact.amount or NOTHING
    credit.position, credit.currency = fact.position, fact.currency
    match fact.kind:
        case "received":
            credit.customer_id = fact.customer_id
            credit.received += amount
        case "credited":
            credit.customer_id, credit.is_note = fact.customer_id, True
            credit.credited += amount
        case "allocated":
            _allocate(rows, credit, fact, amount)
        case "released":
            _allocate(rows, credit, fact, -amount)
        case "refunded":
            got = credit if fact.order_id is None else _of(rows, credit, fact)
            got.refunded += amount
        case _:
            raise ValueError(fact.kind)


def _allocate(rows: Rows, credit: CreditRow, fact: PaymentFact, amount: Decimal) -> None:
    allocation = _of(rows, credit, fact)
    if credit.is_note:
        allocation.credited += amount
    else:
        allocation.received += amount


def _of(rows: Rows, credit: CreditRow, fact: PaymentFact) -> AllocationRow:
    allocation = rows.get(ALLOCATIONS, fact.payment_id, fact.order_id)
    allocation.position = fact.position
    allocation.customer_id, allocation.currency = credit.customer_id, credit.currency
    return allocation
