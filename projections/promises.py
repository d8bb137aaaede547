"""Read model ``promises``: who promised what to which customer, until when, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import assert_never
from uuid import UUID

from events.customer import PromiseBroken, PromiseKept, PromiseMade, PromiseWithdrawn
from events.envelope import Recorded
from projections.model import ReadModel
from projections.tables import Row, Rows, Table


@dataclass(slots=True)
class PromiseRow(Row):
    """A promise as it stands; ``made_position`` is 0 where its making is not among the events."""

    customer_id: UUID
    promise_id: UUID
    version: int = 0
    position: int = 0
    made_position: int = 0
    status: str = "open"
    promised_by: str | None = None
    recorded_by: str | None = None
    what: str | None = None
    due: date | None = None
    topic: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    contact_id: UUID | None = None
    made_at: datetime | None = None
    settled_at: datetime | None = None
    settled_by: str | None = None
    note: str | None = None


@dataclass(slots=True)
class PromiseFact(Row):
    """A fact, never changed: the promise came to be open, kept, broken or withdrawn."""

    customer_id: UUID
    promise_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    status: str = "open"
    actor: str | None = None
    note: str | None = None


PROMISES = Table(
    "promises",
    PromiseRow,
    key=("customer_id", "promise_id"),
    indexes=("(made_at, promise_id)", "(promised_by, status)", "(due) WHERE status = 'open'"),
)
FACTS = Table("promise_facts", PromiseFact, key=("customer_id", "promise_id", "version"))

Events = PromiseMade | PromiseKept | PromiseBroken | PromiseWithdrawn


def apply(rows: Rows, recorded: Recorded) -> None:
    """Change the promise's rows by one event."""
    event: Events = recorded.event  # type: ignore[assignment]
    promise = rows.get(PROMISES, recorded.stream_id, event.promise_id)
    promise.version, promise.position = recorded.version, recorded.position
    note: str | None = None
    match event:
        case PromiseMade():
            promise.promised_by, promise.recorded_by = event.promised_by, recorded.actor
            promise.what, promise.due, promise.topic = event.what, event.due, event.topic
            promise.contact_id = event.contact_id
            promise.made_at, promise.made_position = recorded.occurred_at, recorded.position
            if event.amount is not None:
                promise.amount, promise.currency = event.amount.amount, event.amount.currency
            status = "open"
        case PromiseKept():
            status, note = "kept", event.note
        case PromiseBroken():
            status, note = "broken", event.reason
        case PromiseWithdrawn():
            status, note = "withdrawn", event.reason
        case _:
            assert_never(event)
    promise.status = status
    if status != "open":
        promise.settled_at, promise.settled_by = recorded.occurred_at, recorded.actor
        promise.note = note
    rows.put(
        FACTS,
        PromiseFact(
            recorded.stream_id,
            event.promise_id,
            recorded.version,
            recorded.position,
            recorded.occurred_at,
            status,
            recorded.actor,
            note,
        ),
    )


MODEL = ReadModel("promises", (PROMISES, FACTS), Events, apply, critical=True)
