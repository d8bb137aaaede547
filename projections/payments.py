"""Read model ``payments``: money that came in, credit notes, and what they are for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, assert_never
from uuid import UUID

from events.envelope import Recorded
from events.payment import (
    AllocationReleased,
    CreditNoteIssued,
    PaymentAllocated,
    PaymentEvent,
    PaymentReceived,
    PaymentRefunded,
)
from projections.asking.money import money
from projections.asking.pages import LIMIT, Filter, fetch, page
from projections.engine.model import ReadModel
from projections.engine.tables import Connection, Row, Rows, Table


@dataclass(slots=True)
class PaymentRow(Row):
    """A payment as it stands; ``received_position`` is 0 where its receipt is not among the events.

    ``credit`` is what is for no order and was not given back.
    """

    payment_id: UUID
    version: int = 0
    position: int = 0
    received_position: int = 0
    kind: str = "money"
    customer_id: UUID | None = None
    amount: Decimal | None = None
    currency: str | None = None
    credit: Decimal = Decimal(0)
    refunded: Decimal = Decimal(0)
    method: str | None = None
    reference: str | None = None
    note: str | None = None
    received_at: datetime | None = None
    received_by: str | None = None


@dataclass(slots=True)
class PaymentFact(Row):
    """A fact, never changed: received, credited, allocated (or, below 0, released), refunded."""

    payment_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    kind: str = "received"
    customer_id: UUID | None = None
    order_id: UUID | None = None
    amount: Decimal | None = None
    currency: str | None = None
    actor: str | None = None
    is_note: bool = False


PAYMENTS = Table(
    "payments",
    PaymentRow,
    key=("payment_id",),
    indexes=("(received_at, payment_id)", "(customer_id)", "(reference)"),
)
FACTS = Table(
    "payment_facts",
    PaymentFact,
    key=("payment_id", "version"),
    indexes=("(order_id) WHERE order_id IS NOT NULL", "(customer_id)"),
    facts=True,
)


def apply(rows: Rows, recorded: Recorded) -> None:
    """Change the payment's rows by one event."""
    event: PaymentEvent = recorded.event  # type: ignore[assignment]  # the model names its events
    payment = rows.get(PAYMENTS, recorded.stream_id)
    payment.version, payment.position = recorded.version, recorded.position
    amount, order_id = event.amount.amount, None
    match event:
        case PaymentReceived() | CreditNoteIssued():
            is_money = isinstance(event, PaymentReceived)
            payment.kind = "money" if is_money else "credit-note"
            payment.customer_id = event.customer_id
            payment.amount, payment.currency = amount, event.amount.currency
            payment.method, payment.reference = event.method, event.reference
            payment.note = event.note
            payment.received_at, payment.received_by = recorded.occurred_at, recorded.actor
            payment.received_position = recorded.position
            payment.credit += amount
            kind = "received" if is_money else "credited"
        case PaymentAllocated():
            payment.credit -= amount
            kind, order_id = "allocated", event.order_id
        case AllocationReleased():
            payment.credit += amount
            kind, order_id, amount = "allocated", event.order_id, -amount
        case PaymentRefunded():
            payment.refunded += amount
            if event.order_id is None:
                payment.credit -= amount
            kind, order_id = "refunded", event.order_id
        case _:
            assert_never(event)
    rows.add(
        FACTS,
        PaymentFact(
            recorded.stream_id,
            recorded.version,
            recorded.position,
            recorded.occurred_at,
            recorded.recorded_at,
            kind,
            payment.customer_id,
            order_id,
            amount,
            event.amount.currency,
            recorded.actor,
            payment.kind == "credit-note",
        ),
    )


MODEL = ReadModel("payments", (PAYMENTS, FACTS), PaymentEvent, apply, critical=True)

SELECT = """
SELECT p.payment_id, p.version, p.kind, p.customer_id, c.name AS customer_name, p.amount,
       p.currency, p.credit, p.refunded, p.method, p.reference, p.note, p.received_at, p.received_by
  FROM payments p LEFT JOIN customers c USING (customer_id)
"""


def payments(
    conn: Connection,
    *,
    customer_id: UUID | None = None,
    kind: str | None = None,
    reference: str | None = None,
    with_credit: bool | None = None,
    received_from: datetime | None = None,
    received_to: datetime | None = None,
    cursor: str | None = None,
    limit: int = LIMIT,
) -> tuple[list[dict[str, Any]], str | None]:
    """Payments by the time they came in."""
    return page(
        conn,
        SELECT,
        [
            Filter("p.received_position > 0 AND %s", (True,)),
            Filter("p.customer_id = %s", (customer_id,)),
            Filter("p.kind = %s", (kind,)),
            Filter("p.reference = %s", (reference,)),
            Filter("(p.credit > 0) = %s", (with_credit,)),
            Filter("p.received_at >= %s", (received_from,)),
            Filter("p.received_at < %s", (received_to,)),
        ],
        ("p.received_at", "p.payment_id"),
        cursor,
        limit,
        shape=shown,
    )


def payment(conn: Connection, payment_id: UUID) -> dict[str, Any] | None:
    """One payment with all that became of it, or None."""
    rows = fetch(
        conn, f"{SELECT} WHERE p.payment_id = %s AND p.received_position > 0", (payment_id,)
    )
    if not rows:
        return None
    found = shown(rows[0])
    found["history"] = fetch(
        conn,
        "SELECT version, kind, order_id, amount, currency, occurred_at, recorded_at, actor, "
        "position FROM payment_facts WHERE payment_id = %s ORDER BY version",
        (payment_id,),
    )
    for fact in found["history"]:
        fact["amount"] = money(fact["amount"], fact.pop("currency"))
    return found


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A payment as the API shows it."""
    row["id"] = row.pop("payment_id")
    row["customer"] = {"id": row.pop("customer_id"), "name": row.pop("customer_name")}
    currency = row.pop("currency")
    for name in ("amount", "credit", "refunded"):
        row[name] = money(row[name], currency)
    return row
