"""What an event says is said once: the facts of every noun, which read models and Parquet share."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.facts.fact import FactTable
from analytics.facts.tables import TABLES, rows_of
from events.base import REGISTRY, Event, Personal
from events.customer import CustomerRegistered
from events.envelope import Recorded
from events.order import OrderCancelled, OrderPlaced, PaymentsPlanned
from projections.facts.catalog import FACTS, facts
from projections.facts.customers import AccountFact
from projections.facts.orders import InstalmentFact, LineFact, OrderFact
from projections.facts.payments import PaymentFact
from tests.events.examples import events_of
from tests.projections.world import World, day, eur

MARK = "about a person"
EVENTS = [event for name, event in sorted(REGISTRY.items()) if name.partition(".")[0] in {*FACTS}]
PERSONAL = [event for event in EVENTS if event.personal]
ANN, ORDER, PAYMENT, TICKET, DEAL = (UUID(int=n) for n in range(11, 16))


def recorded(event: Event, position: int = 1) -> Recorded:
    at = datetime(2026, 3, 2, tzinfo=UTC)
    name = event.event_type
    of = (at, at, "ada", "user", UUID(int=8), UUID(int=8), None)
    return Recorded(
        position, UUID(int=9), name.partition(".")[0], UUID(int=7), 1, *of, name, 1, event
    )


def marked(event: Event) -> Event:
    """The event, with the mark in everything that is personal."""
    return event.model_copy(update=dict.fromkeys(event.personal, MARK))


def is_personal(hint: Any) -> bool:
    return get_origin(hint) is Annotated and any(
        isinstance(mark, Personal) for mark in get_args(hint)[1:]
    )


@pytest.mark.parametrize("event", PERSONAL, ids=lambda event: event.event_type)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_personal_stands_where_the_column_says_so_and_in_no_file(
    event: type[Event], data: st.DataObject
) -> None:
    happened = recorded(marked(data.draw(events_of(event))))
    for fact in facts(happened):
        hints = get_type_hints(type(fact), include_extras=True)
        for column in fields(fact):  # type: ignore[arg-type]  # a Row is a dataclass
            if MARK in str(getattr(fact, column.name)):
                assert is_personal(hints[column.name]), f"{type(fact).__name__}.{column.name}"


def test_personal_columns_there_are() -> None:
    assert len(PERSONAL) > 10
    hints = get_type_hints(OrderFact, include_extras=True)
    assert {name for name, hint in hints.items() if is_personal(hint)} == {"reason"}
    hints = get_type_hints(AccountFact, include_extras=True)
    assert {name for name, hint in hints.items() if is_personal(hint)} == {
        *("name", "email", "phone", "address", "note", "reason")
    }


def test_a_table_that_takes_a_personal_column_is_refused() -> None:
    with pytest.raises(TypeError, match=r"purchases\.reason is personal"):
        FactTable("purchases", ("order_id", "reason"), {OrderFact: (OrderCancelled,)})
    with pytest.raises(TypeError, match=r"accounts\.name is personal"):
        FactTable("accounts", ("customer_id", "name"), {AccountFact: (CustomerRegistered,)})


def test_a_table_of_columns_that_no_fact_has_or_that_do_not_agree_is_refused() -> None:
    with pytest.raises(TypeError, match="in no fact"):
        FactTable("purchases", ("order_id", "colour"), {OrderFact: (OrderPlaced,)})
    both = {OrderFact: (OrderPlaced,), Odd: (OrderPlaced,)}
    with pytest.raises(TypeError, match=r"purchases\.returned is"):
        FactTable("purchases", ("order_id", "returned"), both)


class Odd(PaymentFact):
    returned: str


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_holds_no_personal_column(table: FactTable) -> None:
    for fact in table.takes:
        hints = get_type_hints(fact, include_extras=True)
        assert not [name for name in table.columns if is_personal(hints.get(name))]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_event_that_a_table_names_gives_the_fact_that_it_takes(table: FactTable) -> None:
    for fact, events in table.takes.items():
        for event in events:
            given_ = {type(one) for one in facts(recorded(example(event)))}
            assert fact in given_, event.event_type


def example(event: type[Event]) -> Event:
    """An event with at least one line or part, where it has any."""
    line = {"product": "P", "quantity": "1", "unit_price": eur("1"), "total": eur("1")}
    lines = [{**line, "number": 1}]
    many = {"lines": lines, "line": lines[0], "total": eur("1"), "amount": eur("1")}
    many["instalments"] = [{"due": "2026-03-02", "amount": eur("1")}]
    many["stages"] = [{"name": "won", "kind": "won"}]
    ids = dict.fromkeys(("customer_id", "order_id", "opportunity_id", "quote_id"), UUID(int=3))
    words = dict.fromkeys(
        ("owner", "previous_owner", "reason", "name", "tag", "title", "pipeline", "stage"), "x"
    )
    more = dict.fromkeys(("previous_stage", "technician", "subject", "text"), "x")
    flags = {"new_customer": True, "new_opportunity": True, "inbound": True, "minutes": 1}
    given_ = {**many, **ids, **words, **more, **flags, "score": 3, "channel": "call"}
    wanted = {name: value for name, value in given_.items() if name in event.model_fields}
    return event.model_validate(wanted)


def test_an_order_says_its_lines_and_its_plan_once() -> None:
    order, *lines = facts(recorded(example(OrderPlaced)))
    assert isinstance(order, OrderFact)
    assert (order.kind, order.status, order.amount) == ("placed", "placed", Decimal("1.00"))
    assert [(line.number, line.product) for line in lines if isinstance(line, LineFact)] == [
        (1, "P")
    ]
    _, part = facts(recorded(example(PaymentsPlanned)))
    assert isinstance(part, InstalmentFact)
    assert (part.number, part.currency) == (1, "EUR")


OF_TICKETS = "channel, topic, priority, product, technician, minutes, score, inbound"
OF_DEALS = "owner, product, reason, amount, currency, expected_close"
SAME = {
    "purchase_lines": (
        "view_orders.order_lines",
        "order_id::text, number, product, quantity, amount, currency",
    ),
    "instalments": ("view_orders.instalments", "order_id::text, number, due, amount, currency"),
    "tickets": (
        "view_tickets.ticket_facts",
        f"ticket_id::text, kind, customer_id::text, {OF_TICKETS}",
    ),
    "purchases": (
        "view_orders.order_facts WHERE kind = 'placed'",
        "order_id::text, customer_id::text, owner, amount, currency, region",
    ),
    "deals": (
        "view_opportunities.deal_facts",
        f"deal_id::text, kind, pipeline, stage, customer_id::text, {OF_DEALS}",
    ),
    "accounts": (
        "view_customers.account_facts WHERE tag IS NULL",
        "customer_id::text, kind, account_kind, region, industry, source, owner",
    ),
    "receipts": (
        "view_payments.payment_facts WHERE kind IN ('received', 'refunded')",
        "payment_id::text, kind, amount, currency",
    ),
}


@pytest.fixture(scope="module")
def company(new_world: Any) -> Any:
    """An order, its payment and a ticket, with all that may become of them."""
    with new_world() as made:
        at = day("2026-03-02")
        made.do("customers/register", ANN, at, name="Ann", owner="ada")
        line = {"product": "Pump", "quantity": "2.50", "unit_price": eur("10"), "discount": "12.5"}
        other = {"product": "Hose", "quantity": "1", "unit_price": eur("3.10")}
        order = {"customer_id": ANN, "owner": "ada", "region": "north"}
        made.do("orders/place", ORDER, at, **order, lines=[line, other])
        made.do("orders/add-line", ORDER, day("2026-03-03"), line=other)
        parts = [{"due": f"2026-0{m}-01", "amount": eur("14.04")} for m in (4, 5)]
        made.do("orders/plan-payments", ORDER, day("2026-03-03"), instalments=parts)
        made.do("payments/receive", PAYMENT, at, customer_id=ANN, amount=eur("20"))
        part = {"order_id": ORDER, "amount": eur("9")}
        made.do("payments/allocate", PAYMENT, at, allocations=[part])
        made.do("payments/release", PAYMENT, day("2026-03-04"), order_id=ORDER, amount=eur("4"))
        made.do("payments/refund", PAYMENT, day("2026-03-05"), amount=eur("2"))
        made.do("orders/return", ORDER, day("2026-03-06"), amount=eur("3"), reason="torn")
        made.do("customers/hand-over", ANN, day("2026-03-03"), owner="bo", reason="holiday")
        made.do("customers/release", ANN, day("2026-03-04"), reason="moved away")
        deal = {"title": "Pumps", "pipeline": "contract", "expected_close": "2026-05-01"}
        made.do("opportunities/open", DEAL, at, customer_id=ANN, owner="ada", **deal)
        quote = {"quote_id": UUID(int=16), "lines": [other]}
        made.do("opportunities/quote", DEAL, day("2026-03-03"), **quote)
        made.do("opportunities/lose", DEAL, day("2026-03-04"), reason="price")
        made.do("opportunities/reopen", DEAL, day("2026-03-05"), reason="second thoughts")
        made.do("tickets/open", TICKET, at, customer_id=ANN, channel="call", subject="-", text="-")
        made.do("tickets/dispatch", TICKET, day("2026-03-03"), technician="tom")
        made.do("tickets/decline", TICKET, day("2026-03-04"), by="tom", reason="ill")
        made.project()
        made.write_facts()
        yield made


def written(company: World, table: str) -> list[tuple[Any, ...]]:
    """The rows of a table of facts, by position."""
    rows = []
    for name, _ in company.store.latest().files[table]:
        rows += [tuple(row.values()) for row in company.store.read(name).to_pylist()]
    return sorted(rows, key=lambda row: row[0])


@pytest.mark.parametrize("table", SAME)
def test_read_model_and_file_hold_the_same(company: World, table: str) -> None:
    where, columns = SAME[table]
    with company.superuser() as conn:
        kept = conn.execute(
            f"SELECT position, occurred_at, recorded_at, {columns} FROM {where} ORDER BY 1".encode()
        ).fetchall()
    assert kept
    assert written(company, table) == kept


def test_what_changed_an_order_is_of_the_order_and_of_its_payments(company: World) -> None:
    changes = [(row[4], row[5], row[7]) for row in written(company, "purchase_changes")]
    assert changes == [
        ("line-added", Decimal("3.1000"), None),
        ("allocated", Decimal("9.0000"), str(PAYMENT)),
        ("released", Decimal("4.0000"), str(PAYMENT)),
        ("returned", Decimal("3.0000"), None),
    ]
    shown = company.get(f"/payments/{PAYMENT}")["history"]
    assert [(row["kind"], row["amount"]["amount"]) for row in shown] == [
        ("received", "20.00"),
        ("allocated", "9.00"),
        ("allocated", "-4.00"),
        ("refunded", "2.00"),
    ]


def test_an_order_shows_its_lines_as_their_events_say_them(company: World) -> None:
    told = [recorded.event for recorded in company.recorded()]
    lines = [line for event in told if isinstance(event, OrderPlaced) for line in event.lines]
    shown = company.get(f"/orders/{ORDER}")
    assert shown["lines"][:2] == [line.model_dump(mode="json") for line in lines]
    assert shown["lines"][2]["discount"] is None
    assert shown["history"][-1]["billed"] == eur("25.08")


def test_a_dispatch_that_is_declined_names_nobody_in_a_ticket(company: World) -> None:
    opened, dispatched, declined = company.get(f"/tickets/{TICKET}")["history"]
    assert (opened["technician"], dispatched["technician"]) == (None, "tom")
    assert (declined["type"], declined["technician"]) == ("dispatch-declined", None)


def test_every_event_of_every_noun_has_its_facts() -> None:
    assert {event.event_type.partition(".")[0] for event in EVENTS} == {*FACTS}
    rows = [*rows_of([recorded(example(event)) for event in (OrderPlaced, PaymentsPlanned)])]
    assert [table.name for table, _ in rows] == ["purchases", "purchase_lines", "instalments"]
