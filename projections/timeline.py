"""Read model ``timeline``: everything that happened around a customer, in one line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from events.customer import CustomerEvent
from events.envelope import Recorded
from events.lead import LeadConverted, LeadEvent
from events.opportunity import CustomerIdentified, OpportunityEvent, OpportunityOpened
from projections.model import ReadModel
from projections.tables import Row, Rows, Table


@dataclass(slots=True)
class EntryRow(Row):
    """One event, readable."""

    stream_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    stream_type: str | None = None
    type: str | None = None
    actor: str | None = None
    data: dict[str, Any] | None = None


@dataclass(slots=True)
class LinkRow(Row):
    """A fact: from this version on the deal's or lead's stream is known to be this customer's."""

    stream_id: UUID
    customer_id: UUID
    version: int = 0
    position: int = 0


ENTRIES = Table("timeline_entries", EntryRow, key=("stream_id", "version"))
LINKS = Table(
    "timeline_links", LinkRow, key=("stream_id", "customer_id"), indexes=("(customer_id)",)
)

Events = CustomerEvent | LeadEvent | OpportunityEvent


def apply(rows: Rows, recorded: Recorded) -> None:
    """Add the event to its stream's line, and say whose line that is once it is known."""
    event = recorded.event
    rows.put(
        ENTRIES,
        EntryRow(
            recorded.stream_id,
            recorded.version,
            recorded.position,
            recorded.occurred_at,
            recorded.recorded_at,
            recorded.stream_type,
            recorded.type,
            recorded.actor,
            event.model_dump(mode="json", exclude_none=True),
        ),
    )
    if isinstance(event, OpportunityOpened | CustomerIdentified | LeadConverted):
        if event.customer_id is not None:
            link = rows.get(LINKS, recorded.stream_id, event.customer_id)
            link.version, link.position = recorded.version, recorded.position


MODEL = ReadModel("timeline", (ENTRIES, LINKS), Events, apply)
