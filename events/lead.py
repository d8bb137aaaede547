from __future__ import annotations

from uuid import UUID

from events.base import Event
from events.values import Money, PersonalText, PersonalTextOrNone


class LeadCaptured(Event, type="lead.captured"):
    """Somebody showed interest and came into the pool."""

    name: PersonalText
    email: PersonalTextOrNone = None
    phone: PersonalTextOrNone = None
    need: PersonalTextOrNone = None
    company: str | None = None
    source: str | None = None
    campaign: str | None = None
    region: str | None = None
    industry: str | None = None
    owner: str | None = None


class LeadClaimed(Event, type="lead.claimed"):
    """A rep took the lead from the pool."""

    owner: str


class LeadReturned(Event, type="lead.returned"):
    """The owner put the lead back into the pool."""

    previous_owner: str
    reason: str


class LeadQualified(Event, type="lead.qualified"):
    """The lead has the budget and the need to be worth a deal."""

    budget: Money | None = None
    note: PersonalTextOrNone = None


class LeadDisqualified(Event, type="lead.disqualified"):
    """The lead will never be a customer."""

    reason: str
    note: PersonalTextOrNone = None


class LeadConverted(Event, type="lead.converted", version=2):
    """The lead became a customer with a deal to win; either may have been known before."""

    customer_id: UUID
    new_customer: bool
    opportunity_id: UUID
    new_opportunity: bool


LeadEvent = (
    LeadCaptured | LeadClaimed | LeadReturned | LeadQualified | LeadDisqualified | LeadConverted
)
