"""What was corrected or handed over is shown so from then on, and not before."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.projections.world import World, day, eur

ANN, LEAD, DEAL, TICKET, BEA, TOM = (UUID(int=n) for n in (101, 201, 301, 401, 501, 502))


@pytest.fixture
def corrected(company: World) -> World:
    """Everything as of March 10, corrected on March 20."""
    first, later = day("2026-03-10"), day("2026-03-20")
    company.do("customers/register", ANN, first, name="Ann")
    for contact, name in ((BEA, "Bae"), (TOM, "Tom")):
        company.do("customers/add-contact", ANN, first, contact_id=contact, name=name, phone="1")
    company.do("customers/change-contact", ANN, later, contact_id=BEA, name="Bea")
    company.do("customers/remove-contact", ANN, later, contact_id=TOM)
    company.do("leads/capture", LEAD, first, name="Grace Hoper", source="fair", owner="ada")
    company.do("leads/qualify", LEAD, first)
    company.do("leads/disqualify", LEAD, first, reason="no budget", note="rude")
    company.do("leads/reopen", LEAD, later, reason="they called")
    company.do("leads/change-details", LEAD, later, name="Grace Hopper", source="web")
    company.do("leads/hand-over", LEAD, later, owner="bob")
    deal = {"title": "Lomms", "amount": eur("10"), "product": "Loom", "customer_id": ANN}
    company.do("opportunities/open", DEAL, first, owner="ada", **deal)
    changes = {"title": "Looms", "amount": eur("12"), "expected_close": "2026-05-01"}
    company.do("opportunities/change-details", DEAL, later, **changes, product="Big loom")
    company.do("opportunities/hand-over", DEAL, later, owner="bob", reason="left us")
    company.do("tickets/open", TICKET, first, subject="broken", channel="call")
    company.do("tickets/identify-customer", TICKET, later, customer_id=ANN)
    company.project()
    company.write_facts()
    return company


def test_rows_show_the_corrections(corrected: World) -> None:
    lead = corrected.get(f"/leads/{LEAD}")
    assert (lead["name"], lead["source"], lead["owner"], lead["status"]) == (
        *("Grace Hopper", "web", "bob", "open"),
    )
    assert {lead[name] for name in ("reason", "note", "closed_at", "qualified_at")} == {None}
    deal = corrected.get(f"/opportunities/{DEAL}")
    assert (deal["title"], deal["owner"], deal["product"]) == ("Looms", "bob", "Big loom")
    assert (deal["amount"], deal["expected_close"]) == (eur("12.00"), "2026-05-01")
    [contact] = corrected.get(f"/customers/{ANN}")["contacts"]
    assert (contact["name"], contact["phone"]) == ("Bea", "1")
    assert corrected.get(f"/tickets/{TICKET}")["customer"]["name"] == "Ann"
    assert corrected.differing() == []


def test_the_timeline_has_the_ticket_once_its_customer_is_known(corrected: World) -> None:
    entries = corrected.get(f"/customers/{ANN}/timeline", limit=100)["items"]
    types = {entry["type"] for entry in entries}
    assert {"ticket.opened", "opportunity.handed-over", "customer.contact-removed"} <= types


@pytest.mark.parametrize(
    ("clocks", "owner", "product", "amount"),
    [
        ({}, "bob", "Big loom", "12.00"),
        ({"as_of": "2026-03-31"}, "bob", "Big loom", "12.00"),
        ({"as_of": "2026-03-10"}, "ada", "Loom", "10.00"),
    ],
)
def test_the_funnel_knows_whose_a_deal_was(
    corrected: World, clocks: Any, owner: str, product: str, amount: str
) -> None:
    for asked in ({"owner": owner}, {"product": product}):
        [stage] = corrected.get("/funnel", **asked, **clocks)["stages"]
        assert (stage["count"], stage["amount"]) == (1, [eur(amount)])
    for asked in ({"owner": "ada" if owner == "bob" else "bob"}, {"product": "another"}):
        assert corrected.get("/funnel", **asked, **clocks)["stages"] == []
    [behind] = corrected.get("/analytics/deals", **clocks)["items"]
    assert (behind["owner"], behind["product"], behind["amount"]) == (owner, product, eur(amount))


def test_a_ticket_had_no_customer_before_one_was_named(corrected: World) -> None:
    assert corrected.get(f"/tickets/{TICKET}", as_of="2026-03-10")["customer"] is None
    then = corrected.get("/tickets", as_of="2026-03-10", customer_id=str(ANN))
    assert then["items"] == []
    [now] = corrected.get("/tickets", customer_id=str(ANN), as_of="2026-03-31")["items"]
    assert now["customer"] == {"id": str(ANN), "name": "Ann"}


def test_a_reopened_lead_is_open_and_was_disqualified(corrected: World) -> None:
    [group] = corrected.get("/analytics/leads")["items"]
    assert (group["group"], group["open"], group["disqualified"]) == ("web", 1, 0)
    [then] = corrected.get("/analytics/leads", as_of="2026-03-10")["items"]
    assert (then["group"], then["open"], then["disqualified"]) == ("fair", 0, 1)
    [by_owner] = corrected.get("/analytics/leads", by="owner")["items"]
    assert by_owner["group"] == "bob"


def test_a_removed_contact_does_not_lead_to_its_customer(corrected: World) -> None:
    assert corrected.get("/customers", phone="1")["items"] != []
    corrected.do("customers/remove-contact", ANN, contact_id=BEA)
    corrected.project()
    assert corrected.get("/customers", phone="1")["items"] == []


def test_a_contact_who_comes_back_is_seen_again(corrected: World) -> None:
    corrected.do("customers/add-contact", ANN, contact_id=TOM, name="Tom again")
    corrected.project()
    names = {one["name"] for one in corrected.get(f"/customers/{ANN}")["contacts"]}
    assert names == {"Bea", "Tom again"}
    assert corrected.differing() == []


def test_what_was_typed_into_corrections_ends_with_the_person(corrected: World) -> None:
    with corrected.superuser() as conn:
        for word in ("Grace Hopper", "Looms", "left us", "they called", "Bea"):
            found = conn.execute(
                "SELECT count(*) FROM ledger.events "
                "WHERE position(%s IN convert_from(payload, 'UTF8')) > 0",
                (word,),
            ).fetchone()
            assert found == (0,), word
