"""Read model ``promises``: who promised what to which customer, its due date and its status."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal, assert_never
from uuid import UUID

from pydantic import Field

from events.customer import (
    PromiseBroken,
    PromiseHandedOver,
    PromiseKept,
    PromiseMade,
    PromiseWithdrawn,
)
from events.envelope import Recorded
from events.values import StoredMoney
from projections import customers
from projections.asking.clocks import Moment
from projections.asking.listing import AskedAt, By, Listing, Question, TurnedAt, Where, chosen
from projections.asking.parameters import Day, Ids, Time, Word, each
from projections.asking.rows import fetch
from projections.asking.shape import HeadAt, Shape
from projections.asking.sorting import Sorts
from projections.asking.then import last_said, latest, stood
from projections.asking.view import View
from projections.customers import CustomerRef, name_at
from projections.engine.model import ReadModel
from projections.engine.tables import Row, Rows, Table


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
    owner: str | None = None
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
    """A fact, never changed: the promise came to be open, kept, broken or withdrawn.

    ``owner`` is who answers for it from here on, where the event names somebody.
    """

    customer_id: UUID
    promise_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    status: str = "open"
    actor: str | None = None
    note: str | None = None
    owner: str | None = None


PROMISES = Table(
    "promises",
    PromiseRow,
    key=("customer_id", "promise_id"),
    indexes=(
        *("(made_at, made_position)", "(promised_by, status)", "(due) WHERE status = 'open'"),
        "(position)",
    ),
)
FACTS = Table(
    "promise_facts", PromiseFact, key=("customer_id", "promise_id", "version"), facts=True
)

Events = PromiseMade | PromiseHandedOver | PromiseKept | PromiseBroken | PromiseWithdrawn


def apply(rows: Rows, recorded: Recorded) -> None:
    """Change the promise's rows by one event."""
    event: Events = recorded.event  # type: ignore[assignment]  # the model names its events
    promise = rows.get(PROMISES, recorded.stream_id, event.promise_id)
    promise.version, promise.position = recorded.version, recorded.position
    note = owner = None
    match event:
        case PromiseMade():
            promise.promised_by, promise.recorded_by = event.promised_by, recorded.actor
            promise.what, promise.due, promise.topic = event.what, event.due, event.topic
            promise.contact_id = event.contact_id
            promise.made_at, promise.made_position = recorded.occurred_at, recorded.position
            if event.amount is not None:
                promise.amount, promise.currency = event.amount.amount, event.amount.currency
            status, owner = "open", event.promised_by
        case PromiseHandedOver():
            status, note, owner = "open", event.reason, event.owner
        case PromiseKept():
            status, note = "kept", event.note
        case PromiseBroken():
            status, note = "broken", event.reason
        case PromiseWithdrawn():
            status, note = "withdrawn", event.reason
        case _:
            assert_never(event)
    promise.status, promise.owner = status, owner or promise.owner
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
            owner,
        ),
    )


MODEL = ReadModel("promises", (PROMISES, FACTS), Events, apply, critical=True, revision=2)

Status = Literal["open", "kept", "kept-late", "broken", "withdrawn"]


class AskPromises(TurnedAt):
    """What may be asked of promises.

    A promise is overdue from the day after its due date, in the company's time zone; kept after
    that day it is kept late, which is not the same as kept. Two open
    promises to one customer on one topic contradict when their amounts or due dates differ.
    """

    ids: Annotated[Ids, Where("id = ANY (%(ids)s)", each)] = None
    customer_id: Annotated[UUID | None, Where('"customer.id" = %(customer_id)s')] = None
    promised_by: Annotated[Word, Where("promised_by = %(promised_by)s")] = None
    owner: Annotated[Word, Where("owner = %(owner)s")] = None
    status: Annotated[Status | None, Where("status = %(status)s")] = None
    topic: Annotated[Word, Where("lower(topic) = lower(%(topic)s)")] = None
    overdue: Annotated[bool | None, Where("overdue = %(overdue)s")] = None
    contradicting: Annotated[
        bool | None, Where("(cardinality(contradicts) > 0) = %(contradicting)s")
    ] = None
    due_from: Annotated[Day, Where("due >= %(due_from)s")] = None
    due_to: Annotated[Day, Where("due < %(due_to)s")] = None
    sort: Annotated[
        Word,
        Sorts(
            *("made_at", "due", "settled_at", "status", "overdue", "promised_by", "owner"),
            *("what", "topic", "amount", "customer.name"),
        ),
    ] = None


class PromiseShape(Shape):
    """A promise: who made it to whom, its due date and its status."""

    id: UUID
    version: int
    customer: CustomerRef
    status: str = Field(examples=["open", "kept", "kept-late", "broken", "withdrawn"])
    overdue: bool
    promised_by: str | None
    owner: str | None = Field(description="Who answers for it now.")
    recorded_by: str | None
    what: str | None
    due: date | None
    topic: str | None
    amount: StoredMoney | None
    contact_id: UUID | None
    made_at: datetime | None
    settled_at: datetime | None
    settled_by: str | None
    note: str | None
    contradicts: list[UUID] = Field(
        description="Open promises to the customer on the same topic that differ."
    )


SETTLED = "s.status <> 'open'"
SAID = {
    **last_said("status", "owner"),
    "settled_at": latest("s.occurred_at", SETTLED),
    "settled_by": latest("s.actor", SETTLED),
    "note": latest("s.note", SETTLED),
}
SELECT = """
WITH {past} p AS NOT MATERIALIZED (SELECT * FROM promises WHERE made_position > 0)
SELECT * FROM (
    SELECT p.promise_id AS id, p.version, p.customer_id AS "customer.id",
           {name} AS "customer.name",
           CASE WHEN p.status = 'kept' AND p.due < (p.settled_at AT TIME ZONE %(zone)s)::date
                THEN 'kept-late' ELSE p.status END AS status,
           coalesce(p.status = 'open' AND p.due < %(today)s, false) AS overdue, p.promised_by,
           p.owner, p.recorded_by, p.what, p.due, p.topic, p.amount, p.currency, p.contact_id,
           p.made_at, p.settled_at, p.settled_by, p.note, p.made_position,
           ARRAY(
               SELECT q.promise_id FROM p q
                WHERE q.customer_id = p.customer_id AND q.promise_id <> p.promise_id
                  AND q.status = 'open' AND p.status = 'open' AND lower(q.topic) = lower(p.topic)
                  AND ((q.amount, q.currency) IS DISTINCT FROM (p.amount, p.currency)
                       OR q.due IS DISTINCT FROM p.due)
                ORDER BY q.made_at, q.made_position
           ) AS contradicts
      FROM p LEFT JOIN customers c USING (customer_id)
) x WHERE made_at IS NOT NULL
"""


def select(when: Moment) -> str:
    """Every promise as it was at a moment."""
    past = ""
    if not when.is_live:
        counts, there = when.counts("s"), when.counts("t", "made_at", "made_position")
        past = f"{stood(when, PROMISES, FACTS, SAID, counts=counts, there=there)},"
    return SELECT.format(past=past, name=name_at(when, "p"))


LIST = Listing(
    path="/promises",
    name="list_promises",
    tag="promises",
    says="Promises: who promised what to which customer, until when, and which contradict.",
    asks=AskPromises,
    shape=PromiseShape,
    needs=(MODEL, customers.MODEL),
    select=select,
    order=(By("made_at"), By("made_position", kind=int)),
)


class AskKeeping(AskedAt):
    """What may be asked of how people keep their promises."""

    promised_by: Annotated[Word, Where("promised_by = %(promised_by)s")] = None
    customer_id: Annotated[UUID | None, Where('"customer.id" = %(customer_id)s')] = None
    made_from: Annotated[Time, Where("made_at >= %(made_from)s")] = None
    made_to: Annotated[Time, Where("made_at < %(made_to)s")] = None


class Keeping(Shape):
    """The promises that somebody made, whoever answers for them now.

    kept_rate = kept / (kept + kept_late + broken).
    """

    promised_by: str | None
    open: int
    overdue: int
    kept: int
    kept_late: int
    broken: int
    withdrawn: int
    kept_rate: float | None


class KeepingOfAll(HeadAt):
    """How people keep their promises, at a moment."""

    items: list[Keeping]


KEEPING = """
SELECT promised_by, open, overdue, kept, kept_late, broken, withdrawn,
       round(kept::numeric / nullif(kept + kept_late + broken, 0), 6)::float8 AS kept_rate
  FROM (SELECT promised_by,
               count(*) FILTER (WHERE status = 'open') AS open,
               count(*) FILTER (WHERE overdue) AS overdue,
               count(*) FILTER (WHERE status = 'kept') AS kept,
               count(*) FILTER (WHERE status = 'kept-late') AS kept_late,
               count(*) FILTER (WHERE status = 'broken') AS broken,
               count(*) FILTER (WHERE status = 'withdrawn') AS withdrawn
          FROM ({select}) made GROUP BY promised_by) each
 ORDER BY promised_by
"""


def keeping(view: View, asked: AskKeeping) -> KeepingOfAll:
    """How many promises each person has open, kept in time, kept late, broke and withdrew."""
    conditions, given = chosen(asked)
    sql = KEEPING.format(select=" AND ".join([select(view.when), *conditions]))
    return KeepingOfAll.of(
        view.head_at, items=fetch(view.conn, Keeping, sql, {**view.when.values, **given})
    )


QUESTIONS = (
    LIST.question(),
    Question(
        path="/promises/by-person",
        name="promises_by_person",
        tag="promises",
        says="How people keep their promises: in time, late or not.",
        asks=AskKeeping,
        shape=KeepingOfAll,
        needs=(MODEL, customers.MODEL),
        answer=keeping,
    ),
)
