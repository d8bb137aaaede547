from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import assert_never
from uuid import UUID

from aggregates.base import CurrencyDiffers, Refused, Unknown
from events.payment import (
    AllocationReleased,
    CreditNoteIssued,
    PaymentAllocated,
    PaymentEvent,
    PaymentReceived,
    PaymentRefunded,
)
from events.values import Money

NOTHING = Decimal(0)


class PaymentUnknown(Unknown):
    """There is no payment with this id."""


class PaymentExists(Refused):
    """A payment with this id was received already."""

    fields = ("id",)


class AllocationTooLarge(Refused):
    """The allocation exceeds what is left of the payment."""

    fields = ("allocations",)


class ReleaseTooLarge(Refused):
    """Less than that is allocated to this order."""

    fields = ("amount",)


class RefundTooLarge(Refused):
    """The refund exceeds what is allocated to the order, or the credit."""

    fields = ("amount",)


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that came in once, or a credit note, and what it is for.

    Attributes:
        currency: of the payment and of everything made of it.
        customer_id: from whom it came.
        credit: what is for no order yet and was not given back.
        allocated: what each order has of it.
    """

    currency: str = ""
    customer_id: UUID | None = None
    credit: Decimal = NOTHING
    allocated: Mapping[UUID, Decimal] = field(default_factory=dict)

    def receive(
        self, details: PaymentReceived | CreditNoteIssued, allocations: Iterable[tuple[UUID, Money]]
    ) -> list[PaymentEvent]:
        """Receive a payment or credit note, with its allocations as far as they are known.

        Raises:
            CurrencyDiffers: when an allocation is in another currency.
            AllocationTooLarge: when more would be allocated than came in.
        """
        return [details, *self.evolve(details).allocate(allocations)]

    def allocate(self, allocations: Iterable[tuple[UUID, Money]]) -> list[PaymentEvent]:
        """Allocate the payment to orders.

        Raises:
            CurrencyDiffers: when an allocation is in another currency.
            AllocationTooLarge: when more would be allocated than is left.
        """
        left = self.credit
        events: list[PaymentEvent] = []
        for order_id, amount in allocations:
            left -= self._same_currency(amount)
            events.append(PaymentAllocated(order_id=order_id, amount=amount))
        if left < 0:
            raise AllocationTooLarge
        return events

    def release(self, order_id: UUID, amount: Money) -> list[PaymentEvent]:
        """Release an amount that was allocated to an order.

        Raises:
            CurrencyDiffers: when the payment is in another currency.
            ReleaseTooLarge: when the order has not so much of it.
        """
        if self._same_currency(amount) > self.allocated.get(order_id, NOTHING):
            raise ReleaseTooLarge
        return [AllocationReleased(order_id=order_id, amount=amount)]

    def refund(
        self, amount: Money, order_id: UUID | None, reason: str | None
    ) -> list[PaymentEvent]:
        """Refund an amount.

        Raises:
            CurrencyDiffers: when the payment is in another currency.
            RefundTooLarge: when the order, or the credit, has not so much of it.
        """
        left = self.credit if order_id is None else self.allocated.get(order_id, NOTHING)
        if self._same_currency(amount) > left:
            raise RefundTooLarge
        return [
            PaymentRefunded(
                amount=amount, order_id=order_id, reason=reason, customer_id=self.customer_id
            )
        ]

    def evolve(self, event: PaymentEvent) -> Payment:
        """The payment after the event."""
        match event:
            case PaymentReceived() | CreditNoteIssued():
                return Payment(event.amount.currency, event.customer_id, credit=event.amount.amount)
            case PaymentAllocated():
                amount = event.amount.amount
                return replace(
                    self,
                    credit=self.credit - amount,
                    allocated=self._with(event.order_id, amount),
                )
            case AllocationReleased():
                amount = event.amount.amount
                return replace(
                    self,
                    credit=self.credit + amount,
                    allocated=self._with(event.order_id, -amount),
                )
            case PaymentRefunded():
                amount = event.amount.amount
                if event.order_id is None:
                    return replace(self, credit=self.credit - amount)
                return replace(self, allocated=self._with(event.order_id, -amount))
            case _:
                assert_never(event)

    def _with(self, order_id: UUID, more: Decimal) -> dict[UUID, Decimal]:
        return {**self.allocated, order_id: self.allocated.get(order_id, NOTHING) + more}

    def _same_currency(self, other: Money) -> Decimal:
        if other.currency != self.currency:
            raise CurrencyDiffers
        return other.amount
