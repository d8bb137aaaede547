"""Who owes what: worked examples, then any history beside an oracle of SQL and sums by hand."""

from __future__ import annotations

import base64
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from projections import receivables
from tests.projections.conftest import NewWorld
from tests.projections.world import World, day, eur, instant

ANN, BEN = UUID(int=101), UUID(int=102)
ORDERS = [UUID(int=n) for n in (201, 202, 203)]
PAYMENTS = [UUID(int=n) for n in (301, 302, 303)]
ONE, TWO, THREE = ORDERS
FIRST, SECOND, _ = PAYMENTS


def two_customers(company: World) -> None:
    company.do("customers/register", ANN, day("2026-01-01"), name="Ann")
    company.do("customers/register", BEN, day("2026-01-01"), name="Ben")


def amounts(item: dict[str, Any], *names: str) -> tuple[str, ...]:
    return tuple(item[name]["amount"] for name in names)


def account(company: World, customer: UUID = ANN, **params: Any) -> tuple[str, ...]:
    """billed, received, refunded, receivable, overdue"""
    items = company.get("/payments/receivables", customer_id=str(customer), **params)["items"]
    [item] = items
    return amounts(item, "billed", "received", "refunded", "receivable", "overdue")


def buckets(company: World, **params: Any) -> dict[str, str]:
    [item] = company.get("/payments/ageing", **params)["items"]
    found = {b["bucket"]: b["amount"]["amount"] for b in item["buckets"]}
    return {name: amount for name, amount in found.items() if Decimal(amount) > 0}


def part(order: UUID, amount: str) -> dict[str, Any]:
    return {"order_id": str(order), "amount": eur(amount)}


def test_every_page_of_receivables_is_of_what_the_first_one_knew(company: World) -> None:
    """Who pays in between is listed once, and so is who orders more."""
    people = [UUID(int=n) for n in range(111, 115)]
    for n, (person, amount) in enumerate(zip(people, ("400", "300", "200", "100"), strict=True)):
        company.do("customers/register", person, day("2026-01-01"), name=f"Person {n}")
        asked = {"customer_id": person, "amount": eur(amount)}
        company.do("orders/place", UUID(int=500 + n), day("2026-02-01"), **asked)
    company.project()
    owed = company.get("/payments/receivables")["items"]

    def pay() -> None:
        company.do("payments/receive", FIRST, customer_id=people[0], amount=eur("350"))

    def order() -> None:
        company.do("orders/place", UUID(int=600), customer_id=people[3], amount=eur("900"))

    found: list[Any] = []
    page = company.get("/payments/receivables", limit=1)
    position = page["position"]
    for change in (pay, order, None, None):
        found += page["items"]
        if change is not None:
            change()
            company.project()
        if page["next"] is not None:
            page = company.get(page["next"])
            assert page["position"] == position
    assert found == owed
    assert page["next"] is None
    now = company.get("/payments/receivables")["items"]
    assert [one["receivable"]["amount"] for one in now] == ["1000.00", "300.00", "200.00", "50.00"]
    then = {"as_of": "2026-03-01", "known_at": position, "limit": 2}
    pages = list(company.pages("/payments/receivables", **then))
    assert [row["receivable"] for rows in pages for row in rows] == [
        row["receivable"] for row in owed
    ]


def test_a_page_that_nothing_changed_since_is_as_cheap_as_the_first(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_customers(company)
    for order, customer in ((ONE, ANN), (TWO, BEN)):
        asked = {"customer_id": customer, "amount": eur("10")}
        company.do("orders/place", order, day("2026-02-01"), **asked)
    company.project()
    page = company.get("/payments/receivables", limit=1)
    seen: list[bool] = []
    kept = receivables.kept_at

    def watched(conn: Any, when: Any, customer: Any) -> Any:
        seen.append(when.is_live)
        return kept(conn, when, customer)

    monkeypatch.setattr(receivables, "kept_at", watched)
    assert company.get(page["next"])["items"]
    assert seen == [True]


def test_ageing_counts_what_is_not_paid_in_full(company: World) -> None:
    two_customers(company)
    today = {"as_of": "2026-06-01"}
    parts = [
        {"due": due, "amount": eur("50")} for due in ("2026-05-20", "2026-05-25", "2026-07-01")
    ]
    company.do("orders/place", ONE, day("2026-02-01"), customer_id=ANN, amount=eur("150"))
    company.do("orders/plan-payments", ONE, day("2026-02-01"), instalments=parts)
    company.do("orders/place", TWO, day("2026-01-01"), customer_id=ANN, amount=eur("10"))
    company.do("orders/place", THREE, day("2026-05-21"), customer_id=BEN, amount=eur("30"))
    company.project()

    def counts(**asked: Any) -> dict[str, int]:
        total = company.get("/payments/ageing", **today, **asked)["total"][0]
        return {one["bucket"]: one["count"] for one in total["buckets"] if one["count"]}

    assert counts() == {"current": 1, "1-30": 3, ">90": 1}
    assert counts(customer_id=str(BEN)) == {"1-30": 1}
    asked = {"customer_id": ANN, "amount": eur("60"), "allocations": [part(ONE, "50")]}
    company.do("payments/receive", FIRST, day("2026-05-22"), **asked)  # ten are credit
    company.project()
    assert counts() == {"current": 1, "1-30": 2}
    live = company.get("/payments/ageing")["total"][0]
    assert sum(one["count"] for one in live["buckets"]) == 3


def test_the_difference_stands_before_returns_and_credit_notes_and_the_balance_after(
    company: World,
) -> None:
    two_customers(company)
    company.do("orders/place", ONE, day("2026-02-01"), customer_id=ANN, amount=eur("100"))
    asked = {"customer_id": ANN, "amount": eur("30"), "allocations": [part(ONE, "30")]}
    company.do("payments/receive", FIRST, day("2026-02-02"), **asked)
    company.do("orders/return", ONE, day("2026-02-03"), amount=eur("20"), reason="torn")
    note = {"kind": "credit-note", "allocations": [part(ONE, "10")]}
    company.do(
        "payments/receive", SECOND, day("2026-02-04"), customer_id=ANN, amount=eur("10"), **note
    )
    company.do("orders/place", TWO, day("2026-02-01"), customer_id=ANN, amount=eur("50"))
    company.do("orders/cancel", TWO, day("2026-02-05"), reason="too late")
    company.project()
    for clocks in ({}, {"as_of": "2026-03-01"}):
        one, two = company.get("/orders", **clocks)["items"]
        assert amounts(one, "difference", "balance") == ("70.00", "40.00")
        assert amounts(two, "difference", "balance") == ("0.00", "0.00")


def test_an_order_is_paid_in_parts_over_paid_and_paid_back(company: World) -> None:
    two_customers(company)
    line = {"product": "Loom", "quantity": "3", "unit_price": eur("33.33"), "discount": "10"}
    company.do("orders/place", ONE, day("2026-02-01"), customer_id=ANN, lines=[line], number="7")
    company.do(
        "orders/plan-payments",
        ONE,
        day("2026-02-01"),
        instalments=[
            {"due": "2026-03-01", "amount": eur("50.00")},
            {"due": "2026-04-01", "amount": eur("39.99")},
        ],
    )
    company.project()
    assert account(company, as_of="2026-02-10") == ("89.99", "0.00", "0.00", "89.99", "0.00")
    assert account(company, as_of="2026-03-02") == ("89.99", "0.00", "0.00", "89.99", "50.00")
    company.do(
        "payments/receive",
        FIRST,
        day("2026-03-05"),
        customer_id=ANN,
        amount=eur("100"),
        allocations=[part(ONE, "60.00")],
        reference="HQ1",
    )
    company.project()
    assert account(company, as_of="2026-03-10") == ("89.99", "100.00", "0.00", "-10.01", "0.00")
    shown = company.get(f"/orders/{ONE}", as_of="2026-03-10")
    assert amounts(shown, "billed", "received", "refunded", "balance") == (
        "89.99",
        "60.00",
        "0.00",
        "29.99",
    )
    assert [p["open"]["amount"] for p in shown["instalments"]] == ["0.00", "29.99"]
    assert amounts(company.get(f"/payments/{FIRST}"), "amount", "credit") == ("100.00", "40.00")
    company.do("payments/allocate", FIRST, day("2026-03-11"), allocations=[part(ONE, "29.99")])
    company.do("payments/refund", FIRST, day("2026-03-12"), amount=eur("10.01"))
    company.do(
        "orders/return", ONE, day("2026-04-02"), amount=eur("30.00"), reason="a thread is loose"
    )
    company.do("payments/refund", FIRST, day("2026-04-03"), amount=eur("30.00"), order_id=str(ONE))
    company.project()
    assert account(company) == ("59.99", "100.00", "40.01", "0.00", "0.00")
    assert amounts(company.get(f"/orders/{ONE}"), "amount", "billed", "balance") == (
        "89.99",
        "59.99",
        "0.00",
    )
    kinds = [f["kind"] for f in company.get(f"/payments/{FIRST}")["history"]]
    assert kinds == ["received", "allocated", "allocated", "refunded", "refunded"]


def test_a_credit_note_lessens_what_is_billed_and_settles_orders_like_money(
    company: World,
) -> None:
    two_customers(company)
    company.do("orders/place", ONE, day("2026-02-01"), customer_id=ANN, amount=eur("100"), by="ada")
    company.do(
        "payments/receive",
        FIRST,
        day("2026-02-05"),
        kind="credit-note",
        customer_id=ANN,
        amount=eur("30"),
        note="A loom came back without its papers.",
        reference="C7",
    )
    company.project()
    assert account(company, as_of="2026-02-04") == ("100.00", "0.00", "0.00", "100.00", "100.00")
    assert account(company) == ("70.00", "0.00", "0.00", "70.00", "70.00")
    assert sum(map(Decimal, buckets(company).values())) == 70
    company.do("payments/allocate", FIRST, day("2026-02-06"), allocations=[part(ONE, "20")])
    company.do("payments/refund", FIRST, day("2026-02-07"), amount=eur("10"))
    company.project()
    assert account(company) == ("70.00", "0.00", "10.00", "80.00", "80.00")
    order = company.get(f"/orders/{ONE}")
    assert amounts(order, "billed", "credited", "received", "balance") == (
        "100.00",
        "20.00",
        "0.00",
        "80.00",
    )
    assert [paid["payment_kind"] for paid in order["payments"]] == ["credit-note"]
    [note] = company.get("/payments", kind="credit-note")["items"]
    assert (note["reference"], *amounts(note, "amount", "credit")) == ("C7", "30.00", "0.00")
    assert company.get("/payments", kind="money")["items"] == []
    history = company.get(f"/payments/{FIRST}")["history"]
    assert [f["kind"] for f in history] == ["credited", "allocated", "refunded"]
    [entry] = company.get(f"/customers/{ANN}/timeline", type="payment.credit-note-issued")["items"]
    assert entry["data"]["note"] == "A loom came back without its papers."
    reps = company.get("/payments/by-rep")["items"]
    assert {r["rep"]: amounts(r, "billed", "received", "receivable") for r in reps} == {
        "ada": ("80.00", "0.00", "80.00"),
        None: ("-10.00", "0.00", "0.00"),
    }
    [month] = company.get("/payments/by-period")["items"]
    assert amounts(month, "billed", "received", "refunded") == ("70.00", "0.00", "10.00")


def test_one_receipt_over_several_orders_and_a_cancelled_one(company: World) -> None:
    two_customers(company)
    for order, amount in zip(ORDERS, ("100", "50", "25"), strict=True):
        company.do("orders/place", order, day("2026-02-01"), customer_id=ANN, amount=eur(amount))
    company.do(
        "payments/receive",
        FIRST,
        day("2026-02-05"),
        customer_id=ANN,
        amount=eur("170"),
        allocations=[part(ONE, "100"), part(TWO, "50"), part(THREE, "20")],
    )
    company.do("orders/cancel", TWO, day("2026-02-06"), reason="too late")
    company.project()
    assert account(company) == ("125.00", "170.00", "0.00", "-45.00", "0.00")
    balances = {o["id"]: o["balance"]["amount"] for o in company.get("/orders")["items"]}
    assert balances == {str(ONE): "0.00", str(TWO): "-50.00", str(THREE): "5.00"}
    assert company.get("/payments/ageing")["items"] == []
    company.do("payments/release", FIRST, day("2026-02-07"), **part(TWO, "50"))
    company.do("payments/refund", FIRST, day("2026-02-07"), amount=eur("50"))
    company.project()
    assert account(company) == ("125.00", "170.00", "50.00", "5.00", "5.00")
    assert company.get("/orders", status="cancelled")["items"][0]["balance"]["amount"] == "0.00"


def test_what_is_owed_is_counted_by_days_past_due(company: World) -> None:
    two_customers(company)
    company.do("orders/place", ONE, day("2026-01-10"), customer_id=ANN, amount=eur("400"))
    company.do(
        "orders/plan-payments",
        ONE,
        day("2026-01-10"),
        instalments=[
            {"due": due, "amount": eur("100")}
            for due in ("2026-03-31", "2026-03-01", "2026-01-31", "2026-04-15")
        ],
    )
    company.project()
    assert buckets(company, as_of="2026-01-31") == {"current": "400.00"}
    assert buckets(company, as_of="2026-03-31") == {
        "current": "200.00",
        "1-30": "100.00",
        "31-60": "100.00",
    }
    assert buckets(company, as_of="2026-05-30", buckets="45,60") == {
        "1-45": "100.00",
        "46-60": "100.00",
        ">60": "200.00",
    }
    company.do("payments/receive", FIRST, day("2026-04-01"), customer_id=ANN, amount=eur("150"))
    company.project()
    assert buckets(company, as_of="2026-04-01") == {
        "current": "100.00",
        "1-30": "100.00",
        "31-60": "50.00",
    }
    assert company.ask("/payments/ageing", buckets="60,30").status_code == 422


def test_a_payment_entered_late_changes_what_is_known_now_and_not_what_was_known(
    company: World,
) -> None:
    two_customers(company)
    company.do("orders/place", ONE, day("2026-02-01"), customer_id=ANN, amount=eur("80"))
    then = company.head()
    company.do(
        "payments/receive",
        FIRST,
        day("2026-02-10"),
        customer_id=ANN,
        amount=eur("80"),
        allocations=[part(ONE, "80")],
    )
    company.project()
    clocks = {"as_of": "2026-02-15"}
    assert account(company, **clocks) == ("80.00", "80.00", "0.00", "0.00", "0.00")
    assert account(company, **clocks, known_at=then) == ("80.00", "0.00", "0.00", "80.00", "80.00")
    [known] = company.get("/orders", **clocks, known_at=then)["items"]
    assert known["balance"]["amount"] == "80.00"
    [now] = company.get("/orders", **clocks)["items"]
    assert now["balance"]["amount"] == "0.00"
    past = company.get(f"/customers/{ANN}", **clocks, known_at=then)
    assert [a["receivable"]["amount"] for a in past["accounts"]] == ["80.00"]
    assert past["payments"] == []


def test_a_line_that_was_entered_early_counts_only_from_its_day_on(company: World) -> None:
    two_customers(company)
    company.do("orders/place", ONE, day("2026-03-01"), customer_id=ANN, amount=eur("100"))
    for on, price in (("2026-03-10", "50"), ("2026-03-05", "30")):
        line = {"product": "x", "quantity": "1", "unit_price": eur(price)}
        company.do("orders/add-line", ONE, day(on), line=line)
    company.project()
    shown = company.get(f"/orders/{ONE}", as_of="2026-03-06")
    assert shown["billed"]["amount"] == "130.00"
    assert [line["total"]["amount"] for line in shown["lines"]] == ["30.00"]
    assert company.get(f"/orders/{ONE}")["billed"]["amount"] == "180.00"
    then = company.get(f"/orders/{ONE}", known_at=4)
    assert (then["version"], then["billed"]["amount"], len(then["lines"])) == (2, "150.00", 1)


def test_who_pays_for_another_is_shown_alike_at_every_moment(company: World) -> None:
    two_customers(company)
    company.do("orders/place", ONE, day("2026-02-01"), customer_id=ANN, amount=eur("100"))
    company.do(
        "payments/receive",
        FIRST,
        day("2026-02-05"),
        customer_id=BEN,
        amount=eur("100"),
        allocations=[part(ONE, "100")],
    )
    company.project()
    for params in ({}, {"known_at": company.head()}, {"as_of": "2026-03-01"}):
        ann, ben = (company.get(f"/customers/{who}", **params) for who in (ANN, BEN))
        [account_of_ann], accounts_of_ben = ann["accounts"], ben["accounts"]
        assert amounts(account_of_ann, "received", "receivable") == ("100.00", "0.00")
        assert [a["receivable"]["amount"] for a in accounts_of_ben] == ["0.00"]
        assert ann["orders"][0]["balance"]["amount"] == "0.00"


def test_the_parts_of_an_order_add_up_to_its_balance(company: World) -> None:
    two_customers(company)
    company.do("orders/place", ONE, day("2026-01-10"), customer_id=ANN, amount=eur("100"))
    halves = [{"due": due, "amount": eur("50")} for due in ("2026-02-01", "2026-03-01")]
    company.do("orders/plan-payments", ONE, day("2026-01-10"), instalments=halves)
    company.do(
        "payments/receive",
        FIRST,
        day("2026-02-05"),
        customer_id=ANN,
        amount=eur("60"),
        allocations=[part(ONE, "60")],
    )
    company.do("orders/return", ONE, day("2026-02-06"), amount=eur("30"), reason="r")
    company.project()

    def opens() -> list[tuple[int | None, str, str]]:
        shown = company.get(f"/orders/{ONE}")["instalments"]
        return [(p["number"], p["amount"]["amount"], p["open"]["amount"]) for p in shown]

    assert opens() == [(1, "50.00", "0.00"), (2, "20.00", "10.00")]
    line = {"product": "x", "quantity": "1", "unit_price": eur("45")}
    company.do("orders/add-line", ONE, day("2026-02-07"), line=line)
    company.project()
    assert opens() == [(1, "50.00", "0.00"), (2, "50.00", "40.00"), (None, "15.00", "15.00")]
    company.do("orders/cancel", ONE, day("2026-02-08"), reason="r")
    company.project()
    assert opens() == [(1, "0.00", "0.00"), (2, "0.00", "0.00")]


def test_more_may_be_owed_for_a_while_than_was_billed(company: World) -> None:
    two_customers(company)
    company.do("orders/place", ONE, day("2026-02-01"), customer_id=ANN, amount=eur("100"))
    company.do(
        "payments/receive",
        FIRST,
        day("2026-03-10"),
        customer_id=ANN,
        amount=eur("100"),
        allocations=[part(ONE, "100")],
    )
    company.do("payments/refund", FIRST, day("2026-03-05"), amount=eur("30"), order_id=str(ONE))
    company.project()
    assert account(company, as_of="2026-03-06")[3] == "130.00"
    assert buckets(company, as_of="2026-03-06") == {"current": "30.00", "31-60": "100.00"}


def test_more_may_have_come_back_for_a_while_than_was_billed(company: World) -> None:
    two_customers(company)
    company.do("orders/place", ONE, day("2026-02-01"), customer_id=ANN, amount=eur("90"))
    company.do("orders/place", TWO, day("2026-02-01"), customer_id=ANN, amount=eur("190"))
    whole = [{"due": "2026-02-20", "amount": eur("90")}]
    company.do("orders/plan-payments", ONE, day("2026-02-01"), instalments=whole)
    line = {"product": "x", "quantity": "1", "unit_price": eur("100")}
    company.do("orders/add-line", ONE, day("2026-03-20"), line=line)
    company.do("orders/return", ONE, day("2026-03-05"), amount=eur("150"), reason="r")
    company.project()
    clocks = {"as_of": "2026-03-06"}
    assert account(company, **clocks)[3:] == ("130.00", "130.00")
    shown = company.get(f"/orders/{ONE}", **clocks)
    assert amounts(shown, "billed", "balance") == ("-60.00", "-60.00")
    assert [p["open"]["amount"] for p in shown["instalments"]] == ["0.00"]
    company.write_facts()
    months = company.get("/analytics/receipts", **clocks)["items"]
    assert months[-1]["behind"]["amount"] == "130.00"


def test_a_made_up_cursor_is_refused(company: World) -> None:
    cursor = base64.urlsafe_b64encode(b'["1","\\u0000"]').decode().rstrip("=")
    assert company.ask("/payments/receivables", cursor=cursor).status_code in (422, 503)
    company.project()
    assert company.ask("/payments/receivables", cursor=cursor).status_code == 422


def test_reps_and_periods(company: World) -> None:
    two_customers(company)
    company.do("orders/place", ONE, day("2026-01-10"), customer_id=ANN, amount=eur("100"), by="ada")
    company.do("orders/place", TWO, day("2026-02-10"), customer_id=BEN, amount=eur("70"), by="bob")
    company.do("orders/place", THREE, day("2026-02-11"), customer_id=BEN, amount=eur("9"), by="bob")
    company.do("orders/cancel", THREE, day("2026-02-12"), reason="no")
    company.do(
        "payments/receive",
        FIRST,
        day("2026-02-20"),
        customer_id=ANN,
        amount=eur("130"),
        allocations=[part(ONE, "90")],
    )
    company.do("payments/refund", FIRST, day("2026-03-01"), amount=eur("15"))
    company.project()
    reps = company.get("/payments/by-rep")["items"]
    assert [
        (r["rep"], r["orders"], *amounts(r, "billed", "received", "refunded", "receivable"))
        for r in reps
    ] == [
        ("ada", 1, "100.00", "90.00", "0.00", "10.00"),
        ("bob", 1, "70.00", "0.00", "0.00", "70.00"),
        (None, 0, "0.00", "40.00", "15.00", "-25.00"),
    ]
    periods = company.get("/payments/by-period")["items"]
    assert [
        (p["begins"], p["orders"], *amounts(p, "billed", "received", "refunded")) for p in periods
    ] == [
        ("2026-01-01", 1, "100.00", "0.00", "0.00"),
        ("2026-02-01", 1, "70.00", "130.00", "0.00"),
        ("2026-03-01", 0, "0.00", "0.00", "15.00"),
    ]
    quarters = company.get("/payments/by-period", period="quarter")["items"]
    assert [(q["begins"], q["orders"]) for q in quarters] == [("2026-01-01", 2)]


def test_the_largest_debts_come_first_page_by_page(company: World) -> None:
    for n in range(7):
        customer = UUID(int=500 + n)
        company.do("customers/register", customer, day("2026-01-01"), name=f"C{n}")
        order, amount = UUID(int=600 + n), str(10 * (n % 4))
        company.do(
            "orders/place", order, day("2026-01-02"), customer_id=customer, amount=eur(amount)
        )
    company.project()
    owed = [
        item["receivable"]["amount"]
        for page in company.pages("/payments/receivables", limit=2)
        for item in page
    ]
    assert owed == ["30.00", "20.00", "20.00", "10.00", "10.00", "0.00", "0.00"]
    total = company.get("/payments/receivables", limit=1)["total"]
    assert total["receivable"] == {"amount": "90.00", "currency": "EUR"}
    yen = {"amount": "5", "currency": "JPY"}
    company.do("orders/place", ONE, day("2026-01-02"), customer_id=UUID(int=500), amount=yen)
    company.project()
    assert company.get("/payments/receivables")["total"] is None
    assert company.get("/payments/receivables", currency="JPY")["total"]["billed"] == yen


def test_what_is_owed_in_all_is_one_figure_and_credit_stands_apart(company: World) -> None:
    owes, has_credit = UUID(int=501), UUID(int=502)
    for customer in (owes, has_credit):
        company.do("customers/register", customer, day("2026-01-01"), name="C")
    sek = {"amount": "100.00", "currency": "SEK"}
    half = {"amount": "50.00", "currency": "SEK"}
    at = day("2026-01-02")
    company.do("orders/place", UUID(int=601), at, customer_id=owes, amount=sek)
    company.do("payments/receive", UUID(int=701), at, customer_id=has_credit, amount=half)
    company.project()
    for clocks in ({}, {"as_of": "2026-03-01"}):
        total = company.get("/payments/receivables", **clocks)["total"]
        assert (total["receivable"], total["credit"]) == (sek, half)
        [aged] = company.get("/payments/ageing", **clocks)["total"]
        assert aged["receivable"] == sek
        of_one = company.get("/payments/receivables", customer_id=has_credit, **clocks)["total"]
        assert (of_one["receivable"]["amount"], of_one["credit"]) == ("0.00", half)
    owing = company.get("/payments/receivables", owing="true")["total"]
    assert (owing["receivable"], owing["credit"]["amount"]) == (sek, "0.00")


def test_money_for_an_order_that_is_not_there_is_refused(company: World) -> None:
    two_customers(company)
    status = company.try_(
        "payments/receive",
        FIRST,
        customer_id=ANN,
        amount=eur("10"),
        allocations=[part(ONE, "5")],
    )
    assert (status, company.answer.body["rule"]) == (409, "OrderUnknown")
    assert company.answer.body["fields"] == ["allocations.0.order_id"]
    assert company.head() == 2


START = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 24 * 120).map(lambda hours: (START + timedelta(hours=hours)).isoformat())
SUMS = st.integers(1, 30).map(lambda n: str(n * 10))
DAYS = st.integers(0, 120).map(lambda n: (START + timedelta(days=n)).date().isoformat())
order, payment, customer = (
    st.sampled_from(ORDERS),
    st.sampled_from(PAYMENTS),
    st.sampled_from([ANN, BEN]),
)
money = SUMS.map(eur)
parts = st.builds(lambda o, m: {"order_id": str(o), "amount": m}, order, money)
plans = st.lists(
    st.builds(lambda d, m: {"due": d, "amount": m}, DAYS, money), max_size=3, min_size=1
)
STEPS = st.one_of(
    st.tuples(
        st.just("orders/place"),
        order,
        st.fixed_dictionaries({"customer_id": customer.map(str), "amount": money}),
    ),
    st.tuples(
        st.just("orders/add-line"),
        order,
        st.builds(lambda m: {"line": {"product": "x", "quantity": "1", "unit_price": m}}, money),
    ),
    st.tuples(
        st.just("orders/plan-payments"), order, st.builds(lambda p: {"instalments": p}, plans)
    ),
    st.tuples(
        st.just("orders/return"), order, st.builds(lambda m: {"amount": m, "reason": "r"}, money)
    ),
    st.tuples(
        st.sampled_from(["orders/cancel", "orders/hold", "orders/dispute"]),
        order,
        st.just({"reason": "r"}),
    ),
    st.tuples(
        st.sampled_from(["orders/ship", "orders/complete", "orders/resolve"]), order, st.just({})
    ),
    st.tuples(
        st.just("payments/receive"),
        payment,
        st.builds(
            lambda c, m, a, k: {"customer_id": str(c), "amount": m, "allocations": a, "kind": k},
            customer,
            money,
            st.lists(parts, max_size=2),
            st.sampled_from(["money", "money", "credit-note"]),
        ),
    ),
    st.tuples(
        st.just("payments/allocate"),
        payment,
        st.builds(lambda a: {"allocations": a}, st.lists(parts, min_size=1, max_size=2)),
    ),
    st.tuples(st.just("payments/release"), payment, parts),
    st.tuples(
        st.just("payments/refund"),
        payment,
        st.builds(
            lambda m, o: {"amount": m} | ({"order_id": str(o)} if o else {}),
            money,
            st.none() | order,
        ),
    ),
)
HISTORIES = st.lists(st.tuples(STEPS, MOMENTS), min_size=8, max_size=40)

OF_ORDERS = """
WITH e AS (
    SELECT * FROM ledger.readable_events
     WHERE stream_type = 'order' AND position <= %(known)s AND occurred_at < %(until)s
)
SELECT p.stream_id AS id, p.payload ->> 'customer_id' AS customer, p.occurred_at::date AS placed,
       CASE WHEN EXISTS (SELECT FROM e x WHERE x.stream_id = p.stream_id
                            AND x.type = 'order.cancelled') THEN 0
            ELSE (SELECT sum((coalesce(x.payload -> 'total', x.payload -> 'line' -> 'total')
                              ->> 'amount')::numeric) FROM e x
                   WHERE x.stream_id = p.stream_id
                     AND x.type IN ('order.placed', 'order.line-added'))
                 - coalesce((SELECT sum((x.payload -> 'amount' ->> 'amount')::numeric) FROM e x
                              WHERE x.stream_id = p.stream_id
                                AND x.type = 'order.goods-returned'), 0)
       END AS billed,
       coalesce((SELECT split_part(x.type, '.', 2) FROM e x WHERE x.stream_id = p.stream_id
           AND x.type IN ('order.shipped', 'order.held', 'order.disputed', 'order.resolved',
                          'order.completed', 'order.cancelled')
         ORDER BY x.version DESC LIMIT 1), 'placed') AS status,
       (SELECT x.payload -> 'instalments' FROM e x WHERE x.stream_id = p.stream_id
           AND x.type = 'order.payments-planned' ORDER BY x.version DESC LIMIT 1) AS plan
  FROM e p WHERE p.type = 'order.placed'
"""
OF_MONEY = """
SELECT split_part(e.type, '.', 2) AS kind, (e.payload -> 'amount' ->> 'amount')::numeric AS amount,
       e.payload ->> 'order_id' AS order_id, r.payload ->> 'customer_id' AS payer,
       o.payload ->> 'customer_id' AS buyer, r.type <> 'payment.received' AS is_note
  FROM ledger.readable_events e
  JOIN ledger.readable_events r ON r.stream_id = e.stream_id
   AND r.type IN ('payment.received', 'payment.credit-note-issued')
  LEFT JOIN ledger.readable_events o
    ON o.stream_id::text = e.payload ->> 'order_id' AND o.type = 'order.placed'
 WHERE e.stream_type = 'payment' AND e.position <= %(known)s AND e.occurred_at < %(until)s
"""


class Oracle:
    """The same figures from the events alone: SQL for what happened, sums by hand for the rest."""

    def __init__(self, world: World, until: datetime, known: int) -> None:
        bound = {"until": until, "known": known}
        self.today = (until - timedelta(microseconds=1)).date()
        with world.superuser() as conn:
            conn.execute("SET timezone = 'UTC'")
            rows = conn.cursor(row_factory=dict_row)
            self.orders = {str(r["id"]): r for r in rows.execute(OF_ORDERS, bound).fetchall()}
            moves = rows.execute(OF_MONEY, bound).fetchall()
        self.paid: dict[str, Decimal] = defaultdict(Decimal)
        self.accounts: dict[str, list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 3)
        for placed in self.orders.values():
            self._book(placed["customer"], 0, placed["billed"])
        for move in moves:
            amount, buyer = move["amount"], move["buyer"] or move["payer"]
            place = 0 if move["is_note"] else 1
            match move["kind"]:
                case "received":
                    self._book(move["payer"], 1, amount)
                case "credit-note-issued":
                    self._book(move["payer"], 0, -amount)
                case "allocated" | "allocation-released":
                    signed = amount if move["kind"] == "allocated" else -amount
                    self._book(move["payer"], place, -signed if place else signed)
                    self._book(buyer, place, signed if place else -signed)
                    self.paid[move["order_id"]] += signed
                case "refunded":
                    self._book(buyer, 2, amount)
                    if move["order_id"]:
                        self.paid[move["order_id"]] -= amount

    def _book(self, who: str, place: int, amount: Decimal) -> None:
        self.accounts[who] = [
            old + (amount if n == place else 0) for n, old in enumerate(self.accounts[who])
        ]

    def receivable(self, who: str) -> Decimal:
        billed, received, refunded = self.accounts[who]
        return billed - received + refunded

    def owed(self, who: str) -> dict[date, Decimal]:
        """What is owed by due day: explicit payments first, the rest against the oldest."""
        opens: list[tuple[date, Decimal]] = []
        for key, placed in self.orders.items():
            if placed["customer"] != who:
                continue
            left, paid = placed["billed"], self.paid[key]
            plan = [
                (date.fromisoformat(p["due"]), Decimal(p["amount"]["amount"]))
                for p in placed["plan"] or []
            ]
            plan.sort(key=lambda due_amount: due_amount[0])
            last = plan[-1][0] if plan else placed["placed"]
            for due, planned in [*plan, (last, left)]:
                share = max(min(planned, left), Decimal(0))
                left -= share
                covered = max(min(paid, share), Decimal(0))
                paid -= covered
                opens.append((due, share - covered))
        credit = sum((amount for _, amount in opens), Decimal(0)) - self.receivable(who)
        owed: dict[date, Decimal] = defaultdict(Decimal)
        if credit < 0:
            owed[self.today] -= credit
        for due, amount in sorted(opens):
            used = min(amount, max(credit, Decimal(0)))
            credit -= used
            owed[due] += amount - used
        return owed


@pytest.mark.slow
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(data=st.data(), history=HISTORIES)
def test_every_figure_is_what_the_events_say_at_every_moment(
    new_world: NewWorld, data: st.DataObject, history: list[Any]
) -> None:
    with new_world() as world:
        two_customers(world)
        for (command, stream, fields), at in history:
            assert world.try_(command, stream, at, **fields) in (200, 201, 404, 409)
        world.project()
        assert world.differing() == []
        assert world.differing("seed") == []
        head = world.head()
        far = (START + timedelta(days=500)).isoformat()
        for until, known in [
            (far, head),
            *data.draw(st.lists(st.tuples(MOMENTS, st.integers(2, head)), min_size=3, max_size=5)),
        ]:
            check(world, Oracle(world, instant(until), known), until, known)


def check(world: World, oracle: Oracle, until: str, known: int) -> None:
    clocks = {"as_of": until, "known_at": known}
    today = (instant(until) - timedelta(microseconds=1)).date()
    shown = {o["id"]: o for o in world.get("/orders", **clocks)["items"]}
    assert shown.keys() == oracle.orders.keys()
    for key, placed in oracle.orders.items():
        assert shown[key]["status"] == placed["status"]
        assert Decimal(shown[key]["billed"]["amount"]) == placed["billed"]
        balance = placed["billed"] - oracle.paid[key]
        assert Decimal(shown[key]["balance"]["amount"]) == balance
    items = world.get("/payments/receivables", **clocks)["items"]
    found = {i["customer"]["id"]: i for i in items}
    for who in {*found, *oracle.accounts}:
        billed, received, refunded = oracle.accounts[who]
        owed = oracle.owed(who)
        late = sum((amount for due, amount in owed.items() if due < today), Decimal(0))
        expected = (billed, received, refunded, oracle.receivable(who), late)
        names = ("billed", "received", "refunded", "receivable", "overdue")
        assert tuple(Decimal(found[who][name]["amount"]) for name in names) == expected
    aged = {
        i["customer"]["id"]: i["buckets"] for i in world.get("/payments/ageing", **clocks)["items"]
    }
    for who in oracle.accounts:
        expected_buckets = dict.fromkeys(("current", "1-30", "31-60", "61-90", ">90"), Decimal(0))
        for due, amount in oracle.owed(who).items():
            days = (today - due).days
            name = next(
                (
                    n
                    for n, most in (("current", 0), ("1-30", 30), ("31-60", 60), ("61-90", 90))
                    if days <= most
                ),
                ">90",
            )
            expected_buckets[name] += amount
        told = {b["bucket"]: Decimal(b["amount"]["amount"]) for b in aged.get(who, [])}
        assert told == expected_buckets or (not told and not any(expected_buckets.values()))
    for who in (ANN, BEN):
        answer = world.ask(f"/customers/{who}", **clocks)
        if answer.status_code == 200:
            [whole] = answer.json()["accounts"] or [None]
            if whole is not None:
                assert Decimal(whole["receivable"]["amount"]) == oracle.receivable(str(who))
