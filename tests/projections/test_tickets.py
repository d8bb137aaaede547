"""Tickets: how they stand at any moment, beside an oracle of SQL over the events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from events.base import ERASED
from tests.projections.conftest import NewWorld
from tests.projections.world import World, day, instant

ANN = UUID(int=101)
TICKETS = [UUID(int=n) for n in (401, 402, 403)]
ONE, TWO, _ = TICKETS


def some_history(company: World) -> int:
    """A squeaking loom; the ledger's position before the answer was entered, late."""
    company.do("customers/register", ANN, day("2026-03-01"), name="Ann")
    company.do(
        "tickets/open",
        ONE,
        day("2026-03-02"),
        subject="It squeaks",
        customer_id=ANN,
        kind="repair",
        number="T-1",
    )
    company.do("tickets/dispatch", ONE, day("2026-03-03"), technician="bob")
    company.do("tickets/confirm", ONE, day("2026-03-04"), by="bob")
    company.do("tickets/wait", ONE, day("2026-03-05"), reason="parts")
    company.do("tickets/log-work", ONE, day("2026-03-09"), minutes=45, text="New belt.", by="bob")
    company.do("tickets/resolve", ONE, day("2026-03-09"), text="Runs again.", by="bob")
    then = company.head()
    company.do("tickets/reply", ONE, day("2026-03-06"), text="The belt comes on Monday.")
    company.do("tickets/close", ONE, day("2026-03-12"))
    company.do("tickets/rate", ONE, day("2026-03-13"), score=4)
    company.project()
    return then


def test_a_ticket_shows_who_has_it_and_how_long_it_took(company: World) -> None:
    some_history(company)
    shown = company.get(f"/tickets/{ONE}")
    assert (shown["status"], shown["dispatch"], shown["technician"]) == (
        "closed",
        "confirmed",
        "bob",
    )
    assert (shown["kind"], shown["priority"], shown["score"], shown["minutes"]) == (
        "repair",
        "normal",
        4,
        45,
    )
    assert shown["customer"] == {"id": str(ANN), "name": "Ann"}
    times = ("opened_at", "first_taken_at", "first_reply_at", "resolved_at", "closed_at")
    assert [shown[name][:10] for name in times] == [
        "2026-03-02",
        "2026-03-04",
        "2026-03-06",
        "2026-03-09",
        "2026-03-12",
    ]
    assert [entry["type"] for entry in shown["history"]] == [
        "opened",
        "dispatched",
        "dispatch-confirmed",
        "waiting",
        "work-logged",
        "resolved",
        "replied",
        "closed",
        "rated",
    ]
    assert company.ask(f"/tickets/{ONE}").headers["etag"] == '"9"'


def test_a_ticket_stands_at_a_day_as_it_stood(company: World) -> None:
    then = some_history(company)
    assert company.get("/tickets", as_of="2026-03-01")["items"] == []
    for as_of, status, dispatch in (
        ("2026-03-02", "open", "undispatched"),
        ("2026-03-03", "open", "unconfirmed"),
        ("2026-03-05", "waiting", "confirmed"),
        ("2026-03-10", "resolved", "confirmed"),
    ):
        [item] = company.get("/tickets", as_of=as_of)["items"]
        assert (item["status"], item["dispatch"]) == (status, dispatch)
        assert item["closed_at"] is None
    [late] = company.get("/tickets", as_of="2026-03-10", known_at=then)["items"]
    assert late["first_reply_at"] is None
    [now] = company.get("/tickets", as_of="2026-03-10")["items"]
    assert now["first_reply_at"] == day("2026-03-06")


def test_a_customer_shows_their_tickets(company: World) -> None:
    some_history(company)
    company.do("tickets/open", TWO, day("2026-03-20"), subject="Nobody's")
    company.project()
    view = company.get(f"/customers/{ANN}")
    assert [(t["number"], t["status"]) for t in view["tickets"]] == [("T-1", "closed")]
    assert "ticket.resolved" in {entry["type"] for entry in view["timeline"]}
    past = company.get(f"/customers/{ANN}", as_of="2026-03-05")
    assert [t["status"] for t in past["tickets"]] == ["waiting"]
    assert [t["number"] for t in company.get("/tickets", customer_id=str(ANN))["items"]] == ["T-1"]


def test_what_a_forgotten_customer_wrote_is_gone_from_their_tickets(company: World) -> None:
    some_history(company)
    company.do("tickets/open", TWO, day("2026-03-20"), subject="Nobody's")
    with company.superuser() as conn:
        conn.execute("DELETE FROM vault.keys WHERE subject = %s", (ANN,))
        conn.execute("UPDATE progress.checkpoints SET shape = 'old' WHERE name = 'tickets'")
    company.project()
    shown = company.get(f"/tickets/{ONE}")
    assert shown["subject"] == ERASED
    written = {entry["text"] for entry in shown["history"] if entry["text"]}
    assert written == {ERASED}
    assert company.get(f"/tickets/{TWO}")["subject"] == "Nobody's"


START = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 24 * 60).map(lambda hours: (START + timedelta(hours=hours)).isoformat())
WHO = st.sampled_from(["bob", "eve"])
STEPS = st.one_of(
    st.tuples(st.just("open"), st.just({"subject": "x"})),
    st.tuples(st.just("dispatch"), st.builds(lambda who: {"technician": who}, WHO)),
    st.tuples(st.sampled_from(["decline", "escalate", "reopen"]), st.just({"reason": "r"})),
    st.tuples(st.just("reply"), st.builds(lambda i: {"text": "t", "inbound": i}, st.booleans())),
    st.tuples(st.just("log-work"), st.builds(lambda m: {"minutes": m}, st.integers(1, 99))),
    st.tuples(
        st.sampled_from(["confirm", "take", "wait", "resolve", "resolve", "close", "close"]),
        st.just({}),
    ),
)
HISTORIES = st.lists(
    st.tuples(STEPS, st.sampled_from(TICKETS), WHO, MOMENTS), min_size=10, max_size=50
)
ORACLE = """
WITH e AS (
    SELECT * FROM ledger.readable_events
     WHERE stream_type = 'ticket' AND position <= %(known)s AND occurred_at < %(until)s
), last AS (
    SELECT stream_id, type, version, row_number() OVER (
               PARTITION BY stream_id, kind ORDER BY version DESC) AS nth, kind, payload
      FROM e CROSS JOIN LATERAL (VALUES
           (CASE WHEN type IN ('ticket.opened', 'ticket.waiting', 'ticket.resolved',
                               'ticket.closed', 'ticket.reopened', 'ticket.dispatched',
                               'ticket.dispatch-confirmed', 'ticket.escalated')
                   OR type = 'ticket.replied' AND (payload ->> 'inbound')::bool
                 THEN 'status' END),
           (CASE WHEN type IN ('ticket.opened', 'ticket.dispatched', 'ticket.dispatch-confirmed',
                               'ticket.dispatch-declined') THEN 'dispatch' END)
      ) k (kind) WHERE kind IS NOT NULL
)
SELECT o.stream_id AS id,
       (SELECT CASE type WHEN 'ticket.waiting' THEN 'waiting' WHEN 'ticket.closed' THEN 'closed'
                         WHEN 'ticket.resolved' THEN 'resolved' ELSE 'open' END
          FROM last l WHERE l.stream_id = o.stream_id AND kind = 'status' AND nth = 1) AS status,
       (SELECT CASE type
                    WHEN 'ticket.dispatched' THEN 'unconfirmed ' || (payload ->> 'technician')
                    WHEN 'ticket.dispatch-confirmed' THEN 'confirmed ' || (payload ->> 'technician')
                    ELSE 'undispatched' END
          FROM last l
         WHERE l.stream_id = o.stream_id AND kind = 'dispatch' AND nth = 1) AS dispatch,
       count(*) FILTER (WHERE e.type = 'ticket.resolved') AS resolutions,
       count(*) FILTER (WHERE e.type = 'ticket.closed') AS closings,
       (SELECT count(*) FROM last l JOIN last b USING (stream_id)
         WHERE l.stream_id = o.stream_id AND l.kind = 'status' AND b.kind = 'status'
           AND b.nth = l.nth + 1 AND b.type IN ('ticket.resolved', 'ticket.closed')
           AND l.type NOT IN ('ticket.resolved', 'ticket.closed')) AS reopenings,
       count(*) FILTER (WHERE e.type = 'ticket.waiting') AS waits,
       count(*) FILTER (WHERE e.type = 'ticket.escalated') AS escalations,
       coalesce(sum((e.payload ->> 'minutes')::int), 0)::int AS minutes,
       min(e.occurred_at) FILTER (WHERE e.type = 'ticket.dispatch-confirmed') AS first_taken_at,
       min(e.occurred_at) FILTER (WHERE e.type = 'ticket.replied'
                                    AND NOT (e.payload ->> 'inbound')::bool) AS first_reply_at,
       max(e.occurred_at) FILTER (WHERE e.type = 'ticket.resolved') AS resolved_at
  FROM e o JOIN e USING (stream_id) WHERE o.type = 'ticket.opened' GROUP BY o.stream_id
"""
FIGURES = ("resolutions", "closings", "reopenings", "waits", "escalations", "minutes")
TIMES = ("first_taken_at", "first_reply_at", "resolved_at")


@pytest.mark.slow
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(data=st.data(), history=HISTORIES)
def test_every_ticket_stands_as_the_events_say_at_every_moment(
    new_world: NewWorld, data: st.DataObject, history: list[Any]
) -> None:
    with new_world() as world:
        world.do("customers/register", ANN, day("2026-01-01"), name="Ann")
        for (verb, fields), ticket, who, at in history:
            status = world.try_(f"tickets/{verb}", ticket, at, by=who, **fields)
            assert status in (200, 201, 404, 409)
        world.project()
        assert world.differing() == []
        head = world.head()
        far = (START + timedelta(days=500)).isoformat()
        moments = st.lists(st.tuples(MOMENTS, st.integers(1, head)), min_size=3, max_size=5)
        for until, known in [(far, head), *data.draw(moments)]:
            with world.superuser() as conn:
                rows = conn.cursor(row_factory=dict_row).execute(
                    ORACLE.encode(), {"until": until, "known": known}
                )
                expected = {str(row["id"]): row for row in rows}
            items = world.get("/tickets", as_of=until, known_at=known)["items"]
            assert {item["id"] for item in items} == expected.keys()
            for item in items:
                row = expected[item["id"]]
                assert item["status"] == row["status"]
                dispatch = f"{item['dispatch']} {item['technician'] or ''}".strip()
                assert dispatch == row["dispatch"]
                assert {name: item[name] for name in FIGURES} == {n: row[n] for n in FIGURES}
                for name in TIMES:
                    assert (item[name] and instant(item[name])) == row[name]


def test_each_wait_is_told_with_its_reason_and_how_long_it_took(company: World) -> None:
    ticket = UUID(int=901)
    for command, at, data in (
        ("open", "2026-03-01", {"subject": "-", "channel": "call"}),
        ("wait", "2026-03-02", {"reason": "a part is on its way"}),
        ("reply", "2026-03-05", {"text": "it came", "inbound": True}),
        ("wait", "2026-03-06", {"reason": "nobody is at home"}),
    ):
        company.do(f"tickets/{command}", ticket, day(at), **data)
    company.project()
    first, second = company.get(f"/tickets/{ticket}", as_of="2026-03-08")["waiting"]
    assert (first["reason"], first["days"], first["until"]) == (
        *("a part is on its way", 3.0, day("2026-03-05")),
    )
    assert (second["reason"], second["until"]) == ("nobody is at home", None)
    assert second["days"] == 2.5  # as of the end of a day, since the noon of another
    [before] = company.get(f"/tickets/{ticket}", as_of="2026-03-05")["waiting"][:1]
    assert before == first
    [known] = company.get(f"/tickets/{ticket}", known_at=company.head() - 1)["waiting"]
    assert known["reason"] == first["reason"]


def test_a_wait_that_ended_before_it_began_took_no_time(company: World) -> None:
    ticket = UUID(int=902)
    company.do("tickets/open", ticket, day("2026-03-01"), subject="-", channel="call")
    company.do("tickets/wait", ticket, day("2026-03-10"), reason="a part")
    company.do("tickets/resolve", ticket, day("2026-03-08"), text="entered late")
    company.project()
    [wait] = company.get(f"/tickets/{ticket}")["waiting"]
    assert wait["days"] == 0.0


def two_that_wait(company: World) -> tuple[UUID, UUID]:
    """Parts: 3 days, then 2 and still; nobody at home: 1 day; no reason: none, entered late."""
    one, other = UUID(int=903), UUID(int=904)
    for ticket, command, at, data in (
        (one, "open", "2026-03-01", {"subject": "-", "number": "T-9"}),
        (one, "wait", "2026-03-02", {"reason": "parts"}),
        (one, "reply", "2026-03-05", {"text": "it came", "inbound": True}),
        (one, "wait", "2026-03-06", {"reason": "nobody is at home"}),
        (one, "wait", "2026-03-07", {"reason": "parts"}),
        (other, "open", "2026-03-01", {"subject": "-"}),
        (other, "wait", "2026-03-05", {}),
        (other, "resolve", "2026-03-04", {"text": "entered late"}),
    ):
        company.do(f"tickets/{command}", ticket, day(at), **data)
    company.project()
    company.write_facts()
    return one, other


def test_time_of_waiting_is_told_by_its_reason_with_the_waits_behind_it(company: World) -> None:
    one, other = two_that_wait(company)
    then = {"as_of": "2026-03-09T12:00:00Z"}
    by_reason = company.get("/tickets/waits/by-reason", **then)["items"]
    assert [tuple(row.values()) for row in by_reason] == [
        ("parts", 1, 2, 1, 5.0, 2.5, 2.5),
        ("nobody is at home", 1, 1, 0, 1.0, 1.0, 1.0),
        (None, 1, 1, 0, 0.0, 0.0, 0.0),
    ]
    each = company.every("/tickets/waits", reason="parts", **then)
    assert [(w["ticket_id"], w["number"], w["days"], w["until"]) for w in each] == [
        (str(one), "T-9", 3.0, day("2026-03-05")),
        (str(one), "T-9", 2.0, None),
    ]
    assert len(company.get("/tickets/waits", over="true", **then)["items"]) == 3
    [late] = company.get("/tickets/waits", ticket_id=str(other))["items"]
    assert (late["reason"], late["days"], late["until"]) == (None, 0.0, day("2026-03-04"))


@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        ({"as_of": "2026-03-03T12:00:00Z"}, (1, 1.0)),
        ({"as_of": "2026-03-06T12:00:00Z"}, (1, 3.0)),
        ({"as_of": "2026-03-09T12:00:00Z", "known_at": "4"}, (1, 3.0)),
        ({"as_of": "2026-03-09T12:00:00Z", "known_at": "2"}, (1, 7.0)),
        ({"as_of": "2026-03-09T12:00:00Z", "since_from": "2026-03-06T00:00:00Z"}, (1, 2.0)),
        ({"as_of": "2026-03-09T12:00:00Z", "since_to": "2026-03-06T00:00:00Z"}, (1, 3.0)),
    ],
)
def test_time_of_waiting_is_that_of_the_moment(
    company: World, asked: dict[str, str], parts: tuple[int, float]
) -> None:
    two_that_wait(company)
    rows = company.get("/tickets/waits/by-reason", **asked)["items"]
    [found] = [row for row in rows if row["reason"] == "parts"]
    assert (found["waits"], found["days"]) == parts


def test_ticket_figures_have_the_days_of_waiting(company: World) -> None:
    two_that_wait(company)
    for clocks, all_, each in (
        ({"as_of": "2026-03-09T12:00:00Z"}, (4, 2, 6.0, 3.0, 3.0), [(3, 6.0), (1, 0.0)]),
        ({"as_of": "2026-03-03T12:00:00Z"}, (1, 1, 1.0, 1.0, 1.0), [(1, 1.0), (0, None)]),
        ({"as_of": "2026-03-01"}, (0, 0, None, None, None), [(0, None), (0, None)]),
    ):
        [row] = company.get("/analytics/tickets", **clocks)["items"]
        names = ("waits", "waited", "waited_days", "waited_days_mean", "waited_days_median")
        assert tuple(row[name] for name in names) == all_
        found = company.get("/analytics/tickets/list", **clocks)["items"]
        assert [(ticket["waits"], ticket["waited_days"]) for ticket in found] == each


def test_what_a_forgotten_customer_was_waited_for_is_gone(company: World) -> None:
    company.do("customers/register", ANN, day("2026-03-01"), name="Ann")
    company.do("tickets/open", ONE, day("2026-03-01"), subject="-", customer_id=ANN)
    company.do("tickets/wait", ONE, day("2026-03-02"), reason="Ann is ill")
    with company.superuser() as conn:
        conn.execute("DELETE FROM vault.keys WHERE subject = %s", (ANN,))
    company.project()
    [row] = company.get("/tickets/waits/by-reason")["items"]
    assert row["reason"] == ERASED
