from __future__ import annotations

from datetime import date
from uuid import UUID

from events.base import Event
from events.lines import PricedLine
from events.values import PersonalTextOrNone, StoredMoney


class OpportunityOpened(Event, type="opportunity.opened"):
    """A deal was opened, for a customer who may still be unknown."""

    title: str
    pipeline: str
    stage: str
    customer_id: UUID | None = None
    owner: str
    product: str | None = None
    amount: StoredMoney | None = None
    expected_close: date | None = None


class CustomerIdentified(Event, type="opportunity.customer-identified"):
    """The customer of the deal became known."""

    customer_id: UUID


class StageMoved(Event, type="opportunity.stage-moved"):
    """The deal moved to another open stage of its pipeline."""

    previous_stage: str
    stage: str


class QuoteGiven(Event, type="opportunity.quote-given"):
    """A quote was given for the deal."""

    quote_id: UUID
    lines: tuple[PricedLine, ...]
    total: StoredMoney
    valid_until: date | None = None


class OpportunityWon(Event, type="opportunity.won"):
    """The deal was won."""

    stage: str
    amount: StoredMoney | None = None


class OpportunityLost(Event, type="opportunity.lost"):
    """The deal was lost: the customer refused, or stopped answering."""

    stage: str
    reason: str
    comment: PersonalTextOrNone = None


class OpportunityReopened(Event, type="opportunity.reopened"):
    """A closed deal was reopened."""

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
