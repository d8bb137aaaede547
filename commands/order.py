from __future__ import annotations

from typing import Annotated, ClassVar, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aggregates.base import CurrencyDiffers
from aggregates.company import RegionNotListed
from aggregates.opportunity import (
    Opportunity,
    OpportunityIsLost,
    OpportunityOfAnotherCustomer,
)
from aggregates.order import (
    AmountTooLarge,
    Order,
    OrderInOrder,
    OrderIsCancelled,
    OrderIsComplete,
    OrderLineUnknown,
    OrderOnHold,
    PlanDoesNotAddUp,
    ProductNotOrdered,
    ReturnedMoreThanOrdered,
    ReturnTooLarge,
)
from commands.base import Command, Condition, Context, Records, Reference
from commands.lines import AskedLine, priced
from events.company import ListName
from events.order import Instalment, OrderDisputed, OrderEvent, OrderHeld, OrderPlaced
from events.values import ActorId, Day, Line, Money, Quantity, Text

OF_CUSTOMER = Condition(
    Opportunity.admit_order, "customer_id", (OpportunityIsLost, OpportunityOfAnotherCustomer)
)


class PlaceOrder(Command[Order, OrderEvent]):
    """Place an order; its owner is the actor unless another is named.

    A service or an import that acts for nobody is no owner.

    The amount follows from the lines; without lines it is given. The region is the order's, for
    instance where it is delivered, and may be another than the customer's.
    """

    rules = (RegionNotListed,)
    placed: ClassVar = Records(
        OrderPlaced, without=("amount",), derived=("lines", "total", "owner")
    )

    customer_id: Annotated[UUID, Reference("customer")]
    opportunity_id: Annotated[UUID | None, Reference("opportunity", condition=OF_CUSTOMER)] = None
    lines: Annotated[tuple[AskedLine, ...], Field(max_length=500)] = ()
    amount: Money | None = None
    number: Line | None = None
    title: Line | None = None
    owner: ActorId | None = None
    note: Text | None = None
    region: Line | None = None

    @model_validator(mode="after")
    def _has_one_amount(self) -> Self:
        if bool(self.lines) == (self.amount is not None):
            raise ValueError("must have either lines or an amount")
        if self.lines:
            priced(self.lines)
        return self

    def decide(self, order: Order, context: Context, /) -> list[OrderEvent]:
        context.check_listed(ListName.REGIONS, self.region)
        lines, total = priced(self.lines) if self.lines else ((), self.amount)
        owner = self.owner or context.rep
        return order.place(self.placed.of(self, lines=lines, total=total, owner=owner))


class HandOverOrder(Command[Order, OrderEvent]):
    """Hand an order over to another rep, who answers for it and its payments from then on."""

    rules = (OrderIsCancelled,)

    owner: ActorId
    reason: Line | None = None

    def decide(self, order: Order, context: Context, /) -> list[OrderEvent]:
        return order.hand_over(self.owner, self.reason)


class AddOrderLine(Command[Order, OrderEvent]):
    """Add a line to an order."""

    rules = (AmountTooLarge, CurrencyDiffers, OrderIsCancelled, OrderIsComplete)

    line: AskedLine

    @model_validator(mode="after")
    def _has_a_price(self) -> Self:
        self.line.priced()
        return self

    def decide(self, order: Order, context: Context, /) -> list[OrderEvent]:
        return order.add_line(self.line.priced())


class InstalmentAsked(BaseModel):
    """An instalment: a part of an order's amount, and its due date."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    due: Day
    amount: Money


class PlanPayments(Command[Order, OrderEvent]):
    """Set the payment plan of an order; the instalments must add up to what is billed."""

    rules = (CurrencyDiffers, OrderIsCancelled, PlanDoesNotAddUp)

    instalments: Annotated[tuple[InstalmentAsked, ...], Field(min_length=1, max_length=120)]

    @model_validator(mode="after")
    def _in_one_currency(self) -> Self:
        if len({part.amount.currency for part in self.instalments}) > 1:
            raise ValueError("must hold amounts of one currency only")
        return self

    def decide(self, order: Order, context: Context, /) -> list[OrderEvent]:
        return order.plan_payments(
            tuple(Instalment.model_construct(**part.__dict__) for part in self.instalments)
        )


class ShipOrder(Command[Order, OrderEvent]):
    """Mark an order as shipped."""

    rules = (OrderIsCancelled, OrderIsComplete, OrderOnHold)

    carrier: Line | None = None

    def decide(self, order: Order, context: Context, /) -> list[OrderEvent]:
        return order.ship(self.carrier)


class HoldOrder(Command[Order, OrderEvent]):
    """Put an order on hold."""

    rules = (OrderIsCancelled, OrderIsComplete)

    reason: Line

    def decide(self, order: Order, context: Context, /) -> list[OrderEvent]:
        held = OrderHeld(reason=self.reason, customer_id=order.customer_id)
        return order.hold(context.marked(held))


class DisputeOrder(Command[Order, OrderEvent]):
    """Mark an order as disputed by the customer."""

    rules = (OrderIsCancelled,)

    reason: Line

    def decide(self, order: Order, context: Context, /) -> list[OrderEvent]:
        disputed = OrderDisputed(reason=self.reason, customer_id=order.customer_id)
        return order.dispute(context.marked(disputed))


class ResolveOrder(Command[Order, OrderEvent]):
    """Resolve an order's dispute or hold."""

    rules = (OrderInOrder,)

    outcome: Line | None = None

    def decide(self, order: Order, context: Context, /) -> list[OrderEvent]:
        return order.resolve(self.outcome)


class CompleteOrder(Command[Order, OrderEvent]):
    """Mark an order as completed: all that was ordered is delivered."""

    rules = (OrderIsCancelled,)

    def decide(self, order: Order, context: Context, /) -> list[OrderEvent]:
        return order.complete()


class CancelOrder(Command[Order, OrderEvent]):
    """Cancel an order; nothing of it is billed any more."""

    rules = (OrderIsCancelled, OrderIsComplete)

    reason: Line

    def decide(self, order: Order, context: Context, /) -> list[OrderEvent]:
        return order.cancel(self.reason)


class ReturnedPart(BaseModel):
    """How much of a line comes back; lines are numbered from 1 as they were ordered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: Annotated[int, Field(ge=1, le=100_000, strict=True)]
    quantity: Quantity


class ReturnGoods(Command[Order, OrderEvent]):
    """Record returned goods; their amount is not billed any more.

    With lines it is by default their share of what these came to.
    """

    rules = (
        CurrencyDiffers,
        OrderIsCancelled,
        OrderLineUnknown,
        ProductNotOrdered,
        ReturnTooLarge,
        ReturnedMoreThanOrdered,
    )

    amount: Money | None = None
    reason: Line
    product: Line | None = None
    lines: Annotated[tuple[ReturnedPart, ...], Field(max_length=500)] = ()

    @model_validator(mode="after")
    def _says_how_much(self) -> Self:
        if self.amount is None and not self.lines:
            raise ValueError("must hold an amount, or lines with their quantities")
        return self

    def decide(self, order: Order, context: Context, /) -> list[OrderEvent]:
        parts = [(part.line, part.quantity) for part in self.lines]
        return order.return_goods(self.amount, self.reason, self.product, parts)
