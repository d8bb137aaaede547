from __future__ import annotations

from datetime import date
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from events.base import Event
from events.lines import PricedLine
from events.values import CustomersText, CustomersTextOrNone, Money


class Instalment(BaseModel):
    """A part of an order's amount and the day by which it is to be paid."""

    model_config = ConfigDict(frozen=True)

    due: date
    amount: Money


class OrderPlaced(Event, type="order.placed"):
    """The customer has bought: from now on this amount is billed."""

    customer_id: UUID
    owner: str
    total: Money
    lines: tuple[PricedLine, ...] = ()
    number: str | None = None
    title: str | None = None
    opportunity_id: UUID | None = None
    note: CustomersTextOrNone = None


class OrderLineAdded(Event, type="order.line-added"):
    """The customer has bought this too."""

    line: PricedLine


class PaymentsPlanned(Event, type="order.payments-planned"):
    """The order is to be paid in these parts; an earlier plan holds no more."""

    instalments: tuple[Instalment, ...]


class OrderShipped(Event, type="order.shipped"):
    """The goods are on their way."""

    carrier: str | None = None


class OrderHeld(Event, type="order.held"):
    """The order waits until something is cleared."""

    reason: CustomersText
    customer_id: UUID | None = None


class OrderDisputed(Event, type="order.disputed"):
    """The customer does not agree with what was delivered or billed."""

    reason: CustomersText
    customer_id: UUID | None = None


class OrderResolved(Event, type="order.resolved"):
    """What held the order up, or was disputed, is settled."""

    outcome: CustomersTextOrNone = None
    customer_id: UUID | None = None


class OrderCompleted(Event, type="order.completed"):
    """All that was ordered is delivered."""


class OrderCancelled(Event, type="order.cancelled"):
    """The order is called off: nothing of it is billed any more."""

    reason: CustomersText
    customer_id: UUID | None = None


class GoodsReturned(Event, type="order.goods-returned"):
    """The customer gave goods back; so much of the order is not billed any more."""

    amount: Money
    reason: CustomersText
    product: str | None = None
    customer_id: UUID | None = None


OrderEvent = (
    OrderPlaced
    | OrderLineAdded
    | PaymentsPlanned
    | OrderShipped
    | OrderHeld
    | OrderDisputed
    | OrderResolved
    | OrderCompleted
    | OrderCancelled
    | GoodsReturned
)
