"""The sample company: the same every time, believable, and made to the end whatever happens."""

from __future__ import annotations

from collections import Counter
from datetime import date
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.http.wire import check_line
from events.ledger import ledger
from events.ledger.migrate import migrate
from pledge import demo
from pledge.demo.telling import DAYS, Telling
from tests.commands.making import writer_on

UNTIL = date(2026, 3, 5)


def silent(_done: int, _of: int) -> None:
    pass


def told(size: int = 40, seed: int = 1, until: date = UNTIL) -> list[dict[str, Any]]:
    return [orjson.loads(line.raw) for line in demo.story(size, seed, until)]


def names(size: int, seed: int = 1) -> list[str]:
    return [
        line["data"]["name"] for line in told(size, seed) if line["command"] == "customers/register"
    ]


@pytest.fixture
def ledger_url(database_url: str) -> str:
    migrate(database_url)
    return database_url


def test_the_same_company_is_told_in_the_same_bytes() -> None:
    assert demo.story(20, 3, UNTIL) == demo.story(20, 3, UNTIL)
    assert names(20, 3) != names(20, 4)


def test_a_larger_company_has_the_customers_of_a_smaller_one() -> None:
    assert Counter(names(15)) <= Counter(names(30))


def test_how_much_happens_does_not_depend_on_the_day() -> None:
    assert Counter(line["command"] for line in told()) == Counter(
        line["command"] for line in told(until=date(2025, 11, 24))
    )


@given(st.dates(date(2020, 1, 1), date(2030, 1, 1)))
def test_two_years_of_working_days_end_on_the_last_one_before_that_day(until: date) -> None:
    telling = Telling("any", until)
    days = [telling.date_of(day) for day in range(DAYS + 30)]
    assert all(day.weekday() < 5 for day in days)
    assert {(later - day).days for day, later in pairwise(days)} == {1, 3}
    assert 1 <= (until - days[DAYS - 1]).days <= 3


def test_it_is_told_in_the_order_in_which_it_was_entered_and_some_payments_were_entered_late() -> (
    None
):
    moments = [(line["command"], line["occurred_at"]) for line in told(120)]
    late = {
        command
        for (command, moment), (_, before) in zip(moments[1:], moments, strict=False)
        if moment < before
    }
    assert late == {"payments/receive"}


def test_it_is_a_believable_company() -> None:
    lines = told(120)
    by_command: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_command.setdefault(line["command"], []).append(line)
    registered = [line["data"]["name"] for line in by_command["customers/register"]]
    assert any(name.isascii() for name in registered)
    assert any("\u4e00" <= name[0] <= "\u9fff" for name in registered)
    [leaver] = {
        line["data"]["reason"].partition(" ")[0] for line in by_command["customers/hand-over"]
    }
    acts = [n for n, line in enumerate(lines) if line["actor"] == leaver]
    assert max(acts) < 0.95 * len(lines)
    priced: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for line in by_command["customers/make-promise"]:
        if "amount" in line["data"]:
            topic = (line["id"], line["data"]["topic"])
            priced.setdefault(topic, set()).add((line["actor"], line["data"]["amount"]["amount"]))
    assert len(priced) > 10
    for promised in priced.values():
        people, prices = zip(*promised, strict=True)
        assert len(set(people)) == len(set(prices)) == 2
    assert {line.refused_by for line in demo.story(120, 1, UNTIL)} == {None, "LeadOwned"}
    wanted = {
        "customers/keep-promise", "customers/break-promise", "customers/withdraw-promise",
        "leads/convert", "opportunities/lose", "orders/cancel", "orders/dispute",
        "orders/return", "payments/refund", "tickets/escalate", "tickets/reopen", "tickets/rate",
    }  # fmt: skip
    assert wanted <= by_command.keys()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_command_is_one_of_the_catalog(seed: int) -> None:
    assert [
        problem for line in demo.story(60, seed, UNTIL) for problem in check_line(line.raw)
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize(("size", "seed"), [(1, 1), (25, 5), (60, 11), (300, 2)])
def test_no_command_is_answered_otherwise_than_the_story_has_it(
    ledger_url: str, size: int, seed: int
) -> None:
    with writer_on(ledger_url) as writer:
        demo.fill(writer, (size, seed, UNTIL), silent)
    with ledger.connect(ledger_url) as conn:
        outcomes = conn.execute("SELECT count(*) FROM ledger.outcomes").fetchone()
        assert outcomes == (len(demo.story(size, seed, UNTIL)),)
        assert demo.cut_short(conn) is None


def test_a_company_cut_short_is_finished_as_it_was_begun(ledger_url: str) -> None:
    class Enough(Exception):
        pass

    def stop(_done: int, _of: int) -> None:
        raise Enough

    with writer_on(ledger_url) as writer, ledger.connect(ledger_url) as conn:
        assert demo.cut_short(conn) is None
        with pytest.raises(Enough):
            demo.fill(writer, (10, 4, UNTIL), stop)
        assert ledger.head(conn) > 0
        begun = demo.cut_short(conn)
        assert begun == (10, 4, UNTIL)
        demo.fill(writer, begun, silent)
        assert demo.cut_short(conn) is None
        head = ledger.head(conn)
        demo.fill(writer, begun, silent)
        assert ledger.head(conn) == head


def test_an_answer_that_the_story_does_not_want_is_told_with_the_line() -> None:
    lines = demo.story(120, 1, UNTIL)
    refused = next(line for line in lines if line.refused_by)
    with pytest.raises(demo.StoryFailed, match=r"CustomerExists.*customers/register"):
        demo.check(lines[0], "CustomerExists")
    with pytest.raises(demo.StoryFailed, match="leads/claim"):
        demo.check(refused, None)
    with pytest.raises(demo.StoryFailed, match="LeadUnknown"):
        demo.check(refused, "LeadUnknown")
    demo.check(refused, "409 LeadOwned: Another rep owns this lead.")
    demo.check(lines[0], None)
