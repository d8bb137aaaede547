from __future__ import annotations

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from aggregates.base import CurrencyDiffers
from aggregates.payment import AllocationTooLarge, Payment, RefundTooLarge, ReleaseTooLarge
from commands.base import Command, Context, Records, Reference
from events.payment import CreditNoteIssued, PaymentEvent, PaymentKind, PaymentReceived
from events.values import Line, Money, Text


def _more_than_nothing(money: Money) -> Money:
    if money.amount == 0:
        raise ValueError("must be more than 0")
    return money


Sum = Annotated[Money, AfterValidator(_more_than_nothing)]


class AllocationAsked(BaseModel):
    """An amount of a payment that is allocated to an order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    order_id: Annotated[UUID, Reference("order", currency_of="amount")]
    amount: Sum


class ReceivePayment(Command[Payment, PaymentEvent]):
    """Receive a payment from a customer; what is not allocated to orders is credit.

    A `credit-note` brings no money: so much less is billed, for goods that came back without their
    order, say, or as a bonus. It can be allocated to orders and paid out like money that came in.
    """

    rules = (AllocationTooLarge, CurrencyDiffers)
    received: ClassVar = Records(PaymentReceived, without=("kind", "allocations"))
    credited: ClassVar = Records(CreditNoteIssued, without=("kind", "allocations"))

    customer_id: Annotated[UUID, Reference("customer")]
    amount: Sum
    kind: PaymentKind = PaymentKind.MONEY
    allocations: Annotated[tuple[AllocationAsked, ...], Field(max_length=500)] = ()
    method: Line | None = None
    reference: Line | None = None
    note: Text | None = None

    def decide(self, payment: Payment, context: Context, /) -> list[PaymentEvent]:
        allocations = [(each.order_id, each.amount) for each in self.allocations]
        is_money = self.kind is PaymentKind.MONEY
        event = self.received.of(self) if is_money else self.credited.of(self)
        return payment.receive(event, allocations)


class AllocatePayment(Command[Payment, PaymentEvent]):
    """Allocate a payment to orders."""

    rules = (AllocationTooLarge, CurrencyDiffers)

    allocations: Annotated[tuple[AllocationAsked, ...], Field(min_length=1, max_length=500)]

    def decide(self, payment: Payment, context: Context, /) -> list[PaymentEvent]:
        return payment.allocate((each.order_id, each.amount) for each in self.allocations)


class ReleaseAllocation(Command[Payment, PaymentEvent]):
    """Release an amount that was allocated to an order; it becomes credit again."""

    rules = (CurrencyDiffers, ReleaseTooLarge)

    # Of any currency: what earlier versions allocated across currencies must be released again.
    order_id: Annotated[UUID, Reference("order")]
    amount: Sum

    def decide(self, payment: Payment, context: Context, /) -> list[PaymentEvent]:
        return payment.release(self.order_id, self.amount)


class RefundPayment(Command[Payment, PaymentEvent]):
    """Refund a payment: of what is allocated to an order, or of the customer's credit."""

    rules = (CurrencyDiffers, RefundTooLarge)

    amount: Sum
    order_id: Annotated[UUID | None, Reference("order")] = None
    reason: Line | None = None

    def decide(self, payment: Payment, context: Context, /) -> list[PaymentEvent]:
        return payment.refund(self.amount, self.order_id, self.reason)
