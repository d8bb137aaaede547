"""Two processes of the service on one database, and fifty clients who all want the same thing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import orjson
import pytest

from tests.end_to_end.running import Service

pytestmark = pytest.mark.slow(2)

CLIENTS = 50
Pair = tuple[Service, Service]


@pytest.fixture(scope="module")
def pair(service: Service) -> Iterator[Pair]:
    url = service.env["PLEDGE_DATABASE_URL"]
    home = Path(service.env["PLEDGE_HOME"])
    with Service(home, url) as other:
        yield service, other


def all_at_once(
    pair: Pair, path: str, body: Any, headers: list[Mapping[str, str]]
) -> list[httpx2.Response]:
    """One client each, half of them at each process."""

    async def one(service: Service, mine: Mapping[str, str], start: asyncio.Event) -> Any:
        async with httpx2.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:
            await client.get("/health/live")
            await start.wait()
            return await client.post(path, content=orjson.dumps(body), headers=dict(mine))

    async def run() -> list[httpx2.Response]:
        start = asyncio.Event()
        clients = [
            asyncio.create_task(one(pair[n % 2], mine, start)) for n, mine in enumerate(headers)
        ]
        await asyncio.sleep(0.5)
        start.set()
        return await asyncio.gather(*clients)

    return asyncio.run(run())


def reps() -> list[Mapping[str, str]]:
    return [{"X-Actor": f"rep {n}"} for n in range(CLIENTS)]


def new_lead(service: Service) -> str:
    return str(service.made("/leads", {"name": "Grace Hopper"})["id"])


def new_deal(service: Service) -> str:
    return str(service.made("/opportunities", {"title": "Compilers"})["id"])


def owner_at(service: Service, lead: str, version: int) -> str | None:
    owner = None
    for event in service.pages(f"/audit/streams/{lead}"):
        if event["version"] <= version and event["type"] == "lead.claimed":
            owner = event["data"]["owner"]
    return owner


def told(answer: httpx2.Response) -> tuple[int, bytes, str | None]:
    return answer.status_code, answer.content, answer.headers.get("etag")


def test_of_fifty_claims_one_succeeds_and_each_refusal_is_true_where_it_was_decided(
    pair: Pair,
) -> None:
    lead = new_lead(pair[0])
    answers = all_at_once(pair, f"/leads/{lead}/claim", {}, reps())
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: CLIENTS - 1}
    [winner] = [n for n, answer in enumerate(answers) if answer.status_code == 200]
    refusals = pair[1].pages("/audit/refusals", stream_id=lead, limit=7)
    assert {refusal["actor"] for refusal in refusals} == {
        f"rep {n}" for n in range(CLIENTS) if n != winner
    }
    assert len(refusals) == CLIENTS - 1
    for refusal in refusals:
        assert refusal["rule"] == "LeadOwned"
        assert owner_at(pair[0], lead, refusal["version"]) == f"rep {winner}"
    assert [event["type"] for event in pair[0].pages(f"/audit/streams/{lead}")] == [
        "lead.captured",
        "lead.claimed",
    ]


def test_one_key_has_one_effect_and_one_answer_for_ever(pair: Pair) -> None:
    deal, lead = new_deal(pair[0]), new_lead(pair[0])
    pair[0].made(f"/leads/{lead}/claim", by="somebody else")
    asked: dict[str, tuple[str, Any]] = {
        "an effect": (f"/opportunities/{deal}/win", {"amount": {"amount": "5", "currency": "EUR"}}),
        "a refusal": (f"/leads/{lead}/claim", {}),
        "no such thing": (f"/leads/{uuid4()}/claim", {}),
        "a creation without an id": ("/leads", {"name": "Ada Byron"}),
    }
    kept = {}
    for key, (path, body) in asked.items():
        headers = [{"X-Actor": "ada", "Idempotency-Key": key}] * CLIENTS
        answers = {told(answer) for answer in all_at_once(pair, path, body, headers)}
        assert len(answers) == 1, key
        [kept[key]] = answers
    assert [status for status, _, _ in kept.values()] == [200, 409, 404, 201]
    assert [event["type"] for event in pair[1].pages(f"/audit/streams/{deal}")] == [
        "opportunity.opened",
        "opportunity.won",
    ]
    for key in asked:
        other = pair[1].post("/leads", {"name": "Other"}, Idempotency_Key=key)
        assert other.status_code == 422, key
    head = pair[0].position()

    for service in pair:
        assert service.stop() == 0
        service.start()
    for key, (path, body) in asked.items():
        for service in pair:
            again = service.post(path, body, Idempotency_Key=key)
            assert told(again) == kept[key], key
    assert pair[0].position() == head


def test_of_fifty_updates_of_one_version_one_succeeds_and_the_others_may_look_again(
    pair: Pair,
) -> None:
    customer = pair[0].made("/customers", {"name": "Analytical Engines"})["id"]
    etag = {"If-Match": '"1"'}
    answers = all_at_once(
        pair, f"/customers/{customer}/make-promise", {"what": "A reply"}, [r | etag for r in reps()]
    )
    assert Counter(answer.status_code for answer in answers) == {200: 1, 412: CLIENTS - 1}
    assert {answer.headers["etag"] for answer in answers} == {'"2"'}
    assert len(pair[1].pages(f"/audit/streams/{customer}")) == 2
    assert pair[1].pages("/audit/refusals", stream_id=customer) == []


def test_what_one_process_answered_the_other_shows(pair: Pair) -> None:
    for n in range(20):
        made = pair[n % 2].made("/leads", {"name": f"Lead {n}"})
        wanted = {"min_position": made["position"]}
        shown = pair[1 - n % 2].client.get(f"/leads/{made['id']}", params=wanted)
        assert (shown.status_code, shown.json().get("name")) == (200, f"Lead {n}")
