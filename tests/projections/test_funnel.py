"""The sales funnel: where deals stand, and what they are worth in each currency."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from events.company import COMPANY
from tests.projections.world import World, day, eur

DEALS = [UUID(int=n) for n in range(20, 30)]
ANN = UUID(int=101)


def open_deal(company: World, n: int, at: str = "2026-03-01", **data: Any) -> None:
    company.do("opportunities/open", DEALS[n], day(at), title=f"deal {n}", **data)


def funnel(company: World, **params: Any) -> dict[str, tuple[int, dict[str, Decimal]]]:
    company.project()
    return {
        stage["stage"]: (
            stage["count"],
            {money["currency"]: Decimal(money["amount"]) for money in stage["amount"]},
        )
        for stage in company.get("/funnel", **params)["stages"]
    }


def test_a_company_without_deals_has_an_empty_funnel(company: World) -> None:
    assert funnel(company) == {}
    assert funnel(company, pipeline="sales") == {
        "discovery": (0, {}),
        "proposal": (0, {}),
        "won": (0, {}),
        "lost": (0, {}),
    }


def test_deals_are_counted_where_they_stand_and_summed_by_currency(company: World) -> None:
    open_deal(company, 0, amount=eur("10.50"))
    open_deal(company, 1, amount=eur("0.25"))
    open_deal(company, 2, amount={"amount": "7", "currency": "JPY"})
    open_deal(company, 3)
    company.do("opportunities/move-stage", DEALS[1], stage="proposal")
    assert funnel(company) == {
        "discovery": (3, {"EUR": Decimal("10.50"), "JPY": Decimal(7)}),
        "proposal": (1, {"EUR": Decimal("0.25")}),
    }


def test_a_deal_is_worth_what_was_named_last(company: World) -> None:
    open_deal(company, 0, amount=eur("10"))
    line = {"product": "p", "quantity": "2", "unit_price": eur("6"), "discount": "50"}
    company.do("opportunities/quote", DEALS[0], day("2026-03-02"), lines=[line])
    assert funnel(company) == {"discovery": (1, {"EUR": Decimal(6)})}
    company.do("opportunities/win", DEALS[0], day("2026-03-03"))
    assert funnel(company) == {"won": (1, {"EUR": Decimal(6)})}
    company.do("opportunities/reopen", DEALS[0], day("2026-03-04"), reason="they called")
    company.do(
        "opportunities/win",
        DEALS[0],
        day("2026-03-05"),
        amount={"amount": "5", "currency": "USD"},
    )
    assert funnel(company) == {"won": (1, {"USD": Decimal(5)})}
    assert funnel(company, as_of="2026-03-04") == {"discovery": (1, {"EUR": Decimal(6)})}
    assert funnel(company, as_of="2026-03-01") == {"discovery": (1, {"EUR": Decimal(10)})}


@pytest.mark.parametrize("as_of", [{}, {"as_of": "2100-01-01"}], ids=["live", "past"])
def test_filters_choose_deals(company: World, as_of: dict[str, str]) -> None:
    open_deal(company, 0, owner="ada", product="abacus")
    open_deal(company, 1, owner="bob", product="abacus")
    open_deal(company, 2, owner="bob", product="loom", pipeline="contract")
    assert funnel(company, owner="bob", **as_of) == {"discovery": (1, {}), "intent": (1, {})}
    assert funnel(company, product="abacus", **as_of) == {"discovery": (2, {})}
    contract = funnel(company, pipeline="contract", **as_of)
    assert list(contract) == ["intent", "negotiation", "purchase", "signed", "lost"]
    assert contract["intent"] == (1, {})
    assert funnel(company, owner="nobody", **as_of) == {}


def test_stages_come_in_the_order_of_the_pipeline(company: World) -> None:
    names = ["zeta", "alpha", "mid"]
    kinds = [{"name": name, "kind": "open"} for name in names]
    ends = [{"name": "done", "kind": "won"}, {"name": "gone", "kind": "lost"}]
    company.do("companies/define-pipeline", COMPANY, name="odd", stages=[*kinds, *ends])
    for n, name in enumerate(reversed(names)):
        open_deal(company, n, pipeline="odd", stage=name)
    open_deal(company, 5, pipeline="odd")
    company.do("opportunities/lose", DEALS[5], reason="price")
    assert list(funnel(company)) == ["zeta", "alpha", "mid", "gone"]
    assert list(funnel(company, pipeline="odd")) == [*names, "done", "gone"]


def test_an_unknown_pipeline_is_a_clear_problem(company: World) -> None:
    company.project()
    answer = company.ask("/funnel", pipeline="none")
    assert answer.status_code == 422
    assert "must be one of sales, contract" in answer.json()["detail"]


def test_a_deal_that_was_not_opened_yet_is_not_there(company: World) -> None:
    open_deal(company, 0, "2026-03-05")
    company.do("opportunities/move-stage", DEALS[0], day("2026-03-02"), stage="proposal")
    assert funnel(company, as_of="2026-03-03") == {}
    assert funnel(company, as_of="2026-03-05") == {"proposal": (1, {})}


def test_an_answer_says_what_it_reflects(company: World) -> None:
    open_deal(company, 0)
    company.project()
    answer = company.get("/funnel", as_of="2026-03-01T12:00:00Z", known_at=1)
    assert answer["position"] == answer["known_at"] == 1
    assert answer["as_of"] == "2026-03-01T12:00:00Z"
    assert answer["stages"] == []
    assert company.get("/funnel")["as_of"] is None
