"""What the events of a payment or a credit note say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import assert_never
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
from projections.engine.tables import Row
from projections.facts.fact import head


@dataclass(slots=True)
class PaymentFact(Row):
    """A fact, never changed: received, credited, allocated, released, refunded.

    Attributes:
        customer_id: whose payment it is; in the read model in every fact of it.
        is_note: likewise, whether it is a credit note.
    """

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


def facts(recorded: Recorded) -> list[PaymentFact]:
    """What an event says of its payment."""
    event: PaymentEvent = recorded.event  # type: ignore[assignment]  # of a payment's stream
    customer_id = order_id = None
    match event:
        case PaymentReceived():
            kind, customer_id = "received", event.customer_id
        case CreditNoteIssued():
            kind, customer_id = "credited", event.customer_id
        case PaymentAllocated():
            kind, order_id = "allocated", event.order_id
        case AllocationReleased():
            kind, order_id = "released", event.order_id
        case PaymentRefunded():
            kind, order_id = "refunded", event.order_id
        case _:
            assert_never(event)
    return [
        PaymentFact(
            *head(recorded),
            kind,
            customer_id,
            order_id,
            event.amount.amount,
            event.amount.currency,
            recorded.actor,
            isinstance(event, CreditNoteIssued),
        )
    ]
