"""An order is its rep's from the hand-over on, and was the former one's before; its own region."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import pytest

from tests.projections.world import World, day, eur

ANN, BEN = UUID(int=101), UUID(int=102)
LOOMS, YARN, SILK = (UUID(int=n) for n in (201, 202, 203))
PAID = UUID(int=301)
BEFORE: dict[str, Any] = {"as_of": "2026-03-15"}
AFTER: dict[str, Any] = {"as_of": "2026-03-31"}


@pytest.fixture
def company(company: World) -> World:
    """Ada's order of 100, of which 40 are paid, is Bob's from March 20 on; 7 are Bob's anyway."""
    company.do("customers/register", ANN, day("2026-03-01"), name="Ann", region="south")
    company.do("customers/register", BEN, day("2026-03-01"), name="Ben")
    for order, customer, owner, amount, region in (
        (LOOMS, ANN, "ada", "100", "north"),
        (YARN, ANN, "bob", "7", "north"),
        (SILK, BEN, "eve", "30", None),
    ):
        placed = {"customer_id": customer, "owner": owner, "amount": eur(amount)}
        more = {} if region is None else {"region": region}
        company.do("orders/place", order, day("2026-03-10"), **placed, **more)
    company.do(
        "payments/receive",
        PAID,
        day("2026-03-12"),
        customer_id=ANN,
        amount=eur("40"),
        allocations=[{"order_id": LOOMS, "amount": eur("40")}],
    )
    company.do("orders/hand-over", LOOMS, day("2026-03-20"), owner="bob", reason="Ada left")
    company.project()
    company.write_facts()
    return company


@pytest.mark.parametrize(
    ("clocks", "owner"), [({}, "bob"), (AFTER, "bob"), (BEFORE, "ada"), ({"known_at": 6}, "ada")]
)
def test_lists_show_an_orders_rep_of_the_moment(company: World, clocks: Any, owner: str) -> None:
    assert company.get(f"/orders/{LOOMS}", **clocks)["owner"] == owner
    ids = {item["id"] for item in company.get("/orders", owner=owner, **clocks)["items"]}
    assert str(LOOMS) in ids
    other = "ada" if owner == "bob" else "bob"
    others = {item["id"] for item in company.get("/orders", owner=other, **clocks)["items"]}
    assert str(LOOMS) not in others


def test_an_orders_history_says_whose_it_was_and_why_it_changed_hands(company: World) -> None:
    history = company.get(f"/orders/{LOOMS}")["history"]
    assert [(fact["owner"], fact["status"], fact["reason"]) for fact in history] == [
        ("ada", "placed", None),
        ("bob", "placed", "Ada left"),
    ]
    entries = company.get(f"/customers/{ANN}/timeline")["items"]
    assert "order.handed-over" in {entry["type"] for entry in entries}
    assert company.differing() == []


@pytest.mark.parametrize(
    ("clocks", "reps"),
    [
        ({}, {"bob": (2, "107.00", "40.00"), "eve": (1, "30.00", "0.00")}),
        (AFTER, {"bob": (2, "107.00", "40.00"), "eve": (1, "30.00", "0.00")}),
        (
            BEFORE,
            {
                "ada": (1, "100.00", "40.00"),
                "bob": (1, "7.00", "0.00"),
                "eve": (1, "30.00", "0.00"),
            },
        ),
    ],
)
def test_receivables_by_rep_follow_the_order(company: World, clocks: Any, reps: Any) -> None:
    items = company.get("/payments/by-rep", **clocks)["items"]
    assert {
        item["rep"]: (item["orders"], item["billed"]["amount"], item["received"]["amount"])
        for item in items
    } == reps


@pytest.mark.parametrize(
    ("clocks", "amounts"),
    [
        ({}, {"ada": None, "bob": "107.00"}),
        (AFTER, {"ada": None, "bob": "107.00"}),
        (BEFORE, {"ada": "100.00", "bob": "7.00"}),
    ],
)
def test_figures_by_rep_follow_the_order(company: World, clocks: Any, amounts: Any) -> None:
    for owner, amount in amounts.items():
        asked = {"owner": owner, "currency": "EUR", **clocks}
        bought = company.get("/analytics/customers", **asked)
        assert bought["amount"]["amount"] == (amount or "0.00")
        months = company.get("/analytics/receipts", **asked)["items"]
        assert [month["due"]["amount"] for month in months] == ([amount] if amount else [])


def test_orders_are_listed_by_their_own_region(company: World) -> None:
    for clocks in ({}, BEFORE):
        found = company.get("/orders", region="north", **clocks)["items"]
        assert [item["id"] for item in found] == [str(LOOMS), str(YARN)]
        assert {item["region"] for item in found} == {"north"}
    assert company.get("/orders", region="south")["items"] == []
    assert company.get(f"/orders/{SILK}")["region"] is None


def test_figures_know_the_region_of_the_order_beside_the_customers(company: World) -> None:
    by_order = company.get("/analytics/regions")["items"]
    assert [(g["group"], g["customers"], g["purchases"], g["amount"]) for g in by_order] == [
        ("north", 1, 2, eur("107.00")),
        (None, 1, 1, eur("30.00")),
    ]
    merged = company.get("/analytics/regions", merge_by_day="true")["items"]
    assert [(g["group"], g["purchases"]) for g in merged] == [("north", 1), (None, 1)]
    by_customer = company.get("/analytics/regions", by="customer")["items"]
    assert [(g["group"], g["amount"]["amount"]) for g in by_customer] == [
        ("south", "107.00"),
        (None, "30.00"),
    ]
    behind = company.get("/analytics/regions/list", group="north")["items"]
    assert [row["amount"]["amount"] for row in behind] == ["100.00", "7.00"]
    [nowhere] = company.get("/analytics/regions/list", by="customer")["items"]
    assert nowhere["customer_id"] == str(BEN)
    chosen = company.get("/analytics/customers", order_region="north")
    assert (chosen["purchases"], chosen["amount"]) == (2, eur("107.00"))
    assert company.get("/analytics/customers", order_region="south")["purchases"] == 0
    [month] = company.get("/analytics/receipts", order_region="north")["items"]
    assert (month["due"], month["received"]) == (eur("107.00"), eur("40.00"))


def test_an_order_that_an_earlier_version_placed_has_no_region(company: World) -> None:
    old = UUID(int=299)
    total = {"amount": "5.00", "currency": "EUR"}
    payload = {"customer_id": str(ANN), "owner": "ada", "total": total}
    company.slip_in("order", old, "order.placed", orjson.dumps(payload))
    company.project()
    company.write_facts()
    shown = company.get(f"/orders/{old}")
    assert (shown["region"], shown["owner"], shown["amount"]) == (None, "ada", eur("5.00"))
    company.do("orders/hand-over", old, owner="bob")
    company.project()
    assert company.get(f"/orders/{old}")["owner"] == "bob"
    nowhere = company.get("/analytics/regions")["items"][-1]
    assert (nowhere["group"], nowhere["purchases"]) == (None, 2)
