from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, assert_never
from uuid import UUID

from aggregates.base import Refused, Unknown, stands, told
from events.ticket import (
    DispatchConfirmed,
    DispatchDeclined,
    Priority,
    TicketClassified,
    TicketClosed,
    TicketCustomerIdentified,
    TicketDispatched,
    TicketEscalated,
    TicketEvent,
    TicketKind,
    TicketNoted,
    TicketOpened,
    TicketRated,
    TicketReopened,
    TicketReplied,
    TicketResolved,
    TicketWaiting,
    WorkLogged,
)


class TicketUnknown(Unknown):
    """There is no ticket with this id."""


class TicketExists(Refused):
    """A ticket with this id was opened already."""

    fields = ("id",)


class TicketIsClosed(Refused):
    """The ticket is closed; reopen it first."""


class TicketStillOpen(Refused):
    """The ticket was neither resolved nor closed."""


class TicketUnresolved(Refused):
    """Only a ticket that was resolved or closed can be rated."""


class TicketUndispatched(Refused):
    """The ticket is not dispatched to anybody."""


class TicketElsewhere(Refused):
    """The ticket is dispatched to another technician."""


class ComplaintUnresolved(Refused):
    """A complaint stays open until it is resolved."""


class ComplaintUnsatisfied(Refused):
    """The customer rated the complaint's resolution 1 or 2; resolve it anew first."""


UNSATISFIED = 2
"""The highest rating that says a complaint goes on."""


class TicketHasCustomer(Refused):
    """The ticket belongs to another customer."""

    fields = ("customer_id",)


class Status(StrEnum):
    """How far a ticket has come."""

    OPEN = "open"
    WAITING = "waiting"
    RESOLVED = "resolved"
    CLOSED = "closed"


CUSTOMER = frozenset({"customer_id"})


@dataclass(frozen=True, slots=True)
class Ticket:
    """Something that somebody needs of us.

    Work on a resolved or closed ticket reopens it; what is only kept (notes, minutes, our replies)
    does not. The status is what the last act made of it.

    Attributes:
        technician: who is to look at it; None while it is undispatched.
        confirmed: whether they have said yes.
        score: the customer's rating of the last resolution; None until it is rated.
        said: with what words it waits, by their mark.
        rating: the score, and the mark of the words that came with it.
    """

    status: Status = Status.OPEN
    kind: TicketKind | None = None
    technician: str | None = None
    confirmed: bool = False
    customer_id: UUID | None = None
    priority: Priority | None = None
    product: str | None = None
    score: int | None = None
    said: Mapping[str, Any] = field(default_factory=dict)
    rating: Mapping[str, Any] = field(default_factory=dict)

    def open(self, details: TicketOpened) -> list[TicketEvent]:
        """Open the ticket."""
        return [details]

    def identify_customer(self, customer_id: UUID) -> list[TicketEvent]:
        """Name the customer.

        Raises:
            TicketHasCustomer: when it is known to be another's.
        """
        if self.customer_id == customer_id:
            return []
        if self.customer_id is not None:
            raise TicketHasCustomer
        return [TicketCustomerIdentified(customer_id=customer_id)]

    def classify(self, judged: TicketClassified) -> list[TicketEvent]:
        """Classify: kind, priority, product; nothing happens when it is classified so already."""
        given = judged.kind, judged.priority, judged.product
        known = self.kind, self.priority, self.product
        same = all(new in (None, old) for new, old in zip(given, known, strict=True))
        return [] if same else [judged]

    def dispatch(self, technician: str) -> list[TicketEvent]:
        """Dispatch to a technician; nothing happens when it is dispatched to them already."""
        if self.technician == technician:
            return []
        return [*self._begun_again(), TicketDispatched(technician=technician)]

    def confirm(self, technician: str) -> list[TicketEvent]:
        """Confirm the dispatch; nothing happens when it is confirmed already.

        Raises:
            TicketIsClosed, TicketUndispatched: when there is nothing to say yes to.
            TicketElsewhere: when another technician was named.
        """
        self._refuse_if_not_with(technician)
        return [] if self.confirmed else [DispatchConfirmed(technician=technician)]

    def decline(self, technician: str, reason: str) -> list[TicketEvent]:
        """Decline the dispatch, also after it was confirmed.

        Raises:
            TicketIsClosed, TicketUndispatched: when there is nothing to say no to.
            TicketElsewhere: when another technician was named.
        """
        self._refuse_if_not_with(technician)
        customer_id = self.customer_id
        return [DispatchDeclined(technician=technician, reason=reason, customer_id=customer_id)]

    def take(self, technician: str) -> list[TicketEvent]:
        """Take the ticket oneself, from whomever it is dispatched to.

        Nothing happens when one is at work on it already.
        """
        is_theirs = self.technician == technician and self.confirmed
        if is_theirs and self.status is Status.OPEN:
            return []
        named = self.dispatch(technician) or self._begun_again()
        return [*named, DispatchConfirmed(technician=technician)]

    def reply(self, text: str, *, inbound: bool) -> list[TicketEvent]:
        """Record a reply; one of the customer reopens a resolved or closed ticket."""
        begun = self._begun_again() if inbound else []
        return [*begun, TicketReplied(text=text, inbound=inbound, customer_id=self.customer_id)]

    def note(self, text: str) -> list[TicketEvent]:
        """Add an internal note."""
        return [TicketNoted(text=text, customer_id=self.customer_id)]

    def log_work(self, minutes: int, text: str | None) -> list[TicketEvent]:
        """Log work."""
        return [WorkLogged(minutes=minutes, text=text, customer_id=self.customer_id)]

    def wait(self, waiting: TicketWaiting) -> list[TicketEvent]:
        """Mark as waiting for somebody else; nothing happens when it waits for the same already."""
        if self.status is Status.WAITING and _repeats(self.said, told(waiting, CUSTOMER)):
            return []
        return [*self._begun_again(), waiting]

    def escalate(self, reason: str) -> list[TicketEvent]:
        """Escalate."""
        escalated = TicketEscalated(reason=reason, customer_id=self.customer_id)
        return [*self._begun_again(), escalated]

    def resolve(self, text: str | None) -> list[TicketEvent]:
        """Resolve, also once more: the last time counts."""
        resolved = TicketResolved(text=text, customer_id=self.customer_id)
        return [resolved] if self.status is Status.RESOLVED else [*self._begun_again(), resolved]

    def close(self) -> list[TicketEvent]:
        """Close the ticket.

        Raises:
            TicketIsClosed: when it was closed before.
            ComplaintUnresolved: a complaint stays open until it is resolved.
            ComplaintUnsatisfied: and until the customer is satisfied, if they rate it.
        """
        self._refuse_if_closed()
        if self.kind is TicketKind.COMPLAINT and self.status is not Status.RESOLVED:
            raise ComplaintUnresolved
        is_bad = self.score is not None and self.score <= UNSATISFIED
        if self.kind is TicketKind.COMPLAINT and is_bad:
            raise ComplaintUnsatisfied
        return [TicketClosed()]

    def reopen(self, reason: str) -> list[TicketEvent]:
        """Reopen the ticket.

        Raises:
            TicketStillOpen: when it was neither resolved nor closed.
        """
        if self.status not in (Status.RESOLVED, Status.CLOSED):
            raise TicketStillOpen
        return [self._reopened(reason)]

    def rate(self, rated: TicketRated) -> list[TicketEvent]:
        """Rate the ticket; nothing happens when it is rated so already.

        Raises:
            TicketUnresolved: when there is nothing to think of yet.
        """
        if self.status not in (Status.RESOLVED, Status.CLOSED):
            raise TicketUnresolved
        return [] if _repeats(self.rating, told(rated, CUSTOMER)) else [rated]

    def evolve(self, event: TicketEvent) -> Ticket:
        """The ticket after the event."""
        match event:
            case TicketOpened():
                return Ticket(
                    kind=event.kind,
                    customer_id=event.customer_id,
                    priority=event.priority,
                    product=event.product,
                )
            case TicketCustomerIdentified():
                return replace(self, customer_id=event.customer_id)
            case TicketClassified():
                return replace(
                    self,
                    kind=event.kind or self.kind,
                    priority=event.priority or self.priority,
                    product=event.product or self.product,
                )
            case TicketDispatched():
                return replace(
                    self, technician=event.technician, confirmed=False, status=Status.OPEN
                )
            case DispatchConfirmed():
                return replace(
                    self, technician=event.technician, confirmed=True, status=Status.OPEN
                )
            case DispatchDeclined():
                return replace(self, technician=None, confirmed=False)
            case TicketReplied():
                return replace(self, status=Status.OPEN) if event.inbound else self
            case TicketNoted() | WorkLogged():
                return self
            case TicketEscalated():
                return replace(self, status=Status.OPEN)
            case TicketRated():
                return replace(self, score=event.score, rating=told(event, CUSTOMER))
            case TicketWaiting():
                return replace(self, status=Status.WAITING, said=told(event, CUSTOMER))
            case TicketResolved():
                return replace(self, status=Status.RESOLVED, score=None, said={}, rating={})
            case TicketClosed():
                return replace(self, status=Status.CLOSED)
            case TicketReopened():
                return replace(self, status=Status.OPEN)
            case _:
                assert_never(event)

    def _reopened(self, reason: str) -> TicketReopened:
        return TicketReopened(reason=reason, customer_id=self.customer_id)

    def _begun_again(self) -> list[TicketEvent]:
        is_done = self.status in (Status.RESOLVED, Status.CLOSED)
        return [self._reopened("work went on")] if is_done else []

    def _refuse_if_closed(self) -> None:
        if self.status is Status.CLOSED:
            raise TicketIsClosed

    def _refuse_if_not_with(self, technician: str) -> None:
        self._refuse_if_closed()
        if self.technician is None:
            raise TicketUndispatched
        if self.technician != technician:
            raise TicketElsewhere


def _repeats(known: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    """Whether the same is said as was before, no more and no less."""
    return known.keys() == said.keys() and stands(known, said)
