"""A public data set of a sales pipeline, imported and asked about over HTTP alone."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from statistics import mean, median
from typing import Any
from uuid import uuid4

import pytest

from pledge.embedded import create_database
from tests.end_to_end.conftest import kafka_deployment
from tests.end_to_end.running import CHECKED_OUT, Service

pytestmark = pytest.mark.slow(2)

AS_PUBLISHED = Path(os.environ.get("PLEDGE_DATA") or CHECKED_OUT.parent / "shared" / "data")
SECONDS_A_DAY = 86_400
Deal = dict[str, Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = AS_PUBLISHED / "crm_sales"
    if not source.is_dir():
        pytest.skip("the data set crm_sales is not here; PLEDGE_DATA names the folder that has it")
    return Path(shutil.copytree(source, tmp_path_factory.mktemp("data") / "crm_sales"))


@pytest.fixture(scope="module", params=["embedded", "kafka"])
def service(
    request: pytest.FixtureRequest, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """The same tests on both deployments."""
    if request.param == "kafka":
        with kafka_deployment() as deployment:
            yield deployment
    else:
        with Service(
            tmp_path_factory.mktemp("home"), create_database(postgres_url, f"test_{uuid4().hex}")
        ) as embedded:
            yield embedded


@pytest.fixture(scope="module")
def imported(service: Service, data: Path) -> Service:
    done = service.run("import", data, "--mapping", "crm_sales")
    assert done.returncode == 0, done.stdout + done.stderr
    service.wait_until_shown()
    return service


@pytest.fixture(scope="module")
def deals(imported: Service) -> list[Deal]:
    return imported.pages("/opportunities", limit=1000)


def worth(deals: list[Deal]) -> Decimal:
    assert {deal["amount"]["currency"] for deal in deals} == {"USD"}
    return sum((Decimal(deal["amount"]["amount"]) for deal in deals), Decimal())


def of_kind(deals: list[Deal], kind: str) -> list[Deal]:
    return [deal for deal in deals if deal["kind"] == kind]


def days(deal: Deal) -> float:
    opened = datetime.fromisoformat(deal["opened_at"])
    return (datetime.fromisoformat(deal["closed_at"]) - opened).total_seconds() / SECONDS_A_DAY


def quarter(deal: Deal) -> str:
    closed = datetime.fromisoformat(deal["closed_at"])
    return f"{closed.year}Q{(closed.month + 2) // 3}"


def funnel(service: Service, **params: str) -> Iterator[tuple[str, int, list[tuple[str, str]]]]:
    for stage in service.get("/funnel", pipeline="crm_sales", **params)["stages"]:
        amounts = [(Decimal(money["amount"]), money["currency"]) for money in stage["amount"]]
        yield stage["stage"], stage["count"], amounts


def test_the_funnel_shows_every_deal_where_it_stands(imported: Service) -> None:
    stages = {stage: (count, amount) for stage, count, amount in funnel(imported)}
    assert list(stages) == ["prospecting", "engaging", "won", "lost"]
    assert {stage: count for stage, (count, _) in stages.items()} == {
        "prospecting": 500,
        "engaging": 1589,
        "won": 4238,
        "lost": 2473,
    }
    assert stages["won"][1] == [(10_005_534, "USD")]


def test_the_list_agrees_with_the_funnel(deals: list[Deal]) -> None:
    assert len({deal["id"] for deal in deals}) == len(deals) == 8800
    assert Counter(deal["stage"] for deal in deals) == {
        "prospecting": 500,
        "engaging": 1589,
        "won": 4238,
        "lost": 2473,
    }
    won, lost = of_kind(deals, "won"), of_kind(deals, "lost")
    assert worth(won) == 10_005_534
    assert round(len(won) / (len(won) + len(lost)), 6) == 0.631501
    assert sum(deal["customer"] is None for deal in deals) == 1425
    assert "GTXPro" not in {deal["product"] for deal in deals}


def test_the_accounts_are_customers(imported: Service) -> None:
    accounts = imported.pages("/customers", limit=20)
    assert len({account["id"] for account in accounts}) == len(accounts) == 85
    assert "technolgy" not in {account["industry"] for account in accounts}


def test_each_quarter_was_won_and_lost_as_it_was(deals: list[Deal]) -> None:
    won, lost = of_kind(deals, "won"), of_kind(deals, "lost")
    quarters = sorted({quarter(deal) for deal in won + lost})
    figures = {
        name: (
            len(mine := [deal for deal in won if quarter(deal) == name]),
            sum(quarter(deal) == name for deal in lost),
            worth(mine),
        )
        for name in quarters
    }
    assert figures == {
        "2017Q1": (531, 116, 1_134_672),
        "2017Q2": (1254, 778, 3_086_111),
        "2017Q3": (1257, 790, 2_982_255),
        "2017Q4": (1196, 789, 2_802_496),
    }


def test_a_deal_took_as_long_as_it_took(deals: list[Deal]) -> None:
    won = [days(deal) for deal in of_kind(deals, "won")]
    lost = [days(deal) for deal in of_kind(deals, "lost")]
    assert (round(mean(won), 6), median(won)) == (51.781973, 57)
    assert (round(mean(lost), 6), median(lost)) == (41.479175, 14)


@pytest.mark.parametrize(
    ("agent", "won", "lost"),
    [("Darcel Schlecht", 349, 204), ("Hayden Neloms", 107, 45), ("Lajuana Vencill", 127, 104)],
)
def test_an_agent_is_credited_with_their_own_deals(
    imported: Service, agent: str, won: int, lost: int
) -> None:
    mine = imported.pages("/opportunities", owner=agent, limit=97)
    assert (len(of_kind(mine, "won")), len(of_kind(mine, "lost"))) == (won, lost)
    counts = {stage: count for stage, count, _ in funnel(imported, owner=agent)}
    assert (counts["won"], counts["lost"]) == (won, lost)


def test_the_best_and_the_worst_agent_are_who_they_are(deals: list[Deal]) -> None:
    won = Counter(deal["owner"] for deal in of_kind(deals, "won"))
    lost = Counter(deal["owner"] for deal in of_kind(deals, "lost"))
    rates = {agent: won[agent] / (won[agent] + lost[agent]) for agent in won | lost}
    assert max(rates, key=rates.__getitem__) == "Hayden Neloms"
    assert min(rates, key=rates.__getitem__) == "Lajuana Vencill"
    darcel = [deal for deal in deals if deal["owner"] == "Darcel Schlecht"]
    assert (len(darcel), worth(of_kind(darcel, "won"))) == (747, 1_153_214)


def test_figures_say_what_the_lists_say(imported: Service) -> None:
    imported.wait_for_figures()
    league = imported.get("/analytics/deals/closings")["items"]
    first = league[0]
    assert (first["group"], first["won"], first["lost"]) == ("Darcel Schlecht", 349, 204)
    assert first["amount"] == {"amount": "1153214.00", "currency": "USD"}
    rates = {rep["group"]: rep["win_rate"] for rep in league}
    assert max(rates, key=rates.__getitem__) == "Hayden Neloms"
    assert min(rates, key=rates.__getitem__) == "Lajuana Vencill"
    quarters = imported.get("/analytics/deals/closings", by="quarter")["items"]
    assert [(q["group"], q["won"], q["lost"], q["amount"]["amount"]) for q in quarters] == [
        ("2017-Q1", 531, 116, "1134672.00"),
        ("2017-Q2", 1254, 778, "3086111.00"),
        ("2017-Q3", 1257, 790, "2982255.00"),
        ("2017-Q4", 1196, 789, "2802496.00"),
    ]
    [whole] = imported.get("/analytics/deals/closings", by="pipeline")["items"]
    assert (whole["win_rate"], whole["loss_rate"]) == (0.631501, 0.368499)
    assert (whole["won_days_mean"], whole["won_days_median"]) == (51.781973, 57)
    assert (whole["lost_days_mean"], whole["lost_days_median"]) == (41.479175, 14)
    past = imported.get("/analytics/deals/closings", by="pipeline", as_of="2017-06-30")["items"]
    assert [(p["won"], p["lost"], p["amount"]["amount"]) for p in past] == [
        (1785, 894, "4220783.00")
    ]
    stages = imported.get("/analytics/deals/open")["items"]
    assert {stage["group"]: stage["deals"] for stage in stages} == {
        "prospecting": 500,
        "engaging": 1589,
    }
    [_, engaging] = imported.get("/analytics/deals/conversion", pipeline="crm_sales")["items"]
    assert (engaging["entered"], engaging["converted"]) == (8300, 4238)
    regions = imported.get("/analytics/deals/closings", by="region")["items"]
    assert sum(region["won"] for region in regions) == 4238


def test_the_funnel_as_of_a_past_day_includes_that_day_and_no_later(imported: Service) -> None:
    stages = {
        stage: (count, amount) for stage, count, amount in funnel(imported, as_of="2017-06-30")
    }
    assert {stage: count for stage, (count, _) in stages.items()} == {
        "prospecting": 0,
        "engaging": 1686,
        "won": 1785,
        "lost": 894,
    }
    assert stages["won"][1] == [(4_220_783, "USD")]


def test_a_second_import_changes_nothing(imported: Service, data: Path) -> None:
    before = imported.position()
    done = imported.run("import", data, "--mapping", "crm_sales")
    assert done.returncode == 0, done.stdout + done.stderr
    assert imported.position() == before


@pytest.mark.parametrize("how", [(), ("--shuffle", "seven")], ids=["in order", "shuffled"])
def test_a_replay_of_the_ledger_gives_the_same_rows(
    imported: Service, how: tuple[str, ...]
) -> None:
    imported.wait_until_shown()
    done = imported.run("audit", "replay", *how)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("equal row for row") == len(imported.get("/projections")["items"])
