"""What an answer reflects: positions, versions, and waiting for one's own writes."""

from __future__ import annotations

import asyncio
import threading
import time
from uuid import UUID

import httpx2
import pytest

from read_api import reading
from tests.projections.world import World, eur

LEAD, DEAL, ANN = UUID(int=11), UUID(int=21), UUID(int=101)


def test_one_thing_has_its_version_as_etag(company: World) -> None:
    company.do("leads/capture", LEAD, name="Grace Hopper")
    company.do("leads/claim", LEAD)
    company.do("opportunities/open", DEAL, title="a deal", amount=eur("5"))
    company.project()
    lead, deal = company.ask(f"/leads/{LEAD}"), company.ask(f"/opportunities/{DEAL}")
    assert (lead.headers["etag"], lead.json()["version"]) == ('"2"', 2)
    assert (deal.headers["etag"], deal.json()["version"]) == ('"1"', 1)
    assert [stage["stage"] for stage in deal.json()["stages"]] == ["discovery"]
    company.do("customers/register", ANN, name="Ann")
    company.project()
    view = company.ask(f"/customers/{ANN}")
    assert "etag" not in view.headers
    assert view.json()["version"] == 1


def test_every_answer_says_what_it_reflects(company: World) -> None:
    company.do("leads/capture", LEAD, name="Grace Hopper")
    company.project()
    company.do("customers/register", ANN, name="Ann")
    models = ("/leads", f"/leads/{LEAD}", "/customers", "/opportunities", "/promises", "/funnel")
    for path in models:
        assert company.get(path)["position"] == 1, path
    for path in ("/audit/events", "/audit/refusals", f"/audit/streams/{ANN}"):
        assert company.get(path)["position"] == 2, path


def test_a_question_waits_for_ones_own_writes(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAIT_SECONDS", 120)
    company.project()
    position = company.do("leads/capture", LEAD, name="Grace Hopper")
    later = threading.Timer(0.4, company.project)
    later.start()
    begun = time.monotonic()
    shown = company.get("/leads", min_position=position)
    waited = time.monotonic() - begun
    later.join()
    assert [item["id"] for item in shown["items"]] == [str(LEAD)]
    assert shown["position"] >= position
    assert waited > 0.2


@pytest.mark.parametrize(
    "path",
    [
        "/customers",
        f"/customers/{ANN}",
        f"/customers/{ANN}/timeline",
        "/leads",
        f"/leads/{LEAD}",
        "/opportunities",
        f"/opportunities/{DEAL}",
        "/funnel",
        "/promises",
    ],
)
def test_a_position_that_is_not_reached_in_time_is_said_so(
    company: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.2)
    company.project()
    company.do("leads/capture", LEAD, name="Grace Hopper")
    answer = company.ask(path, min_position=1)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"] == "application/problem+json"
    assert "position 1 is not reached yet; this is 0" in answer.json()["detail"]


def test_what_is_known_at_a_position_waits_for_it_too(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.2)
    company.project()
    company.do("opportunities/open", DEAL, title="a deal")
    assert company.ask("/funnel", known_at=1).status_code == 503
    company.project()
    assert company.get("/funnel", known_at=1)["stages"][0]["count"] == 1


@pytest.mark.parametrize(
    "path",
    ["/leads", "/customers", "/funnel", "/promises", f"/customers/{ANN}?as_of=2026-01-01"],
)
def test_a_question_before_anything_was_built_is_no_failure_of_ours(
    company: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.2)
    answer = company.ask(path)
    assert answer.status_code in (404, 503), answer.text


def test_those_who_wait_keep_nobody_else_from_an_answer(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far more than there are threads to wait in."""
    monkeypatch.setattr(reading, "WAIT_SECONDS", 5.0)
    company.do("leads/capture", LEAD, name="Grace Hopper")
    company.project()

    async def ask() -> tuple[bool, list[int]]:
        transport = httpx2.ASGITransport(app=company.asgi)
        async with httpx2.AsyncClient(transport=transport, base_url="http://pledge") as client:
            waiting = [
                asyncio.create_task(client.get("/leads", params={"min_position": 99}))
                for _ in range(120)
            ]
            await asyncio.sleep(0.3)
            assert (await client.get("/leads")).status_code == 200
            all_wait = not any(task.done() for task in waiting)
            return all_wait, [answer.status_code for answer in await asyncio.gather(*waiting)]

    all_wait, statuses = asyncio.run(ask())
    assert all_wait
    assert statuses == [503] * 120


@pytest.mark.parametrize("path", ["/leads", f"/leads/{LEAD}", "/audit/events", "/funnel"])
def test_a_parameter_that_nobody_knows_is_refused_by_name(company: World, path: str) -> None:
    company.do("leads/capture", LEAD, name="Grace Hopper")
    company.project()
    answer = company.ask(path, onwer="ada")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "onwer"
