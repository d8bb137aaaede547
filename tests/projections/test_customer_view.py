"""Everything known of a customer in one answer: now, as of a day, as known then."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from read_api import customer as customer_view
from tests.projections.world import World, day, eur

ANN, BEN = UUID(int=101), UUID(int=102)
CONTACT, LEAD, DEAL, OTHER_DEAL = UUID(int=5), UUID(int=11), UUID(int=21), UUID(int=22)
WORD, QUOTE = UUID(int=31), UUID(int=41)


def some_history(company: World) -> dict[str, int]:
    """A customer's spring; positions after some of its days."""
    known = {}
    company.do(
        "customers/register", ANN, day("2026-03-01"), name="Ann", owner="ada", region="north"
    )
    company.do("customers/register", BEN, day("2026-03-01"), name="Ben")
    company.do("customers/add-contact", ANN, day("2026-03-02"), contact_id=CONTACT, name="Carl")
    company.do(
        "customers/log-interaction",
        ANN,
        day("2026-03-03"),
        channel="call",
        summary="Wants a loom",
        contact_id=CONTACT,
        minutes=5,
    )
    company.do("customers/make-promise", ANN, day("2026-03-04"), promise_id=WORD, what="An offer")
    known["promised"] = company.head()
    company.do("opportunities/open", DEAL, day("2026-03-05"), title="Loom", amount=eur("100"))
    company.do("opportunities/open", OTHER_DEAL, day("2026-03-05"), title="X", customer_id=BEN)
    company.do("opportunities/identify-customer", DEAL, day("2026-03-06"), customer_id=ANN)
    line = {"product": "Loom", "quantity": "1", "unit_price": eur("90")}
    company.do("opportunities/quote", DEAL, day("2026-03-07"), quote_id=QUOTE, lines=[line])
    company.do("leads/capture", LEAD, day("2026-03-01"), name="Dora")
    company.do("leads/claim", LEAD, day("2026-03-02"))
    company.do("leads/qualify", LEAD, day("2026-03-03"), budget=eur("50"))
    company.do("leads/convert", LEAD, day("2026-03-08"), customer_id=ANN)
    known["converted"] = company.head()
    company.do("customers/keep-promise", ANN, day("2026-03-09"), promise_id=WORD)
    company.do("customers/hand-over", ANN, day("2026-03-10"), owner="bob", reason="holiday")
    company.do("customers/change-details", ANN, day("2026-03-11"), name="Ann Ltd", phone="+1 2")
    company.do("opportunities/win", DEAL, day("2026-03-12"))
    company.project()
    return known


def view(company: World, customer: UUID = ANN, **params: Any) -> Any:
    return company.get(f"/customers/{customer}", **params)


def test_the_present_view_holds_everything(company: World) -> None:
    some_history(company)
    now = view(company)
    assert (now["name"], now["owner"], now["phone"], now["region"]) == (
        "Ann Ltd",
        "bob",
        "+1 2",
        "north",
    )
    assert now["version"] == 7
    assert now["position"] == company.head()
    assert [contact["name"] for contact in now["contacts"]] == ["Carl"]
    assert [(o["owner"], o["reason"]) for o in now["owners"]] == [("ada", None), ("bob", "holiday")]
    assert [i["summary"] for i in now["interactions"]] == ["Wants a loom"]
    assert now["last_contact_at"] == day("2026-03-03")
    assert [(p["id"], p["status"]) for p in now["promises"]] == [(str(WORD), "kept")]
    assert [(d["id"], d["kind"], d["amount"]) for d in now["opportunities"]] == [
        (str(DEAL), "won", {"amount": "90.00", "currency": "EUR"})
    ]
    assert [quote["id"] for quote in now["quotes"]] == [str(QUOTE)]
    assert [(lead["id"], lead["status"]) for lead in now["leads"]] == [(str(LEAD), "converted")]
    assert len(now["timeline"]) == 15
    times = [(entry["occurred_at"], entry["position"]) for entry in now["timeline"]]
    assert times == sorted(times, reverse=True)


def test_a_view_as_of_a_day_is_what_a_visitor_would_have_seen_then(company: World) -> None:
    some_history(company)
    then = view(company, as_of="2026-03-06")
    assert (then["name"], then["owner"], then["phone"]) == ("Ann", "ada", None)
    assert [(p["id"], p["status"]) for p in then["promises"]] == [(str(WORD), "open")]
    assert [(d["kind"], d["amount"]) for d in then["opportunities"]] == [
        ("open", {"amount": "100.00", "currency": "EUR"})
    ]
    assert then["quotes"] == then["leads"] == []
    assert {entry["stream_id"] for entry in then["timeline"]} == {str(ANN), str(DEAL)}
    assert view(company, as_of="2026-03-05")["opportunities"] == []
    assert view(company, as_of="2026-03-01")["contacts"] == []


def test_a_view_known_at_a_position_knows_nothing_later(company: World) -> None:
    known = some_history(company)
    then = view(company, known_at=known["promised"])
    assert then["known_at"] == then["position"] == known["promised"]
    assert [p["status"] for p in then["promises"]] == ["open"]
    assert then["opportunities"] == then["leads"] == []
    then = view(company, known_at=known["converted"])
    assert [deal["kind"] for deal in then["opportunities"]] == ["open"]
    assert [lead["status"] for lead in then["leads"]] == ["converted"]
    assert then["name"] == "Ann"


def test_a_past_view_of_the_last_moment_is_the_present_one(company: World) -> None:
    some_history(company)
    now = view(company)
    past = view(company, known_at=company.head())
    assert {**past, "known_at": None} == now
    for customer in (ANN, BEN):
        far = view(company, customer, as_of="2100-01-01")
        assert {**far, "as_of": None} == view(company, customer)


def test_a_customer_is_not_there_before_it_was(company: World) -> None:
    some_history(company)
    for params in ({"as_of": "2026-02-28"}, {"known_at": 0}):
        answer = company.ask(f"/customers/{ANN}", **params)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


def test_past_views_leave_the_live_tables_alone(company: World) -> None:
    some_history(company)
    before = company.ask("/customers").content
    for n in range(1, company.head() + 1):
        company.ask(f"/customers/{ANN}", known_at=n)
    assert company.ask("/customers").content == before
    assert company.differing() == []


def test_each_past_view_is_its_own(company: World) -> None:
    some_history(company)
    for _ in range(3):
        assert view(company, as_of="2026-03-10")["name"] == "Ann"
        assert view(company, as_of="2026-03-11")["name"] == "Ann Ltd"
        assert view(company, BEN, as_of="2026-03-11")["name"] == "Ben"


def test_the_timeline_is_filtered_and_paged(company: World) -> None:
    some_history(company)
    path = f"/customers/{ANN}/timeline"
    whole = company.get(path)["items"]
    paged = [entry for page in company.pages(path, limit=2) for entry in page]
    assert paged == whole
    assert {e["type"] for e in company.get(path, stream_type="lead")["items"]} == {
        "lead.captured",
        "lead.claimed",
        "lead.qualified",
        "lead.converted",
    }
    [one] = company.get(path, type="customer.handed-over")["items"]
    assert one["data"] == {"previous_owner": "ada", "owner": "bob", "reason": "holiday"}
    inside = company.get(path, since=day("2026-03-03"), until=day("2026-03-05"))["items"]
    assert [e["type"] for e in inside] == [
        "customer.promise-made",
        "lead.qualified",
        "customer.interaction-logged",
    ]
    assert company.get(path, actor="nobody")["items"] == []


def test_history_that_is_entered_late_has_its_customer(company: World) -> None:
    """One rule for all views: whom anything had happened to by then is shown by the first name."""
    customer, order = UUID(int=901), UUID(int=902)
    company.do("customers/register", customer, day("2011-02-17"), name="Ann")
    company.do("customers/change-details", customer, day("2012-01-01"), name="Ann Lee")
    placed = {"customer_id": customer, "amount": eur("100")}
    company.do("orders/place", order, day("2009-05-01"), **placed)
    company.project()
    then = {"as_of": "2010-06-30"}
    shown = company.get(f"/customers/{customer}", **then)
    assert (shown["name"], [one["id"] for one in shown["orders"]]) == ("Ann", [str(order)])
    for path in ("/orders", "/payments/receivables", "/payments/ageing"):
        [item] = company.get(path, **then)["items"]
        assert item["customer"] == {"id": str(customer), "name": "Ann"}, path
    assert company.get(f"/orders/{order}", **then)["customer"]["name"] == "Ann"
    assert company.ask(f"/customers/{customer}", as_of="2009-04-30").status_code == 404
    assert company.get(f"/customers/{customer}", as_of="2011-12-31")["name"] == "Ann"
    assert company.get(f"/customers/{customer}", as_of="2012-06-30")["name"] == "Ann Lee"
    known = company.head() - 1  # before the order was entered
    late = company.ask(f"/customers/{customer}", as_of="2010-06-30", known_at=known)
    assert late.status_code == 404


def test_a_list_that_is_cut_has_the_latest_and_says_how_many_there_are_and_where_it_goes_on(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customer_view, "MAX_LIMIT", 2)
    company.do("customers/register", ANN, day("2026-03-01"), name="Ann")
    for n in range(5):
        at = day(f"2026-03-0{n + 2}")
        of = {"customer_id": ANN}
        company.do("opportunities/open", UUID(int=700 + n), at, title=f"{n}", **of)
        company.do("orders/place", UUID(int=710 + n), at, amount=eur("1"), **of)
        company.do("payments/receive", UUID(int=720 + n), at, amount=eur("1"), **of)
        company.do("tickets/open", UUID(int=730 + n), at, subject="-", channel="call", **of)
        promised = {"promise_id": UUID(int=740 + n), "what": f"{n}"}
        company.do("customers/make-promise", ANN, at, **promised)
    for n in range(60):
        company.do("customers/log-interaction", ANN, channel="call", summary=f"{n}")
    company.do("leads/capture", LEAD, day("2026-03-02"), name="Lea")
    company.project()
    now = view(company)
    cut = ("opportunities", "orders", "payments", "tickets", "promises")
    moments = ({}, {"as_of": "2026-03-06"}, {"known_at": company.head()})
    views = [view(company, **clocks) for clocks in moments]
    late = {"customer_id": ANN, "title": "late"}
    company.do("opportunities/open", UUID(int=690), day("2026-03-02"), **late)
    company.do("opportunities/win", UUID(int=700), day("2026-03-06"))
    company.project()
    for shown in views:
        for name in cut:
            first, rest = shown[name], shown["more"][name]
            assert rest["count"] == 5, name
            left = company.get(rest["next"])
            last = company.get(left["next"])
            found = [one["id"] for page in (first, left["items"], last["items"]) for one in page]
            assert len(set(found)) == 5, name
            assert found == sorted(found, reverse=True), name
            assert last["next"] is None
    assert [len(now["interactions"]), now["more"]["interactions"]["count"]] == [50, 60]
    assert len(company.get(now["more"]["interactions"]["next"])["items"]) == 10
    assert now["more"]["timeline"]["count"] == 86
    assert company.get(now["more"]["timeline"]["next"])["items"] != []
    assert "leads" not in now["more"]
