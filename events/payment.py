from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from events.base import Event
from events.values import CustomersTextOrNone, StoredMoney


class PaymentKind(StrEnum):
    """Whether it is money that came in, or a credit note."""

    MONEY = "money"
    CREDIT_NOTE = "credit-note"


class PaymentReceived(Event, type="payment.received"):
    """A payment came in; what is not allocated to orders is the customer's credit."""

    customer_id: UUID
    amount: StoredMoney
    method: str | None = None
    reference: str | None = None
    note: CustomersTextOrNone = None


class CreditNoteIssued(Event, type="payment.credit-note-issued"):
    """A credit note was issued: less is billed, of no order in particular."""

    customer_id: UUID
    amount: StoredMoney
    method: str | None = None
    reference: str | None = None
    note: CustomersTextOrNone = None


class PaymentAllocated(Event, type="payment.allocated"):
    """A part of the payment was allocated to an order."""

    order_id: UUID
    amount: StoredMoney


class AllocationReleased(Event, type="payment.allocation-released"):
    """A part of an allocation was released; it is the customer's credit again."""

    order_id: UUID
    amount: StoredMoney


class PaymentRefunded(Event, type="payment.refunded"):
    """A part of the payment was refunded: of what an order had, or else of the credit."""

    amount: StoredMoney
    order_id: UUID | None = None
    reason: CustomersTextOrNone = None
    customer_id: UUID | None = None


PaymentEvent = (
    PaymentReceived | CreditNoteIssued | PaymentAllocated | AllocationReleased | PaymentRefunded
)
