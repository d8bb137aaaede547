"""Lists: pages, filters, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from tests.projections.conftest import NewWorld
from tests.projections.world import World, day, eur

COUNT = 23
PATHS = ["/customers", "/leads", "/opportunities", "/promises", "/audit/events"]


def fill(company: World, count: int = COUNT, since: int = 0) -> None:
    """Things that begin three at a time."""
    for n in range(since, since + count):
        at = day(f"2026-03-{1 + n // 3:02}")
        owner = ("ada", "bob")[n % 2]
        region = ("north", "south", "east")[n % 3]
        customer = UUID(int=1000 + n)
        company.do(
            "customers/register", customer, at, name=f"Customer {n}", owner=owner, region=region
        )
        company.do("customers/make-promise", customer, at, promise_id=UUID(int=2000 + n), what="-")
        company.do("leads/capture", UUID(int=3000 + n), at, name=f"Lead {n}", source=region)
        company.do(
            "opportunities/open",
            UUID(int=4000 + n),
            at,
            title=f"Deal {n}",
            owner=owner,
            product=region,
            amount=eur(str(n)),
        )
    company.project()


@pytest.fixture(scope="module")
def filled(new_world: NewWorld) -> Iterator[World]:
    """For tests that only ask."""
    with new_world() as made:
        fill(made)
        yield made


def key_of(item: dict[str, Any]) -> Any:
    return item.get("id") or item["position"]


def keys(company: World, path: str, **params: Any) -> list[Any]:
    return [key_of(item) for page in company.pages(path, **params) for item in page]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("limit", [1, 7, 23, 1000])
def test_the_pages_hold_everything_once_and_in_order(filled: World, path: str, limit: int) -> None:
    total = filled.head() if path == "/audit/events" else COUNT
    found = keys(filled, path, limit=limit)
    assert len(found) == len(set(found)) == total
    assert found == keys(filled, path, limit=1000)
    sizes = [len(page) for page in filled.pages(path, limit=limit)]
    assert sizes[:-1] == [limit] * (len(sizes) - 1)
    assert sizes[-1] > 0


@pytest.mark.parametrize("path", PATHS)
def test_pages_are_stable_while_new_things_come(company: World, path: str) -> None:
    fill(company)
    before = keys(company, path, limit=1000)
    pages: Iterator[list[Any]] = company.pages(path, limit=5)
    seen = [key_of(item) for item in next(pages)]
    fill(company, 3, since=COUNT)
    seen += [key_of(item) for page in pages for item in page]
    assert len(seen) == len(set(seen))
    assert [key for key in seen if key in before] == before


def test_a_next_link_keeps_the_question(filled: World) -> None:
    page = filled.get("/customers", owner="ada", region="north", limit=2)
    assert "owner=ada" in page["next"]
    assert "region=north" in page["next"]
    rest = filled.get(page["next"])
    assert {item["owner"] for item in page["items"] + rest["items"]} == {"ada"}


def test_an_empty_list_is_a_page(company: World) -> None:
    company.project()
    for path in (*PATHS, "/audit/refusals"):
        page = company.get(path)
        assert (page["position"], page["parked"], page["items"], page["next"]) == (0, [], [], None)


def count_of(company: World, path: str, **params: Any) -> int:
    return len(keys(company, path, **params))


def test_filters_choose(filled: World) -> None:
    assert count_of(filled, "/customers", owner="ada") == 12
    assert count_of(filled, "/customers", region="north", owner="bob") == 4
    assert count_of(filled, "/customers", name="customer 2") == 4
    assert count_of(filled, "/customers", name="%") == 0
    assert count_of(filled, "/customers", name="_") == 0
    assert count_of(filled, "/customers", name="\\") == 0
    assert count_of(filled, "/customers", in_public_sea="true") == 0
    assert count_of(filled, "/customers", kind="partner") == 0
    assert count_of(filled, "/leads", source="east") == 7
    assert count_of(filled, "/leads", in_pool="true") == COUNT
    assert count_of(filled, "/leads", status="converted") == 0
    days = {"captured_from": day("2026-03-02"), "captured_to": day("2026-03-04")}
    assert count_of(filled, "/leads", **days) == 6
    assert count_of(filled, "/opportunities", owner="bob", product="south") == 4
    assert count_of(filled, "/opportunities", kind="won") == 0
    assert count_of(filled, "/opportunities", stage="discovery", pipeline="sales") == COUNT
    assert count_of(filled, "/opportunities", opened_from=day("2026-03-08")) == 2
    assert count_of(filled, "/opportunities", closed_from=day("2026-03-01")) == 0
    assert count_of(filled, "/opportunities", customer_id=UUID(int=1000)) == 0
    assert count_of(filled, "/promises", customer_id=UUID(int=1000)) == 1


def test_a_claimed_or_closed_lead_is_not_in_the_pool(company: World) -> None:
    for n in (1, 2, 3):
        company.do("leads/capture", UUID(int=n + 10), name=f"Lead {n}")
    company.do("leads/claim", UUID(int=11))
    company.do("leads/disqualify", UUID(int=12), reason="no budget")
    company.project()
    assert keys(company, "/leads", in_pool="true") == [str(UUID(int=13))]
    assert count_of(company, "/leads", in_pool="false") == 2


def as_csv(company: World, path: str, **params: Any) -> tuple[Any, list[dict[str, str]]]:
    answer = company.ask(path, {"Accept": "text/csv"}, **params)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    text = answer.content.decode("utf-8-sig")
    return answer, list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_holds_what_json_holds(filled: World) -> None:
    answer, rows = as_csv(filled, "/opportunities", limit=5)
    page = filled.get("/opportunities", limit=5)
    assert [row["id"] for row in rows] == [item["id"] for item in page["items"]]
    assert [(row["amount.amount"], row["amount.currency"]) for row in rows] == [
        (item["amount"]["amount"], "EUR") for item in page["items"]
    ]
    assert answer.headers["pledge-position"] == str(page["position"])
    link = answer.headers["link"]
    assert link == f'<{page["next"]}>; rel="next"'
    assert urlsplit(page["next"]).path == "/opportunities"


def test_csv_of_every_list_can_be_read(filled: World) -> None:
    for path in (*PATHS, "/audit/refusals", f"/customers/{UUID(int=1000)}/timeline"):
        _, rows = as_csv(filled, path, limit=1000)
        assert len(rows) == len(filled.get(path, limit=1000)["items"])


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_csv_holds_nothing_that_a_sheet_would_compute(company: World, name: str) -> None:
    company.do("customers/register", UUID(int=11), name=name, region=name)
    company.project()
    _, [row] = as_csv(company, "/customers")
    for field in ("name", "region"):
        assert row[field][0] not in "=+-@"
        assert row[field].endswith(name)


def test_csv_keeps_line_feeds_quotes_and_letters_of_all_scripts(company: World) -> None:
    need = 'a "compiler",\nby Friday; für 杭州'
    company.do("leads/capture", UUID(int=11), name="Grace; Hopper", need=need)
    company.project()
    _, [row] = as_csv(company, "/leads")
    assert (row["name"], row["need"]) == ("Grace; Hopper", need)


def test_csv_of_a_page_without_rows_is_still_csv(company: World) -> None:
    company.project()
    _, rows = as_csv(company, "/leads")
    assert rows == []


def test_json_is_given_to_whoever_accepts_anything(filled: World) -> None:
    for accept in ("*/*", "application/json", "text/html,*/*;q=0.8"):
        answer = filled.ask("/leads", {"Accept": accept})
        assert answer.headers["content-type"] == "application/json"


def refused(company: World, path: str, field: str, **params: Any) -> str:
    """The message about a parameter that is refused."""
    answer = company.ask(path, **params)
    assert answer.status_code == 422, answer.text
    [error] = answer.json()["errors"]
    assert error["field"] == field
    return str(error["message"])


@pytest.mark.parametrize("path", ["/customers", "/leads", "/opportunities", "/promises"])
def test_a_list_gives_those_whose_ids_are_named(filled: World, path: str) -> None:
    every = keys(filled, path, limit=1000)
    wanted = [every[7], every[3], str(UUID(int=9))]
    assert keys(filled, path, ids=",".join(wanted)) == [every[3], every[7]]
    assert keys(filled, path, ids=every[5].upper()) == [every[5]]


@pytest.mark.parametrize("ids", ["", "x", "1", f"{UUID(int=1)},", f"{UUID(int=1)};{UUID(int=2)}"])
def test_ids_that_are_none_are_refused(filled: World, ids: str) -> None:
    refused(filled, "/leads", "ids", ids=ids)


def test_a_hundred_ids_are_taken_and_no_more(filled: World) -> None:
    ids = [str(UUID(int=3000 + n)) for n in range(101)]
    assert count_of(filled, "/leads", ids=",".join(ids[:100])) == COUNT
    refused(filled, "/leads", "ids", ids=",".join(ids))


@pytest.mark.parametrize("path", ["/customers", "/leads", "/opportunities", "/payments"])
def test_a_list_says_how_many_there_are_when_it_is_asked(filled: World, path: str) -> None:
    total = 0 if path == "/payments" else COUNT
    assert filled.get(path, limit=2, count="true")["count"] == total
    assert "count" not in filled.get(path, limit=2)
    if total:
        page = filled.get(path, limit=5, count="true")
        assert "count" not in filled.get(page["next"])  # it was said
        answer, _ = as_csv(filled, path, limit=5, count="true")
        assert answer.headers["pledge-count"] == str(total)
    if path in ("/customers", "/opportunities"):
        assert filled.get(path, owner="ada", count="true")["count"] == 12


def test_a_parameter_that_is_given_twice_is_refused(filled: World) -> None:
    assert "more than once" in refused(filled, "/leads?owner=ada&owner=bob", "owner")
    assert "more than once" in refused(filled, "/leads?limit=1&limit=1", "limit")
    assert "more than once" in refused(filled, "/analytics/rfm?owner=ada&owner=ada", "owner")


def test_a_cursor_of_another_list_is_refused(filled: World) -> None:
    cursors = {path: filled.get(path, limit=1)["next"].partition("cursor=")[2] for path in PATHS}
    for path in PATHS:
        for other, cursor in cursors.items():
            if other == path:
                assert filled.ask(path, cursor=cursor).status_code == 200
            else:
                assert "this list" in refused(filled, path, "cursor", cursor=cursor)


def test_the_timeline_of_an_unknown_customer_is_not_found(filled: World) -> None:
    for unknown in (UUID(int=1), UUID(int=3000)):  # nothing at all, and a lead
        assert filled.ask(f"/customers/{unknown}/timeline").status_code == 404
    assert filled.get(f"/customers/{UUID(int=1000)}/timeline")["items"]


@pytest.mark.parametrize(
    ("path", "field", "asked"),
    [
        ("/payments/ageing", "buckets", {"buckets": "60,30"}),
        ("/analytics/rfm", "to", {"from": "2026-03-02", "to": "2026-03-01"}),
        ("/analytics/rfm", "r_thresholds", {"r_thresholds": "4,3,2,1"}),
        ("/analytics/tiers", "ordinary_share", {"ordinary_share": "0.1"}),
        ("/analytics/leads/list", "group", {"group": "mail"}),
        ("/analytics/tickets/list", "group", {"group": "mail"}),
        ("/analytics/rfm", "currency", {"currency": "ZZZ"}),
    ],
)
def test_what_cannot_be_answered_is_refused_before_anything_is_waited_for(
    filled: World, path: str, field: str, asked: dict[str, str]
) -> None:
    refused(filled, path, field, min_position=10**9, **asked)
