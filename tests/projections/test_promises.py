"""The promise ledger: who promised what to whom, what is overdue, what is at odds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from events.company import COMPANY
from tests.projections.world import World, day, eur

ANN, BEN = UUID(int=101), UUID(int=102)
WORDS = [UUID(int=n) for n in range(31, 60)]


@pytest.fixture(autouse=True)
def customers(company: World) -> None:
    for customer, name in ((ANN, "Ann"), (BEN, "Ben")):
        company.do("customers/register", customer, day("2026-03-01"), name=name)


def promise(
    company: World, n: int, customer: UUID = ANN, at: str | None = None, **data: Any
) -> str:
    company.do(
        "customers/make-promise",
        customer,
        at or day("2026-03-02"),
        promise_id=WORDS[n],
        **{"what": f"promise {n}", **data},
    )
    return str(WORDS[n])


def found(company: World, **params: Any) -> dict[str, Any]:
    company.project()
    return {item["id"]: item for item in company.get("/promises", **params)["items"]}


def test_a_promise_is_told_with_all_that_was_said(company: World) -> None:
    one = promise(
        company,
        0,
        promised_by="bob",
        due="2026-04-01",
        topic="price",
        amount=eur("12.5"),
        by="ada",
    )
    assert found(company)[one] == {
        "id": one,
        "version": 2,
        "customer": {"id": str(ANN), "name": "Ann"},
        "status": "open",
        "overdue": datetime.now(UTC).date().isoformat() > "2026-04-01",
        "promised_by": "bob",
        "owner": "bob",
        "recorded_by": "ada",
        "what": "promise 0",
        "due": "2026-04-01",
        "topic": "price",
        "amount": {"amount": "12.50", "currency": "EUR"},
        "contact_id": None,
        "made_at": day("2026-03-02"),
        "settled_at": None,
        "settled_by": None,
        "note": None,
        "contradicts": [],
    }


@pytest.mark.parametrize(
    ("verb", "data", "status"),
    [
        ("keep-promise", {"note": "with a smile"}, "kept-late"),
        ("break-promise", {"reason": "with a smile"}, "broken"),
        ("withdraw-promise", {"reason": "with a smile"}, "withdrawn"),
    ],
)
def test_what_came_of_it(company: World, verb: str, data: Any, status: str) -> None:
    one = promise(company, 0, due="2026-03-10")
    company.do(f"customers/{verb}", ANN, day("2026-03-20"), promise_id=one, by="eve", **data)
    now = found(company)[one]
    assert (now["status"], now["note"], now["settled_by"], now["settled_at"], now["overdue"]) == (
        status,
        "with a smile",
        "eve",
        day("2026-03-20"),
        False,
    )
    then = found(company, as_of="2026-03-15")[one]
    assert (then["status"], then["note"], then["settled_by"], then["settled_at"]) == (
        "open",
        None,
        None,
        None,
    )
    assert then["overdue"]
    assert found(company, as_of="2026-03-01") == {}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/Los_Angeles"])
def test_a_promise_is_overdue_from_the_business_day_after_its_due_date(
    company: World, zone: str
) -> None:
    company.do("companies/set-time-zone", COMPANY, time_zone=zone)
    one = promise(company, 0, due="2026-03-10")
    two = promise(company, 1)
    midnight = datetime(2026, 3, 11, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    last, first = midnight, midnight + timedelta(microseconds=1)

    def overdue(moment: datetime) -> bool:
        text = moment.isoformat().replace("+00:00", "Z")
        shown = found(company, as_of=text)
        assert not shown[two]["overdue"]
        return bool(shown[one]["overdue"])

    assert (overdue(last), overdue(first)) == (False, True)
    assert not found(company, as_of="2026-03-10")[one]["overdue"]
    assert found(company, as_of="2026-03-11")[one]["overdue"]


def test_today_is_the_companys_today(company: World) -> None:
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        company.do("companies/set-time-zone", COMPANY, time_zone=zone)
        today = datetime.now(ZoneInfo(zone)).date()
        n = 0 if zone == "Etc/GMT+12" else 2
        due = promise(company, n, due=today.isoformat())
        late = promise(company, n + 1, due=(today - timedelta(days=1)).isoformat())
        shown = found(company)
        assert (shown[due]["overdue"], shown[late]["overdue"]) == (False, True)


def test_open_promises_on_one_topic_that_differ_contradict(company: World) -> None:
    first = promise(company, 0, topic="Price", amount=eur("10"), due="2026-04-01")
    same = promise(company, 1, topic="price", amount=eur("10.00"), due="2026-04-01")
    dearer = promise(company, 2, topic="PRICE", amount=eur("11"), due="2026-04-01")
    later = promise(company, 3, topic="price", amount=eur("10"), due="2026-04-02")
    unpriced = promise(company, 4, topic="price", due="2026-04-01")
    apart = promise(company, 5, topic="delivery", amount=eur("10"))
    silent = promise(company, 6, amount=eur("12"))
    other = promise(company, 7, BEN, topic="price", amount=eur("99"))
    shown = {one: item["contradicts"] for one, item in found(company).items()}
    assert shown == {
        first: [dearer, later, unpriced],
        same: [dearer, later, unpriced],
        dearer: [first, same, later, unpriced],
        later: [first, same, dearer, unpriced],
        unpriced: [first, same, dearer, later],
        apart: [],
        silent: [],
        other: [],
    }
    assert set(found(company, contradicting="true")) == {first, same, dearer, later, unpriced}
    assert set(found(company, contradicting="false")) == {apart, silent, other}


def test_a_settled_promise_contradicts_nothing_any_more(company: World) -> None:
    one = promise(company, 0, topic="price", amount=eur("10"))
    two = promise(company, 1, topic="price", amount=eur("11"))
    company.do("customers/withdraw-promise", ANN, day("2026-03-05"), promise_id=two, reason="-")
    shown = found(company)
    assert (shown[one]["contradicts"], shown[two]["contradicts"]) == ([], [])
    then = found(company, as_of="2026-03-04")
    assert (then[one]["contradicts"], then[two]["contradicts"]) == ([two], [one])


def test_another_currency_is_another_amount(company: World) -> None:
    one = promise(company, 0, topic="price", amount=eur("10"))
    two = promise(company, 1, topic="price", amount={"amount": "10", "currency": "USD"})
    assert found(company)[one]["contradicts"] == [two]


def test_filters_choose_promises(company: World) -> None:
    one = promise(company, 0, due="2026-04-01", topic="Price", promised_by="bob")
    two = promise(company, 1, BEN, due="2190-01-01")
    three = promise(company, 2)
    company.do("customers/keep-promise", ANN, promise_id=three)
    assert set(found(company, customer_id=str(BEN))) == {two}
    assert set(found(company, promised_by="bob")) == {one}
    assert set(found(company, status="kept")) == {three}
    assert set(found(company, topic="price")) == {one}
    assert set(found(company, due_from="2026-04-01", due_to="2026-04-02")) == {one}
    assert set(found(company, due_from="2026-04-02")) == {two}
    assert set(found(company, due_to="2026-04-01")) == set()
    assert set(found(company, overdue="true", as_of="2026-04-02")) == {one}
    assert set(found(company, overdue="false", as_of="2100-01-01")) == {two, three}


@pytest.mark.parametrize("limit", [1, 2, 50])
def test_two_customers_may_have_promises_of_one_id_at_one_time(company: World, limit: int) -> None:
    for n in (0, 1):
        promise(company, n, ANN)
        promise(company, n, BEN)
    company.project()
    items = [item for page in company.pages("/promises", limit=limit) for item in page]
    assert sorted((item["id"], item["customer"]["name"]) for item in items) == [
        (str(WORDS[n]), name) for n in (0, 1) for name in ("Ann", "Ben")
    ]


def test_kept_after_its_due_day_is_kept_late_and_counts_as_not_kept_in_time(company: World) -> None:
    """The due day ends in the company's time zone; without one nothing is late."""
    company.do("companies/set-time-zone", COMPANY, day("2026-01-01"), time_zone="Asia/Tokyo")
    ids = [UUID(int=900 + n) for n in range(6)]
    for n, promise in enumerate(ids):
        due = {} if n == 3 else {"due": "2026-03-10"}
        asked = {"promise_id": promise, "what": "a call", "promised_by": "ada", **due}
        company.do("customers/make-promise", ANN, day("2026-03-01"), **asked)
    for promise, at in (
        (ids[0], "2026-03-10T14:59:59Z"),  # a second before midnight in Tokyo
        (ids[1], "2026-03-10T15:00:00Z"),
        (ids[2], "2026-03-20T12:00:00Z"),
        (ids[3], "2026-06-01T12:00:00Z"),
    ):
        company.do("customers/keep-promise", ANN, at, promise_id=promise)
    company.do("customers/break-promise", ANN, day("2026-03-12"), promise_id=ids[4], reason="-")
    company.project()
    for clocks in ({}, {"as_of": "2026-07-01"}, {"known_at": company.head()}):
        status = {one["id"]: one["status"] for one in company.get("/promises", **clocks)["items"]}
        assert [status[str(one)] for one in ids] == [
            *("kept", "kept-late", "kept-late", "kept", "broken", "open"),
        ]
        late = company.get("/promises", status="kept-late", **clocks)["items"]
        assert [one["id"] for one in late] == [str(ids[1]), str(ids[2])]
        [row] = company.get("/promises/by-person", **clocks)["items"]
        assert row == {
            "promised_by": "ada",
            "open": 1,
            "overdue": 1,
            "kept": 2,
            "kept_late": 2,
            "broken": 1,
            "withdrawn": 0,
            "kept_rate": 0.4,
        }
    [row] = company.get("/promises/by-person", as_of="2026-03-10")["items"]
    assert (row["kept"], row["open"], row["kept_rate"]) == (1, 5, 1.0)
    assert company.get("/promises/by-person", promised_by="bob")["items"] == []
    [row] = company.get("/promises/by-person", as_of="2026-03-02")["items"]
    assert (row["open"], row["kept_rate"]) == (6, None)


def test_a_promise_is_handed_over_and_who_made_it_stays_on_record(company: World) -> None:
    one = promise(company, 0, promised_by="ada")
    handed = {"promise_id": one, "owner": "bob", "reason": "left us"}
    company.do("customers/hand-over-promise", ANN, day("2026-03-10"), **handed)
    now = found(company)[one]
    assert (now["promised_by"], now["owner"], now["status"], now["note"]) == (
        *("ada", "bob", "open", None),
    )
    assert company.differing() == []
    for clocks in ({}, {"as_of": "2026-03-20"}):
        assert set(found(company, owner="bob", **clocks)) == {one}
        assert found(company, owner="ada", **clocks) == {}
    assert found(company, as_of="2026-03-05")[one]["owner"] == "ada"
    company.do("customers/hand-over-promise", ANN, **handed)
    assert company.answer.body["events"] == []
    company.do("customers/keep-promise", ANN, promise_id=one)
    assert company.try_("customers/hand-over-promise", ANN, **{**handed, "owner": "eve"}) == 409
    assert company.answer.body["rule"] == "PromiseSettled"
