from __future__ import annotations

from datetime import date
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from events.base import Event
from events.lines import PricedLine
from events.values import (
    AsWritten,
    CustomersSince2,
    CustomersText,
    CustomersTextOrNone,
    Marks,
    Quantity,
    StoredMoney,
)


class Instalment(BaseModel):
    """An instalment: a part of an order's amount and its due date."""

    model_config = ConfigDict(frozen=True)

    due: date
    amount: StoredMoney


class OrderPlaced(Event, type="order.placed", version=3):
    """The order was placed: its amount is billed."""

    customer_id: UUID
    owner: str | None = None
    total: StoredMoney
    lines: tuple[PricedLine, ...] = ()
    number: str | None = None
    title: Annotated[str | None, CustomersSince2] = None
    opportunity_id: UUID | None = None
    note: CustomersTextOrNone = None
    region: str | None = None


class OrderHandedOver(Event, type="order.handed-over"):
    """The order was handed over to another rep."""

    previous_owner: str | None = None
    owner: str
    reason: CustomersTextOrNone = None
    customer_id: UUID | None = None


class OrderLineAdded(Event, type="order.line-added"):
    """A line was added to the order."""

    line: PricedLine


class PaymentsPlanned(Event, type="order.payments-planned"):
    """A payment plan was set; it replaces an earlier one."""

    instalments: tuple[Instalment, ...]


class OrderShipped(Event, type="order.shipped"):
    """The order was shipped."""

    carrier: str | None = None


class OrderHeld(Event, type="order.held", version=2):
    """The order was put on hold."""

    reason: CustomersText
    customer_id: UUID | None = None
    marks: Marks = None


class OrderDisputed(Event, type="order.disputed", version=2):
    """The customer disputes what was delivered or billed."""

    reason: CustomersText
    customer_id: UUID | None = None
    marks: Marks = None


class OrderResolved(Event, type="order.resolved"):
    """The hold or the dispute was resolved."""

    outcome: CustomersTextOrNone = None
    customer_id: UUID | None = None


class OrderCompleted(Event, type="order.completed"):
    """The order was completed: everything is delivered."""


class OrderCancelled(Event, type="order.cancelled"):
    """The order was cancelled: nothing of it is billed any more."""

    reason: CustomersText
    customer_id: UUID | None = None


class ReturnedLine(BaseModel):
    """How much of an order's line came back; lines are numbered from 1 as they were ordered."""

    model_config = ConfigDict(frozen=True)

    number: int
    product: str
    quantity: Annotated[Quantity, AsWritten()]


class GoodsReturned(Event, type="order.goods-returned", version=2):
    """The customer returned goods; their amount is not billed any more."""

    amount: StoredMoney
    reason: CustomersText
    product: str | None = None
    customer_id: UUID | None = None
    lines: tuple[ReturnedLine, ...] = ()


OrderEvent = (
    OrderPlaced
    | OrderHandedOver
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
