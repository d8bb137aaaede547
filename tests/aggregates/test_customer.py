from datetime import date
from functools import reduce
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aggregates.base import Refused
from aggregates.customer import (
    ContactExists,
    ContactUnknown,
    Customer,
    CustomerOwned,
    CustomerUnowned,
    PromiseExists,
    PromiseSettled,
    PromiseUnknown,
)
from commands.base import Command
from commands.catalog import CATALOG
from commands.customer import (
    AddContact,
    BreakPromise,
    ChangeCustomerDetails,
    ClaimCustomer,
    HandOverCustomer,
    KeepPromise,
    LogInteraction,
    MakePromise,
    RegisterCustomer,
    ReleaseCustomer,
    TagCustomer,
    UntagCustomer,
    WithdrawPromise,
)
from events.customer import (
    Channel,
    ContactAdded,
    CustomerClaimed,
    CustomerDetailsChanged,
    CustomerHandedOver,
    CustomerKind,
    CustomerRegistered,
    CustomerReleased,
    CustomerTagged,
    CustomerUntagged,
    InteractionLogged,
    PromiseBroken,
    PromiseKept,
    PromiseMade,
    PromiseWithdrawn,
)
from tests.aggregates.scenario import context, eur, fold, fresh, given

GRACE, DUE = UUID(int=70), date(2026, 4, 1)
PROMISE, OTHER = UUID(int=80), UUID(int=81)
DETAILS: dict[str, Any] = {
    "name": "Acme GmbH",
    "kind": CustomerKind.PARTNER,
    "email": "office@acme.example",
    "phone": "+49 30 1",
    "address": "Hauptstr. 1\nBerlin",
    "note": "pays late",
    "industry": "tools",
    "region": "north",
    "website": "acme.example",
    "source": "fair",
    "parent": "Acme Holding",
    "founded": 1949,
    "employees": 12,
    "annual_revenue": eur("1000000"),
}

registered = CustomerRegistered(name="Acme GmbH")
claimed = CustomerClaimed(owner="ada")
grace = ContactAdded(contact_id=GRACE, name="Grace")
made = PromiseMade(promise_id=PROMISE, promised_by="ada", what="a refund")
kept = PromiseKept(promise_id=PROMISE)
broken = PromiseBroken(promise_id=PROMISE, reason="forgotten")
withdrawn = PromiseWithdrawn(promise_id=PROMISE, reason="they changed their mind")
settled = pytest.mark.parametrize("how", [kept, broken, withdrawn], ids=lambda e: e.event_type)


def test_a_customer_is_registered_with_all_that_is_known() -> None:
    given().when(RegisterCustomer(**DETAILS, owner="bob")).then(
        CustomerRegistered(**DETAILS, owner="bob")
    )


def test_a_customer_needs_no_more_than_a_name() -> None:
    given().when(RegisterCustomer(name="Acme GmbH")).then(registered)


def test_details_given_hold_from_now_on() -> None:
    given(registered).when(ChangeCustomerDetails(**DETAILS)).then(CustomerDetailsChanged(**DETAILS))


def test_details_not_given_are_left_alone() -> None:
    given(registered).when(ChangeCustomerDetails(region="south")).then(
        CustomerDetailsChanged(region="south")
    )


def test_a_change_of_nothing_is_malformed() -> None:
    with pytest.raises(ValidationError, match="at least one detail"):
        ChangeCustomerDetails()


def test_a_customer_bears_tags() -> None:
    given(registered, CustomerTagged(tag="vip")).when(TagCustomer(tag=" value seeker ")).then(
        CustomerTagged(tag="value seeker")
    )
    given(registered, CustomerTagged(tag="vip")).when(UntagCustomer(tag="vip")).then(
        CustomerUntagged(tag="vip")
    )


def test_a_tag_given_or_taken_away_twice_is_nothing_new() -> None:
    given(registered, CustomerTagged(tag="vip")).when(TagCustomer(tag="vip")).nothing()
    given(registered).when(UntagCustomer(tag="vip")).nothing()
    given(registered, CustomerTagged(tag="vip"), CustomerUntagged(tag="vip")).when(
        UntagCustomer(tag="vip")
    ).nothing()


def test_a_person_speaks_for_the_customer() -> None:
    command = AddContact(name="Grace", email="g@acme.example", phone="1", title="Dr", role="buyer")
    given(registered).when(command).then(
        ContactAdded(
            contact_id=fresh(1),
            name="Grace",
            email="g@acme.example",
            phone="1",
            title="Dr",
            role="buyer",
        )
    )


def test_a_contact_may_bring_an_id_of_its_own() -> None:
    given(registered).when(AddContact(contact_id=GRACE, name="Grace")).then(grace)


def test_a_contacts_id_is_taken_once() -> None:
    given(registered, grace).when(AddContact(contact_id=GRACE, name="G")).refused(ContactExists)


def test_whoever_claims_a_customer_from_the_sea_owns_it() -> None:
    given(registered).when(ClaimCustomer(), by="ada").then(claimed)


def test_claiming_ones_own_customer_changes_nothing() -> None:
    given(registered, claimed).when(ClaimCustomer(), by="ada").nothing()


def test_a_customer_of_another_rep_cannot_be_claimed() -> None:
    given(registered, claimed).when(ClaimCustomer(), by="bob").refused(CustomerOwned)


def test_a_customer_registered_for_a_rep_is_theirs_from_the_start() -> None:
    theirs = CustomerRegistered(name="Acme", owner="bob")
    given(theirs).when(ClaimCustomer(), by="ada").refused(CustomerOwned)


def test_a_customer_goes_back_to_the_sea_with_a_reason() -> None:
    given(registered, claimed).when(ReleaseCustomer(reason="no time")).then(
        CustomerReleased(previous_owner="ada", reason="no time")
    )


def test_a_released_customer_can_be_claimed_by_another() -> None:
    back = CustomerReleased(previous_owner="ada", reason="no time")
    given(registered, claimed, back).when(ClaimCustomer(), by="bob").then(
        CustomerClaimed(owner="bob")
    )


def test_a_customer_in_the_sea_cannot_be_released() -> None:
    given(registered).when(ReleaseCustomer(reason="no time")).refused(CustomerUnowned)


def test_a_customer_is_handed_over_to_another_rep() -> None:
    given(registered, claimed).when(HandOverCustomer(owner="bob", reason="on leave")).then(
        CustomerHandedOver(previous_owner="ada", owner="bob", reason="on leave")
    )


def test_a_customer_handed_over_belongs_to_the_other() -> None:
    over = CustomerHandedOver(previous_owner="ada", owner="bob")
    given(registered, claimed, over).when(ClaimCustomer(), by="ada").refused(CustomerOwned)


def test_handing_a_customer_to_its_owner_changes_nothing() -> None:
    given(registered, claimed).when(HandOverCustomer(owner="ada")).nothing()


def test_a_customer_in_the_sea_cannot_be_handed_over() -> None:
    given(registered).when(HandOverCustomer(owner="bob")).refused(CustomerUnowned)


def test_an_interaction_is_remembered() -> None:
    fields = {
        "channel": Channel.CALL,
        "summary": "asked for\na refund",
        "contact_id": GRACE,
        "inbound": True,
        "minutes": 12,
    }
    given(registered, grace).when(LogInteraction(**fields)).then(InteractionLogged(**fields))


def test_an_interaction_needs_no_contact() -> None:
    given(registered).when(LogInteraction(channel="letter", summary="a card")).then(
        InteractionLogged(channel=Channel.LETTER, summary="a card")
    )


def test_an_interaction_with_a_stranger_is_refused() -> None:
    command = LogInteraction(channel="call", summary="hello", contact_id=GRACE)
    given(registered).when(command).refused(ContactUnknown)


def test_the_actor_gives_the_word_unless_another_is_named() -> None:
    given(registered).when(MakePromise(what="a refund"), by="bob").then(
        PromiseMade(promise_id=fresh(1), promised_by="bob", what="a refund")
    )


def test_a_promise_says_who_what_until_when_and_how_much() -> None:
    fields: dict[str, Any] = {
        "promise_id": PROMISE,
        "promised_by": "carol",
        "what": "a refund",
        "due": DUE,
        "topic": "invoice 7",
        "amount": eur("99.90"),
        "contact_id": GRACE,
    }
    given(registered, grace).when(MakePromise(**fields)).then(PromiseMade(**fields))


def test_a_promises_id_is_taken_once() -> None:
    command = MakePromise(promise_id=PROMISE, what="a refund")
    given(registered, made).when(command).refused(PromiseExists)


@settled
def test_the_id_of_a_settled_promise_stays_taken(how: Any) -> None:
    command = MakePromise(promise_id=PROMISE, what="a refund")
    given(registered, made, how).when(command).refused(PromiseExists)


def test_a_promise_to_a_stranger_is_refused() -> None:
    command = MakePromise(what="a refund", contact_id=GRACE)
    given(registered).when(command).refused(ContactUnknown)


def test_an_open_promise_is_kept() -> None:
    command = KeepPromise(promise_id=PROMISE, note="transferred today")
    given(registered, made).when(command).then(
        PromiseKept(promise_id=PROMISE, note="transferred today")
    )


def test_an_open_promise_is_broken_with_a_reason() -> None:
    command = BreakPromise(promise_id=PROMISE, reason="forgotten")
    given(registered, made).when(command).then(broken)


def test_an_open_promise_is_withdrawn_with_a_reason() -> None:
    command = WithdrawPromise(promise_id=PROMISE, reason="they changed their mind")
    given(registered, made).when(command).then(withdrawn)


SETTLING = [
    KeepPromise(promise_id=PROMISE),
    BreakPromise(promise_id=PROMISE, reason="forgotten"),
    WithdrawPromise(promise_id=PROMISE, reason="they changed their mind"),
]
settling = pytest.mark.parametrize("command", SETTLING, ids=lambda c: type(c).__name__)


@settling
def test_a_promise_never_made_cannot_be_settled(command: Command[Any, Any]) -> None:
    given(registered).when(command).refused(PromiseUnknown)


@settled
@settling
def test_a_promise_is_settled_once(command: Command[Any, Any], how: Any) -> None:
    given(registered, made, how).when(command).refused(PromiseSettled)


@settling
def test_settling_one_promise_leaves_the_other_open(command: Command[Any, Any]) -> None:
    other = made.model_copy(update={"promise_id": OTHER})
    streams = CATALOG["customers"]
    before = fold(streams, [registered, made, other])
    after = reduce(streams.evolve, command.decide(before, context(streams)), before)
    assert after.promises == {PROMISE: False, OTHER: True}


ids = st.sampled_from([PROMISE, OTHER])
commands = st.one_of(
    st.builds(MakePromise, promise_id=ids, what=st.just("a refund"), contact_id=st.none()),
    st.builds(KeepPromise, promise_id=ids, note=st.none()),
    st.builds(BreakPromise, promise_id=ids, reason=st.just("forgotten")),
    st.builds(WithdrawPromise, promise_id=ids, reason=st.just("not needed")),
    st.just(ClaimCustomer()),
    st.just(ReleaseCustomer(reason="no time")),
    st.builds(HandOverCustomer, owner=st.sampled_from(["ada", "bob"]), reason=st.none()),
    st.just(LogInteraction(channel="call", summary="hello")),
    st.just(ChangeCustomerDetails(region="south")),
)
asked_by_some = st.lists(st.tuples(commands, st.sampled_from(["ada", "bob"])), max_size=40)


def histories(asked: list[tuple[Any, str]]) -> list[tuple[Customer, list[Any]]]:
    """Each accepted command's events, with the state before them."""
    streams = CATALOG["customers"]
    customer = fold(streams, [registered])
    steps = []
    for command, by in asked:
        try:
            decided = command.decide(customer, context(streams, by))
        except Refused:
            continue
        steps.append((customer, decided))
        customer = reduce(streams.evolve, decided, customer)
    return [*steps, (customer, [])]


@settings(deadline=None)
@for_all(asked_by_some)
def test_a_settled_promise_never_opens_again(asked: list[tuple[Any, str]]) -> None:
    settled_ones: set[UUID] = set()
    for customer, decided in histories(asked):
        assert all(customer.promises[promise] is False for promise in settled_ones)
        for event in decided:
            if isinstance(event, PromiseKept | PromiseBroken | PromiseWithdrawn):
                assert event.promise_id not in settled_ones
                settled_ones.add(event.promise_id)


@settings(deadline=None)
@for_all(asked_by_some)
def test_a_customer_has_one_owner_and_changes_hands_knowingly(
    asked: list[tuple[Any, str]],
) -> None:
    for customer, decided in histories(asked):
        for event in decided:
            match event:
                case CustomerClaimed():
                    assert customer.owner is None
                case CustomerReleased():
                    assert event.previous_owner == customer.owner
                case CustomerHandedOver():
                    assert event.previous_owner == customer.owner != event.owner
