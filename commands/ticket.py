from __future__ import annotations

from typing import Annotated, ClassVar, Self
from uuid import UUID

from pydantic import Field, StrictBool, model_validator

from aggregates.ticket import (
    ComplaintUnresolved,
    ComplaintUnsatisfied,
    Ticket,
    TicketElsewhere,
    TicketHasCustomer,
    TicketIsClosed,
    TicketStillOpen,
    TicketUndispatched,
    TicketUnresolved,
)
from commands.base import Command, Context, Records, Reference
from events.customer import Channel
from events.ticket import (
    Priority,
    TicketClassified,
    TicketEvent,
    TicketKind,
    TicketOpened,
    TicketRated,
    TicketWaiting,
)
from events.values import ActorId, Line, Text

Minutes = Annotated[int, Field(ge=1, le=100_000, strict=True)]
Score = Annotated[int, Field(ge=1, le=5, strict=True)]


class OpenTicket(Command[Ticket, TicketEvent]):
    """Open a ticket."""

    opened: ClassVar = Records(TicketOpened)

    subject: Line
    text: Text | None = None
    customer_id: Annotated[UUID | None, Reference("customer")] = None
    contact_id: UUID | None = None
    order_id: Annotated[UUID | None, Reference("order")] = None
    number: Line | None = None
    channel: Channel = Channel.OTHER
    kind: TicketKind | None = None
    priority: Priority = Priority.NORMAL
    product: Line | None = None

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.open(self.opened.of(self))


class IdentifyTicketCustomer(Command[Ticket, TicketEvent]):
    """Name the customer of a ticket."""

    rules = (TicketHasCustomer,)

    customer_id: Annotated[UUID, Reference("customer")]

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.identify_customer(self.customer_id)


class ClassifyTicket(Command[Ticket, TicketEvent]):
    """Classify a ticket: its kind, priority and product."""

    classified: ClassVar = Records(TicketClassified)

    kind: TicketKind | None = None
    priority: Priority | None = None
    product: Line | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.kind is None and self.priority is None and self.product is None:
            raise ValueError("must say a kind, a priority or a product")
        return self

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.classify(self.classified.of(self))


class DispatchTicket(Command[Ticket, TicketEvent]):
    """Dispatch a ticket to a technician, who has yet to confirm."""

    technician: ActorId

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.dispatch(self.technician)


class ConfirmDispatch(Command[Ticket, TicketEvent]):
    """Confirm a dispatch, as the technician who was named."""

    rules = (TicketElsewhere, TicketIsClosed, TicketUndispatched)

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.confirm(context.actor.id)


class DeclineDispatch(Command[Ticket, TicketEvent]):
    """Decline a dispatch, as the technician who was named."""

    rules = (TicketElsewhere, TicketIsClosed, TicketUndispatched)

    reason: Line

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.decline(context.actor.id, self.reason)


class TakeTicket(Command[Ticket, TicketEvent]):
    """Take a ticket oneself: dispatched and confirmed at once."""

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.take(context.actor.id)


class ReplyToTicket(Command[Ticket, TicketEvent]):
    """Record a reply to the customer or, with `inbound`, from the customer."""

    text: Text
    inbound: StrictBool = False

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.reply(self.text, inbound=self.inbound)


class NoteOnTicket(Command[Ticket, TicketEvent]):
    """Add an internal note to a ticket."""

    text: Text

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.note(self.text)


class LogWork(Command[Ticket, TicketEvent]):
    """Log work on a ticket, in minutes."""

    minutes: Minutes
    text: Text | None = None

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.log_work(self.minutes, self.text)


class LetTicketWait(Command[Ticket, TicketEvent]):
    """Mark a ticket as waiting for somebody else."""

    reason: Line | None = None

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        waiting = TicketWaiting(reason=self.reason, customer_id=ticket.customer_id)
        return ticket.wait(context.marked(waiting))


class EscalateTicket(Command[Ticket, TicketEvent]):
    """Escalate a ticket."""

    reason: Line

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.escalate(self.reason)


class ResolveTicket(Command[Ticket, TicketEvent]):
    """Resolve a ticket."""

    text: Text | None = None

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.resolve(self.text)


class CloseTicket(Command[Ticket, TicketEvent]):
    """Close a ticket."""

    rules = (ComplaintUnresolved, ComplaintUnsatisfied, TicketIsClosed)

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.close()


class ReopenTicket(Command[Ticket, TicketEvent]):
    """Reopen a ticket that was resolved or closed."""

    rules = (TicketStillOpen,)

    reason: Line

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        return ticket.reopen(self.reason)


class RateTicket(Command[Ticket, TicketEvent]):
    """Rate a resolved ticket, from 1 (bad) to 5 (good)."""

    rules = (TicketUnresolved,)

    score: Score
    text: Text | None = None

    def decide(self, ticket: Ticket, context: Context, /) -> list[TicketEvent]:
        rated = TicketRated(score=self.score, text=self.text, customer_id=ticket.customer_id)
        return ticket.rate(context.marked(rated))
