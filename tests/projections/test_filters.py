"""Lists give those rows that a filter chooses, and no others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.projections.conftest import NewWorld
from tests.projections.world import World, day, eur

ANN, BEN, CID = PEOPLE = [UUID(int=n) for n in (101, 102, 103)]
THINGS = [UUID(int=n) for n in range(201, 240)]


@pytest.fixture(scope="module")
def company(new_world: NewWorld) -> Any:
    with new_world() as made:
        for n, person in enumerate(PEOPLE):
            asked = {"name": f"Person {n}", "source": ("fair", "web", "web")[n]}
            made.do("customers/register", person, day(f"2026-03-0{n + 1}"), **asked)
        reach = {"email": "Ann@Example.org", "phone": "+49 (170) 123-45.67"}
        made.do("customers/change-details", ANN, **reach)
        contact = {"contact_id": THINGS[0], "name": "Bea", "email": "bea@example.org"}
        made.do("customers/add-contact", BEN, **contact, phone="0049 170 1234567")
        for n, (person, channel, at) in enumerate(
            (
                (ANN, "call", "2026-03-10"),
                (BEN, "email", "2026-03-12"),
                (ANN, "email", "2026-03-11"),
            )
        ):
            asked = {"channel": channel, "summary": f"talk {n}", "inbound": n == 1}
            made.do("customers/log-interaction", person, day(at), by=("ada", "bob")[n % 2], **asked)
        made.do("leads/capture", THINGS[1], name="Lea", campaign="spring", email="Lea@example.org")
        made.do("leads/capture", THINGS[2], name="Leo")
        made.do("leads/disqualify", THINGS[2], reason="no budget")
        made.do("leads/claim", THINGS[1])
        made.do("leads/qualify", THINGS[1])
        made.do("leads/convert", THINGS[1], customer_id=CID)
        long_ago = (datetime.now(UTC) - timedelta(days=40)).isoformat()
        for n, (amount, close) in enumerate((("10", "2026-04-01"), ("20", "2026-05-01"))):
            deal = {"title": "-", "amount": eur(amount), "expected_close": close}
            made.do("opportunities/open", THINGS[3 + n], long_ago, **deal)
        made.do("opportunities/move-stage", THINGS[4], stage="proposal")
        made.do("opportunities/open", THINGS[5], long_ago, title="-")
        made.do("opportunities/lose", THINGS[5], long_ago, reason="price")
        for n, (method, amount) in enumerate((("cash", "5"), ("transfer", "15"))):
            paid = {"customer_id": ANN, "method": method, "amount": eur(amount)}
            made.do("payments/receive", THINGS[6 + n], day("2026-03-20"), **paid)
            made.do(
                "orders/place",
                THINGS[8 + n],
                day("2026-03-20"),
                customer_id=ANN,
                amount=eur(amount),
            )
        for n, at in enumerate((day("2026-03-20"), datetime.now(UTC).isoformat())):
            asked = {"channel": "call", "subject": f"{n}", "product": ("Pump", "Hose")[n]}
            made.do("tickets/open", THINGS[10 + n], at, customer_id=ANN, **asked)
        made.project()
        yield made


@pytest.mark.parametrize(
    ("path", "asked", "expected"),
    [
        ("/customers", {"email": "ann@example.ORG"}, [ANN]),
        ("/customers", {"email": "BEA@example.org"}, [BEN]),
        ("/customers", {"email": "nobody@example.org"}, []),
        ("/customers", {"phone": "+491701234567"}, [ANN, BEN]),
        ("/customers", {"phone": "0049-170 1234567"}, [ANN, BEN]),
        ("/customers", {"phone": "no number"}, []),
        ("/customers", {"source": "web"}, [BEN, CID]),
        ("/customers", {"registered_from": "2026-03-02T00:00:00Z"}, [BEN, CID]),
        ("/customers", {"registered_to": "2026-03-02T00:00:00Z"}, [ANN]),
        ("/customers", {"contacted_from": "2026-03-12T00:00:00Z"}, [BEN]),
        ("/customers", {"contacted_to": "2026-03-12T00:00:00Z"}, [ANN]),
        ("/customers", {"not_contacted_since": "2026-03-12T00:00:00Z"}, [ANN, CID]),
        ("/leads", {"campaign": "spring"}, [THINGS[1]]),
        ("/leads", {"reason": "no budget"}, [THINGS[2]]),
        ("/leads", {"customer_id": str(CID)}, [THINGS[1]]),
        ("/leads", {"email": "lea@EXAMPLE.org"}, [THINGS[1]]),
        ("/opportunities", {"amount_from": "20"}, [THINGS[4]]),
        ("/opportunities", {"amount_to": "20.00"}, [THINGS[3]]),
        ("/opportunities", {"amount_from": "0", "currency": "USD"}, []),
        ("/opportunities", {"close_from": "2026-04-02"}, [THINGS[4]]),
        ("/opportunities", {"close_to": "2026-05-01"}, [THINGS[3]]),
        ("/opportunities", {"idle_days": "30"}, [THINGS[3]]),
        ("/opportunities", {"idle_days": "41"}, []),
        ("/opportunities", {"reason": "price"}, [THINGS[5]]),
        ("/payments", {"method": "cash"}, [THINGS[6]]),
        ("/payments", {"amount_from": "5.01"}, [THINGS[7]]),
        ("/payments", {"amount_to": "5.01", "currency": "EUR"}, [THINGS[6]]),
        ("/orders", {"amount_from": "15", "currency": "EUR"}, [THINGS[9]]),
        ("/orders", {"amount_to": "15"}, [THINGS[8]]),
        ("/tickets", {"product": "Pump"}, [THINGS[10]]),
        ("/tickets", {"min_age_days": "1"}, [THINGS[10]]),
        ("/tickets", {"min_age_days": "0"}, [THINGS[10], THINGS[11]]),
        ("/tickets", {"min_age_days": "1", "as_of": "2026-03-20"}, []),
    ],
)
def test_a_filter_chooses_its_rows(
    company: World, path: str, asked: dict[str, str], expected: list[UUID]
) -> None:
    assert [item["id"] for item in company.get(path, **asked)["items"]] == [
        str(one) for one in expected
    ]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [1, 2, 0]),
        ({"rep": "ada"}, [2, 0]),
        ({"channel": "email"}, [1, 2]),
        ({"customer_id": str(ANN)}, [2, 0]),
        ({"inbound": "true"}, [1]),
        ({"occurred_from": "2026-03-11T00:00:00Z"}, [1, 2]),
        ({"occurred_to": "2026-03-11T00:00:00Z"}, [0]),
    ],
)
def test_interactions_with_all_customers_come_latest_first(
    company: World, asked: dict[str, str], expected: list[int]
) -> None:
    found = company.every("/interactions", **asked)
    assert [item["summary"] for item in found] == [f"talk {n}" for n in expected]
    assert all(item["customer"]["name"] for item in found)
    pages = [item for page in company.pages("/interactions", limit=1, **asked) for item in page]
    assert pages == found


@pytest.mark.parametrize("amount", ["-1", "x", "1e30", "NaN", "1.0000001"])
def test_an_amount_that_is_none_is_refused(company: World, amount: str) -> None:
    assert company.ask("/payments", amount_from=amount).status_code == 422
