from __future__ import annotations

from datetime import date
from uuid import UUID

from events.base import Event
from events.lines import PricedLine
from events.values import Money, PersonalTextOrNone


class OpportunityOpened(Event, type="opportunity.opened"):
    """There is a deal to win, for a customer who may still be unknown."""

    title: str
    pipeline: str
    stage: str
    customer_id: UUID | None = None
    owner: str
    product: str | None = None
    amount: Money | None = None
    expected_close: date | None = None


class CustomerIdentified(Event, type="opportunity.customer-identified"):
    """It is known now whose deal this is."""

    customer_id: UUID


class StageMoved(Event, type="opportunity.stage-moved"):
    """The deal stands in another open stage of its pipeline."""

    previous_stage: str
    stage: str


class QuoteGiven(Event, type="opportunity.quote-given"):
    """We named a price in writing."""

    quote_id: UUID
    lines: tuple[PricedLine, ...]
    total: Money
    valid_until: date | None = None


class OpportunityWon(Event, type="opportunity.won"):
    """The customer said yes."""

    stage: str
    amount: Money | None = None


class OpportunityLost(Event, type="opportunity.lost"):
    """The customer said no, or went silent for good."""

    stage: str
    reason: str
    comment: PersonalTextOrNone = None


class OpportunityReopened(Event, type="opportunity.reopened"):
    """A closed deal is worked on again."""

    stage: str
    reason: str


OpportunityEvent = (
    OpportunityOpened
    | CustomerIdentified
    | StageMoved
    | QuoteGiven
    | OpportunityWon
    | OpportunityLost
    | OpportunityReopened
)
