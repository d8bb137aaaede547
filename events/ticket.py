from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from events.base import Event
from events.customer import Channel
from events.values import AsWritten, CustomersSince2, CustomersText, CustomersTextOrNone, Marks


class TicketKind(StrEnum):
    """The kind of a ticket."""

    QUESTION = "question"
    COMPLAINT = "complaint"
    RETURN = "return"
    EXCHANGE = "exchange"
    REPAIR = "repair"
    REQUEST = "request"
    OTHER = "other"


class Priority(StrEnum):
    """The priority of a ticket."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


class TicketOpened(Event, type="ticket.opened"):
    """A ticket was opened."""

    subject: CustomersText
    text: CustomersTextOrNone = None
    customer_id: UUID | None = None
    contact_id: UUID | None = None
    order_id: UUID | None = None
    number: str | None = None
    channel: Annotated[Channel, AsWritten()] = Channel.OTHER
    kind: Annotated[TicketKind, AsWritten()] | None = None
    priority: Annotated[Priority, AsWritten()] = Priority.NORMAL
    product: str | None = None


class TicketCustomerIdentified(Event, type="ticket.customer-identified"):
    """The customer of the ticket became known."""

    customer_id: UUID


class TicketClassified(Event, type="ticket.classified"):
    """The kind and the priority of the ticket were set."""

    kind: Annotated[TicketKind, AsWritten()] | None = None
    priority: Annotated[Priority, AsWritten()] | None = None
    product: str | None = None


class TicketDispatched(Event, type="ticket.dispatched"):
    """The ticket was dispatched to a technician, who has not confirmed yet."""

    technician: str


class DispatchConfirmed(Event, type="ticket.dispatch-confirmed"):
    """The technician confirmed the dispatch."""

    technician: str


class DispatchDeclined(Event, type="ticket.dispatch-declined", version=2):
    """The technician declined; the ticket has no technician any more."""

    technician: str
    reason: Annotated[str, CustomersSince2]
    customer_id: UUID | None = None


class TicketReplied(Event, type="ticket.replied"):
    """A reply to the customer or, if inbound, from the customer."""

    text: CustomersText
    inbound: bool = False
    customer_id: UUID | None = None


class TicketNoted(Event, type="ticket.noted"):
    """An internal note was added; the customer does not see it."""

    text: CustomersText
    customer_id: UUID | None = None


class WorkLogged(Event, type="ticket.work-logged"):
    """Minutes of work were logged."""

    minutes: int
    text: CustomersTextOrNone = None
    customer_id: UUID | None = None


class TicketWaiting(Event, type="ticket.waiting", version=3):
    """The ticket waits for somebody else."""

    reason: Annotated[str | None, CustomersSince2] = None
    customer_id: UUID | None = None
    marks: Marks = None


class TicketEscalated(Event, type="ticket.escalated", version=2):
    """The ticket was escalated."""

    reason: Annotated[str, CustomersSince2]
    customer_id: UUID | None = None


class TicketResolved(Event, type="ticket.resolved"):
    """The ticket was resolved; the customer may still disagree."""

    text: CustomersTextOrNone = None
    customer_id: UUID | None = None


class TicketClosed(Event, type="ticket.closed"):
    """The ticket was closed."""


class TicketReopened(Event, type="ticket.reopened", version=2):
    """The ticket was reopened."""

    reason: Annotated[str, CustomersSince2]
    customer_id: UUID | None = None


class TicketRated(Event, type="ticket.rated", version=2):
    """The customer rated the ticket, from 1 (bad) to 5 (good)."""

    score: int
    text: CustomersTextOrNone = None
    customer_id: UUID | None = None
    marks: Marks = None


TicketEvent = (
    TicketOpened
    | TicketCustomerIdentified
    | TicketClassified
    | TicketDispatched
    | DispatchConfirmed
    | DispatchDeclined
    | TicketReplied
    | TicketNoted
    | WorkLogged
    | TicketWaiting
    | TicketEscalated
    | TicketResolved
    | TicketClosed
    | TicketReopened
    | TicketRated
)
