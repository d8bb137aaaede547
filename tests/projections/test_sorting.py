"""Lists sorted by their columns, and pages that are of what the first one knew."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import orjson
import pytest

from projections.asking.listing import Sorted
from projections.asking.sorting import kind_of, sorts_of
from projections.catalog import QUESTIONS
from tests.projections.conftest import NewWorld
from tests.projections.world import World, day, eur

SORTED = [one for one in QUESTIONS if issubclass(one.asks, Sorted)]
EVERY = [(one.path, column) for one in SORTED for column in sorts_of(one.asks)]
NAMES = ["ähre", "Zoe", "adam", "Zoe", "Bea"]


@pytest.fixture(scope="module")
def company(new_world: NewWorld) -> Iterator[World]:
    """Five of each, with values that are missing, equal, or differ in their case."""
    with new_world() as made:
        for n, name in enumerate(NAMES):
            customer, lead, deal, order, payment, ticket = (
                UUID(int=100 * k + n) for k in (1, 2, 3, 4, 5, 6)
            )
            at = day(f"2026-03-0{1 + n // 2}")
            some = {"region": "north", "source": "fair"} if n % 2 else {}
            made.do("customers/register", customer, at, name=name, **some)
            made.do("customers/log-interaction", customer, at, channel="call", summary="-")
            made.do("leads/capture", lead, at, name=name, **some)
            worth = {"amount": eur(str(9 - n)), "expected_close": f"2026-04-0{9 - n}"}
            of = {"customer_id": customer, "owner": "ada"}
            made.do("opportunities/open", deal, at, title=name, **(worth | of if n % 2 else {}))
            made.do("orders/place", order, at, customer_id=customer, amount=eur(str(1 + n % 3)))
            made.do("payments/receive", payment, at, customer_id=customer, amount=eur("5"))
            made.do("payments/refund", payment, at, amount=eur(str(1 + n % 3)))
            made.do("tickets/open", ticket, at, channel="call", subject=name, text="-")
            if n % 2:
                made.do("tickets/dispatch", ticket, at, technician=name)
            promise = {"promise_id": UUID(int=7), "what": name, "amount": eur(str(n % 2))}
            made.do("customers/make-promise", customer, at, **promise)
        made.project()
        yield made


def value_of(item: Any, column: str) -> Any:
    """What a row shows in a column, as it is compared."""
    for part in column.split("."):
        item = None if item is None else item[part]
    if isinstance(item, dict):
        item = item["amount"]
    return item


def kind(path: str, column: str) -> Any:
    [question] = [one for one in SORTED if one.path == path]
    return kind_of(question.shape.model_fields["items"].annotation.__args__[0], column)


@pytest.mark.parametrize(("path", "column"), EVERY, ids=[f"{p} {c}" for p, c in EVERY])
def test_a_list_is_sorted_by_a_column_and_what_lacks_it_comes_last(
    company: World, path: str, column: str
) -> None:
    of, whole = kind(path, column), company.get(path)["items"]
    comparable = {str: str.lower, Decimal: Decimal}.get(of, lambda value: value)
    for sort in (column, f"-{column}"):
        shown = [item for page in company.pages(path, limit=3, sort=sort) for item in page]
        assert sorted(map(str, shown)) == sorted(map(str, whole))
        values = [value_of(item, column) for item in shown]
        there = [comparable(value) for value in values if value is not None]
        assert there == sorted(there, reverse=sort.startswith("-"))
        assert values[len(there) :] == [None] * (len(values) - len(there))
        assert company.get(path, sort=sort, known_at=company.head())["items"] == shown


def test_a_column_that_there_is_not_is_refused_with_those_that_there_are(company: World) -> None:
    answer = company.ask("/payments", sort="colour")
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == "sort"
    assert "must be one of received_at, customer.name, kind, amount" in error["message"]
    for sort in ("", "--amount", "amount,kind", "Amount"):
        assert company.ask("/payments", sort=sort).status_code == 422


def test_a_list_is_not_sorted_and_turned_at_once(company: World) -> None:
    answer = company.ask("/payments", sort="amount", newest_first="true")
    assert answer.status_code == 422
    assert "write sort=-amount" in answer.json()["detail"]


def test_a_cursor_belongs_to_its_sort(company: World) -> None:
    cursors = {
        str(asked): cursor_of(company.get("/payments", limit=1, **asked)["next"])
        for asked in ({}, {"newest_first": "true"}, {"sort": "amount"}, {"sort": "-amount"})
    }
    for asked in ({}, {"newest_first": "true"}, {"sort": "amount"}, {"sort": "-amount"}):
        for whose, cursor in cursors.items():
            status = company.ask("/payments", cursor=cursor, **asked).status_code
            assert status == (200 if whose == str(asked) else 422), (whose, asked)


def test_files_and_counts_come_in_the_order_asked_for(company: World) -> None:
    lines = company.ask("/leads", {"Accept": "application/x-ndjson"}, sort="-name").text
    names = [orjson.loads(line)["name"] for line in lines.splitlines()]
    assert names == ["ähre", "Zoe", "Zoe", "Bea", "adam"]
    assert company.get("/leads", sort="name", count="true", limit=1)["count"] == len(NAMES)


def cursor_of(link: str) -> str:
    return parse_qs(urlsplit(link).query)["cursor"][0]


def with_pin(link: str, position: int | None = None, today: str | None = None) -> str:
    """The cursor of a link, with another pin."""
    cursor = cursor_of(link)
    of, pin, *key = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    pin = [pin[0] if position is None else position, today or pin[1]]
    return base64.urlsafe_b64encode(orjson.dumps([of, pin, *key])).decode().rstrip("=")


A, B, C, D = (UUID(int=1000 + n) for n in range(4))


@pytest.fixture(scope="module")
def moving(new_world: NewWorld) -> Iterator[World]:
    """A company in which something happens between two pages."""
    with new_world() as made:
        for n, customer in enumerate((A, B, C, D)):
            made.do("customers/register", customer, day("2026-03-05"), name=f"Customer {n}")
        made.project()
        yield made


def rest(company: World, page: Any) -> list[str]:
    """The ids of a page and of all that follow."""
    ids = [item.get("id") or item["customer"]["id"] for item in page["items"]]
    return ids + (rest(company, company.get(page["next"])) if page["next"] else [])


def test_pages_by_an_amount_that_moves_are_of_what_the_first_one_knew(moving: World) -> None:
    deals = [UUID(int=2000 + n) for n in range(4)]
    for deal, amount in zip(deals, ("400", "300", "200", "100"), strict=True):
        moving.do("opportunities/open", deal, day("2026-03-05"), title="-", amount=eur(amount))
    moving.project()
    page = moving.get("/opportunities", sort="-amount", limit=1)
    moving.do("opportunities/change-details", deals[0], amount=eur("50"))
    moving.do("opportunities/change-details", deals[3], amount=eur("900"))
    moving.do("opportunities/open", UUID(int=2009), day("2026-03-01"), title="-", amount=eur("1"))
    moving.project()
    following = moving.get(page["next"])
    assert following["known_at"] == following["position"] == page["position"]
    assert rest(moving, page) == [str(deal) for deal in deals]
    assert rest(moving, moving.get("/opportunities", sort="-amount", limit=2))[0] == str(deals[3])


@pytest.mark.parametrize("asked", [{}, {"newest_first": "true"}, {"sort": "name"}])
def test_what_is_entered_late_or_changed_between_two_pages_is_in_none(
    moving: World, asked: dict[str, str]
) -> None:
    before = rest(moving, moving.get("/customers", **asked))
    page = moving.get("/customers", limit=1, **asked)
    for past, name in (("2026-01-01", "A"), ("2026-03-06", "Z")):
        new = UUID(int=3000 + moving.head())
        moving.do("customers/register", new, day(past), name=f"{name} {moving.head()}")
    moving.do("customers/change-details", D, name=f"A {moving.head()}")
    moving.project()
    assert rest(moving, page) == before


def test_pages_of_a_moment_that_is_asked_for_are_pinned_too(moving: World) -> None:
    before = rest(moving, moving.get("/customers", as_of="2026-03-31"))
    page = moving.get("/customers", limit=1, as_of="2026-03-31")
    late = UUID(int=4000)
    moving.do("customers/register", late, day("2026-03-30"), name="Late")
    moving.project()
    assert rest(moving, page) == before
    assert str(late) in rest(moving, moving.get("/customers", as_of="2026-03-31"))


def test_the_pages_of_a_day_stay_of_that_day(moving: World) -> None:
    today = datetime.now(UTC).date()
    yesterday = (today - timedelta(days=1)).isoformat()
    for n in (1, 2):
        word = {"promise_id": UUID(int=n), "what": "-", "due": yesterday}
        moving.do("customers/make-promise", A, day("2026-03-05"), **word)
        order = UUID(int=5000 + n)
        moving.do(
            "orders/place",
            order,
            f"{yesterday}T00:00:00Z",
            customer_id=[A, B][n - 1],
            amount=eur("10"),
        )
    moving.project()
    for path, overdue, not_yet in (
        ("/promises", True, False),
        ("/payments/receivables", eur("10.00"), eur("0.00")),
    ):
        page = moving.get(path, limit=1)
        assert [item["overdue"] for item in moving.get(page["next"])["items"]] == [overdue]
        then = with_pin(page["next"], today=yesterday)
        assert [item["overdue"] for item in moving.get(path, cursor=then)["items"]] == [not_yet]


@pytest.mark.parametrize("path", ["/customers", "/promises", "/payments/receivables"])
def test_a_pin_ahead_of_the_ledger_is_refused_as_known_at_is(moving: World, path: str) -> None:
    link = moving.get(path, limit=1)["next"]
    ahead = with_pin(link, position=10**9)
    for asked in ({"cursor": ahead}, {"known_at": 10**9}):
        answer = moving.ask(path, **asked)
        assert answer.status_code == 422
        assert "lies ahead of the ledger" in answer.json()["detail"]
    for strange in (with_pin(link, position=-1), with_pin(link, today="9999-12-31")):
        assert moving.ask(path, cursor=strange).status_code == 422


def test_the_columns_to_sort_by_are_in_the_openapi_document(company: World) -> None:
    for question in SORTED:
        [sort] = [
            one
            for one in company.app.openapi()["paths"][question.path]["get"]["parameters"]
            if one["name"] == "sort"
        ]
        names = next(one["enum"] for one in sort["schema"]["anyOf"] if "enum" in one)
        assert names[:2] == [sorts_of(question.asks)[0], f"-{sorts_of(question.asks)[0]}"]
