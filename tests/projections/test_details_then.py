"""One lead, deal, payment and a timeline, as they were at any moment."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.projections.world import World, day, eur

ANN, LEAD, DEAL, PAYMENT, ORDER = (UUID(int=n) for n in (101, 201, 301, 401, 501))
PATHS = (
    f"/leads/{LEAD}",
    f"/opportunities/{DEAL}",
    f"/payments/{PAYMENT}",
    f"/customers/{ANN}/timeline",
)
LIFE: tuple[tuple[str, UUID, dict[str, Any]], ...] = (
    ("customers/register", ANN, {"name": "Ann"}),
    ("leads/capture", LEAD, {"name": "Grace"}),
    ("opportunities/open", DEAL, {"title": "Looms", "customer_id": ANN, "amount": eur("10")}),
    ("payments/receive", PAYMENT, {"customer_id": ANN, "amount": eur("9")}),
    ("orders/place", ORDER, {"customer_id": ANN, "amount": eur("5")}),
    ("payments/allocate", PAYMENT, {"allocations": [{"order_id": ORDER, "amount": eur("5")}]}),
    ("leads/claim", LEAD, {}),
    ("opportunities/move-stage", DEAL, {"stage": "proposal"}),
    ("customers/change-details", ANN, {"name": "Anna"}),
    ("leads/disqualify", LEAD, {"reason": "no budget", "note": "rude"}),
    ("opportunities/win", DEAL, {}),
    ("payments/refund", PAYMENT, {"amount": eur("4")}),
    ("leads/reopen", LEAD, {"reason": "they called"}),
)


def shown(company: World, path: str, **clocks: Any) -> Any:
    """An answer without what says of which moment it is; None where there is no such thing."""
    answer = company.ask(path, **clocks)
    if answer.status_code == 404:
        return None
    assert answer.status_code == 200, answer.text
    told = answer.json()
    return {n: v for n, v in told.items() if n not in ("position", "as_of", "known_at", "next")}


def test_a_past_answer_is_what_was_answered_then(company: World) -> None:
    seen: list[tuple[int, str, list[Any]]] = []
    for number, (command, stream, data) in enumerate(LIFE, 1):
        position = company.do(command, stream, day(f"2026-03-{number:02}"), **data)
        company.project()
        answers = [shown(company, path) for path in PATHS]
        seen.append((position, f"2026-03-{number:02}", answers))
    for position, date, answers in seen:
        for path, answer in zip(PATHS, answers, strict=True):
            assert shown(company, path, known_at=position) == answer, path
            if answer is not None:
                assert shown(company, path, as_of=date) == answer, path
    assert company.ask(PATHS[0], known_at=seen[-1][0]).headers.get("etag") is None
    live = company.ask(PATHS[0])
    assert live.headers["etag"] == f'"{live.json()["version"]}"'


def test_a_lead_is_the_customers_from_its_conversion_on(company: World) -> None:
    """In the list of the timeline and in the 360 degree view."""
    company.do("customers/register", ANN, day("2026-02-01"), name="Ann")
    company.do("leads/capture", LEAD, day("2026-03-01"), name="Grace", owner="ada")
    company.do("leads/qualify", LEAD, day("2026-03-02"))
    company.do("leads/convert", LEAD, day("2026-06-01"), customer_id=ANN)
    company.project()
    for clocks, number in (({"as_of": "2026-04-30"}, 1), ({"as_of": "2026-06-30"}, 4), ({}, 4)):
        listed = shown(company, f"/customers/{ANN}/timeline", **clocks)["items"]
        assert len(listed) == number
        assert shown(company, f"/customers/{ANN}", **clocks)["timeline"] == listed
    assert company.ask(f"/customers/{ANN}/timeline", known_at=0).status_code == 404


def test_what_is_entered_late_is_there_as_of_its_day_and_unknown_before(company: World) -> None:
    known = company.do("opportunities/open", DEAL, day("2026-03-10"), title="Looms", owner="ada")
    company.do("opportunities/move-stage", DEAL, day("2026-03-05"), stage="proposal")
    company.project()
    path = f"/opportunities/{DEAL}"
    assert company.get(path, as_of="2026-03-31")["stage"] == "proposal"
    assert company.get(path, as_of="2026-03-31", known_at=known)["stage"] == "discovery"
    assert company.ask(path, as_of="2026-03-01").status_code == 404


@pytest.mark.parametrize("path", PATHS[:3])
def test_a_moment_that_cannot_be_read_is_refused(company: World, path: str) -> None:
    company.project()
    assert company.ask(path, as_of="yesterday").status_code == 422
    assert company.ask(path, known_at=10**9).status_code == 422
