"""An amount goes to an order of its own currency only, whoever placed the order, and whenever."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import pytest

from commands.handling.deciding import Decider
from commands.handling.request import Request
from commands.handling.writer import Writer
from tests.commands.making import (
    Fate,
    count_outcomes,
    fragile,
    handle,
    register,
    request,
    tell,
    types_of,
    writer_on,
)

CUSTOMER = uuid4()
REMEMBERED = [0, 50_000]
KINDS = ["money", "credit-note"]


def money(amount: str, currency: str = "EUR") -> dict[str, str]:
    return {"amount": amount, "currency": currency}


def place(order: UUID, currency: str = "EUR") -> Request:
    data = {"customer_id": str(CUSTOMER), "amount": money("100", currency)}
    return request("orders/place", data, of=order)


def parts(*orders: UUID, currency: str = "EUR") -> list[dict[str, Any]]:
    return [{"order_id": str(order), "amount": money("10", currency)} for order in orders]


def receive(payment: UUID, *orders: UUID, kind: str = "money", currency: str = "EUR") -> Request:
    data = {
        "customer_id": str(CUSTOMER),
        "kind": kind,
        "amount": money("50", currency),
        "allocations": parts(*orders, currency=currency),
    }
    return request("payments/receive", data, of=payment)


def allocate(payment: UUID, *orders: UUID, currency: str = "EUR") -> Request:
    data = {"allocations": parts(*orders, currency=currency)}
    return request("payments/allocate", data, of=payment)


def stock(writer: Writer, **orders: UUID) -> None:
    """A customer, and an order in each of these currencies."""
    tell(writer, register(CUSTOMER))
    for currency, order in orders.items():
        assert tell(writer, place(order, currency)).status == 201


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("remembered", REMEMBERED)
@pytest.mark.parametrize("placed_by", ["the same process", "another process"])
def test_what_comes_in_is_not_allocated_to_an_order_in_another_currency(
    ledger_url: str, kind: str, remembered: int, placed_by: str
) -> None:
    euros, dollars, payment = uuid4(), uuid4(), uuid4()
    with (
        writer_on(ledger_url, remembered=remembered) as writer,
        writer_on(ledger_url) as other,
    ):
        stock(writer if placed_by == "the same process" else other, EUR=euros, USD=dollars)
        answer = tell(writer, receive(payment, euros, dollars, kind=kind))
        assert (answer.status, answer.body["rule"]) == (409, "OrderInOtherCurrency")
        assert answer.body["fields"] == ["allocations.1.order_id"]
        assert types_of(ledger_url, payment) == []
        assert tell(writer, receive(payment, euros, kind=kind)).status == 201
        answer = tell(writer, allocate(payment, dollars))
        assert (answer.status, answer.body["rule"]) == (409, "OrderInOtherCurrency")
        assert answer.body["fields"] == ["allocations.0.order_id"]
        assert tell(writer, allocate(payment, euros)).status == 200


@pytest.mark.parametrize("others", range(8, 14))
def test_an_order_that_was_nearly_forgotten_is_paid(ledger_url: str, others: int) -> None:
    """Of ten streams a process knows what never changes, of one the state."""
    order = uuid4()
    with writer_on(ledger_url, remembered=1) as writer:
        stock(writer, EUR=order)
        for _ in range(others):
            assert tell(writer, register(uuid4())).status == 201
        assert tell(writer, receive(uuid4(), order)).status == 201
        assert tell(writer, receive(uuid4(), order, currency="USD")).status == 409


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("remembered", REMEMBERED)
@pytest.mark.parametrize(
    ("currency", "status", "rule"), [("EUR", 201, None), ("USD", 409, "OrderInOtherCurrency")]
)
def test_an_order_placed_meanwhile_is_held_against_its_currency(
    ledger_url: str, kind: str, remembered: int, currency: str, status: int, rule: str | None
) -> None:
    order, payment, fate = uuid4(), uuid4(), Fate()
    with (
        writer_on(ledger_url, connect=fragile(ledger_url, fate), remembered=remembered) as one,
        writer_on(ledger_url) as other,
    ):
        stock(other)
        fate.meanwhile.append(lambda: stock(other, **{currency: order}))
        answer = tell(one, receive(payment, order, kind=kind))
    assert (answer.status, answer.body.get("rule")) == (status, rule)


@pytest.mark.parametrize("remembered", REMEMBERED)
def test_an_order_placed_in_the_same_call_is_held_against_its_currency(
    ledger_url: str, remembered: int
) -> None:
    order = uuid4()
    with writer_on(ledger_url, remembered=remembered) as writer:
        stock(writer)
        answers = handle(
            writer,
            [
                place(order, "USD"),
                receive(uuid4(), order),
                receive(uuid4(), order, currency="USD"),
            ],
        )
    assert [answer.status for answer in answers] == [201, 409, 201]
    assert answers[1].body["rule"] == "OrderInOtherCurrency"


def test_the_rules_of_the_payment_itself_come_first(ledger_url: str) -> None:
    euros, dollars, payment, nobody = uuid4(), uuid4(), uuid4(), uuid4()
    with writer_on(ledger_url) as writer:
        stock(writer, EUR=euros, USD=dollars)
        tell(writer, receive(payment))
        asked = [allocate(payment, dollars, currency="USD"), allocate(payment, *[dollars] * 6)]
        asked += [allocate(payment, dollars, nobody)]
        rules = [tell(writer, one).body["rule"] for one in asked]
    assert rules == ["CurrencyDiffers", "AllocationTooLarge", "OrderUnknown"]


def test_what_an_earlier_version_allocated_can_still_be_released_and_refunded(
    ledger_url: str,
) -> None:
    dollars, payment = uuid4(), uuid4()
    with writer_on(ledger_url) as earlier:
        stock(earlier, USD=dollars)
        with patch.object(Decider, "_refuse_other_currencies"):
            assert tell(earlier, receive(payment, dollars)).status == 201
    part = {"order_id": str(dollars), "amount": money("4")}
    with writer_on(ledger_url) as writer:
        for command in ("payments/release", "payments/refund"):
            assert tell(writer, request(command, part, of=payment)).status == 200
        assert tell(writer, allocate(payment, dollars)).status == 409
    assert types_of(ledger_url, payment) == [
        "payment.received",
        "payment.allocated",
        "payment.allocation-released",
        "payment.refunded",
    ]
    assert count_outcomes(ledger_url) == 6
