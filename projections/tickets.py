"""Read model ``tickets``: what was asked of us, who has it in hand, how long it takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

from events.envelope import Recorded
from events.ticket import (
    DispatchConfirmed,
    DispatchDeclined,
    TicketClassified,
    TicketClosed,
    TicketDispatched,
    TicketEscalated,
    TicketEvent,
    TicketNoted,
    TicketOpened,
    TicketRated,
    TicketReopened,
    TicketReplied,
    TicketResolved,
    TicketWaiting,
    WorkLogged,
)
from projections.asking.clocks import Moment
from projections.asking.pages import LIMIT, Filter, fetch, page
from projections.engine.model import ReadModel
from projections.engine.tables import Connection, Row, Rows, Table
from projections.orders import name_at


@dataclass(slots=True)
class TicketRow(Row):
    """What a ticket began with; ``opened_position`` is 0 where that is not among the events."""

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


@dataclass(slots=True)
class TicketFact(Row):
    """A fact, never changed: what one event says of the ticket, and nothing of the others."""

    ticket_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    type: str | None = None
    actor: str | None = None
    status: str | None = None
    dispatch: str | None = None
    technician: str | None = None
    kind: str | None = None
    priority: str | None = None
    product: str | None = None
    minutes: int | None = None
    score: int | None = None
    inbound: bool | None = None
    text: str | None = None


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
    fact = TicketFact(
        recorded.stream_id,
        recorded.version,
        recorded.position,
        recorded.occurred_at,
        recorded.recorded_at,
        recorded.type.removeprefix("ticket."),
        recorded.actor,
    )
    rows.add(FACTS, fact)
    match event:
        case TicketOpened():
            ticket.customer_id, ticket.contact_id = event.customer_id, event.contact_id
            ticket.order_id, ticket.number = event.order_id, event.number
            ticket.channel, ticket.subject = event.channel.value, event.subject
            ticket.text = event.text
            ticket.opened_at, ticket.opened_position = recorded.occurred_at, recorded.position
            fact.status, fact.dispatch = "open", "undispatched"
            fact.kind = event.kind and event.kind.value
            fact.priority, fact.product = event.priority.value, event.product
        case TicketClassified():
            fact.kind = event.kind and event.kind.value
            fact.priority = event.priority and event.priority.value
            fact.product = event.product
        case TicketDispatched():
            fact.dispatch, fact.technician = "unconfirmed", event.technician
        case DispatchConfirmed():
            fact.dispatch, fact.technician, fact.status = "confirmed", event.technician, "open"
        case DispatchDeclined():
            fact.dispatch, fact.text = "undispatched", event.reason
        case TicketReplied():
            fact.text, fact.inbound = event.text, event.inbound
            fact.status = "open" if event.inbound else None
        case TicketNoted():
            fact.text = event.text
        case WorkLogged():
            fact.minutes, fact.text = event.minutes, event.text
        case TicketWaiting():
            fact.status, fact.text = "waiting", event.reason
        case TicketEscalated():
            fact.text = event.reason
        case TicketResolved():
            fact.status, fact.text = "resolved", event.text
        case TicketClosed():
            fact.status = "closed"
        case TicketReopened():
            fact.status, fact.text = "open", event.reason
        case TicketRated():
            fact.score, fact.text = event.score, event.text
        case _:
            assert_never(event)


MODEL = ReadModel("tickets", (TICKETS, FACTS), TicketEvent, apply)

LATEST = "(array_agg(s.{0} ORDER BY s.version DESC) FILTER (WHERE s.{0} IS NOT NULL))[1] AS {0}"
COUNTED = "count(*) FILTER (WHERE s.type = '{0}') AS {1}"
SELECT = f"""
SELECT t.ticket_id, f.version, t.number, t.channel, t.subject, t.text, t.contact_id, t.order_id,
       t.customer_id, {{name}} AS customer_name, t.opened_at, f.status, f.dispatch,
       CASE f.dispatch WHEN 'undispatched' THEN NULL ELSE f.technician END AS technician,
       f.kind, f.priority, f.product, f.score, f.minutes, f.first_taken_at, f.first_reply_at,
       f.resolved_at, CASE f.status WHEN 'closed' THEN f.closed_at END AS closed_at, f.changed_at,
       f.waits, f.escalations, f.resolutions, f.closings, f.reopenings
  FROM tickets t LEFT JOIN customers c USING (customer_id) CROSS JOIN LATERAL (
       SELECT {
    ", ".join(
        LATEST.format(name)
        for name in ("status", "dispatch", "technician", "kind", "priority", "product", "score")
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
            ("reopened", "reopenings"),
        )
    )
}
         FROM ticket_facts s WHERE s.ticket_id = t.ticket_id AND {{facts}}
  ) f
"""


def tickets(
    conn: Connection,
    when: Moment,
    *,
    status: str | None = None,
    dispatch: str | None = None,
    technician: str | None = None,
    kind: str | None = None,
    priority: str | None = None,
    customer_id: UUID | None = None,
    number: str | None = None,
    escalated: bool | None = None,
    opened_from: datetime | None = None,
    opened_to: datetime | None = None,
    cursor: str | None = None,
    limit: int = LIMIT,
) -> tuple[list[dict[str, Any]], str | None]:
    """Tickets by the time of their opening."""
    select, values = _select(when)
    opened, since = _opened(when)
    return page(
        conn,
        select,
        [
            Filter(f"{opened} AND %s", (*since, True)),
            Filter("f.status = %s", (status,)),
            Filter("f.dispatch = %s", (dispatch,)),
            Filter("f.technician = %s AND f.dispatch <> 'undispatched'", (technician,)),
            Filter("f.kind = %s", (kind,)),
            Filter("f.priority = %s", (priority,)),
            Filter("t.customer_id = %s", (customer_id,)),
            Filter("t.number = %s", (number,)),
            Filter("(f.escalations > 0) = %s", (escalated,)),
            Filter("t.opened_at >= %s", (opened_from,)),
            Filter("t.opened_at < %s", (opened_to,)),
        ],
        ("t.opened_at", "t.ticket_id"),
        cursor,
        limit,
        values=values,
        shape=shown,
    )


def ticket(conn: Connection, ticket_id: UUID, when: Moment) -> dict[str, Any] | None:
    """One ticket with everything that was done and written, or None."""
    select, values = _select(when)
    opened, since = _opened(when)
    rows = fetch(
        conn, f"{select} WHERE t.ticket_id = %s AND {opened}", [*values, ticket_id, *since]
    )
    if not rows:
        return None
    found = shown(rows[0])
    facts, bounds = when.bounds("s")
    found["history"] = fetch(
        conn,
        "SELECT version, type, occurred_at, recorded_at, actor, status, dispatch, technician, "
        "kind, priority, minutes, score, inbound, text, position FROM ticket_facts s "
        f"WHERE ticket_id = %s AND {facts} ORDER BY version",
        [ticket_id, *bounds],
    )
    return found


def _select(when: Moment) -> tuple[str, list[Any]]:
    name, bounds = name_at(when, "t")
    facts, values = when.bounds("s")
    return SELECT.format(name=name, facts=facts), [*bounds, *values]


def _opened(when: Moment) -> tuple[str, list[Any]]:
    opened, since = when.bounds("t")
    opened = opened.replace("occurred_at", "opened_at").replace("position", "opened_position")
    return f"t.opened_position > 0 AND {opened}", since


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A ticket as the API shows it."""
    row["id"] = row.pop("ticket_id")
    customer_id, name = row.pop("customer_id"), row.pop("customer_name")
    row["customer"] = None if customer_id is None else {"id": customer_id, "name": name}
    return row
