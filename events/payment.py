from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from events.base import Event
from events.values import CustomersTextOrNone, Money


class PaymentKind(StrEnum):
    """Whether money came in, or the customer is credited with it all the same."""

    MONEY = "money"
    CREDIT_NOTE = "credit-note"


class PaymentReceived(Event, type="payment.received"):
    """Money came in from a customer; what is not allocated to orders is the customer's credit."""

    customer_id: UUID
    amount: Money
    method: str | None = None
    reference: str | None = None
    note: CustomersTextOrNone = None


class CreditNoteIssued(Event, type="payment.credit-note-issued"):
    """So much is not billed after all, of no order in particular; no money came in for it."""

    customer_id: UUID
    amount: Money
    method: str | None = None
    reference: str | None = None
    note: CustomersTextOrNone = None


class PaymentAllocated(Event, type="payment.allocated"):
    """So much of the payment is for this order."""

    order_id: UUID
    amount: Money


class AllocationReleased(Event, type="payment.allocation-released"):
    """So much of the payment is not for this order after all, but the customer's credit again."""

    order_id: UUID
    amount: Money


class PaymentRefunded(Event, type="payment.refunded"):
    """So much of the payment went back: of what an order had got, or else of the credit."""

    amount: Money
    order_id: UUID | None = None
    reason: CustomersTextOrNone = None
    customer_id: UUID | None = None


PaymentEvent = (
    PaymentReceived | CreditNoteIssued | PaymentAllocated | AllocationReleased | PaymentRefunded
)
