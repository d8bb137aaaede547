from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any, assert_never
from uuid import UUID

from aggregates.base import CurrencyDiffers, Refused, Unknown, stands, told
from events.lines import PricedLine
from events.order import (
    GoodsReturned,
    Instalment,
    OrderCancelled,
    OrderCompleted,
    OrderDisputed,
    OrderEvent,
    OrderHandedOver,
    OrderHeld,
    OrderLineAdded,
    OrderPlaced,
    OrderResolved,
    OrderShipped,
    PaymentsPlanned,
    ReturnedLine,
)
from events.values import LARGEST, Money

NOTHING = Decimal(0)


class OrderUnknown(Unknown):
    """There is no order with this id."""


class OrderExists(Refused):
    """An order with this id was placed already."""

    fields = ("id",)


class OrderIsCancelled(Refused):
    """The order was cancelled; nothing more happens to it."""


class OrderIsComplete(Refused):
    """The order is complete."""


class OrderOnHold(Refused):
    """The order is on hold or disputed; resolve that first."""


class OrderInOrder(Refused):
    """The order is neither on hold nor disputed."""


class AmountTooLarge(Refused):
    """The amount is too large."""

    fields = ("amount",)


class OrderInOtherCurrency(Refused):
    """The order is in another currency; only amounts of its own can be allocated to it."""

    fields = ("order_id",)


class PlanDoesNotAddUp(Refused):
    """The instalments must add up to what is billed for the order."""

    fields = ("instalments",)


class ReturnTooLarge(Refused):
    """The returned amount exceeds what is billed for the order."""

    fields = ("amount",)


class OrderLineUnknown(Refused):
    """The order has no line with this number; they are numbered from 1 as they were ordered."""

    fields = ("lines",)


class ProductNotOrdered(Refused):
    """No line of the order is of this product."""

    fields = ("product",)


class ReturnedMoreThanOrdered(Refused):
    """More of a line is returned than was ordered and is not returned yet."""

    fields = ("lines",)


class Status(StrEnum):
    """How far an order has come."""

    PLACED = "placed"
    SHIPPED = "shipped"
    HELD = "held"
    DISPUTED = "disputed"
    RESOLVED = "resolved"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


CUSTOMER = frozenset({"customer_id"})


@dataclass(frozen=True, slots=True)
class Order:
    """What a customer has bought, and how it is to be paid.

    Attributes:
        shipped, completed: whether it ever was, whatever was disputed since.
        ordered: the amount it was placed with and that of the lines added since.
        returned: what of it was given back.
        lines: in the order of their numbers, from 1.
        back: by number of a line, how much of it came back.
        plan: the payment plan in force.
        because: why it is on hold or disputed, by its mark.
    """

    status: Status = Status.PLACED
    shipped: bool = False
    completed: bool = False
    owner: str | None = None
    customer_id: UUID | None = None
    currency: str = ""
    ordered: Decimal = NOTHING
    returned: Decimal = NOTHING
    lines: tuple[PricedLine, ...] = ()
    back: Mapping[int, Decimal] = field(default_factory=dict)
    plan: tuple[Instalment, ...] = ()
    because: Mapping[str, Any] = field(default_factory=dict)

    @property
    def billed(self) -> Decimal:
        """The amount that is to be paid in all."""
        return NOTHING if self.status is Status.CANCELLED else self.ordered - self.returned

    def place(self, details: OrderPlaced) -> list[OrderEvent]:
        """Place the order."""
        return [details]

    def hand_over(self, owner: str, reason: str | None) -> list[OrderEvent]:
        """Hand the order over to another rep; nothing happens when it is theirs already.

        Raises:
            OrderIsCancelled: when it was called off.
        """
        if self.owner == owner:
            return []
        self._refuse_if_cancelled()
        return [
            OrderHandedOver(
                previous_owner=self.owner, owner=owner, reason=reason, customer_id=self.customer_id
            )
        ]

    def add_line(self, line: PricedLine) -> list[OrderEvent]:
        """Add a line.

        Raises:
            OrderIsCancelled, OrderIsComplete: when nothing more can be added.
            CurrencyDiffers: when the order is in another currency.
            AmountTooLarge: when the order would be worth more than can be written down.
        """
        self._refuse_if_closed()
        if self.ordered + self._same_currency(line.total) >= LARGEST:
            raise AmountTooLarge
        return [OrderLineAdded(line=line)]

    def plan_payments(self, instalments: tuple[Instalment, ...]) -> list[OrderEvent]:
        """Set the payment plan; nothing happens when it is in force already.

        Raises:
            OrderIsCancelled: when there is nothing to be paid.
            CurrencyDiffers: when the order is in another currency.
            PlanDoesNotAddUp: when the parts are not what is billed.
        """
        self._refuse_if_cancelled()
        if sum(self._same_currency(part.amount) for part in instalments) != self.billed:
            raise PlanDoesNotAddUp
        return [] if instalments == self.plan else [PaymentsPlanned(instalments=instalments)]

    def ship(self, carrier: str | None) -> list[OrderEvent]:
        """Mark as shipped; nothing happens when it was shipped already.

        Raises:
            OrderIsCancelled, OrderIsComplete: when there is nothing to send.
            OrderOnHold: when it is on hold or disputed.
        """
        self._refuse_if_closed()
        if self.status in (Status.HELD, Status.DISPUTED):
            raise OrderOnHold
        return [] if self.shipped else [OrderShipped(carrier=carrier)]

    def hold(self, held: OrderHeld) -> list[OrderEvent]:
        """Put on hold; nothing happens when it is for the same reason already.

        Raises:
            OrderIsCancelled, OrderIsComplete: when nothing is left to wait.
        """
        self._refuse_if_closed()
        is_held = self.status is Status.HELD and stands(self.because, told(held, CUSTOMER))
        return [] if is_held else [held]

    def dispute(self, disputed: OrderDisputed) -> list[OrderEvent]:
        """Mark as disputed, also after completion; nothing happens when the reason is the same.

        Raises:
            OrderIsCancelled: when there is nothing to disagree about.
        """
        self._refuse_if_cancelled()
        is_so = self.status is Status.DISPUTED and stands(self.because, told(disputed, CUSTOMER))
        return [] if is_so else [disputed]

    def resolve(self, outcome: str | None) -> list[OrderEvent]:
        """Resolve the dispute or hold.

        Raises:
            OrderInOrder: when it was neither held nor disputed.
        """
        if self.status not in (Status.HELD, Status.DISPUTED):
            raise OrderInOrder
        return [OrderResolved(outcome=outcome, customer_id=self.customer_id)]

    def complete(self) -> list[OrderEvent]:
        """Mark as completed; nothing happens when it was completed already.

        Raises:
            OrderIsCancelled: when it was called off.
        """
        self._refuse_if_cancelled()
        return [] if self.status is Status.COMPLETED else [OrderCompleted()]

    def cancel(self, reason: str) -> list[OrderEvent]:
        """Cancel the order.

        Raises:
            OrderIsCancelled, OrderIsComplete: when it is too late.
        """
        self._refuse_if_closed()
        return [OrderCancelled(reason=reason, customer_id=self.customer_id)]

    def return_goods(
        self,
        amount: Money | None,
        reason: str,
        product: str | None,
        parts: Sequence[tuple[int, Decimal]],
    ) -> list[OrderEvent]:
        """Record returned goods; their amount is not billed any more.

        Args:
            amount: what they come to; by default the returned shares of the lines' totals.
            parts: numbers of lines, and how much of each came back.

        Raises:
            OrderIsCancelled: when it was called off.
            OrderLineUnknown: when it has no such line.
            ReturnedMoreThanOrdered: when more of a line would be back than was ordered.
            ProductNotOrdered: when it has lines, and none is of the product.
            CurrencyDiffers: when the order is in another currency.
            ReturnTooLarge: when more would be given back than is billed.
        """
        self._refuse_if_cancelled()
        worth, back = NOTHING, dict(self.back)
        for number, quantity in parts:
            if not 0 < number <= len(self.lines):
                raise OrderLineUnknown
            line, before = self.lines[number - 1], back.get(number, NOTHING)
            back[number] = before + quantity
            if back[number] > line.quantity:
                raise ReturnedMoreThanOrdered
            # The difference of two rounded shares: all parts together come to the line's total.
            worth += _share(line, back[number]) - _share(line, before)
        if product is not None and self.lines and product not in {p.product for p in self.lines}:
            raise ProductNotOrdered
        if amount is None:
            amount = Money(amount=worth, currency=self.currency)
        if self._same_currency(amount) > self.billed:
            raise ReturnTooLarge
        lines = tuple(
            ReturnedLine(number=n, product=self.lines[n - 1].product, quantity=quantity)
            for n, quantity in parts
        )
        returned = GoodsReturned(
            amount=amount,
            reason=reason,
            product=product,
            customer_id=self.customer_id,
            lines=lines,
        )
        return [returned]

    def evolve(self, event: OrderEvent) -> Order:
        """The order after the event."""
        match event:
            case OrderPlaced():
                return Order(
                    owner=event.owner,
                    customer_id=event.customer_id,
                    currency=event.total.currency,
                    ordered=event.total.amount,
                    lines=event.lines,
                )
            case OrderHandedOver():
                return replace(self, owner=event.owner)
            case OrderLineAdded():
                ordered = self.ordered + event.line.total.amount
                return replace(self, ordered=ordered, lines=(*self.lines, event.line))
            case PaymentsPlanned():
                return replace(self, plan=event.instalments)
            case OrderShipped():
                return replace(self, status=Status.SHIPPED, shipped=True)
            case OrderHeld():
                return replace(self, status=Status.HELD, because=told(event, CUSTOMER))
            case OrderDisputed():
                return replace(self, status=Status.DISPUTED, because=told(event, CUSTOMER))
            case OrderResolved():
                return replace(self, status=Status.RESOLVED)
            case OrderCompleted():
                return replace(self, status=Status.COMPLETED, completed=True)
            case OrderCancelled():
                return replace(self, status=Status.CANCELLED)
            case GoodsReturned():
                back = dict(self.back)
                for line in event.lines:
                    back[line.number] = back.get(line.number, NOTHING) + line.quantity
                return replace(self, returned=self.returned + event.amount.amount, back=back)
            case _:
                assert_never(event)

    def _same_currency(self, other: Money) -> Decimal:
        if other.currency != self.currency:
            raise CurrencyDiffers
        return other.amount

    def _refuse_if_cancelled(self) -> None:
        if self.status is Status.CANCELLED:
            raise OrderIsCancelled

    def _refuse_if_closed(self) -> None:
        self._refuse_if_cancelled()
        if self.completed:
            raise OrderIsComplete


def _share(line: PricedLine, quantity: Decimal) -> Decimal:
    """What so much of a line comes to, rounded half up to the currency's smallest coin."""
    return line.total.times(quantity / line.quantity).amount if quantity else NOTHING
