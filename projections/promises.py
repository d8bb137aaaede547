"""Read model ``promises``: who promised what to which customer, until when, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, assert_never
from uuid import UUID

from events.customer import PromiseBroken, PromiseKept, PromiseMade, PromiseWithdrawn
from events.envelope import Recorded
from projections.asking.clocks import Moment
from projections.asking.money import money
from projections.asking.pages import LIMIT, Filter, page
from projections.engine.model import ReadModel
from projections.engine.tables import Connection, Row, Rows, Table


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
    indexes=("(made_at, made_position)", "(promised_by, status)", "(due) WHERE status = 'open'"),
)
FACTS = Table(
    "promise_facts", PromiseFact, key=("customer_id", "promise_id", "version"), facts=True
)

Events = PromiseMade | PromiseKept | PromiseBroken | PromiseWithdrawn


def apply(rows: Rows, recorded: Recorded) -> None:
    """Change the promise's rows by one event."""
    event: Events = recorded.event  # type: ignore[assignment]  # the model names its events
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
    rows.add(
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

LIVE = "SELECT * FROM promises WHERE made_position > 0"
PAST = """
SELECT p.customer_id, p.promise_id, f.version, p.position, p.made_position, f.status,
       p.promised_by, p.recorded_by, p.what, p.due, p.topic, p.amount, p.currency, p.contact_id,
       p.made_at, CASE WHEN f.status <> 'open' THEN f.occurred_at END AS settled_at,
       CASE WHEN f.status <> 'open' THEN f.actor END AS settled_by, f.note
  FROM promises p JOIN (
       SELECT DISTINCT ON (s.customer_id, s.promise_id) s.*
         FROM promise_facts s WHERE {facts}
        ORDER BY s.customer_id, s.promise_id, s.version DESC
  ) f USING (customer_id, promise_id)
 WHERE p.made_position > 0 AND {made}
"""
SELECT = """
WITH p AS NOT MATERIALIZED ({source})
SELECT p.*, {name} AS customer_name,
       p.status = 'open' AND p.due < %s AS overdue,
       ARRAY(
           SELECT q.promise_id FROM p q
            WHERE q.customer_id = p.customer_id AND q.promise_id <> p.promise_id
              AND q.status = 'open' AND p.status = 'open' AND lower(q.topic) = lower(p.topic)
              AND ((q.amount, q.currency) IS DISTINCT FROM (p.amount, p.currency)
                   OR q.due IS DISTINCT FROM p.due)
            ORDER BY q.made_at, q.promise_id
       ) AS contradicts
  FROM p LEFT JOIN customers c USING (customer_id)
"""
PAST_NAME = """
(SELECT n.name FROM customer_names n
  WHERE n.customer_id = p.customer_id AND {facts} ORDER BY n.version DESC LIMIT 1)
"""


def promises(
    conn: Connection,
    when: Moment,
    *,
    customer_id: UUID | None = None,
    promised_by: str | None = None,
    status: str | None = None,
    topic: str | None = None,
    overdue: bool | None = None,
    contradicting: bool | None = None,
    due_from: date | None = None,
    due_to: date | None = None,
    cursor: str | None = None,
    limit: int = LIMIT,
) -> tuple[list[dict[str, Any]], str | None]:
    """Promises by the time of their making.

    A promise is overdue from the day after its due date, in the company's time zone. Two open
    promises to one customer on one topic contradict when their amounts or due dates differ.
    """
    source, values = _source(when)
    name = "c.name"
    bounds: list[Any] = []
    if not when.is_live:
        facts, bounds = when.bounds("n")
        name = PAST_NAME.format(facts=facts)
    select = f"SELECT * FROM ({SELECT.format(source=source, name=name)}) x"
    return page(
        conn,
        select,
        [
            Filter("customer_id = %s", (customer_id,)),
            Filter("promised_by = %s", (promised_by,)),
            Filter("status = %s", (status,)),
            Filter("lower(topic) = lower(%s)", (topic,)),
            Filter("coalesce(overdue, false) = %s", (overdue,)),
            Filter("(cardinality(contradicts) > 0) = %s", (contradicting,)),
            Filter("due >= %s", (due_from,)),
            Filter("due < %s", (due_to,)),
        ],
        ("made_at", "made_position"),
        cursor,
        limit,
        kinds=(datetime, int),
        values=[*values, *bounds, when.today],
        shape=shown,
    )


def _source(when: Moment) -> tuple[str, list[Any]]:
    if when.is_live:
        return LIVE, []
    facts, bounds = when.bounds("s")
    made, since = when.bounds("p")
    made = made.replace("occurred_at", "made_at").replace("position", "made_position")
    return PAST.format(facts=facts, made=made), [*bounds, *since]


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A promise as the API shows it."""
    del row["position"], row["made_position"]
    row["id"] = row.pop("promise_id")
    row["amount"] = money(row["amount"], row.pop("currency"))
    row["overdue"] = bool(row["overdue"])
    row["customer"] = {"id": row.pop("customer_id"), "name": row.pop("customer_name")}
    return row
