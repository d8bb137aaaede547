from __future__ import annotations

from datetime import date
from typing import Annotated
from uuid import UUID

from events.base import Event
from events.lines import PricedLine
from events.values import CustomersSince2, CustomersTextOrNone, Marks, StoredMoney


class OpportunityOpened(Event, type="opportunity.opened", version=3):
    """A deal was opened, for a customer who may still be unknown."""

    title: Annotated[str, CustomersSince2]
    pipeline: str
    stage: str
    customer_id: UUID | None = None
    owner: str | None = None
    product: str | None = None
    amount: StoredMoney | None = None
    expected_close: date | None = None
    marks: Marks = None


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


class OpportunityLost(Event, type="opportunity.lost", version=2):
    """The deal was lost: the customer refused, or stopped answering."""

    stage: str
    reason: str
    comment: CustomersTextOrNone = None
    customer_id: UUID | None = None


class OpportunityReopened(Event, type="opportunity.reopened", version=2):
    """A closed deal was reopened."""

    stage: str
    reason: Annotated[str, CustomersSince2]
    customer_id: UUID | None = None


class OpportunityDetailsChanged(Event, type="opportunity.details-changed", version=2):
    """Details of the deal were changed; a null means that the detail stayed as it was."""

    title: CustomersTextOrNone = None
    product: str | None = None
    amount: StoredMoney | None = None
    expected_close: date | None = None
    customer_id: UUID | None = None
    marks: Marks = None


class OpportunityHandedOver(Event, type="opportunity.handed-over", version=2):
    """The deal was handed over to another rep."""

    previous_owner: str | None = None
    owner: str
    reason: CustomersTextOrNone = None
    customer_id: UUID | None = None


OpportunityEvent = (
    OpportunityOpened
    | OpportunityDetailsChanged
    | OpportunityHandedOver
    | CustomerIdentified
    | StageMoved
    | QuoteGiven
    | OpportunityWon
    | OpportunityLost
    | OpportunityReopened
)
