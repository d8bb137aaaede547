from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from pydantic import ValidationError

from aggregates.base import CurrencyDiffers, Refused
from aggregates.payment import AllocationTooLarge, Payment, RefundTooLarge, ReleaseTooLarge
from commands.payment import (
    AllocatePayment,
    AllocationAsked,
    ReceivePayment,
    RefundPayment,
    ReleaseAllocation,
)
from events.payment import (
    AllocationReleased,
    CreditNoteIssued,
    PaymentAllocated,
    PaymentReceived,
    PaymentRefunded,
)
from events.values import Money
from tests.aggregates.scenario import eur, given

CUSTOMER, ONE, OTHER = UUID(int=7), UUID(int=11), UUID(int=12)
received = PaymentReceived(customer_id=CUSTOMER, amount=eur("100.00"))


def part(order_id: UUID, amount: str) -> AllocationAsked:
    return AllocationAsked(order_id=order_id, amount=eur(amount))


def allocated(order_id: UUID, amount: str) -> PaymentAllocated:
    return PaymentAllocated(order_id=order_id, amount=eur(amount))


def test_one_receipt_may_pay_several_orders() -> None:
    allocations = (part(ONE, "60"), part(OTHER, "40"))
    given().when(
        ReceivePayment(
            customer_id=CUSTOMER, amount=eur("100"), allocations=allocations, reference="HQ336336"
        )
    ).then(
        PaymentReceived(customer_id=CUSTOMER, amount=eur("100.00"), reference="HQ336336"),
        allocated(ONE, "60.00"),
        allocated(OTHER, "40.00"),
    )


def test_a_credit_note_is_allocated_like_money_and_never_beyond_it() -> None:
    note = CreditNoteIssued(customer_id=CUSTOMER, amount=eur("100.00"), note="a loom came back")
    asked = {"customer_id": CUSTOMER, "amount": eur("100"), "kind": "credit-note"}
    given().when(
        ReceivePayment(**asked, note="a loom came back", allocations=(part(ONE, "60"),))
    ).then(note, allocated(ONE, "60.00"))
    given(note, allocated(ONE, "60.00")).when(RefundPayment(amount=eur("40.01"))).refused(
        RefundTooLarge
    )


def test_what_is_for_no_order_is_credit_and_can_be_allocated_later() -> None:
    given().when(ReceivePayment(customer_id=CUSTOMER, amount=eur("100"))).then(received)
    given(received).when(AllocatePayment(allocations=(part(ONE, "30"),))).then(
        allocated(ONE, "30.00")
    )


def test_no_cent_more_is_allocated_than_came_in() -> None:
    too_much = (part(ONE, "60"), part(ONE, "40.01"))
    given().when(
        ReceivePayment(customer_id=CUSTOMER, amount=eur("100"), allocations=too_much)
    ).refused(AllocationTooLarge)
    given(received, allocated(ONE, "99.99")).when(
        AllocatePayment(allocations=(part(OTHER, "0.02"),))
    ).refused(AllocationTooLarge)


def test_an_allocation_can_be_released() -> None:
    release = ReleaseAllocation(order_id=ONE, amount=eur("40"))
    released = AllocationReleased(order_id=ONE, amount=eur("40.00"))
    given(received, allocated(ONE, "60")).when(release).then(released)
    given(received, allocated(ONE, "60"), released).when(release).refused(ReleaseTooLarge)
    given(received, allocated(OTHER, "60")).when(release).refused(ReleaseTooLarge)
    given(received, allocated(ONE, "100"), released).when(
        AllocatePayment(allocations=(part(OTHER, "40"),))
    ).then(allocated(OTHER, "40.00"))


def test_money_goes_back_of_the_credit_or_of_an_order() -> None:
    past = (received, allocated(ONE, "60"))
    of_credit = PaymentRefunded(amount=eur("40.00"), reason="too much", customer_id=CUSTOMER)
    of_order = PaymentRefunded(amount=eur("60.00"), order_id=ONE, customer_id=CUSTOMER)
    given(*past).when(RefundPayment(amount=eur("40"), reason="too much")).then(of_credit)
    given(*past).when(RefundPayment(amount=eur("60"), order_id=ONE)).then(of_order)
    given(*past, of_credit).when(RefundPayment(amount=eur("0.01"))).refused(RefundTooLarge)
    given(*past, of_order).when(RefundPayment(amount=eur("0.01"), order_id=ONE)).refused(
        RefundTooLarge
    )
    given(*past).when(RefundPayment(amount=eur("0.01"), order_id=OTHER)).refused(RefundTooLarge)


def test_everything_is_in_the_currency_that_came_in() -> None:
    yen = Money.model_validate({"amount": "5", "currency": "JPY"})
    for command in (
        AllocatePayment(allocations=(AllocationAsked(order_id=ONE, amount=yen),)),
        ReleaseAllocation(order_id=ONE, amount=yen),
        RefundPayment(amount=yen),
    ):
        given(received).when(command).refused(CurrencyDiffers)


@pytest.mark.parametrize("model", [RefundPayment, AllocationAsked, ReceivePayment])
def test_nothing_is_no_payment(model: Any) -> None:
    with pytest.raises(ValidationError, match="more than 0"):
        model(amount=eur("0"), order_id=ONE, customer_id=CUSTOMER)


AMOUNTS = st.integers(1, 15_000).map(lambda cents: eur(str(Decimal(cents) / 100)))
ORDERS = st.sampled_from([ONE, OTHER])
COMMANDS = st.one_of(
    st.builds(
        lambda order, amount: AllocatePayment(
            allocations=(AllocationAsked(order_id=order, amount=amount),)
        ),
        ORDERS,
        AMOUNTS,
    ),
    st.builds(ReleaseAllocation, order_id=ORDERS, amount=AMOUNTS),
    st.builds(RefundPayment, order_id=st.none() | ORDERS, amount=AMOUNTS),
)


@for_all(st.lists(COMMANDS, max_size=30))
def test_no_cent_is_made_or_lost(commands: list[Any]) -> None:
    payment, refunded = Payment().evolve(received), Decimal(0)
    for command in commands:
        try:
            events = command.decide(payment, None)
        except Refused:
            continue
        for event in events:
            payment = payment.evolve(event)
            refunded += event.amount.amount if isinstance(event, PaymentRefunded) else 0
        assert payment.credit >= 0
        assert all(amount >= 0 for amount in payment.allocated.values())
        assert payment.credit + sum(payment.allocated.values()) + refunded == 100
