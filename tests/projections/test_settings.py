"""What the company set is in force from then on, and changes nothing before."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from commands.http.wire import Unprocessable
from events.company import COMPANY
from tests.projections.world import World, day, eur

DEALS = [UUID(int=n) for n in range(20, 30)]
ANN, LEAD = UUID(int=101), UUID(int=102)
MAY = {"from": "2026-05-01", "to": "2026-06-01", "pipeline": "sales"}


def define(company: World, at: str, *stages: tuple[str, ...], name: str = "sales") -> int:
    """Each stage as its name, its kind, its probability and its key, as far as they are given."""
    asked = [
        dict(zip(("name", "kind", "probability", "key"), stage, strict=False)) for stage in stages
    ]
    asked = [{k: v for k, v in stage.items() if v is not None} for stage in asked]
    return company.do("companies/define-pipeline", COMPANY, day(at), name=name, stages=asked)


RENAMED = (
    ("discovery", "open", "0.2"),
    ("offer", "open", "0.9", "proposal"),
    ("won", "won", "1"),
    ("lost", "lost", "0"),
)
REPLACED = tuple(stage[:3] for stage in RENAMED)


def a_may(company: World) -> None:
    """Of four deals in the proposal two are won; two are left, worth 10.01 each."""
    for n in range(4):
        of = {"title": f"deal {n}", "amount": eur("10.01")}
        company.do("opportunities/open", DEALS[n], day("2026-05-02"), **of)
        company.do("opportunities/move-stage", DEALS[n], day("2026-05-03"), stage="proposal")
    for n in range(2):
        company.do("opportunities/win", DEALS[n], day("2026-05-20"))


def answers(company: World) -> tuple[Any, ...]:
    """What was true of May and at the end of June."""
    company.project()
    company.write_facts()
    rows = company.get("/analytics/deals/conversion", **MAY)["items"]
    conversion = {
        row["stage"]: (row["entered"], row["converted"], row["next_stage"])
        for row in rows
        if row["entered"]
    }
    june = {"as_of": "2026-06-30", "pipeline": "sales"}
    stages = {
        one["stage"]: (one["count"], one["name"], one["probability"], one["weighted"])
        for one in company.get("/funnel", **june)["stages"]
        if one["count"]
    }
    [weighed] = company.get("/analytics/deals/open", **june)["items"]
    return conversion, stages, weighed["group"], weighed["weighted"]


BEFORE = (
    {"discovery": (4, 4, "proposal"), "proposal": (4, 2, "won")},
    {
        "proposal": (2, "proposal", "0.5", [eur("10.01")]),
        "won": (2, "won", "1", [eur("20.02")]),
    },
    "proposal",
    eur("10.01"),
)


@pytest.mark.parametrize("stages", [RENAMED, REPLACED], ids=["renamed", "replaced"])
def test_a_definition_of_today_changes_nothing_of_before(company: World, stages: Any) -> None:
    a_may(company)
    assert answers(company) == BEFORE
    define(company, "2026-07-10", *stages)
    assert answers(company) == BEFORE
    now = {one["stage"]: one for one in company.get("/funnel", pipeline="sales")["stages"]}
    shown = now["proposal"]
    assert shown["count"] == 2
    is_renamed = stages is RENAMED
    assert shown["name"] == ("offer" if is_renamed else "proposal")
    assert shown["weighted"] == [eur("18.02" if is_renamed else "10.01")]
    [weighed] = company.get("/analytics/deals/open", pipeline="sales")["items"]
    assert weighed["weighted"] == eur("18.02" if is_renamed else "10.01")
    one = company.get(f"/opportunities/{DEALS[3]}")
    assert (one["stage"], one["stage_name"]) == ("proposal", shown["name"])
    assert one["weighted"] == eur("9.01" if is_renamed else "5.01")
    [listed] = company.get("/opportunities", ids=DEALS[3])["items"]
    [behind] = [d for d in company.get("/analytics/deals")["items"] if d["id"] == str(DEALS[3])]
    for shape in (listed, behind):
        for field in ("stage", "stage_name", "probability", "weighted"):
            assert float_of(shape[field]) == float_of(one[field])


def test_the_past_of_a_customer_shows_stages_as_they_were_called(company: World) -> None:
    company.do("customers/register", ANN, day("2026-04-01"), name="Ann")
    define(company, "2026-04-02", ("talk", "open", "0.3"), ("yes", "won"), ("no", "lost"), name="x")
    deal = {"title": "-", "pipeline": "x", "amount": eur("10"), "customer_id": ANN}
    company.do("opportunities/open", DEALS[0], day("2026-05-02"), **deal)
    renamed = (("chat", "open", "0.4", "talk"), ("yes", "won"), ("no", "lost"))
    define(company, "2026-06-01", *renamed, name="x")
    company.project()
    for clocks, name, weighted in (
        ({}, "chat", "4.00"),
        ({"as_of": "2026-07-01"}, "chat", "4.00"),
        ({"as_of": "2026-05-31"}, "talk", "3.00"),
    ):
        [shown] = company.get(f"/customers/{ANN}", **clocks)["opportunities"]
        assert (shown["stage"], shown["stage_name"]) == ("talk", name)
        assert shown["weighted"] == eur(weighted)


def test_settings_make_no_customer_who_was_not_there_yet(company: World) -> None:
    company.do("companies/set-time-zone", COMPANY, day("2025-01-01"), time_zone="Asia/Tokyo")
    company.do("customers/register", ANN, day("2026-04-01"), name="Ann")
    company.project()
    assert company.ask(f"/customers/{ANN}", as_of="2025-06-01").status_code == 404
    assert company.get(f"/customers/{ANN}", as_of="2026-04-01")["name"] == "Ann"


def test_a_deal_older_than_its_pipeline_has_its_first_definition(company: World) -> None:
    company.do("customers/register", ANN, day("2026-04-01"), name="Ann")
    define(company, "2026-07-10", ("talk", "open", "0.3"), ("yes", "won"), ("no", "lost"), name="x")
    deal = {"title": "-", "pipeline": "x", "amount": eur("10"), "customer_id": ANN}
    company.do("opportunities/open", DEALS[0], day("2026-05-02"), **deal)
    define(company, "2026-07-11", ("talk", "open", "0.5"), ("yes", "won"), ("no", "lost"), name="x")
    company.project()
    june = {"as_of": "2026-06-30"}
    [shown] = company.get(f"/customers/{ANN}", **june)["opportunities"]
    assert shown["weighted"] == company.get(f"/opportunities/{DEALS[0]}", **june)["weighted"]
    assert shown["weighted"] == eur("3.00")
    assert company.get(f"/opportunities/{DEALS[0]}")["weighted"] == eur("5.00")
    known = {"known_at": company.head()}
    assert company.get(f"/opportunities/{DEALS[0]}", **known)["weighted"] == eur("5.00")


def test_a_name_means_the_stage_that_is_called_so_now_in_the_pipeline_asked_for(
    company: World,
) -> None:
    company.do("opportunities/open", DEALS[0], title="-", stage="proposal")
    company.do("opportunities/open", DEALS[1], title="-", pipeline="contract", stage="negotiation")
    sales = [
        ("proposal", "open", None, "p2"),
        ("Angebot", "open", None, "proposal"),
        ("won", "won"),
        ("lost", "lost"),
    ]
    define(company, "2026-07-10", *sales)
    contract = (("Angebot", "open", None, "negotiation"), ("signed", "won"), ("lost", "lost"))
    define(company, "2026-07-10", *contract, name="contract")
    company.do("opportunities/open", DEALS[2], title="-", stage="proposal")
    company.write_facts()

    def found(**asked: str) -> set[int]:
        items = company.get("/analytics/deals", **asked)["items"]
        assert company.ask("/analytics/deals/stages/deals", **asked).status_code == 200
        return {UUID(item["id"]).int - DEALS[0].int for item in items}

    assert found(stage="Angebot") == {0, 1}
    assert found(stage="Angebot", pipeline="sales") == {0}
    assert found(stage="Angebot", pipeline="contract") == {1}
    assert found(stage="proposal") == {2}
    assert found(stage="negotiation") == {1}
    company.do("opportunities/lose", DEALS[1], reason="-")
    renamed = [("a", "open", None, "p2"), ("won", "won"), ("verloren", "lost", None, "lost")]
    define(company, "2026-07-11", *renamed)
    company.write_facts()
    assert found(stage="lost") == {1}
    assert found(stage="verloren") == set()
    assert found(stage="verloren", pipeline="sales") == set()
    answer = company.ask("/analytics/deals", stage="Angebott")
    assert answer.status_code == 422
    assert "Angebot, " in answer.json()["errors"][0]["message"]


def test_a_stage_keeps_its_kind(company: World) -> None:
    stages = [{"name": n, "kind": k} for n, k in (("won", "open"), ("W", "won"), ("lost", "lost"))]
    asked = {"name": "sales", "stages": stages}
    assert company.try_("companies/define-pipeline", COMPANY, **asked) == 409
    assert company.answer.body["rule"] == "StageKindFixed"
    without = [{"name": n, "kind": k} for n, k in (("a", "open"), ("W", "won"), ("L", "lost"))]
    company.do("companies/define-pipeline", COMPANY, name="sales", stages=without)
    assert company.try_("companies/define-pipeline", COMPANY, **asked) == 409
    stages[0]["key"] = "nearly"
    company.do("companies/define-pipeline", COMPANY, **asked)


def float_of(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def test_stages_that_change_places_take_no_conversion_back(company: World) -> None:
    a_may(company)
    define(
        company,
        "2026-07-10",
        ("proposal", "open"),
        ("discovery", "open"),
        ("won", "won"),
        ("lost", "lost"),
    )
    assert answers(company)[0] == BEFORE[0]


def test_a_renamed_stage_is_found_by_its_name_and_by_its_key(company: World) -> None:
    a_may(company)
    define(company, "2026-07-10", *RENAMED)
    for stage in ("offer", "proposal"):
        deal = DEALS[5 + (stage == "offer")]
        company.do("opportunities/open", deal, title="-", stage=stage)
        assert company.try_("opportunities/move-stage", deal, stage=stage) == 200
        assert company.answer.body["events"] == []
    answers(company)
    for stage in ("offer", "proposal"):
        params = {"stage": stage, "pipeline": "sales"}
        assert len(company.get("/analytics/deals", **params)["items"]) == 4
        assert company.get("/analytics/deals/conversion/deals", **params)["items"]
    assert {deal["stage"] for deal in company.get("/opportunities", kind="open")["items"]} == {
        "proposal"
    }


def test_a_pipeline_that_was_defined_after_its_deals_counts_for_them(company: World) -> None:
    define(company, "2026-07-10", ("talk", "open", "0.3"), ("yes", "won"), ("no", "lost"), name="x")
    of = {"title": "-", "pipeline": "x", "amount": eur("10")}
    company.do("opportunities/open", DEALS[0], day("2026-05-02"), **of)
    company.do("opportunities/win", DEALS[0], day("2026-05-20"))
    company.do("opportunities/open", DEALS[1], day("2026-05-02"), **of)
    company.project()
    company.write_facts()
    may = {**MAY, "pipeline": "x"}
    [row] = company.get("/analytics/deals/conversion", **may)["items"]
    assert (row["stage"], row["entered"], row["converted"]) == ("talk", 2, 1)
    june = {"as_of": "2026-06-30", "pipeline": "x"}
    [talk, *_] = company.get("/funnel", **june)["stages"]
    assert (talk["name"], talk["weighted"]) == ("talk", [eur("3.00")])


def test_keys_are_unique_and_stay(company: World) -> None:
    define(company, "2026-07-10", *RENAMED)
    again = [
        {"name": "discovery", "kind": "open"},
        {"name": "offer", "kind": "open"},
        {"name": "proposal", "kind": "open"},
        {"name": "won", "kind": "won"},
        {"name": "lost", "kind": "lost"},
    ]
    given = {"name": "sales", "stages": again}
    assert company.try_("companies/define-pipeline", COMPANY, **given) == 409
    assert company.answer.body["type"] == "/problems/stage-key-taken"
    again[2]["key"] = "second-proposal"
    company.do("companies/define-pipeline", COMPANY, **given)
    company.project()
    [sales] = [p for p in company.get("/settings")["pipelines"] if p["name"] == "sales"]
    assert [(stage["key"], stage["name"]) for stage in sales["stages"]] == [
        ("discovery", "discovery"),
        ("proposal", "offer"),
        ("second-proposal", "proposal"),
        ("won", "won"),
        ("lost", "lost"),
    ]


def test_settings_are_shown_as_they_were_at_any_moment(company: World) -> None:
    company.project()
    begun = company.get("/settings")
    assert begun["time_zone"] == "UTC"
    assert [pipeline["name"] for pipeline in begun["pipelines"]] == ["sales", "contract"]
    assert all(values == [] for values in begun["lists"].values())
    first = company.do(
        "companies/set-time-zone", COMPANY, day("2026-03-01"), time_zone="Asia/Tokyo"
    )
    define(company, "2026-03-02", *RENAMED)
    reasons = {"name": "loss-reasons", "values": ["price", "no answer"]}
    company.do("companies/define-list", COMPANY, day("2026-03-03"), **reasons)
    company.project()
    now = company.get("/settings")
    assert now["time_zone"] == "Asia/Tokyo"
    assert now["pipelines"][0]["stages"][1]["name"] == "offer"
    assert now["lists"]["loss-reasons"] == ["price", "no answer"]
    assert company.get("/settings", as_of="2026-02-01")["time_zone"] == "UTC"
    then = company.get("/settings", known_at=first)
    assert (then["time_zone"], then["lists"]["loss-reasons"]) == ("Asia/Tokyo", [])
    assert then["pipelines"] == begun["pipelines"]
    assert company.differing() == []


@pytest.mark.parametrize(
    ("list_name", "command", "stream", "field", "rule"),
    [
        ("loss-reasons", "opportunities/lose", DEALS[0], "reason", "loss-reason-not-listed"),
        (
            *("disqualification-reasons", "leads/disqualify", LEAD, "reason"),
            "disqualification-reason-not-listed",
        ),
        ("tags", "customers/tag", ANN, "tag", "tag-not-listed"),
        ("regions", "customers/change-details", ANN, "region", "region-not-listed"),
        ("sources", "customers/change-details", ANN, "source", "source-not-listed"),
    ],
)
def test_a_list_that_has_values_takes_no_others(
    company: World, list_name: str, command: str, stream: UUID, field: str, rule: str
) -> None:
    company.do("customers/register", ANN, name="Ann", region="nowhere", source="nobody")
    company.do("leads/capture", LEAD, name="Lea")
    company.do("opportunities/open", DEALS[0], title="-")
    define_list = {"name": list_name, "values": ["one", "two"]}
    company.do("companies/define-list", COMPANY, **define_list)
    assert company.try_(command, stream, **{field: "three"}) == 409
    assert company.answer.body["type"] == f"/problems/{rule}"
    assert company.try_(command, stream, **{field: "two"}) == 200


@pytest.mark.parametrize("kind", ["loss-reasons", "disqualification-reasons"])
def test_other_is_always_a_reason_and_its_comment_is_personal(company: World, kind: str) -> None:
    company.do("customers/register", ANN, name="Ann")
    company.do("leads/capture", LEAD, name="Lea")
    company.do("opportunities/open", DEALS[0], title="-", customer_id=ANN)
    company.do("companies/define-list", COMPANY, name=kind, values=["price"])
    if kind == "loss-reasons":
        company.do("opportunities/lose", DEALS[0], reason="other", comment="Ann quarrelled")
    else:
        company.do("leads/disqualify", LEAD, reason="other", note="Ann quarrelled")
    with company.superuser() as conn:
        found = conn.execute(
            "SELECT count(*) FROM ledger.events "
            "WHERE convert_from(payload, 'UTF8') LIKE '%quarrelled%'"
        ).fetchone()
    assert found == (0,)


def test_an_empty_list_is_open_again_and_no_value_is_listed_twice(company: World) -> None:
    company.do("customers/register", ANN, name="Ann")
    company.do("companies/define-list", COMPANY, name="tags", values=["one"])
    company.do("companies/define-list", COMPANY, name="tags", values=[])
    company.do("customers/tag", ANN, tag="three")
    for wrong in ({"name": "tags", "values": ["a", " a"]}, {"name": "colours", "values": ["a"]}):
        with pytest.raises(Unprocessable):
            company.try_("companies/define-list", COMPANY, **wrong)
