"""What the events of an order say: the order itself, its lines, its payment plans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, assert_never
from uuid import UUID

from events.envelope import Recorded
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
)
from events.values import CustomersTextOrNone
from projections.engine.tables import Row
from projections.facts.fact import Digits, head, kind


@dataclass(slots=True)
class OrderFact(Row):
    """A fact, never changed: the order's status or amount became this, or goods were returned.

    It holds what its own event says and no sum of several: as of a day only some of them count.

    Attributes:
        returned: in the read model the amount of a return, so that amounts add up.
    """

    order_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    kind: str | None = None
    actor: str | None = None
    status: str | None = None
    amount: Decimal | None = None
    returned: Decimal | None = None
    currency: str | None = None
    customer_id: UUID | None = None
    owner: str | None = None
    region: str | None = None
    reason: CustomersTextOrNone = None


@dataclass(slots=True)
class LineFact(Row):
    """A fact, never changed: a line of the order."""

    order_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    number: int = 0
    product: str | None = None
    quantity: Annotated[Decimal | None, Digits(18, 3)] = None
    unit_price: Decimal | None = None
    discount: Annotated[Decimal | None, Digits(5, 2)] = None
    amount: Decimal | None = None
    currency: str | None = None


@dataclass(slots=True)
class InstalmentFact(Row):
    """A fact, never changed: an instalment of the plan of this version."""

    order_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    number: int = 0
    due: date | None = None
    amount: Decimal | None = None
    currency: str | None = None


def facts(recorded: Recorded) -> list[OrderFact | LineFact | InstalmentFact]:
    """What an event says of its order; the order's own fact comes first."""
    event: OrderEvent = recorded.event  # type: ignore[assignment]  # of an order's stream
    fact = OrderFact(*head(recorded), kind(recorded), recorded.actor)
    match event:
        case OrderPlaced():
            fact.status, fact.customer_id, fact.owner = "placed", event.customer_id, event.owner
            fact.amount, fact.currency = event.total.amount, event.total.currency
            fact.region = event.region
            return [fact, *_lines(recorded, event.lines)]
        case OrderHandedOver():
            fact.owner, fact.reason = event.owner, event.reason
        case OrderLineAdded():
            fact.amount, fact.currency = event.line.total.amount, event.line.total.currency
            return [fact, *_lines(recorded, (event.line,))]
        case PaymentsPlanned():
            return [fact, *_plan(recorded, event.instalments)]
        case OrderShipped() | OrderCompleted():
            fact.status = fact.kind
        case OrderHeld() | OrderDisputed() | OrderCancelled():
            fact.status, fact.reason = fact.kind, event.reason
        case OrderResolved():
            fact.status, fact.reason = fact.kind, event.outcome
        case GoodsReturned():
            fact.kind, fact.reason = "returned", event.reason
            fact.amount, fact.currency = event.amount.amount, event.amount.currency
        case _:
            assert_never(event)
    return [fact]


def _lines(recorded: Recorded, lines: Iterable[PricedLine]) -> Iterator[LineFact]:
    for number, line in enumerate(lines, 1):
        yield LineFact(
            *head(recorded),
            number,
            line.product,
            line.quantity,
            line.unit_price.amount,
            line.discount,
            line.total.amount,
            line.total.currency,
        )


def _plan(recorded: Recorded, parts: Iterable[Instalment]) -> Iterator[InstalmentFact]:
    for number, part in enumerate(parts, 1):
        yield InstalmentFact(
            *head(recorded), number, part.due, part.amount.amount, part.amount.currency
        )
