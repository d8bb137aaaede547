"""What the events of a deal say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import assert_never
from uuid import UUID

from events.envelope import Recorded
from events.opportunity import (
    CustomerIdentified,
    OpportunityDetailsChanged,
    OpportunityEvent,
    OpportunityHandedOver,
    OpportunityLost,
    OpportunityOpened,
    OpportunityReopened,
    OpportunityWon,
    QuoteGiven,
    StageMoved,
)
from events.values import CustomersTextOrNone, Money
from projections.engine.tables import Row
from projections.facts.fact import head, kind


@dataclass(slots=True)
class DealFact(Row):
    """A fact, never changed: what one event says of the deal, and nothing of the others."""

    deal_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    kind: str | None = None
    actor: str | None = None
    pipeline: str | None = None
    stage: str | None = None
    customer_id: UUID | None = None
    owner: str | None = None
    product: str | None = None
    reason: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    expected_close: date | None = None
    title: CustomersTextOrNone = None
    comment: CustomersTextOrNone = None


def facts(recorded: Recorded) -> list[DealFact]:
    """What an event says of its deal."""
    event: OpportunityEvent = recorded.event  # type: ignore[assignment]  # of a deal's stream
    fact = DealFact(*head(recorded), kind(recorded), recorded.actor)
    worth: Money | None = None
    match event:
        case OpportunityOpened():
            fact.pipeline, fact.stage, fact.owner = event.pipeline, event.stage, event.owner
            fact.customer_id, fact.product = event.customer_id, event.product
            fact.expected_close, worth = event.expected_close, event.amount
            fact.title = event.title
        case OpportunityDetailsChanged():
            fact.product, fact.expected_close = event.product, event.expected_close
            fact.title, worth = event.title, event.amount
        case OpportunityHandedOver():
            fact.owner = event.owner
        case CustomerIdentified():
            fact.customer_id = event.customer_id
        case StageMoved():
            fact.stage = event.stage
        case OpportunityReopened():
            fact.stage = event.stage
        case QuoteGiven():
            worth = event.total
        case OpportunityWon():
            fact.stage, worth = event.stage, event.amount
        case OpportunityLost():
            fact.stage, fact.reason = event.stage, event.reason
            fact.comment = event.comment
        case _:
            assert_never(event)
    if worth is not None:
        fact.amount, fact.currency = worth.amount, worth.currency
    return [fact]
