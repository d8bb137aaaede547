"""An order names a deal of its own customer that is not lost, as the deal stands at that moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest

from aggregates.opportunity import Opportunity, OpportunityIsLost
from aggregates.order import Order
from commands.base import Command, Condition, Reference
from commands.handling.request import Request
from commands.handling.writer import Writer
from events.envelope import Actor
from events.order import OrderEvent
from tests.commands.making import (
    Fate,
    fragile,
    handle,
    register,
    request,
    tell,
    types_of,
    writer_on,
)

ANN, BEN = uuid4(), uuid4()
REMEMBERED = [0, 50_000]


def open_(deal: UUID, customer: UUID | None = ANN) -> Request:
    data = {"title": "Looms"} | ({} if customer is None else {"customer_id": str(customer)})
    return request("opportunities/open", data, of=deal)


def place(deal: UUID, customer: UUID = ANN, of: UUID | None = None) -> Request:
    amount = {"amount": "100", "currency": "EUR"}
    data = {"customer_id": str(customer), "opportunity_id": str(deal), "amount": amount}
    return request("orders/place", data, of=of)


def lose(deal: UUID) -> Request:
    return request("opportunities/lose", {"reason": "price"}, of=deal)


def win(deal: UUID) -> Request:
    return request("opportunities/win", {}, of=deal)


def reopen(deal: UUID) -> Request:
    return request("opportunities/reopen", {"reason": "they called"}, of=deal)


def identify(deal: UUID, customer: UUID) -> Request:
    return request("opportunities/identify-customer", {"customer_id": str(customer)}, of=deal)


def stock(writer: Writer, *more: Request) -> None:
    for asked in (register(ANN), register(BEN), *more):
        assert tell(writer, asked).status < 300


def outcomes(writer: Writer, *asked: Request) -> list[Any]:
    return [a.body.get("rule", a.status) for a in handle(writer, list(asked))]


@pytest.mark.parametrize("remembered", REMEMBERED)
@pytest.mark.parametrize("opened_by", ["the same process", "another process"])
def test_an_order_that_names_another_customers_deal_or_a_lost_one_is_refused(
    ledger_url: str, remembered: int, opened_by: str
) -> None:
    ours, lost, order = uuid4(), uuid4(), uuid4()
    with (
        writer_on(ledger_url, remembered=remembered) as writer,
        writer_on(ledger_url) as other,
    ):
        one = writer if opened_by == "the same process" else other
        stock(one, open_(ours), open_(lost), lose(lost))
        answer = tell(writer, place(ours, BEN, of=order))
        assert (answer.status, answer.body["rule"]) == (409, "OpportunityOfAnotherCustomer")
        assert answer.body["fields"] == ["opportunity_id"]
        answer = tell(writer, place(lost, of=order))
        assert (answer.status, answer.body["rule"]) == (409, "OpportunityIsLost")
        assert answer.body["fields"] == ["opportunity_id"]
        assert types_of(ledger_url, order) == []
        assert tell(writer, place(ours, of=order)).status == 201


def test_a_deal_that_is_open_won_reopened_or_of_nobody_yet_may_be_named(ledger_url: str) -> None:
    won, again, nobodys = uuid4(), uuid4(), uuid4()
    with writer_on(ledger_url) as writer:
        stock(writer, open_(won), win(won), open_(again), lose(again), reopen(again))
        stock_more = [open_(nobodys, None), place(nobodys, BEN), identify(nobodys, BEN)]
        assert outcomes(writer, *stock_more) == [201, 201, 200]
        asked = [place(won), place(again), place(nobodys, BEN), place(nobodys, ANN)]
        assert outcomes(writer, *asked) == [201, 201, 201, "OpportunityOfAnotherCustomer"]


def test_a_deal_that_is_lost_later_changes_nothing_of_its_order(ledger_url: str) -> None:
    deal, order = uuid4(), uuid4()
    with writer_on(ledger_url) as writer:
        stock(writer, open_(deal), place(deal, of=order), lose(deal))
        assert tell(writer, request("orders/ship", {}, of=order)).status == 200
    assert types_of(ledger_url, order) == ["order.placed", "order.shipped"]


def test_an_order_that_is_imported_as_history_may_name_any_deal(ledger_url: str) -> None:
    deal = uuid4()
    with writer_on(ledger_url) as writer:
        stock(writer, open_(deal), lose(deal))
        for customer in (ANN, BEN):
            asked = place(deal, customer)
            history = Request(
                **{
                    name: getattr(asked, name)
                    for name in ("name", "streams", "command", "stream_id", "key", "body_hash")
                },
                actor=Actor("import", "import"),
                command_id=asked.command_id,
                correlation_id=asked.correlation_id,
            )
            assert tell(writer, history).status == 201
        unknown = place(uuid4())
        unknown.actor = Actor("import", "import")
        assert tell(writer, unknown).body["rule"] == "OpportunityUnknown"


@pytest.mark.parametrize("remembered", REMEMBERED)
@pytest.mark.parametrize(
    ("before", "meanwhile", "outcome"),
    [
        ([], lose, "OpportunityIsLost"),
        ([lose], reopen, 201),
        ([lambda deal: identify(deal, ANN)], lose, "OpportunityIsLost"),
        ([], lambda deal: identify(deal, BEN), "OpportunityOfAnotherCustomer"),
        ([], lambda deal: identify(deal, ANN), 201),
    ],
)
def test_what_becomes_of_the_deal_while_the_order_is_on_its_way_counts(
    ledger_url: str,
    remembered: int,
    before: list[Callable[[UUID], Request]],
    meanwhile: Callable[[UUID], Request],
    outcome: Any,
) -> None:
    deal, fate = uuid4(), Fate()
    with (
        writer_on(ledger_url, connect=fragile(ledger_url, fate), remembered=remembered) as one,
        writer_on(ledger_url) as other,
    ):
        stock(one, open_(deal, None), *(act(deal) for act in before))
        fate.meanwhile.append(lambda: handle(other, [meanwhile(deal)]))
        assert outcomes(one, place(deal)) == [outcome]
    assert types_of(ledger_url).count("order.placed") == (outcome == 201)


@pytest.mark.parametrize("remembered", REMEMBERED)
def test_commands_sent_together_are_decided_in_their_order(
    ledger_url: str, remembered: int
) -> None:
    deal, order = uuid4(), uuid4()
    with writer_on(ledger_url, remembered=remembered) as writer:
        stock(writer)
        assert outcomes(
            writer,
            open_(deal),
            place(deal, of=order),
            lose(deal),
            place(deal),
            reopen(deal),
            place(deal),
            place(deal, BEN),
            lose(deal),
            request("orders/ship", {}, of=order),
        ) == [
            *(201, 201, 200, "OpportunityIsLost", 200, 201, "OpportunityOfAnotherCustomer"),
            *(200, 200),
        ]


def test_an_orders_own_id_decides_before_its_deal_does(ledger_url: str) -> None:
    deal, order = uuid4(), uuid4()
    with writer_on(ledger_url) as writer:
        stock(writer, open_(deal), place(deal, of=order), lose(deal))
        assert outcomes(writer, place(deal, of=order), place(uuid4())) == [
            *("OrderExists", "OpportunityUnknown"),
        ]


def test_a_condition_that_could_not_be_held_against_its_stream_is_a_mistake() -> None:
    def declare(*conditions: Condition | None) -> None:
        class Ask(Command[Order, OrderEvent]):
            customer_id: UUID
            one: Annotated[UUID, Reference("opportunity", condition=conditions[0])]
            other: Annotated[UUID, Reference("opportunity", condition=conditions[1])]

    def condition(of: str) -> Condition:
        return Condition(Opportunity.admit_order, of, (OpportunityIsLost,))

    declare(condition("customer_id"), None)
    with pytest.raises(TypeError, match="may have a condition on one"):
        declare(condition("customer_id"), condition("customer_id"))
    with pytest.raises(TypeError, match="no field 'buyer'"):
        declare(condition("buyer"), None)
