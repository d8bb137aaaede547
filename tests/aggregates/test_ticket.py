from uuid import UUID

import pytest
from pydantic import ValidationError

from aggregates.ticket import (
    ComplaintUnresolved,
    ComplaintUnsatisfied,
    TicketElsewhere,
    TicketIsClosed,
    TicketStillOpen,
    TicketUndispatched,
    TicketUnresolved,
)
from commands.ticket import (
    ClassifyTicket,
    CloseTicket,
    ConfirmDispatch,
    DeclineDispatch,
    DispatchTicket,
    EscalateTicket,
    LetTicketWait,
    LogWork,
    NoteOnTicket,
    OpenTicket,
    RateTicket,
    ReopenTicket,
    ReplyToTicket,
    ResolveTicket,
    TakeTicket,
)
from events.customer import Channel
from events.ticket import (
    DispatchConfirmed,
    DispatchDeclined,
    Priority,
    TicketClassified,
    TicketClosed,
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
from tests.aggregates.scenario import given

ANN = UUID(int=7)
opened = TicketOpened(subject="It squeaks", customer_id=ANN)
to_bob = TicketDispatched(technician="bob")
by_bob = DispatchConfirmed(technician="bob")
resolved = TicketResolved(customer_id=ANN)
closed = TicketClosed()
again = TicketReopened(reason="work went on", customer_id=ANN)


def test_a_ticket_says_who_needs_what() -> None:
    asked = OpenTicket(
        subject="It squeaks",
        text="Since Monday.",
        customer_id=ANN,
        channel=Channel.CALL,
        kind=TicketKind.REPAIR,
        priority=Priority.HIGH,
    )
    given().when(asked).then(
        TicketOpened(
            subject="It squeaks",
            text="Since Monday.",
            customer_id=ANN,
            channel=Channel.CALL,
            kind=TicketKind.REPAIR,
            priority=Priority.HIGH,
        )
    )


def test_a_ticket_is_dispatched_and_confirmed_by_whoever_was_named() -> None:
    given(opened).when(DispatchTicket(technician="bob")).then(to_bob)
    given(opened, to_bob).when(DispatchTicket(technician="bob")).nothing()
    given(opened, to_bob).when(ConfirmDispatch(), by="bob").then(by_bob)
    given(opened, to_bob, by_bob).when(ConfirmDispatch(), by="bob").nothing()
    given(opened, to_bob).when(ConfirmDispatch(), by="eve").refused(TicketElsewhere)
    given(opened).when(ConfirmDispatch(), by="bob").refused(TicketUndispatched)


def test_a_technician_may_say_no_even_after_yes() -> None:
    no = DispatchDeclined(technician="bob", reason="no parts", customer_id=ANN)
    given(opened, to_bob, by_bob).when(DeclineDispatch(reason="no parts"), by="bob").then(no)
    given(opened, to_bob, no).when(ConfirmDispatch(), by="bob").refused(TicketUndispatched)
    given(opened, to_bob, no).when(DispatchTicket(technician="bob")).then(to_bob)


def test_another_technician_begins_unconfirmed() -> None:
    to_eve = TicketDispatched(technician="eve")
    given(opened, to_bob, by_bob).when(DispatchTicket(technician="eve")).then(to_eve)
    given(opened, to_bob, by_bob, to_eve).when(ConfirmDispatch(), by="bob").refused(TicketElsewhere)


def test_whoever_takes_a_ticket_has_it() -> None:
    given(opened).when(TakeTicket(), by="bob").then(to_bob, by_bob)
    given(opened, to_bob).when(TakeTicket(), by="bob").then(by_bob)


def test_what_is_said_and_done_is_kept() -> None:
    given(opened).when(ReplyToTicket(text="We come.")).then(
        TicketReplied(text="We come.", customer_id=ANN)
    )
    given(opened).when(NoteOnTicket(text="Bring oil.")).then(
        TicketNoted(text="Bring oil.", customer_id=ANN)
    )
    given(opened).when(LogWork(minutes=90, text="Oiled it.")).then(
        WorkLogged(minutes=90, text="Oiled it.", customer_id=ANN)
    )
    given(opened).when(LetTicketWait(reason="parts")).then(
        TicketWaiting(reason="parts", customer_id=ANN)
    )
    given(opened).when(EscalateTicket(reason="no answer")).then(
        TicketEscalated(reason="no answer", customer_id=ANN)
    )
    given(opened).when(ClassifyTicket(priority=Priority.LOW)).then(
        TicketClassified(priority=Priority.LOW)
    )


def test_a_ticket_is_resolved_rated_and_closed() -> None:
    given(opened).when(ResolveTicket()).then(resolved)
    given(opened).when(RateTicket(score=5)).refused(TicketUnresolved)
    given(opened, resolved).when(RateTicket(score=5, text="Fine.")).then(
        TicketRated(score=5, text="Fine.", customer_id=ANN)
    )
    given(opened, resolved).when(CloseTicket()).then(closed)
    given(opened, resolved, closed).when(CloseTicket()).refused(TicketIsClosed)
    given(opened, to_bob, closed).when(ConfirmDispatch(), by="bob").refused(TicketIsClosed)


def test_a_complaint_is_closed_only_when_it_is_resolved() -> None:
    complaint = TicketClassified(kind=TicketKind.COMPLAINT)
    given(opened, complaint).when(CloseTicket()).refused(ComplaintUnresolved)
    given(opened, complaint, resolved).when(CloseTicket()).then(closed)
    unhappy = TicketReplied(text="No!", inbound=True)
    given(opened, complaint, resolved, unhappy).when(CloseTicket()).refused(ComplaintUnresolved)


def test_a_ticket_can_be_reopened() -> None:
    given(opened).when(ReopenTicket(reason="still squeaks")).refused(TicketStillOpen)
    for past in ([resolved], [resolved, closed]):
        given(opened, *past).when(ReopenTicket(reason="still squeaks")).then(
            TicketReopened(reason="still squeaks", customer_id=ANN)
        )


def test_work_begins_a_closed_ticket_again() -> None:
    past = (opened, to_bob, by_bob, closed)
    given(*past).when(TakeTicket(), by="bob").then(again, by_bob)
    given(*past).when(TakeTicket(), by="eve").then(
        again, TicketDispatched(technician="eve"), DispatchConfirmed(technician="eve")
    )
    given(*past).when(ResolveTicket()).then(again, resolved)
    given(*past).when(LetTicketWait()).then(again, TicketWaiting(customer_id=ANN))
    given(*past).when(ReplyToTicket(text="Hello?", inbound=True)).then(
        again, TicketReplied(text="Hello?", inbound=True, customer_id=ANN)
    )


def test_every_act_of_work_brings_a_resolved_ticket_back() -> None:
    past = (opened, to_bob, by_bob, resolved)
    to_eve = TicketDispatched(technician="eve")
    given(*past).when(DispatchTicket(technician="eve")).then(again, to_eve)
    given(*past).when(TakeTicket(), by="bob").then(again, by_bob)
    given(*past).when(LetTicketWait()).then(again, TicketWaiting(customer_id=ANN))
    given(*past).when(EscalateTicket(reason="no")).then(
        again, TicketEscalated(reason="no", customer_id=ANN)
    )
    reply = TicketReplied(text="Hello?", inbound=True, customer_id=ANN)
    given(*past).when(ReplyToTicket(text="Hello?", inbound=True)).then(again, reply)
    given(*past, again, reply).when(ReopenTicket(reason="r")).refused(TicketStillOpen)
    given(*past).when(ResolveTicket()).then(resolved)


@pytest.mark.parametrize("before", [[TicketWaiting()], [resolved], [resolved, closed]])
def test_the_status_is_what_the_last_act_made_of_it(before: list[TicketEvent]) -> None:
    """Also of events that were recorded without a reopening."""
    for act in (TicketDispatched(technician="eve"), TicketEscalated(reason="r")):
        given(opened, *before, act).when(ReopenTicket(reason="r")).refused(TicketStillOpen)


def test_a_complaint_goes_on_until_the_customer_is_satisfied() -> None:
    complaint = TicketOpened(subject="It squeaks", kind=TicketKind.COMPLAINT)
    for score in (1, 2):
        bad = TicketRated(score=score)
        given(complaint, resolved, bad).when(CloseTicket()).refused(ComplaintUnsatisfied)
        given(complaint, resolved, bad, resolved).when(CloseTicket()).then(closed)
        better = TicketRated(score=3)
        given(complaint, resolved, bad, better).when(CloseTicket()).then(closed)
        given(opened, resolved, bad).when(CloseTicket()).then(closed)


def test_classifying_as_it_is_classified_changes_nothing() -> None:
    pump = TicketClassified(kind=TicketKind.COMPLAINT, product="Pump")
    given(opened, pump).when(ClassifyTicket(kind=TicketKind.COMPLAINT)).then()
    given(opened, pump).when(ClassifyTicket(product="Pump", priority=Priority.NORMAL)).then()
    given(opened, pump).when(ClassifyTicket(product="Valve")).then(
        TicketClassified(product="Valve")
    )


def test_what_is_only_kept_leaves_a_ticket_closed() -> None:
    given(opened, closed).when(NoteOnTicket(text="Ask in May.")).then(
        TicketNoted(text="Ask in May.", customer_id=ANN)
    )
    given(opened, closed).when(LogWork(minutes=5)).then(WorkLogged(minutes=5, customer_id=ANN))


@pytest.mark.parametrize("score", [0, 6, True, "5"])
def test_a_score_is_1_to_5(score: object) -> None:
    with pytest.raises(ValidationError):
        RateTicket.model_validate({"score": score})
