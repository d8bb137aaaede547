"""Read model ``payments``: money that came in, credit notes, and what they are for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, assert_never
from uuid import UUID

from pydantic import Field

from events.envelope import Recorded
from events.payment import (
    AllocationReleased,
    CreditNoteIssued,
    PaymentAllocated,
    PaymentEvent,
    PaymentKind,
    PaymentReceived,
    PaymentRefunded,
)
from events.values import StoredMoney
from projections import customers
from projections.asking.clocks import Moment
from projections.asking.listing import AskedAt, By, Counted, Listing, Question, Where
from projections.asking.money import Balance
from projections.asking.parameters import Amount, Ids, Time, Word, each
from projections.asking.rows import fetch
from projections.asking.shape import HeadAt, Shape
from projections.asking.sorting import Sorts
from projections.asking.then import stood
from projections.asking.view import View
from projections.customers import CustomerRef, name_at
from projections.engine.model import ReadModel
from projections.engine.tables import Row, Rows, Table
from projections.facts.payments import PaymentFact, facts


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


PAYMENTS = Table(
    "payments",
    PaymentRow,
    key=("payment_id",),
    indexes=("(received_at, payment_id)", "(customer_id)", "(reference)", "(position)"),
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
    amount = event.amount.amount
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
        case PaymentAllocated():
            payment.credit -= amount
        case AllocationReleased():
            payment.credit += amount
        case PaymentRefunded():
            payment.refunded += amount
            if event.order_id is None:
                payment.credit -= amount
        case _:
            assert_never(event)
    [fact] = facts(recorded)
    fact.customer_id, fact.is_note = payment.customer_id, payment.kind == "credit-note"
    if fact.kind == "released":  # an allocation below 0, so that sums need no case for it
        fact.kind, fact.amount = "allocated", -amount
    rows.add(FACTS, fact)


MODEL = ReadModel("payments", (PAYMENTS, FACTS), PaymentEvent, apply, critical=True)


class AskPayments(Counted):
    """What may be asked of payments and credit notes."""

    ids: Annotated[Ids, Where("p.payment_id = ANY (%(ids)s)", each)] = None
    customer_id: Annotated[UUID | None, Where("p.customer_id = %(customer_id)s")] = None
    kind: Annotated[PaymentKind | None, Where("p.kind = %(kind)s")] = None
    reference: Annotated[Word, Where("p.reference = %(reference)s")] = None
    with_credit: Annotated[bool | None, Where("(p.credit > 0) = %(with_credit)s")] = None
    method: Annotated[Word, Where("p.method = %(method)s")] = None
    currency: Annotated[Word, Where("p.currency = %(currency)s")] = None
    amount_from: Annotated[Amount, Where("p.amount >= %(amount_from)s")] = None
    amount_to: Annotated[Amount, Where("p.amount < %(amount_to)s")] = None
    received_from: Annotated[Time, Where("p.received_at >= %(received_from)s")] = None
    received_to: Annotated[Time, Where("p.received_at < %(received_to)s")] = None
    sort: Annotated[
        Word,
        Sorts(
            *("received_at", "customer.name", "kind", "amount", "credit", "refunded", "method"),
            *("reference", "received_by"),
        ),
    ] = None


class PaymentShape(Shape):
    """Money, or a credit note; ``credit`` is what is for no order and was not given back."""

    id: UUID
    version: int
    kind: str = Field(examples=["money", "credit-note"])
    customer: CustomerRef
    amount: StoredMoney
    credit: StoredMoney
    refunded: StoredMoney
    method: str | None
    reference: str | None
    note: str | None
    received_at: datetime
    received_by: str


class PaymentFactShape(Shape):
    """What became of a payment, step by step."""

    version: int
    kind: str = Field(examples=["received", "credited", "allocated", "refunded"])
    order_id: UUID | None
    amount: Balance
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    position: int


class PaymentDetail(PaymentShape, HeadAt):
    """A payment with all that became of it."""

    history: list[PaymentFactShape]


SELECT = """
SELECT p.payment_id AS id, p.version, p.kind, p.customer_id AS "customer.id",
       {name} AS "customer.name", p.amount, p.currency, p.credit, p.refunded, p.method, p.reference,
       p.note, p.received_at, p.received_by
  FROM payments p LEFT JOIN customers c USING (customer_id) WHERE p.received_position > 0
"""


SAID = {
    "credit": """coalesce(sum(CASE WHEN s.kind IN ('received', 'credited') THEN s.amount
        WHEN s.kind = 'allocated' OR s.order_id IS NULL THEN -s.amount END), 0)""",
    "refunded": "coalesce(sum(s.amount) FILTER (WHERE s.kind = 'refunded'), 0)",
}


def select(when: Moment) -> str:
    """Every payment as it was at a moment, with its customer's name."""
    query = SELECT.format(name=name_at(when, "p"))
    if when.is_live:
        return query
    counts, there = when.counts("s"), when.counts("t", "received_at", "received_position")
    return f"WITH {stood(when, PAYMENTS, FACTS, SAID, counts=counts, there=there)} {query}"


HISTORY_OF = """
SELECT version, kind, order_id, amount, currency, occurred_at, recorded_at, actor, position
  FROM payment_facts s WHERE payment_id = %(id)s AND {facts} ORDER BY version
"""


def payment(view: View, payment_id: UUID, _: AskedAt) -> PaymentDetail | None:
    """One payment with all that became of it, or None."""
    of = {**view.when.values, "id": payment_id}
    one = f"{select(view.when)} AND p.payment_id = %(id)s"
    for found in fetch(view.conn, PaymentShape, one, of):
        facts = HISTORY_OF.format(facts=view.when.counts("s"))
        history = fetch(view.conn, PaymentFactShape, facts, of)
        return PaymentDetail.of(view.head_at, found, history=history)
    return None


LIST = Listing(
    path="/payments",
    name="list_payments",
    tag="payments",
    says="Payments and credit notes by the time they came in.",
    asks=AskPayments,
    shape=PaymentShape,
    needs=(MODEL, customers.MODEL),
    select=select,
    order=(By("p.received_at"), By("p.payment_id", "id")),
)
QUESTIONS = (
    LIST.question(),
    Question(
        path="/payments/{id}",
        name="one_payment",
        tag="payments",
        says="One payment and what became of it, now or at any moment; its ETag is its version.",
        asks=AskedAt,
        shape=PaymentDetail,
        needs=(MODEL, customers.MODEL),
        answer=payment,
    ),
)
