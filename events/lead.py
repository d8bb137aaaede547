from __future__ import annotations

from typing import Annotated
from uuid import UUID

from events.base import Event
from events.values import Marks, PersonalSince2, PersonalText, PersonalTextOrNone, StoredMoney


class LeadCaptured(Event, type="lead.captured", version=3):
    """A lead was captured: somebody showed interest. Without an owner it is in the pool."""

    name: PersonalText
    email: PersonalTextOrNone = None
    phone: PersonalTextOrNone = None
    need: PersonalTextOrNone = None
    company: Annotated[str | None, PersonalSince2] = None
    source: str | None = None
    campaign: str | None = None
    region: str | None = None
    industry: str | None = None
    owner: str | None = None
    marks: Marks = None


class LeadClaimed(Event, type="lead.claimed"):
    """A rep took the lead from the pool."""

    owner: str


class LeadReturned(Event, type="lead.returned", version=2):
    """The owner returned the lead to the pool."""

    previous_owner: str
    reason: Annotated[str, PersonalSince2]


class LeadQualified(Event, type="lead.qualified"):
    """The lead was qualified: it has the budget and the need."""

    budget: StoredMoney | None = None
    note: PersonalTextOrNone = None


class LeadDisqualified(Event, type="lead.disqualified"):
    """The lead was disqualified: it will not become a customer."""

    reason: str
    note: PersonalTextOrNone = None


class LeadConverted(Event, type="lead.converted", version=2):
    """The lead was converted into a customer and a deal; either may have existed before."""

    customer_id: UUID
    new_customer: bool
    opportunity_id: UUID
    new_opportunity: bool


class LeadDetailsChanged(Event, type="lead.details-changed", version=2):
    """Details of the lead were changed; a null means that the detail stayed as it was."""

    name: PersonalTextOrNone = None
    email: PersonalTextOrNone = None
    phone: PersonalTextOrNone = None
    need: PersonalTextOrNone = None
    company: PersonalTextOrNone = None
    source: str | None = None
    campaign: str | None = None
    region: str | None = None
    industry: str | None = None
    marks: Marks = None


class LeadHandedOver(Event, type="lead.handed-over"):
    """The lead was handed over to another rep, or assigned to one from the pool."""

    previous_owner: str | None = None
    owner: str
    reason: PersonalTextOrNone = None


class LeadReopened(Event, type="lead.reopened"):
    """A disqualified lead was reopened."""

    reason: PersonalText


LeadEvent = (
    LeadCaptured
    | LeadDetailsChanged
    | LeadClaimed
    | LeadHandedOver
    | LeadReturned
    | LeadQualified
    | LeadDisqualified
    | LeadReopened
    | LeadConverted
)
