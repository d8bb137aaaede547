from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from events.base import Event
from events.customer import Channel
from events.values import CustomersText, CustomersTextOrNone


class TicketKind(StrEnum):
    """What a ticket is about."""

    QUESTION = "question"
    COMPLAINT = "complaint"
    RETURN = "return"
    EXCHANGE = "exchange"
    REPAIR = "repair"
    REQUEST = "request"
    OTHER = "other"


class Priority(StrEnum):
    """How soon somebody must look at it."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"


class TicketOpened(Event, type="ticket.opened"):
    """Somebody needs something of us."""

    subject: CustomersText
    text: CustomersTextOrNone = None
    customer_id: UUID | None = None
    contact_id: UUID | None = None
    order_id: UUID | None = None
    number: str | None = None
    channel: Channel = Channel.OTHER
    kind: TicketKind | None = None
    priority: Priority = Priority.NORMAL
    product: str | None = None


class TicketClassified(Event, type="ticket.classified"):
    """It was judged what the ticket is about and how soon it must be looked at."""

    kind: TicketKind | None = None
    priority: Priority | None = None
    product: str | None = None


class TicketDispatched(Event, type="ticket.dispatched"):
    """A technician is to look at it, and has not said yes yet."""

    technician: str


class DispatchConfirmed(Event, type="ticket.dispatch-confirmed"):
    """The technician has it in hand."""

    technician: str


class DispatchDeclined(Event, type="ticket.dispatch-declined"):
    """The technician cannot do it; nobody is named any more."""

    technician: str
    reason: str


class TicketReplied(Event, type="ticket.replied"):
    """We answered the customer, or (inbound) they wrote to us again."""

    text: CustomersText
    inbound: bool = False
    customer_id: UUID | None = None


class TicketNoted(Event, type="ticket.noted"):
    """Something to remember, for us alone."""

    text: CustomersText
    customer_id: UUID | None = None


class WorkLogged(Event, type="ticket.work-logged"):
    """So many minutes were spent on it."""

    minutes: int
    text: CustomersTextOrNone = None
    customer_id: UUID | None = None


class TicketWaiting(Event, type="ticket.waiting"):
    """Nothing can be done until somebody else has acted."""

    reason: str | None = None


class TicketEscalated(Event, type="ticket.escalated"):
    """It took too long, or needs more than we can give."""

    reason: str


class TicketResolved(Event, type="ticket.resolved"):
    """What was asked for is done; the customer may still disagree."""

    text: CustomersTextOrNone = None
    customer_id: UUID | None = None


class TicketClosed(Event, type="ticket.closed"):
    """Nothing more is to be done."""


class TicketReopened(Event, type="ticket.reopened"):
    """It was not done after all."""

    reason: str


class TicketRated(Event, type="ticket.rated"):
    """The customer said how it was, from 1 (bad) to 5 (good)."""

    score: int
    text: CustomersTextOrNone = None
    customer_id: UUID | None = None


TicketEvent = (
    TicketOpened
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
