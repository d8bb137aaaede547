"""What the events of a lead say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
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
from projections.engine.tables import Row
from projections.facts.fact import head, kind


@dataclass(slots=True)
class LeadFact(Row):
    """A fact, never changed: the lead's source, its owner, its end."""

    lead_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    kind: str | None = None
    source: str | None = None
    campaign: str | None = None
    region: str | None = None
    industry: str | None = None
    owner: str | None = None
    reason: str | None = None
    customer_id: UUID | None = None
    opportunity_id: UUID | None = None


def facts(recorded: Recorded) -> list[LeadFact]:
    """What an event says of its lead; nothing where figures do not ask."""
    event: LeadEvent = recorded.event  # type: ignore[assignment]  # of a lead's stream
    fact = LeadFact(*head(recorded), kind(recorded))
    match event:
        case LeadCaptured():
            fact.source, fact.campaign, fact.owner = event.source, event.campaign, event.owner
            fact.region, fact.industry = event.region, event.industry
        case LeadDetailsChanged():
            fact.source, fact.campaign = event.source, event.campaign
            fact.region, fact.industry = event.region, event.industry
        case LeadClaimed() | LeadHandedOver():
            fact.owner = event.owner
        case LeadDisqualified():
            fact.reason = event.reason
        case LeadQualified() | LeadReturned() | LeadReopened():
            pass
        case LeadConverted():
            fact.customer_id, fact.opportunity_id = event.customer_id, event.opportunity_id
        case _:
            return []
    return [fact]
