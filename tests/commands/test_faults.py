"""Whatever dies, and whenever: each effect once, each answer true, no neighbour harmed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from commands.handling import writer as writing
from commands.handling.request import Request
from commands.http.problems import Answer, render
from events.base import ERASED
from events.ledger import ledger, sessions
from events.ledger.keys import CACHED_SECONDS, Keyring
from events.ledger.locks import Lock
from tests.commands.making import (
    MASTER,
    Fate,
    ask,
    capture,
    claim,
    count_outcomes,
    events_of,
    failing_capture,
    failing_claim,
    fragile,
    handle,
    register,
    request,
    state_at,
    tell,
    types_of,
    writer_on,
)
from tests.commands.proxy import Proxy

TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name ~ '^pledge \\d{4}$'
"""


def change(customer: UUID, email: str) -> Request:
    return request("customers/change-details", {"email": email}, of=customer)


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_line_cut_around_the_commit_changes_no_answer(
    ledger_url: str, when: str, started: bool
) -> None:
    lead, other = uuid4(), uuid4()
    with Proxy(ledger_url) as proxy, writer_on(proxy.url, started=started) as writer:
        take: Callable[[Request], Answer] = (
            (lambda asked: ask(writer, asked)[0]) if started else (lambda a: tell(writer, a))
        )
        assert take(capture(other)).status == 201
        asked = [
            (capture(lead, key="cut at capture"), 201),
            (claim(lead, key="cut at claim"), 200),
            (claim(lead, key="cut at nothing to do"), 200),
            (claim(lead, by="bob", key="cut at refusal"), 409),
            (claim(lead, by="bob", key="cut at precondition", if_match=1), 412),
            (failing_capture(lead, key="cut at what cannot be recorded"), 409),
        ]
        for one, status in asked:
            proxy.cut_at(one.key.encode(), when)
            assert take(one).status == status
        assert proxy.cuts_made == len(asked)
    events = events_of(ledger_url, lead)
    assert [event.type for event in events] == ["lead.captured", "lead.claimed"]
    assert [event.position for event in events] == [2, 3]
    assert count_outcomes(ledger_url) == 6


def test_a_group_whose_answer_was_lost_is_answered_from_what_was_stored(ledger_url: str) -> None:
    leads = [uuid4() for _ in range(10)]
    with Proxy(ledger_url) as proxy, writer_on(proxy.url) as writer:
        proxy.cut_at(b"tenth", "after")
        group = [capture(lead) for lead in leads[:9]] + [capture(leads[9], key="tenth")]
        answers = handle(writer, [*group, *[claim(lead, by="bob") for lead in leads]])
        assert proxy.cuts_made == 1
    assert [answer.status for answer in answers] == [201] * 10 + [200] * 10
    events = {event.position: event for event in events_of(ledger_url)}
    assert sorted(events) == list(range(1, 21))
    for answer in answers:
        [told] = answer.body["events"]
        event = events[told["position"]]
        assert (event.type, event.version) == (told["type"], told["version"])
        assert event.stream_id == answer.body["id"]


@pytest.mark.slow
def test_sessions_killed_under_load_lose_and_double_nothing(ledger_url: str) -> None:
    threads, each = 4, 40
    with ExitStack() as stack:
        writers = [stack.enter_context(writer_on(ledger_url, started=True)) for _ in range(2)]
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        finished = threading.Event()
        kills = 0

        def work(n: int) -> list[Answer]:
            lead, answers = uuid4(), []
            for turn in range(each):
                asked = claim(lead, by=f"rep {n}") if turn else capture(lead)
                if turn % 3 == 2:
                    asked = request("leads/return", {"reason": "no time"}, of=lead)
                answers += ask(writers[(n + turn) % 2], asked)
                time.sleep(0.02)
            return answers

        working = [pool.submit(work, n) for n in range(threads)]
        with psycopg.connect(ledger_url, autocommit=True) as killer:
            while not finished.is_set():
                time.sleep(0.15)
                kills += len(killer.execute(TERMINATE).fetchall())
                if all(job.done() for job in working):
                    finished.set()
        told = [answer for job in working for answer in job.result()]
    assert kills > 3
    assert {answer.status for answer in told} <= {200, 201}
    events = events_of(ledger_url)
    claimed = [
        (e["position"], e["type"], e["version"], answer.body["id"])
        for answer in told
        for e in answer.body["events"]
    ]
    assert sorted(claimed) == [(e.position, e.type, e.version, e.stream_id) for e in events]
    assert count_outcomes(ledger_url) == threads * each


def test_commands_wait_for_a_database_that_is_away_for_a_while(ledger_url: str) -> None:
    leads = [uuid4() for _ in range(6)]
    with (
        Proxy(ledger_url) as proxy,
        writer_on(proxy.url, started=True) as writer,
        ThreadPoolExecutor(6) as pool,
    ):
        ask(writer, capture(leads[0]))
        proxy.refuse()
        waiting = [pool.submit(ask, writer, capture(lead)) for lead in leads[1:]]
        time.sleep(2)
        assert not any(job.done() for job in waiting)
        proxy.reopen()
        reopened = time.monotonic()
        assert [job.result()[0].status for job in waiting] == [201] * 5
        assert time.monotonic() - reopened < 6
    assert types_of(ledger_url) == ["lead.captured"] * 6


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_database_away_for_long_gives_503_and_the_key_tells_the_truth_later(
    ledger_url: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PATIENCE_SECONDS", 0.3)
    lead = uuid4()
    with Proxy(ledger_url) as proxy, writer_on(proxy.url) as writer:
        tell(writer, capture(lead))
        proxy.cut_at(b"in the dark", when)
        done = threading.Event()

        def leave() -> None:
            while proxy.cuts_made == 0:
                time.sleep(0.001)
            proxy.refuse()
            done.set()

        leaving = threading.Thread(target=leave)
        leaving.start()
        asked = claim(lead, by="ada", key="in the dark")
        lost, neighbour = handle(writer, [asked, claim(uuid4())])
        leaving.join()
        assert (lost.status, neighbour.status) == (503, 503)
        assert "not known" in lost.body["detail"]
        after_the_cut = 1 if when == "after" else 0
        assert len(events_of(ledger_url, lead)) == 1 + after_the_cut
        assert count_outcomes(ledger_url) == 1 + 2 * after_the_cut
        proxy.reopen()
        again = tell(writer, claim(lead, by="ada", key="in the dark"))
    assert again.status == 200
    assert again.body["events"] == [{"type": "lead.claimed", "version": 2, "position": 2}]
    assert types_of(ledger_url, lead) == ["lead.captured", "lead.claimed"]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(sessions, "SILENCE_SECONDS", 0.2)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("reaches", [True, False])
def test_a_database_that_hangs_gives_503_and_the_key_tells_the_truth_later(
    ledger_url: str, reaches: bool
) -> None:
    lead = uuid4()
    with Proxy(ledger_url) as proxy, writer_on(proxy.url, started=True) as writer:
        ask(writer, capture(lead))
        if reaches:
            proxy.freeze_at(b"in the dark")
        else:
            proxy.freeze()
        asked = time.monotonic()
        [lost] = ask(writer, claim(lead, by="ada", key="in the dark"))
        assert lost.status == 503
        assert lost.body["type"] == "/problems/ledger-unavailable"
        [neighbour] = ask(writer, claim(uuid4(), key="not under way"))
        assert neighbour.status == 503
        assert time.monotonic() - asked < 10
        assert len(events_of(ledger_url, lead)) == 1 + reaches
        proxy.thaw()
        [again] = told_at_last(writer, lambda: claim(lead, by="ada", key="in the dark"))
        assert again.status == 200
        assert again.body["events"] == [{"type": "lead.claimed", "version": 2, "position": 2}]
    assert types_of(ledger_url, lead) == ["lead.captured", "lead.claimed"]


@pytest.mark.usefixtures("hasty")
def test_what_a_hung_server_got_and_its_repeat_count_once_in_whatever_order_they_are_done(
    ledger_url: str,
) -> None:
    leads = [uuid4() for _ in range(20)]
    with Proxy(ledger_url) as proxy, writer_on(proxy.url, started=True) as writer:
        ask(writer, *[capture(lead) for lead in leads])
        with psycopg.connect(ledger_url) as holder:
            holder.execute(f"SELECT pg_advisory_xact_lock({Lock.APPEND})")
            proxy.freeze_at(b"claim 0")  # it waits for the lock, and its client gives it up
            asked = [claim(lead, key=f"claim {n}") for n, lead in enumerate(leads)]
            assert {answer.status for answer in ask(writer, *asked)} == {503}
            proxy.thaw()
            repeat = ThreadPoolExecutor(1)
            again = repeat.submit(
                told_at_last,
                writer,
                lambda: [claim(lead, key=f"claim {n}") for n, lead in enumerate(leads)],
            )
        assert [answer.status for answer in again.result()] == [200] * 20
        repeat.shutdown()
    for lead in leads:
        assert types_of(ledger_url, lead) == ["lead.captured", "lead.claimed"]
    assert count_outcomes(ledger_url) == 40


@pytest.mark.usefixtures("hasty")
def test_nothing_is_decided_behind_a_line_whose_outcome_is_unknown(ledger_url: str) -> None:
    lead, sender = uuid4(), writing.Sender()
    with Proxy(ledger_url) as proxy, writer_on(proxy.url, started=True) as writer:
        ask(writer, capture(uuid4()))
        proxy.freeze()

        async def lines() -> list[int]:
            stuck = writer.submit([capture(uuid4())])
            await asyncio.sleep(0.1)  # the writer is at that one
            first = writer.submit([capture(lead, key="first")], sender)
            await asyncio.sleep(0.2)
            second = writer.submit([claim(lead, key="second")], sender)
            await first
            third = writer.submit([claim(lead, key="third")], sender)
            assert third.done()
            proxy.thaw()
            found = [await future for future in (stuck, first, second, third)]
            return [render(outcome).status for [outcome] in found]

        assert asyncio.run(lines()) == [503] * 4
        assert told_at_last(writer, lambda: capture(lead, key="first"))[0].status == 201
        for key in ("second", "third"):
            assert told_at_last(writer, lambda key=key: claim(lead, key=key))[0].status == 200
    assert types_of(ledger_url, lead) == ["lead.captured", "lead.claimed"]


def told_at_last(
    writer: writing.Writer, again: Callable[[], Request | list[Request]]
) -> list[Answer]:
    """The answers, however often the requests have to be sent again."""
    deadline = time.monotonic() + 60
    while True:
        requests = again()
        answers = ask(writer, *(requests if isinstance(requests, list) else [requests]))
        if all(answer.status != 503 for answer in answers):
            return answers
        assert time.monotonic() < deadline
        time.sleep(0.05)


LATER_EVENT = """
INSERT INTO ledger.events
SELECT position + 1, gen_random_uuid(), stream_type, stream_id, version + 1, occurred_at,
       recorded_at, actor, actor_kind, gen_random_uuid(), gen_random_uuid(), NULL,
       %(type)s, %(version)s, '{}'
  FROM ledger.events ORDER BY position DESC LIMIT 1
"""


@pytest.mark.parametrize(("kind", "version"), [("lead.vanished", 1), ("lead.claimed", 99)])
def test_a_stream_with_an_event_of_a_later_version_is_left_to_that(
    ledger_url: str, kind: str, version: int
) -> None:
    lead, other = uuid4(), uuid4()
    with writer_on(ledger_url) as writer:
        handle(writer, [capture(other), capture(lead)])
        with psycopg.connect(ledger_url) as conn:
            conn.execute(LATER_EVENT, {"type": kind, "version": version})
    with writer_on(ledger_url) as writer:
        outdated, claimed = handle(writer, [claim(lead), claim(other)])
    assert (outdated.status, claimed.status) == (503, 200)
    assert outdated.body["type"] == "/problems/other-version"
    assert kind in outdated.body["detail"]
    assert count_outcomes(ledger_url) == 3


def test_a_ledger_that_lost_the_append_of_this_version_says_so(ledger_url: str) -> None:
    with writer_on(ledger_url) as writer:
        tell(writer, capture(uuid4()))
        with psycopg.connect(ledger_url) as conn:
            conn.execute(DROP_APPENDS)
        answers = handle(writer, [capture(uuid4()) for _ in range(3)])
        assert {answer.status for answer in answers} == {503}
        assert "ledger.append" in answers[0].body["detail"]


DROP_APPENDS = """
DO $$ DECLARE f regprocedure; BEGIN
    FOR f IN SELECT oid FROM pg_proc WHERE proname = 'append' LOOP
        EXECUTE 'DROP FUNCTION ' || f;
    END LOOP;
END $$
"""


def nul_key(lead: UUID) -> Request:
    return claim(lead, key="\0 refused by the database")


def long_key(lead: UUID) -> Request:
    return claim(lead, key="".join(str(uuid4()) for _ in range(500)))


@pytest.mark.parametrize("spoil", [failing_claim, failing_capture, nul_key, long_key])
def test_a_command_that_fails_harms_no_neighbour(
    ledger_url: str, spoil: Callable[[UUID], Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PATIENCE_SECONDS", 1)
    leads = [uuid4() for _ in range(6)]
    new = uuid4()
    with writer_on(ledger_url) as writer:
        handle(writer, [capture(lead) for lead in leads])
        group = [claim(lead, by="bob") for lead in leads]
        spoiled = spoil(new if spoil is failing_capture else leads[3])
        answers = handle(writer, [*group[:3], spoiled, *group[3:], claim(leads[3], by="eve")])
        failed = answers.pop(3)
        assert [answer.status for answer in answers] == [200] * 6 + [409]
        assert failed.status == 500
        assert tell(writer, capture(new)).status == 201
    assert types_of(ledger_url, leads[3]) == ["lead.captured", "lead.claimed"]
    assert state_at(ledger_url, claim(leads[3]), 2).owner == "bob"
    assert types_of(ledger_url, new) == ["lead.captured"]


def test_a_failed_beginning_leaves_what_follows_it_to_the_truth(ledger_url: str) -> None:
    lead = uuid4()
    with writer_on(ledger_url) as writer, writer_on(ledger_url) as other:
        failed, refused = handle(writer, [failing_capture(lead), claim(lead)])
        assert (failed.status, refused.status) == (500, 404)
        tell(other, capture(lead))
        failed, claimed = handle(writer, [failing_capture(lead), claim(lead)])
        assert (failed.status, claimed.status) == (500, 200)


@pytest.mark.parametrize("death", ["before", "after"])
def test_a_command_that_failed_beside_a_lost_append_is_answered_all_the_same(
    ledger_url: str, death: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "GROUP", 2)
    one, other = uuid4(), uuid4()
    fate, queued = Fate(), threading.Event()
    with writer_on(ledger_url) as writer:
        handle(writer, [capture(one), capture(other)])
    fate.meanwhile.append(lambda: assert_set(queued))
    fate.deaths.extend([None, death])

    async def three_groups(writer: writing.Writer) -> list[int]:
        tickets = [
            writer.submit([capture(uuid4())]),
            writer.submit([failing_claim(one), claim(other)]),
            writer.submit([capture(uuid4())]),
        ]
        queued.set()
        async with asyncio.timeout(120):
            return [render(outcome).status for ticket in tickets for outcome in await ticket]

    with writer_on(ledger_url, connect=fragile(ledger_url, fate), started=True) as writer:
        assert asyncio.run(three_groups(writer)) == [201, 500, 200, 201]
    assert not fate.deaths
    assert types_of(ledger_url, other) == ["lead.captured", "lead.claimed"]


def assert_set(event: threading.Event) -> None:
    assert event.wait(120)


def test_an_unreadable_stream_fails_alone(ledger_url: str) -> None:
    broken, sound = uuid4(), uuid4()
    with writer_on(ledger_url) as writer:
        tell(writer, capture(sound))
    with psycopg.connect(ledger_url) as conn:
        conn.execute(
            """INSERT INTO ledger.events SELECT position + 1, %s, stream_type, %s, version,
               occurred_at, recorded_at, actor, actor_kind, command_id, correlation_id,
               causation_id, type, 1, '{"name": 7}' FROM ledger.events""",
            (uuid4(), broken),
        )
    with writer_on(ledger_url) as writer:
        answers = handle(writer, [claim(broken), claim(sound)])
    assert [answer.status for answer in answers] == [500, 200]


def forget_person(url: str, subject: UUID) -> None:
    with ledger.connect(url) as conn:
        assert conn.execute("DELETE FROM vault.keys WHERE subject = %s", (subject,)).rowcount == 1


def read_emails(url: str, customer: UUID) -> list[str | None]:
    added: list[Any] = [recorded.event for recorded in events_of(url, customer)]
    return [event.email for event in added]


def test_a_writer_goes_on_for_a_person_whose_key_was_deleted(ledger_url: str) -> None:
    customer = uuid4()
    now = [0.0]
    keyring = Keyring(MASTER, clock=lambda: now[0])
    with writer_on(ledger_url, keyring=keyring) as writer, writer_on(ledger_url) as other:
        data = {"name": "Ada Lovelace", "email": "first@example.org"}
        tell(writer, request("customers/register", data, of=customer))
        forget_person(ledger_url, customer)
        assert tell(writer, change(customer, "under-the-dead-key@example.org")).status == 200
        assert tell(other, change(customer, "second@example.org")).status == 200
        now[0] += CACHED_SECONDS + 1
        assert tell(writer, change(customer, "third@example.org")).status == 200
    assert read_emails(ledger_url, customer) == [
        ERASED,
        ERASED,
        "second@example.org",
        "third@example.org",
    ]


def test_a_key_deleted_while_its_person_is_written_about_stops_nothing(ledger_url: str) -> None:
    customer = uuid4()
    fate = Fate()
    with writer_on(ledger_url, connect=fragile(ledger_url, fate)) as writer:
        tell(writer, register(customer))
        fate.meanwhile.append(lambda: forget_person(ledger_url, customer))
        assert tell(writer, change(customer, "lost@example.org")).status == 200
    assert read_emails(ledger_url, customer) == [None, ERASED]


def test_two_writers_that_make_a_persons_key_at_once_share_the_first(ledger_url: str) -> None:
    contact, one, other = uuid4(), uuid4(), uuid4()

    def add(customer: UUID) -> Request:
        data = {"contact_id": str(contact), "name": "Grace Hopper"}
        return request("customers/add-contact", data, of=customer)

    fate = Fate()
    with (
        writer_on(ledger_url, connect=fragile(ledger_url, fate)) as slow,
        writer_on(ledger_url) as fast,
    ):
        handle(slow, [register(one), register(other)])
        fate.meanwhile.append(lambda: tell(fast, add(one)))
        assert tell(slow, add(other)).status == 200
    added: list[Any] = [
        recorded.event
        for recorded in events_of(ledger_url)
        if recorded.type == "customer.contact-added"
    ]
    assert [event.name for event in added] == ["Grace Hopper"] * 2
