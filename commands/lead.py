from __future__ import annotations

from typing import Annotated, ClassVar, Self
from uuid import UUID

from pydantic import model_validator

from aggregates.company import (
    DisqualificationReasonNotListed,
    RegionNotListed,
    SourceNotListed,
)
from aggregates.lead import (
    Lead,
    LeadAlreadyQualified,
    LeadClosed,
    LeadNotDisqualified,
    LeadNotQualified,
    LeadOwned,
    LeadUnowned,
)
from commands.base import Command, Context, Records, Reference, refuse_no_change
from events.company import ListName
from events.lead import LeadCaptured, LeadDetailsChanged, LeadEvent
from events.values import ActorId, Email, Line, Money, Text


class CaptureLead(Command[Lead, LeadEvent]):
    """Capture a lead, into the pool or for an owner."""

    rules = (RegionNotListed, SourceNotListed)
    captured: ClassVar = Records(LeadCaptured)

    name: Line
    email: Email | None = None
    phone: Line | None = None
    need: Text | None = None
    company: Line | None = None
    source: Line | None = None
    campaign: Line | None = None
    region: Line | None = None
    industry: Line | None = None
    owner: ActorId | None = None

    def decide(self, lead: Lead, context: Context, /) -> list[LeadEvent]:
        context.check_listed(ListName.REGIONS, self.region)
        context.check_listed(ListName.SOURCES, self.source)
        return lead.capture(context.marked(self.captured.of(self)))


class ClaimLead(Command[Lead, LeadEvent]):
    """Claim a lead from the pool."""

    rules = (LeadClosed, LeadOwned)

    def decide(self, lead: Lead, context: Context, /) -> list[LeadEvent]:
        return lead.claim(context.actor.id)


class ChangeLeadDetails(Command[Lead, LeadEvent]):
    """Change a lead's details; what is not given stays as it is."""

    rules = (RegionNotListed, SourceNotListed)
    changed: ClassVar = Records(LeadDetailsChanged)

    name: Line | None = None
    email: Email | None = None
    phone: Line | None = None
    need: Text | None = None
    company: Line | None = None
    source: Line | None = None
    campaign: Line | None = None
    region: Line | None = None
    industry: Line | None = None

    @model_validator(mode="after")
    def _something_to_change(self) -> Self:
        refuse_no_change(self)
        return self

    def decide(self, lead: Lead, context: Context, /) -> list[LeadEvent]:
        context.check_listed(ListName.REGIONS, self.region)
        context.check_listed(ListName.SOURCES, self.source)
        return lead.change_details(context.marked(self.changed.of(self)))


class HandOverLead(Command[Lead, LeadEvent]):
    """Hand a lead over to a rep, or assign it from the pool."""

    rules = (LeadClosed,)

    owner: ActorId
    reason: Line | None = None

    def decide(self, lead: Lead, context: Context, /) -> list[LeadEvent]:
        return lead.hand_over(self.owner, self.reason)


class ReopenLead(Command[Lead, LeadEvent]):
    """Reopen a disqualified lead; it is to be qualified again."""

    rules = (LeadNotDisqualified,)

    reason: Line

    def decide(self, lead: Lead, context: Context, /) -> list[LeadEvent]:
        return lead.reopen(self.reason)


class ReturnLead(Command[Lead, LeadEvent]):
    """Return a lead to the pool."""

    rules = (LeadClosed, LeadUnowned)

    reason: Line

    def decide(self, lead: Lead, context: Context, /) -> list[LeadEvent]:
        return lead.put_back(self.reason)


class QualifyLead(Command[Lead, LeadEvent]):
    """Qualify a lead: it has the budget and the need for a deal."""

    rules = (LeadAlreadyQualified, LeadClosed, LeadUnowned)

    budget: Money | None = None
    note: Text | None = None

    def decide(self, lead: Lead, context: Context, /) -> list[LeadEvent]:
        return lead.qualify(self.budget, self.note)


class DisqualifyLead(Command[Lead, LeadEvent]):
    """Disqualify a lead; what `other` is, the note says."""

    rules = (DisqualificationReasonNotListed, LeadClosed)

    reason: Line
    note: Text | None = None

    def decide(self, lead: Lead, context: Context, /) -> list[LeadEvent]:
        context.check_listed(ListName.DISQUALIFICATION_REASONS, self.reason)
        return lead.disqualify(self.reason, self.note)


class ConvertLead(Command[Lead, LeadEvent]):
    """Convert a lead into a customer and an opportunity; each is created unless its id is given."""

    rules = (LeadClosed, LeadNotQualified)

    customer_id: Annotated[UUID | None, Reference("customer")] = None
    opportunity_id: Annotated[UUID | None, Reference("opportunity")] = None

    @model_validator(mode="after")
    def _of_a_known_customer(self) -> Self:
        if self.opportunity_id is not None and self.customer_id is None:
            raise ValueError("must name the customer of a deal that is known already")
        return self

    def decide(self, lead: Lead, context: Context, /) -> list[LeadEvent]:
        return lead.convert(
            self.customer_id or context.fresh_id(),
            self.opportunity_id or context.fresh_id(),
            new_customer=self.customer_id is None,
            new_opportunity=self.opportunity_id is None,
        )
