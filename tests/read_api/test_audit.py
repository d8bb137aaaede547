"""What auditors ask of the ledger itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.projections.conftest import NewWorld
from tests.projections.world import World, day, eur, instant

ANN, LEAD, DEAL = UUID(int=101), UUID(int=11), UUID(int=21)


def some_history(company: World) -> None:
    company.do("customers/register", ANN, day("2026-03-05"), name="Ann", by="ada")
    company.do("leads/capture", LEAD, day("2026-03-01"), name="Grace Hopper", by="bob")
    company.do("leads/claim", LEAD, day("2026-03-02"), by="bob")
    company.do("opportunities/open", DEAL, day("2026-03-03"), title="x", amount=eur("5"), by="eve")
    company.do("opportunities/win", DEAL, day("2026-03-04"), by="eve")


@pytest.fixture(scope="module")
def audited(new_world: NewWorld) -> Iterator[World]:
    """For tests that only ask."""
    with new_world() as made:
        some_history(made)
        yield made


def positions(company: World, **params: Any) -> list[int]:
    return [item["position"] for item in company.get("/audit/events", **params)["items"]]


def test_an_event_is_told_with_its_whole_envelope(audited: World) -> None:
    [shown] = audited.get("/audit/events", type="opportunity.won")["items"]
    [recorded] = [event for event in audited.recorded() if event.type == "opportunity.won"]
    expected = recorded._asdict()
    data = expected.pop("event").model_dump(mode="json", exclude_none=True)
    for name, value in expected.items():
        if name.endswith("_at"):
            assert instant(shown.pop(name)) == value
        else:
            assert shown.pop(name) == (str(value) if isinstance(value, UUID) else value), name
    assert shown == {"data": data}


def test_the_ledger_answers_before_any_read_model_does(audited: World) -> None:
    assert audited.get("/audit/events")["position"] == 5
    assert positions(audited) == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("order", "expected"), [("newest", [5, 4, 3, 2, 1]), ("oldest", [1, 2, 3, 4, 5])]
)
def test_events_come_in_either_order(audited: World, order: str, expected: list[int]) -> None:
    assert positions(audited, order=order) == expected
    pages = audited.pages("/audit/events", order=order, limit=2)
    assert [item["position"] for page in pages for item in page] == expected


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"type": "lead.claimed"}, [3]),
        ({"stream_type": "opportunity"}, [5, 4]),
        ({"stream_id": str(LEAD)}, [3, 2]),
        ({"actor": "bob"}, [3, 2]),
        ({"actor": "bob", "type": "lead.captured"}, [2]),
        ({"after": 3}, [5, 4]),
        ({"until": 2}, [2, 1]),
        ({"after": 1, "until": 3}, [3, 2]),
        ({"after": 3, "until": 1}, []),
        ({"occurred_from": day("2026-03-03")}, [5, 4, 1]),
        ({"occurred_to": day("2026-03-03")}, [3, 2]),
        ({"occurred_from": day("2026-03-02"), "occurred_to": day("2026-03-04")}, [4, 3]),
        ({"recorded_from": "2000-01-01T00:00:00Z"}, [5, 4, 3, 2, 1]),
        ({"recorded_to": "2000-01-01T00:00:00Z"}, []),
        ({"type": "nothing.such"}, []),
        ({"stream_id": str(UUID(int=9))}, []),
    ],
    ids=str,
)
def test_filters_choose_events(audited: World, params: Any, expected: list[int]) -> None:
    assert positions(audited, **params) == expected


def test_one_correlation_is_found(audited: World) -> None:
    [shown] = audited.get("/audit/events", type="lead.claimed")["items"]
    assert positions(audited, correlation_id=shown["correlation_id"]) == [3]


def test_a_stream_is_told_from_its_beginning(audited: World) -> None:
    shown = audited.get(f"/audit/streams/{LEAD}")["items"]
    assert [(item["version"], item["type"]) for item in shown] == [
        (1, "lead.captured"),
        (2, "lead.claimed"),
    ]
    assert shown[0]["data"] == {"name": "Grace Hopper"}
    pages = audited.pages(f"/audit/streams/{LEAD}", limit=1)
    assert [item for page in pages for item in page] == shown
    assert audited.get(f"/audit/streams/{UUID(int=9)}")["items"] == []


@pytest.fixture(scope="module")
def refused(new_world: NewWorld) -> Iterator[World]:
    """For tests that only ask."""
    with new_world() as made:
        some_history(made)
        assert made.try_("leads/claim", LEAD, by="eve") == 409
        assert made.try_("opportunities/win", DEAL, by="bob") == 409
        assert made.try_("leads/claim", UUID(int=9), by="bob") == 404
        assert made.try_("opportunities/lose", DEAL, by="bob", reason="a secret reason") == 409
        yield made


def refusals(company: World, **params: Any) -> list[str]:
    return [item["rule"] for item in company.get("/audit/refusals", **params)["items"]]


def test_a_refusal_says_who_tried_what_and_which_rule_said_no(refused: World) -> None:
    [shown] = refused.get("/audit/refusals", stream_id=str(LEAD))["items"]
    assert {name: shown[name] for name in ("actor", "command", "rule", "version", "position")} == {
        "actor": "eve",
        "command": "leads/claim",
        "rule": "LeadOwned",
        "version": 2,
        "position": 5,
    }
    assert shown["detail"].endswith(".")
    assert refused.head() == 5
    assert "secret" not in refused.ask("/audit/refusals").text


def test_refusals_come_newest_first_and_paged(refused: World) -> None:
    newest = ["OpportunityClosed", "LeadUnknown", "OpportunityClosed", "LeadOwned"]
    assert refusals(refused) == newest
    pages = refused.pages("/audit/refusals", limit=1)
    assert [item["rule"] for page in pages for item in page] == newest


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"actor": "eve"}, ["LeadOwned"]),
        ({"rule": "LeadUnknown"}, ["LeadUnknown"]),
        ({"command": "leads/claim"}, ["LeadUnknown", "LeadOwned"]),
        ({"stream_id": str(DEAL), "command": "opportunities/win"}, ["OpportunityClosed"]),
        ({"recorded_to": "2000-01-01T00:00:00Z"}, []),
        ({"actor": "nobody"}, []),
    ],
    ids=str,
)
def test_filters_choose_refusals(refused: World, params: Any, expected: list[str]) -> None:
    assert refusals(refused, **params) == expected


@pytest.mark.parametrize("path", ["/audit/events", "/audit/refusals"])
def test_an_interval_that_ends_before_it_begins_is_refused(audited: World, path: str) -> None:
    moment = audited.recorded()[0].recorded_at
    answer = audited.ask(
        path,
        recorded_from=(moment + timedelta(days=1)).isoformat(),
        recorded_to=moment.isoformat(),
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "recorded_to"


def test_an_event_of_unknown_type_is_shown_as_far_as_it_can_be(company: World) -> None:
    some_history(company)
    position = company.slip_in("lead", LEAD, "lead.vanished", b'{"where": "to"}')
    [shown] = company.get("/audit/events", after=position - 1)["items"]
    assert (shown["type"], shown["data"]) == ("lead.vanished", None)
    assert "lead.vanished" in shown["unreadable"]


def test_an_erased_person_is_erased_from_the_audit_too(company: World) -> None:
    some_history(company)
    with company.superuser() as conn:
        conn.execute("DELETE FROM vault.keys WHERE subject = %s", (LEAD,))
    company.reader.keyring.forget()
    first, *_ = company.get(f"/audit/streams/{LEAD}")["items"]
    assert first["data"]["name"] == "[erased]"
