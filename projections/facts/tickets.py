"""What the events of a ticket say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never
from uuid import UUID

from events.envelope import Recorded
from events.ticket import (
    DispatchConfirmed,
    DispatchDeclined,
    TicketClassified,
    TicketClosed,
    TicketCustomerIdentified,
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
from events.values import CustomersTextOrNone
from projections.engine.tables import Row
from projections.facts.fact import head, kind


@dataclass(slots=True)
class TicketFact(Row):
    """A fact, never changed: what one event says of the ticket, and nothing of the others.

    Attributes:
        technician: named by a dispatch, also by one that is declined.
        topic: the kind of ticket.
    """

    ticket_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    kind: str | None = None
    actor: str | None = None
    status: str | None = None
    dispatch: str | None = None
    technician: str | None = None
    customer_id: UUID | None = None
    channel: str | None = None
    topic: str | None = None
    priority: str | None = None
    product: str | None = None
    minutes: int | None = None
    score: int | None = None
    inbound: bool | None = None
    text: CustomersTextOrNone = None


def facts(recorded: Recorded) -> list[TicketFact]:
    """What an event says of its ticket."""
    event: TicketEvent = recorded.event  # type: ignore[assignment]  # of a ticket's stream
    fact = TicketFact(*head(recorded), kind(recorded), recorded.actor)
    match event:
        case TicketOpened():
            fact.status, fact.dispatch = "open", "undispatched"
            fact.customer_id, fact.channel = event.customer_id, str(event.channel)
            fact.topic = event.kind and str(event.kind)
            fact.priority, fact.product = str(event.priority), event.product
        case TicketCustomerIdentified():
            fact.customer_id = event.customer_id
        case TicketClassified():
            fact.topic = event.kind and str(event.kind)
            fact.priority = event.priority and str(event.priority)
            fact.product = event.product
        case TicketDispatched():
            fact.dispatch, fact.technician, fact.status = "unconfirmed", event.technician, "open"
        case DispatchConfirmed():
            fact.dispatch, fact.technician, fact.status = "confirmed", event.technician, "open"
        case DispatchDeclined():
            fact.dispatch, fact.technician = "undispatched", event.technician
            fact.text = event.reason
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
            fact.status, fact.text = "open", event.reason
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
    return [fact]
