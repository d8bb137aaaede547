"""What the events of a lead say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import assert_never
from uuid import UUID

from events.envelope import Recorded
from events.lead import (
    LeadCaptured,
    LeadClaimed,
    LeadConverted,
    LeadDetailsChanged,
    LeadDisqualified,
    LeadEvent,
    LeadHandedOver,
    LeadQualified,
    LeadReopened,
    LeadReturned,
)
from events.values import PersonalTextOrNone
from projections.engine.tables import Row
from projections.facts.fact import head, kind


@dataclass(slots=True)
class LeadFact(Row):
    """A fact, never changed: what one event says of the lead, and nothing of the others."""

    lead_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    kind: str | None = None
    status: str | None = None
    name: PersonalTextOrNone = None
    email: PersonalTextOrNone = None
    phone: PersonalTextOrNone = None
    need: PersonalTextOrNone = None
    company: PersonalTextOrNone = None
    source: str | None = None
    campaign: str | None = None
    region: str | None = None
    industry: str | None = None
    owner: str | None = None
    budget: Decimal | None = None
    budget_currency: str | None = None
    reason: str | None = None
    note: PersonalTextOrNone = None
    customer_id: UUID | None = None
    opportunity_id: UUID | None = None


DETAILS = tuple(name for name in LeadDetailsChanged.model_fields if name != "marks")


def facts(recorded: Recorded) -> list[LeadFact]:
    """What an event says of its lead."""
    event: LeadEvent = recorded.event  # type: ignore[assignment]  # of a lead's stream
    fact = LeadFact(*head(recorded), kind(recorded))
    match event:
        case LeadCaptured() | LeadDetailsChanged():
            for name in DETAILS:
                setattr(fact, name, getattr(event, name))
            if isinstance(event, LeadCaptured):
                fact.status, fact.owner = "open", event.owner
        case LeadClaimed() | LeadHandedOver():
            fact.owner = event.owner
        case LeadReturned():
            pass
        case LeadQualified():
            fact.status, fact.note = "qualified", event.note
            if event.budget is not None:
                fact.budget, fact.budget_currency = event.budget.amount, event.budget.currency
        case LeadDisqualified():
            fact.status, fact.reason, fact.note = "disqualified", event.reason, event.note
        case LeadReopened():
            fact.status = "open"
        case LeadConverted():
            fact.status = "converted"
            fact.customer_id, fact.opportunity_id = event.customer_id, event.opportunity_id
        case _:
            assert_never(event)
    return [fact]
