"""What operators see."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from fastapi import FastAPI

from events.ledger.keys import Keyring
from projections.catalog import MODELS
from read_api import health
from read_api.app import install
from read_api.reading import Reader
from tests.projections.world import MASTER, World

LEAD = UUID(int=11)
NAMES = [model.name for model in MODELS]
NOWHERE = "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1"


def metric(company: World, name: str) -> dict[str, float]:
    text = company.ask("/metrics").text
    pattern = rf'^{name}(?:{{name="(\w+)"}})? (\S+)$'
    return {label: float(value) for label, value in re.findall(pattern, text, re.MULTILINE)}


def test_a_service_that_is_not_built_yet_lives_and_is_not_ready(company: World) -> None:
    assert company.get("/health/live") == {"status": "live"}
    answer = company.ask("/health/ready")
    assert answer.status_code == 503
    for name in NAMES:
        assert name in answer.json()["detail"]


def test_a_service_that_is_built_is_ready(company: World) -> None:
    company.do("leads/capture", LEAD, name="Grace Hopper")
    company.project()
    assert company.get("/health/ready") == {"status": "ready", "position": 1}


def test_a_read_model_that_does_not_move_is_said_so(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.project()
    monkeypatch.setattr(health, "STALLED_SECONDS", 0.0)
    assert company.ask("/health/ready").status_code == 200
    company.do("leads/capture", LEAD, name="Grace Hopper")
    answer = company.ask("/health/ready")
    assert answer.status_code == 503
    assert "do not move: customers, leads" in answer.json()["detail"]
    assert {item["status"] for item in company.get("/projections")["items"]} == {"stalled"}
    monkeypatch.setattr(health, "STALLED_SECONDS", 15.0)
    assert company.ask("/health/ready").status_code == 200


def test_sessions_that_died_while_nobody_asked_are_not_felt(company: World) -> None:
    company.project()
    company.get("/projections")
    with company.superuser() as conn:
        ended = conn.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name ~ '^pledge read \\d{4}$'"
        ).fetchall()
    assert ended
    for _ in range(len(ended) + 1):
        assert company.ask("/projections").status_code == 200


@pytest.mark.slow
def test_a_service_without_its_database_lives_and_says_that_it_is_away(company: World) -> None:
    lost = Reader(NOWHERE, Keyring(MASTER))
    for workers in lost.lanes.values():
        workers.pool.timeout = 0.2
    company.app = FastAPI()
    install(company.app, lost)
    lost.open()
    try:
        assert company.get("/health/live") == {"status": "live"}
        for path in ("/health/ready", "/leads", "/audit/events", "/projections", "/metrics"):
            answer = company.ask(path)
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True), path
            assert "does not answer" in answer.json()["detail"]
    finally:
        lost.close()


def test_lag_is_told_in_positions_and_seconds(company: World) -> None:
    company.do("leads/capture", LEAD, name="Grace Hopper")
    company.project()
    for _ in range(2):
        company.do("leads/claim", LEAD)
        company.do("leads/return", LEAD, reason="-")
    shown = company.get("/projections")
    assert shown["position"] == 5
    assert {item["name"] for item in shown["items"]} == set(NAMES)
    for item in shown["items"]:
        assert (item["position"], item["lag_positions"], item["status"]) == (1, 4, "running")
        assert item["lag_seconds"] > 0
    assert metric(company, "pledge_ledger_position") == {"": 5}
    assert metric(company, "pledge_projection_lag_positions") == dict.fromkeys(NAMES, 4)
    assert all(metric(company, "pledge_projection_lag_seconds").values())
    company.project()
    assert metric(company, "pledge_projection_lag_positions") == dict.fromkeys(NAMES, 0)
    assert metric(company, "pledge_projection_lag_seconds") == dict.fromkeys(NAMES, 0)
    assert metric(company, "pledge_projection_position") == dict.fromkeys(NAMES, 5)
    assert metric(company, "pledge_projection_halted") == dict.fromkeys(NAMES, 0)


def test_a_question_on_a_ledger_of_another_version_is_refused_with_the_reason(
    company: World,
) -> None:
    company.project()
    with company.superuser() as conn:
        conn.execute("ALTER TABLE ledger.events RENAME COLUMN occurred_at TO happened_at")
    answer = company.ask("/audit/events")
    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/other-version"
    assert "occurred_at" in answer.json()["detail"]
