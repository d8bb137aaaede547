"""Figures over purchases: worked examples, then any history beside sums made from the events."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise
from random import Random
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands.handling.deciding import Decider
from events.customer import CustomerTagged, CustomerUntagged
from events.envelope import Recorded
from events.order import GoodsReturned, OrderCancelled, OrderLineAdded, OrderPlaced
from events.payment import AllocationReleased, CreditNoteIssued, PaymentAllocated, PaymentRefunded
from tests.projections.conftest import NewWorld
from tests.projections.world import World, day, eur

ANN, BEN, CID = CUSTOMERS = [UUID(int=n) for n in (101, 102, 103)]
ORDERS = [UUID(int=200 + n) for n in range(12)]
PAYMENTS = [UUID(int=300 + n) for n in range(4)]
FIRST_DAY = date(2026, 1, 1)


def registered(company: World) -> None:
    for customer, name in zip(CUSTOMERS, ("Ann", "Ben", "Cid"), strict=True):
        company.do("customers/register", customer, day("2025-12-01"), name=name)


def place(
    company: World, order: int, customer: UUID, at: str, amount: str, hour: int = 12, **more: Any
) -> None:
    data = {"customer_id": customer, "amount": eur(amount), **more}
    company.do("orders/place", ORDERS[order], day(at, hour), **data)


def figures(company: World, path: str, **params: Any) -> Any:
    company.write_facts()
    return company.get(f"/analytics/{path}", **params)


def test_who_is_new_who_returns_and_who_repeats(company: World) -> None:
    registered(company)
    place(company, 0, ANN, "2026-01-10", "100")
    place(company, 1, ANN, "2026-02-10", "50")
    place(company, 2, ANN, "2026-02-10", "30", hour=13)
    place(company, 3, BEN, "2026-02-20", "20")
    place(company, 4, CID, "2026-02-20", "999")
    company.do("orders/cancel", ORDERS[4], day("2026-02-21"), reason="too dear")
    window = {"from": "2026-02-01", "to": "2026-03-01"}
    found = figures(company, "customers", **window)
    assert {name: found[name] for name in ("new", "returning", "purchasing", "repeat")} == {
        "new": 1,
        "returning": 1,
        "purchasing": 2,
        "repeat": 1,
    }
    assert (found["recruited"], found["old"], found["repurchasing"]) == (1, 1, 1)
    assert (found["repeat_rate"], found["repurchase_rate"]) == (0.5, 1.0)
    assert found["amount"]["amount"] == "100.00"
    assert found["amount_ever"]["amount"] == "200.00"
    assert found["amount_per_purchase"]["amount"] == "33.33"
    assert found["amount_per_customer"]["amount"] == "50.00"
    merged = figures(company, "customers", **window, merge_by_day="true")
    assert (merged["repeat"], merged["purchases"], merged["purchases_ever"]) == (0, 2, 3)
    empty = figures(company, "customers", **{"from": "2020-01-01", "to": "2020-01-01"})
    assert (empty["repeat_rate"], empty["amount_per_purchase"]) == (None, None)


def test_a_gap_counts_where_it_ends_and_the_first_one_where_the_second_purchase_lies(
    company: World,
) -> None:
    registered(company)
    for n, at in enumerate(("2025-10-01", "2025-12-10", "2026-01-09", "2026-02-08")):
        place(company, n, ANN, at, "10")
    place(company, 4, BEN, "2026-01-20", "10")
    place(company, 5, BEN, "2026-01-20", "10", hour=13)
    place(company, 6, CID, "2025-12-31", "10")
    place(company, 7, CID, "2026-03-01", "10")
    window = {"from": "2026-01-01", "to": "2026-03-01"}
    found = figures(company, "repurchase", **window)
    assert (found["customers"], found["gaps"]) == (2, 3)  # Cid came back after the window
    assert (found["mean_gap"], found["mean_of_means"]) == (20.0, 15.0)
    assert (found["first_customers"], found["first_gap"]) == (1, 0.0)
    each = figures(company, "repurchase/customers", **window)["items"]
    names = ("customer_id", "purchases", "gaps", "first_gap")
    assert [tuple(one[name] for name in names) for one in each] == [
        (str(ANN), 2, 2, None),
        (str(BEN), 2, 1, 0),
    ]
    merged = figures(company, "repurchase", **window, merge_by_day="true")
    assert (merged["customers"], merged["gaps"], merged["first_gap"]) == (1, 2, None)
    begun = figures(company, "repurchase", **{"from": "2026-03-01"})
    assert (begun["gaps"], begun["mean_gap"], begun["first_gap"]) == (1, 60.0, 60.0)
    whole = figures(company, "repurchase")
    assert (whole["gaps"], whole["first_customers"], whole["first_gap"]) == (5, 3, 43.333333)


def test_m_is_the_total_or_the_mean(company: World) -> None:
    """Who buys often for little is behind who bought once for more, by the mean alone."""
    registered(company)
    for n in range(3):
        place(company, n, ANN, "2026-01-10", "10.01", hour=n + 1)
    place(company, 3, BEN, "2026-01-10", "20")
    place(company, 4, CID, "2026-01-10", "10.01")
    total = figures(company, "rfm/customers")
    mean = figures(company, "rfm/customers", monetary="mean")
    shown = [(one["monetary"], one["monetary_mean"]) for one in total["items"]]
    assert shown == [(one["monetary"], one["monetary_mean"]) for one in mean["items"]]
    assert [one["amount"] for one, _ in shown] == ["30.03", "20.00", "10.01"]
    assert [one["amount"] for _, one in shown] == ["10.01", "20.00", "10.01"]
    assert [one["m_score"] for one in total["items"]] == [4, 2, 1]
    assert [one["m_score"] for one in mean["items"]] == [1, 4, 1]
    assert mean["scoring"]["monetary"] == "mean"
    given = {"monetary": "mean", "m_thresholds": "10,11,12,20"}
    edges = figures(company, "rfm/customers", **given)["items"]
    assert [one["m_score"] for one in edges] == [2, 5, 2]
    assert figures(company, "rfm", monetary="mean")["items"] != figures(company, "rfm")["items"]
    sums = figures(company, "rfm", monetary="mean")["items"]
    assert sum(Decimal(one["amount"]["amount"]) for one in sums) == Decimal("60.04")


def test_products_are_sold_by_lines_and_not_by_whole_orders(company: World) -> None:
    registered(company)

    def line(product: str, quantity: str, price: str) -> dict[str, Any]:
        return {"product": product, "quantity": quantity, "unit_price": eur(price)}

    def order(number: int, customer: UUID, at: str, *lines: dict[str, Any]) -> None:
        asked = {"customer_id": customer, "lines": list(lines)}
        company.do("orders/place", ORDERS[number], day(at), **asked)

    order(0, ANN, "2026-01-10", line("Loom", "1", "100"), line("Yarn", "2.5", "4"))
    order(1, ANN, "2026-01-20", line("Yarn", "1", "4"), line("Yarn", "1", "3"))
    order(2, BEN, "2026-01-20", line("Yarn", "1", "4"))
    company.do("orders/add-line", ORDERS[2], day("2026-01-21"), line=line("Loom", "1", "90"))
    order(3, CID, "2026-02-01", line("Yarn", "9", "4"))
    order(4, CID, "2026-01-15", line("Yarn", "7", "4"))
    company.do("orders/cancel", ORDERS[4], day("2026-01-16"), reason="-")
    january = {"from": "2026-01-01", "to": "2026-02-01"}
    names = ("product", "orders", "customers", "quantity")
    found = figures(company, "products", **january)["items"]
    assert [(*(one[name] for name in names), one["amount"]["amount"]) for one in found] == [
        ("Loom", 2, 2, "2.000", "190.00"),
        ("Yarn", 3, 2, "5.500", "21.00"),
    ]
    [yarn] = figures(company, "products", **january, product="Yarn")["items"]
    assert yarn == found[1]
    assert company.ask("/analytics/products", basis="net").status_code == 422


def test_what_is_entered_late_changes_what_is_known_now_alone(company: World) -> None:
    registered(company)
    place(company, 0, ANN, "2026-01-10", "100")
    then = company.head()
    before = figures(company, "customers", known_at=then)
    place(company, 1, ANN, "2026-01-12", "50")
    company.do("orders/return", ORDERS[0], day("2026-01-20"), amount=eur("40"), reason="torn")
    assert figures(company, "customers", known_at=then) == before
    assert figures(company, "customers")["amount"]["amount"] == "150.00"
    assert figures(company, "customers", basis="net")["amount"]["amount"] == "110.00"
    early = figures(company, "customers", basis="net", as_of="2026-01-15")
    assert early["amount"]["amount"] == "150.00"


def test_a_day_of_long_ago_is_that_day(company: World) -> None:
    registered(company)
    place(company, 0, ANN, "1969-12-31", "100")
    found = figures(company, "purchases")["items"]
    assert [item["day"] for item in found] == ["1969-12-31"]


def test_amounts_of_two_currencies_are_never_added(company: World) -> None:
    registered(company)
    place(company, 0, ANN, "2026-01-10", "100")
    company.do(
        "orders/place",
        ORDERS[1],
        day("2026-01-11"),
        customer_id=BEN,
        amount={"amount": "7", "currency": "JPY"},
    )
    company.write_facts()
    answer = company.ask("/analytics/rfm")
    assert answer.status_code == 422
    assert "EUR, JPY" in answer.json()["detail"]
    assert company.ask("/analytics/customers", currency="AAA").status_code == 422
    assert company.get("/analytics/customers", currency="JPY")["amount"] == {
        "amount": "7",
        "currency": "JPY",
    }


def test_equal_values_get_equal_scores_and_the_best_of_many_gets_five(company: World) -> None:
    registered(company)
    place(company, 0, ANN, "2026-01-10", "100")
    place(company, 1, BEN, "2026-01-10", "100")
    place(company, 2, CID, "2026-03-10", "500")
    place(company, 3, CID, "2026-03-11", "500")
    found = figures(company, "rfm/customers", as_of="2026-03-31")["items"]
    told = {item["customer_id"]: item for item in found}
    assert [told[str(c)]["recency_days"] for c in CUSTOMERS] == [80, 80, 20]
    assert [told[str(c)]["r_score"] for c in CUSTOMERS] == [1, 1, 4]
    assert [told[str(c)]["segment"] for c in CUSTOMERS] == [
        "general-win-back",
        "general-win-back",
        "important-value",
    ]
    wrong = company.ask("/analytics/rfm/customers", segment="champions")
    assert wrong.status_code == 422
    assert "important-value" in wrong.json()["detail"]
    given = {"r_thresholds": "10,20,30,80", "f_thresholds": "1,2,3,4", "m_thresholds": "1,2,3,1000"}
    by_edges = figures(company, "rfm/customers", as_of="2026-03-31", **given)["items"]
    assert [(i["r_score"], i["f_score"], i["m_score"]) for i in by_edges] == [
        (2, 2, 4),
        (2, 2, 4),
        (4, 3, 5),
    ]
    moved = figures(company, "rfm/movement", as_of="2026-03-31", since="2026-02-01")["items"]
    assert moved == [
        {"before": None, "after": "important-value", "customers": 1},
        {"before": "general-win-back", "after": "general-win-back", "customers": 2},
    ]


def test_a_credit_note_makes_the_purchase_less_that_it_followed(company: World) -> None:
    registered(company)
    place(company, 0, ANN, "2026-01-10", "100")
    place(company, 1, ANN, "2026-02-10", "50")
    place(company, 2, BEN, "2026-02-10", "70")
    for number, (who, at) in enumerate(((ANN, "2026-01-20"), (BEN, "2026-01-20"))):
        note = {"customer_id": who, "amount": eur("30"), "kind": "credit-note"}
        company.do("payments/receive", PAYMENTS[number], day(at), **note)
    listed = figures(company, "purchases", basis="net")["items"]
    assert [item["amount"]["amount"] for item in listed] == ["70.00", "50.00", "40.00"]
    assert figures(company, "customers", basis="net")["amount"] == eur("160.00")
    assert figures(company, "customers")["amount"] == eur("220.00")
    january = figures(company, "customers", basis="net", as_of="2026-01-15")
    assert january["amount"] == eur("100.00")
    months = figures(company, "receipts")["items"]
    assert [month["due"]["amount"] for month in months] == ["40.00", "120.00"]


def test_what_another_currency_pays_counts_in_no_figure_of_this_one(company: World) -> None:
    registered(company)
    place(company, 0, ANN, "2026-01-10", "100", by="bo")
    yen = {"amount": "40", "currency": "JPY"}
    part = {"order_id": str(ORDERS[0]), "amount": yen}
    for n, kind in enumerate(("money", "credit-note")):
        data = {"customer_id": ANN, "amount": yen, "kind": kind, "allocations": [part]}
        with patch.object(Decider, "_refuse_other_currencies"):  # as versions before did
            company.do("payments/receive", PAYMENTS[n], day("2026-01-20"), **data)
    company.write_facts()
    euros = {"currency": "EUR"}
    assert figures(company, "customers", basis="received", **euros)["amount"] == eur("0.00")
    assert figures(company, "customers", basis="net", **euros)["amount"] == eur("100.00")
    [month] = figures(company, "receipts", owner="bo", **euros)["items"]
    assert (month["due"], month["received"]) == (eur("100.00"), eur("0.00"))


def test_a_credit_note_is_taken_once_whatever_becomes_of_it(company: World) -> None:
    registered(company)
    place(company, 0, ANN, "2026-01-10", "100", by="bo")
    place(company, 1, ANN, "2026-03-10", "50")
    part = {"order_id": str(ORDERS[0]), "amount": eur("20")}
    note = {"customer_id": ANN, "amount": eur("30"), "kind": "credit-note", "allocations": [part]}
    company.do("payments/receive", PAYMENTS[0], day("2026-03-20"), **note)
    company.do("payments/refund", PAYMENTS[0], day("2026-03-21"), **part)
    listed = figures(company, "purchases", basis="net")["items"]
    assert [item["amount"]["amount"] for item in listed] == ["80.00", "40.00"]
    assert figures(company, "customers", basis="received")["amount"] == eur("0.00")
    assert figures(company, "customers", basis="net", owner="bo")["amount"] == eur("80.00")
    company.do("customers/tag", ANN, day("2026-03-22"), tag="vip")
    sums = {"due": "120.00", "received": "0.00", "refunded": "20.00"}
    for asked in ({}, {"tag": "vip"}):
        months = figures(company, "receipts", **asked)["items"]
        assert {
            name: f"{sum(Decimal(month[name]['amount']) for month in months):.2f}" for name in sums
        } == sums
    months = figures(company, "receipts", owner="bo")["items"]
    assert [month["due"]["amount"] for month in months] == ["100.00", "0.00", "-20.00"]


def test_purchases_of_customers_who_bear_a_tag_at_the_moment(company: World) -> None:
    registered(company)
    place(company, 0, ANN, "2026-01-10", "100")
    place(company, 1, BEN, "2026-01-10", "7")
    company.do("customers/tag", ANN, day("2026-02-01"), tag="vip")
    company.do("customers/tag", BEN, day("2026-02-01"), tag="vip")
    company.do("customers/untag", ANN, day("2026-03-01"), tag="vip")
    assert figures(company, "customers", tag="vip")["amount"] == eur("7.00")
    assert figures(company, "customers", tag="vip")["parameters"]["tag"] == "vip"
    both = company.get("/analytics/customers", tag="vip", as_of="2026-02-15")
    assert both["amount"] == eur("107.00")
    assert company.get("/analytics/customers", tag="vip", as_of="2026-01-15")["purchases"] == 0
    assert company.get("/analytics/receipts", tag="vip")["items"][0]["due"] == eur("7.00")
    company.project()
    assert company.get(f"/customers/{BEN}")["tags"] == ["vip"]
    assert [c["id"] for c in company.get("/customers", tag="vip")["items"]] == [str(BEN)]
    then = company.get(f"/customers/{ANN}", as_of="2026-02-15")
    assert then["tags"] == ["vip"]
    assert company.ask("/analytics/leads", tag="vip").status_code == 422


def test_the_view_of_a_customer_has_its_segment(company: World) -> None:
    registered(company)
    place(company, 0, ANN, "2026-01-10", "100")
    place(company, 1, BEN, "2026-01-10", "500")
    company.project()
    assert company.get(f"/customers/{ANN}")["rfm"] is None
    company.write_facts()
    known = company.head()
    now = company.get(f"/customers/{BEN}")["rfm"]
    assert now["position"] == known
    [scored] = now["items"]
    assert (scored["frequency"], scored["monetary"]) == (1, eur("500.00"))
    assert scored["segment"] == "important-win-back"
    place(company, 2, ANN, "2026-02-10", "9000")
    company.project()
    company.write_facts()
    [then] = company.get(f"/customers/{BEN}", known_at=known, as_of="2026-01-20")["rfm"]["items"]
    assert (then["segment"], then["recency_days"]) == ("important-win-back", 10)
    [late] = company.get(f"/customers/{BEN}", known_at=company.head())["rfm"]["items"]
    assert late["segment"] == "general-win-back"


def test_every_figure_names_the_purchases_behind_it(company: World) -> None:
    registered(company)
    for order in range(5):
        place(company, order, ANN, f"2026-01-1{order}", "10")
    company.write_facts()
    listed: list[Any] = []
    page = company.get("/analytics/purchases", customer_id=str(ANN), limit=2)
    listed += page["items"]
    while page["next"]:
        page = company.ask(page["next"]).json()
        listed += page["items"]
    assert [item["day"] for item in listed] == [f"2026-01-1{n}" for n in range(5)]
    [event] = company.get(
        "/audit/events", after=listed[0]["position"] - 1, limit=1, order="oldest"
    )["items"]
    assert event["stream_id"] == str(ORDERS[0])


# Any history: the same questions answered by sums over the events, in plain Python.

KINDS = (
    *("place",) * 6,
    *("add", "cancel", "return", "return", "pay", "pay", "release", "refund", "credit"),
    *("tag", "tag", "untag"),
)
Action = tuple[str, int, int, int, int]


def history(seed: int) -> list[Action]:
    """Up to sixty things to be asked for; hypothesis itself would draw few of them, and alike."""
    dice = Random(seed)
    return [
        (
            dice.choice(KINDS),
            dice.randrange(len(ORDERS)),
            dice.randrange(3),
            dice.randrange(71),
            dice.randrange(1, 10),
        )
        for _ in range(dice.randrange(61))
    ]


HISTORIES = st.integers(0, 2**32).map(history)


def act(company: World, action: Action) -> None:
    kind, number, who, offset, size = action
    order, payment = ORDERS[number], PAYMENTS[number % len(PAYMENTS)]
    at = f"{FIRST_DAY + timedelta(days=offset)}T{size * 2:02}:30:00Z"
    line = {
        "product": ("Loom", "Yarn")[size % 2],
        "quantity": str(1 + who),
        "unit_price": eur(f"{size}.25"),
    }
    customer = CUSTOMERS[(number + who) % 3]
    match kind:
        case "tag" | "untag":
            company.try_(f"customers/{kind}", customer, at, tag=("vip", "late")[size % 2])
        case "place":
            company.try_(
                "orders/place", order, at, customer_id=customer, lines=[line], by=f"r{who}"
            )
            total = (1 + who) * Decimal(f"{size}.25")
            parts = [
                {"due": FIRST_DAY + timedelta(days=offset + later), "amount": eur(str(amount))}
                for later, amount in ((40, Decimal(1)), (10, total - 1))
            ]
            if size % 3 == 0:
                company.try_("orders/plan-payments", order, at, instalments=parts)
        case "add":
            company.try_("orders/add-line", order, at, line=line)
        case "cancel":
            company.try_("orders/cancel", order, at, reason="no need")
        case "return":
            company.try_("orders/return", order, at, amount=eur(str(size)), reason="torn")
        case "pay":
            part = {"order_id": str(order), "amount": eur(str(size))}
            data = {"customer_id": customer, "amount": eur("20"), "allocations": [part]}
            company.try_("payments/receive", payment, at, **data)
        case "credit":
            part = {"order_id": str(order), "amount": eur("1")}
            data = {"customer_id": customer, "amount": eur(str(size)), "kind": "credit-note"}
            if size % 2:
                data["allocations"] = [part]
            elif who == 0:
                data["amount"] = {"amount": str(size), "currency": "USD"}
            company.try_("payments/receive", payment, at, **data)
        case "release":
            data = {"order_id": str(order), "amount": eur("1")}
            company.try_("payments/release", payment, at, **data)
        case "refund":
            data = {"order_id": str(order), "amount": eur("1")}
            company.try_("payments/refund", payment, at, **data)


@dataclass
class Order:
    """An order as its events leave it."""

    position: int
    customer: UUID
    owner: str
    at: datetime
    ordered: Decimal
    products: set[str]
    cancelled: bool = False
    returned: Decimal = Decimal(0)
    refunded: Decimal = Decimal(0)
    received: Decimal = Decimal(0)
    credited: Decimal = Decimal(0)

    @property
    def day(self) -> date:
        return self.at.date()

    def amount(self, basis: str) -> Decimal:
        return {
            "ordered": self.ordered,
            "received": self.received,
            "net": self.ordered - max(self.returned, self.refunded) - self.credited,
        }[basis]


def folded(events: list[Recorded], notes: set[UUID]) -> dict[UUID, Order]:
    orders: dict[UUID, Order] = {}
    late: list[tuple[UUID, Any, bool]] = []
    for recorded in events:
        event = recorded.event
        if isinstance(event, OrderPlaced):
            orders[recorded.stream_id] = Order(
                recorded.position,
                event.customer_id,
                event.owner,
                recorded.occurred_at,
                event.total.amount,
                {line.product for line in event.lines},
            )
        elif isinstance(event, CreditNoteIssued):
            continue
        elif isinstance(event, PaymentAllocated | AllocationReleased | PaymentRefunded):
            assert event.order_id is not None
            late.append((event.order_id, event, recorded.stream_id in notes))
        else:
            late.append((recorded.stream_id, event, False))
    for order_id, event, is_note in late:
        order = orders.get(order_id)
        if order is None:
            continue
        match event:
            case OrderLineAdded():
                order.ordered += event.line.total.amount
                order.products.add(event.line.product)
            case OrderCancelled():
                order.cancelled = True
            case GoodsReturned():
                order.returned += event.amount.amount
            case PaymentAllocated() if is_note:
                order.credited += event.amount.amount
            case AllocationReleased() if is_note:
                order.credited -= event.amount.amount
            case PaymentAllocated():
                order.received += event.amount.amount
            case AllocationReleased():
                order.received -= event.amount.amount
            case PaymentRefunded() if not is_note:
                order.refunded += event.amount.amount
    return {key: order for key, order in orders.items() if not order.cancelled}


def credit(orders: list[Order], events: list[Recorded]) -> None:
    """What of a note is for no order to the purchase that it followed, or else to the first one."""
    used: dict[UUID, Decimal] = defaultdict(Decimal)
    for recorded in events:
        if isinstance(recorded.event, PaymentAllocated):
            used[recorded.stream_id] += recorded.event.amount.amount
        elif isinstance(recorded.event, AllocationReleased):
            used[recorded.stream_id] -= recorded.event.amount.amount
    for recorded in events:
        note = recorded.event
        if not isinstance(note, CreditNoteIssued) or note.amount.currency != "EUR":
            continue
        theirs = sorted(
            (order for order in orders if order.customer == note.customer_id),
            key=lambda order: (order.at, order.position),
        )
        before = [order for order in theirs if order.at <= recorded.occurred_at]
        after = [order for order in theirs if order.at > recorded.occurred_at]
        if before:
            before[-1].credited += note.amount.amount - used[recorded.stream_id]
        elif after:
            soonest = [order for order in after if order.at == after[0].at]
            soonest[-1].credited += note.amount.amount - used[recorded.stream_id]


@dataclass
class Bought:
    """One purchase."""

    customer: UUID
    day: date
    amount: Decimal
    position: int


def bought(orders: list[Order], basis: str, *, merged: bool) -> list[Bought]:
    found: dict[Any, Bought] = {}
    for order in orders:
        key = (order.customer, order.day) if merged else order.position
        amount = order.amount(basis)
        if key in found:
            found[key].amount += amount
            found[key].position = min(found[key].position, order.position)
        else:
            found[key] = Bought(order.customer, order.day, amount, order.position)
    return sorted(found.values(), key=lambda b: (b.day, b.position))


def rounded(part: Fraction | int, whole: int) -> float | None:
    if not whole:
        return None
    share = Fraction(part) / whole
    exact = Decimal(share.numerator) / Decimal(share.denominator)
    return float(exact.quantize(Decimal("0.000001"), ROUND_HALF_UP))


def gaps_of(
    days: list[list[date]], inside: Callable[[date], bool]
) -> tuple[int, int, float | None, float | None, int, float | None]:
    """Of each customer's purchases ever: the gaps that end inside, and the first ones."""
    pairs = [list(pairwise(found)) for found in days]
    each = [[(b - a).days for a, b in found if inside(b)] for found in pairs]
    firsts = [(found[0][1] - found[0][0]).days for found in pairs if found and inside(found[0][1])]
    each = [found for found in each if found]
    gaps = sum(map(len, each))
    means = sum((Fraction(sum(one), len(one)) for one in each), Fraction(0))
    return (
        len(each),
        gaps,
        rounded(sum(map(sum, each)), gaps),
        rounded(means, len(each)),
        len(firsts),
        rounded(sum(firsts), len(firsts)),
    )


def money(amount: Decimal) -> dict[str, str]:
    return {"amount": f"{amount:.2f}", "currency": "EUR"}


class Oracle:
    """What the answers must be."""

    def __init__(self, company: World, asked: dict[str, Any]) -> None:
        as_of = asked.get("as_of")
        until = datetime.combine(as_of + timedelta(days=1), time(), UTC) if as_of else None
        notes = {
            recorded.stream_id
            for recorded in company.recorded()
            if isinstance(recorded.event, CreditNoteIssued)
        }
        known = [
            recorded
            for recorded in company.recorded()
            if recorded.position <= asked.get("known_at", 2**60)
            and (until is None or recorded.occurred_at < until)
        ]
        tagged: set[tuple[UUID, str]] = set()
        for recorded in known:
            if isinstance(recorded.event, CustomerTagged):
                tagged.add((recorded.stream_id, recorded.event.tag))
            elif isinstance(recorded.event, CustomerUntagged):
                tagged.discard((recorded.stream_id, recorded.event.tag))
        self.events = [
            recorded
            for recorded in known
            if recorded.stream_type in ("order", "payment")
            and getattr(recorded.event, "order_id", True) is not None
            and recorded.type != "payment.received"
        ]
        orders = [
            order
            for order in folded(self.events, notes).values()
            if asked.get("owner") in (None, order.owner)
            and (asked.get("tag") is None or (order.customer, asked["tag"]) in tagged)
            and (asked.get("product") is None or asked["product"] in order.products)
        ]
        if asked.get("owner") is None and asked.get("product") is None:
            credit(orders, self.events)
        self.merged = asked["merge_by_day"]
        self.start, self.end = asked.get("from"), asked.get("to")
        self.bought = bought(orders, asked["basis"], merged=self.merged)
        self.orders = orders
        self.by = defaultdict(list)
        for one in self.bought:
            self.by[one.customer].append(one)

    def inside(self, day: date) -> bool:
        return (self.start is None or day >= self.start) and (self.end is None or day < self.end)

    def customers(self) -> dict[str, Any]:
        inside = {c: [b for b in every if self.inside(b.day)] for c, every in self.by.items()}
        purchases = sum(map(len, inside.values()))
        buyers = [c for c, found in inside.items() if found]
        amount = sum((b.amount for found in inside.values() for b in found), Decimal(0))
        old = [c for c, e in self.by.items() if self.start is not None and e[0].day < self.start]
        repeat = sum(len(found) > 1 for found in inside.values())
        return {
            "customers_ever": len(self.by),
            "new": sum(len(every) == 1 for every in self.by.values()),
            "returning": sum(len(every) > 1 for every in self.by.values()),
            "purchasing": len(buyers),
            "repeat": repeat,
            "recruited": sum(self.inside(every[0].day) for every in self.by.values()),
            "old": len(old),
            "repurchasing": sum(bool(inside[c]) for c in old),
            "purchases": purchases,
            "purchases_ever": len(self.bought),
            "repeat_rate": rounded(repeat, len(buyers)),
            "repurchase_rate": rounded(sum(bool(inside[c]) for c in old), len(old)),
            "amount": money(amount),
            "amount_ever": money(sum((b.amount for b in self.bought), Decimal(0))),
        }

    def repurchase(self) -> tuple[Any, ...]:
        return gaps_of([[b.day for b in every] for every in self.by.values()], self.inside)

    def product_cycles(self) -> dict[str, tuple[int, int, float | None]]:
        found: dict[tuple[str, UUID], list[tuple[date, int]]] = defaultdict(list)
        for order in self.orders:
            for product in order.products:
                found[product, order.customer].append((order.day, order.position))
        cycles = {}
        for product in sorted({product for product, _ in found}):
            days = [
                sorted({d for d, _ in each}) if self.merged else [d for d, _ in sorted(each)]
                for (name, _), each in found.items()
                if name == product
            ]
            customers, gaps, mean, *_ = gaps_of(days, self.inside)
            if customers:
                cycles[product] = (customers, gaps, mean)
        return cycles

    def cohorts(self) -> dict[tuple[str, int], tuple[int, int, dict[str, str]]]:
        found: dict[tuple[str, int], list[Bought]] = defaultdict(list)
        for every in self.by.values():
            first = every[0].day.replace(day=1)
            for b in every:
                if self.inside(b.day):
                    months = (b.day.year - first.year) * 12 + b.day.month - first.month
                    found[str(first), months].append(b)
        return {
            key: (len({b.customer for b in each}), len(each), money(sum(b.amount for b in each)))
            for key, each in found.items()
        }

    def rfm(self, today: date) -> dict[str, tuple[int, int, dict[str, str], int, int, int, str]]:
        values = {}
        for customer, every in self.by.items():
            inside = [b for b in every if self.inside(b.day)]
            if inside:
                amount = sum((b.amount for b in inside), Decimal(0))
                values[customer] = ((today - every[-1].day).days, len(inside), amount)
        n = len(values)

        def score(value: Any, at: int) -> int:
            sign = -1 if at == 0 else 1
            worse = sum(sign * v[at] < sign * value for v in values.values())
            return min(5, 1 + 5 * worse // n)

        def better(value: Any, at: int) -> bool:
            mean = Fraction(sum((Fraction(v[at]) for v in values.values()), Fraction(0)), n)
            return Fraction(value) < mean if at == 0 else Fraction(value) > mean

        names = {True: "important", False: "general"}
        kinds = {
            (True, True): "value",
            (True, False): "develop",
            (False, True): "keep",
            (False, False): "win-back",
        }
        return {
            str(customer): (
                v[0],
                v[1],
                money(v[2]),
                *(score(v[at], at) for at in range(3)),
                f"{names[better(v[2], 2)]}-{kinds[better(v[0], 0), better(v[1], 1)]}",
            )
            for customer, v in values.items()
        }


QUESTIONS = st.fixed_dictionaries(
    {
        "merge_by_day": st.booleans(),
        "basis": st.sampled_from(("ordered", "received", "net")),
    },
    optional={
        "from": st.integers(0, 40).map(lambda n: FIRST_DAY + timedelta(days=n)),
        "to": st.integers(41, 80).map(lambda n: FIRST_DAY + timedelta(days=n)),
        "as_of": st.integers(20, 90).map(lambda n: FIRST_DAY + timedelta(days=n)),
        "known_at": st.integers(4, 20),
        "owner": st.sampled_from(("r0", "r1")),
        "product": st.sampled_from(("Loom", "Yarn")),
        "tag": st.sampled_from(("vip", "late")),
    },
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=HISTORIES, questions=st.lists(QUESTIONS, min_size=2, max_size=4))
def test_any_history_gives_what_sums_over_the_events_give(
    new_world: NewWorld, actions: list[Action], questions: list[dict[str, Any]]
) -> None:
    with new_world() as company:
        registered(company)
        for action in actions:
            act(company, action)
        company.write_facts(batch=7)
        head = company.head()
        for drawn in questions:
            question = {**drawn, "currency": "EUR"}
            if "known_at" in question:
                question["known_at"] = min(question["known_at"], head)
            compare(company, question)


def compare(company: World, question: dict[str, Any]) -> None:
    oracle = Oracle(company, question)
    params = {name: str(value).lower() for name, value in question.items() if name != "currency"}
    params = {
        name: str(question[name]) if name in ("owner", "product", "tag") else value
        for name, value in params.items()
    } | {"currency": "EUR"}
    found = company.get("/analytics/customers", **params)
    assert {name: found[name] for name in oracle.customers()} == oracle.customers()
    cycles = company.get("/analytics/repurchase", **params)
    names = ("customers", "gaps", "mean_gap", "mean_of_means", "first_customers", "first_gap")
    assert tuple(cycles[name] for name in names) == oracle.repurchase()
    assert {
        p["product"]: (p["customers"], p["gaps"], p["mean_gap"]) for p in cycles["products"]
    } == oracle.product_cycles()
    months = company.get("/analytics/cohorts", **params)["items"]
    assert {
        (m["cohort"], m["month"]): (m["customers"], m["purchases"], m["amount"]) for m in months
    } == oracle.cohorts()
    scored = company.get("/analytics/rfm/customers", **params)
    expected = oracle.rfm(date.fromisoformat(scored["today"]))
    keys = ("recency_days", "frequency", "monetary", "r_score", "f_score", "m_score", "segment")
    assert {
        item["customer_id"]: tuple(item[key] for key in keys) for item in scored["items"]
    } == expected
    segments = company.get("/analytics/rfm", **params)["items"]
    assert {s["segment"]: s["customers"] for s in segments} == Counter(
        one[-1] for one in expected.values()
    )
