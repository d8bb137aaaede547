"""Read model ``tickets``: requests and complaints, who works on them, and how long they take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from events.envelope import Recorded
from events.ticket import TicketCustomerIdentified, TicketEvent, TicketOpened
from projections import customers
from projections.asking.clocks import Moment
from projections.asking.listing import AskedAt, By, Listing, Question, TurnedAt, Where
from projections.asking.parameters import Days, Ids, Time, Word, each
from projections.asking.rows import fetch
from projections.asking.shape import HeadAt, Shape
from projections.asking.sorting import Sorts
from projections.asking.view import View
from projections.customers import CustomerRef, name_at
from projections.engine.model import ReadModel
from projections.engine.tables import Row, Rows, Table
from projections.facts.tickets import TicketFact, facts


@dataclass(slots=True)
class TicketRow(Row):
    """What a ticket was opened with; ``opened_position`` is 0 where the opening is missing."""

    ticket_id: UUID
    version: int = 0
    position: int = 0
    opened_position: int = 0
    customer_id: UUID | None = None
    contact_id: UUID | None = None
    order_id: UUID | None = None
    number: str | None = None
    channel: str | None = None
    subject: str | None = None
    text: str | None = None
    opened_at: datetime | None = None


TICKETS = Table(
    "tickets",
    TicketRow,
    key=("ticket_id",),
    indexes=("(opened_at, ticket_id)", "(customer_id)", "(number)"),
)
FACTS = Table("ticket_facts", TicketFact, key=("ticket_id", "version"), facts=True)


def apply(rows: Rows, recorded: Recorded) -> None:
    """Change the ticket's rows by one event."""
    event: TicketEvent = recorded.event  # type: ignore[assignment]  # the model names its events
    ticket = rows.get(TICKETS, recorded.stream_id)
    ticket.version, ticket.position = recorded.version, recorded.position
    if isinstance(event, TicketOpened):
        ticket.customer_id, ticket.contact_id = event.customer_id, event.contact_id
        ticket.order_id, ticket.number = event.order_id, event.number
        ticket.channel, ticket.subject = str(event.channel), event.subject
        ticket.text = event.text
        ticket.opened_at, ticket.opened_position = recorded.occurred_at, recorded.position
    if isinstance(event, TicketCustomerIdentified):
        ticket.customer_id = event.customer_id
    for fact in facts(recorded):
        rows.add(FACTS, fact)


MODEL = ReadModel("tickets", (TICKETS, FACTS), TicketEvent, apply, revision=3)

Status = Literal["open", "waiting", "resolved", "closed"]
Dispatch = Literal["undispatched", "unconfirmed", "confirmed"]


class AskTickets(TurnedAt):
    """What may be asked of tickets."""

    ids: Annotated[Ids, Where("t.ticket_id = ANY (%(ids)s)", each)] = None
    status: Annotated[Status | None, Where("f.status = %(status)s")] = None
    dispatch: Annotated[Dispatch | None, Where("f.dispatch = %(dispatch)s")] = None
    technician: Annotated[
        Word, Where("f.technician = %(technician)s AND f.dispatch <> 'undispatched'")
    ] = None
    kind: Annotated[Word, Where("f.topic = %(kind)s")] = None
    priority: Annotated[Word, Where("f.priority = %(priority)s")] = None
    customer_id: Annotated[
        UUID | None, Where("t.customer_id = %(customer_id)s AND f.customer_id IS NOT NULL")
    ] = None
    number: Annotated[Word, Where("t.number = %(number)s")] = None
    escalated: Annotated[bool | None, Where("(f.escalations > 0) = %(escalated)s")] = None
    product: Annotated[Word, Where("f.product = %(product)s")] = None
    min_age_days: Annotated[
        Days,
        Where("(t.opened_at AT TIME ZONE %(zone)s)::date + %(min_age_days)s::int <= %(today)s"),
        Field(description="Opened at least so many days ago."),
    ] = None
    opened_from: Annotated[Time, Where("t.opened_at >= %(opened_from)s")] = None
    opened_to: Annotated[Time, Where("t.opened_at < %(opened_to)s")] = None
    sort: Annotated[
        Word,
        Sorts(
            *("opened_at", "changed_at", "first_taken_at", "first_reply_at", "resolved_at"),
            *("closed_at", "number", "subject", "customer.name", "status", "dispatch"),
            *("technician", "kind", "priority", "product", "score", "minutes", "waits"),
            *("escalations", "reopenings"),
        ),
    ] = None


class TicketShape(Shape):
    """A ticket: who works on it and how long it takes."""

    id: UUID
    version: int
    number: str | None
    channel: str | None
    subject: str | None
    text: str | None
    contact_id: UUID | None
    order_id: UUID | None
    customer: CustomerRef | None
    status: str = Field(examples=["open", "waiting", "resolved", "closed"])
    dispatch: str = Field(examples=["undispatched", "unconfirmed", "confirmed"])
    technician: str | None
    kind: str | None
    priority: str
    product: str | None
    score: int | None = Field(description="The customer's rating, 1 (bad) to 5 (good).")
    minutes: int = Field(description="Minutes of work in all.")
    opened_at: datetime
    first_taken_at: datetime | None = Field(description="When a technician first confirmed.")
    first_reply_at: datetime | None
    resolved_at: datetime | None = Field(description="When it was last resolved.")
    closed_at: datetime | None
    changed_at: datetime
    waits: int
    escalations: int
    resolutions: int
    closings: int
    reopenings: int


class TicketFactShape(Shape):
    """What was done or written, when and by whom."""

    version: int
    type: str
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    status: str | None
    dispatch: str | None
    technician: str | None
    kind: str | None
    priority: str | None
    minutes: int | None
    score: int | None
    inbound: bool | None
    text: str | None
    position: int


class WaitShape(Shape):
    """A time of waiting, until the next act on the ticket's status, which may be waiting anew.

    Up to now, if there was none; no time at all if that act was entered late, from before.
    """

    since: datetime
    until: datetime | None
    days: float
    reason: str | None
    actor: str


class TicketDetail(TicketShape, HeadAt):
    """A ticket with all that was done and written, at a moment."""

    waiting: list[WaitShape]
    history: list[TicketFactShape]


LATEST = "(array_agg(s.{0} ORDER BY s.version DESC) FILTER (WHERE s.{0} IS NOT NULL))[1] AS {0}"
COUNTED = "count(*) FILTER (WHERE s.kind = '{0}') AS {1}"
SELECT = f"""
SELECT t.ticket_id AS id, f.version, t.number, t.channel, t.subject, t.text, t.contact_id,
       t.order_id, f.customer_id AS "customer.id", {{name}} AS "customer.name", t.opened_at,
       f.status, f.dispatch,
       CASE f.dispatch WHEN 'undispatched' THEN NULL ELSE f.technician END AS technician,
       f.topic AS kind, f.priority, f.product, f.score, f.minutes,
       f.first_taken_at, f.first_reply_at, f.resolved_at,
       CASE f.status WHEN 'closed' THEN f.closed_at END AS closed_at, f.changed_at,
       f.waits, f.escalations, f.resolutions, f.closings, r.reopenings
  FROM tickets t LEFT JOIN customers c USING (customer_id) CROSS JOIN LATERAL (
       SELECT {
    ", ".join(
        LATEST.format(name)
        for name in (
            "status",
            "dispatch",
            "technician",
            "topic",
            "priority",
            "product",
            "score",
            "customer_id",
        )
    )
},
              coalesce(sum(s.minutes), 0)::int8 AS minutes,
              min(s.occurred_at) FILTER (WHERE s.dispatch = 'confirmed') AS first_taken_at,
              min(s.occurred_at) FILTER (WHERE NOT s.inbound) AS first_reply_at,
              max(s.occurred_at) FILTER (WHERE s.status = 'resolved') AS resolved_at,
              max(s.occurred_at) FILTER (WHERE s.status = 'closed') AS closed_at,
              max(s.occurred_at) AS changed_at, max(s.version) AS version,
              {
    ", ".join(
        COUNTED.format(*pair)
        for pair in (
            ("waiting", "waits"),
            ("escalated", "escalations"),
            ("resolved", "resolutions"),
            ("closed", "closings"),
        )
    )
}
         FROM ticket_facts s WHERE s.ticket_id = t.ticket_id AND {{facts}}
  ) f CROSS JOIN LATERAL (
       -- Every return to work counts once, by whichever act.
       SELECT count(*) AS reopenings FROM (
           SELECT s.status, lag(s.status) OVER (ORDER BY s.version) AS before
             FROM ticket_facts s
            WHERE s.ticket_id = t.ticket_id AND s.status IS NOT NULL AND {{facts}}
       ) s WHERE s.before IN ('resolved', 'closed') AND s.status IN ('open', 'waiting')
  ) r
 WHERE t.opened_position > 0 AND {{opened}}
"""
HISTORY = """
SELECT version, kind AS type, occurred_at, recorded_at, actor, status, dispatch,
       CASE kind WHEN 'dispatch-declined' THEN NULL ELSE technician END AS technician,
       topic AS kind, priority, minutes, score, inbound, text, position
  FROM ticket_facts s WHERE ticket_id = %(id)s AND {facts} ORDER BY version
"""


WAITS = """
SELECT since, until, reason, actor,
       round(greatest(extract(epoch FROM coalesce(until, %(now)s) - since), 0) / 86400, 6)::float8
       AS days
  FROM (SELECT s.occurred_at AS since, s.status, s.text AS reason, s.actor, s.version,
               lead(s.occurred_at) OVER (ORDER BY s.version) AS until
          FROM ticket_facts s WHERE s.ticket_id = %(id)s AND s.status IS NOT NULL AND {facts}
  ) s WHERE status = 'waiting' ORDER BY version
"""


def select(when: Moment) -> str:
    """Every ticket as it was at a moment."""
    return SELECT.format(
        name=name_at(when, "f"),
        facts=when.counts("s"),
        opened=when.counts("t", "opened_at", "opened_position"),
    )


def ticket(view: View, ticket_id: UUID, _: AskedAt) -> TicketDetail | None:
    """One ticket with everything that was done and written, or None."""
    values = {**view.when.values, "id": ticket_id}
    one = f"{select(view.when)} AND t.ticket_id = %(id)s"
    for found in fetch(view.conn, TicketShape, one, values):
        facts = HISTORY.format(facts=view.when.counts("s"))
        history = fetch(view.conn, TicketFactShape, facts, values)
        waits = WAITS.format(facts=view.when.counts("s"))
        waiting = fetch(view.conn, WaitShape, waits, values)
        return TicketDetail.of(view.head_at, found, waiting=waiting, history=history)
    return None


LIST = Listing(
    path="/tickets",
    name="list_tickets",
    tag="tickets",
    says="Tickets, in the order of their opening, with technician, status and times.",
    asks=AskTickets,
    shape=TicketShape,
    needs=(MODEL, customers.MODEL),
    select=select,
    order=(By("t.opened_at"), By("t.ticket_id", "id")),
)
QUESTIONS = (
    LIST.question(),
    Question(
        path="/tickets/{id}",
        name="one_ticket",
        tag="tickets",
        says="One ticket with its history; of the present state the ETag is the version.",
        asks=AskedAt,
        shape=TicketDetail,
        needs=(MODEL, customers.MODEL),
        answer=ticket,
    ),
)
