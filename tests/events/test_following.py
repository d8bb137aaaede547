"""Following the ledger, in threads that stand for processes, on a real PostgreSQL."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from structlog.testing import capture_logs

from events.ledger import checkpoints, following, ledger
from events.ledger.checkpoints import Checkpoint, Overtaken
from events.ledger.following import begin_at_the_end, follow, leads, take_next, take_up
from events.ledger.ledger import Connection
from events.ledger.locks import Lock
from tests.commands.making import capture, tell, writer_on

ROOT = Path(__file__).resolve().parent.parent.parent
NAME = "reader"
WAY_OUT = "say so"
PATIENCE_SECONDS = 60
PROMPT_SECONDS = 5


class Paused(threading.Event):
    """Notes how long it is waited for, and lets nobody wait; set after so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.pauses: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        if len(self.pauses) == self.times:
            self.set()
        return self.is_set()


@dataclass
class Process:
    """Follows the ledger with the checkpoint that all of them share.

    Attributes:
        taken: the positions of all events that it took.
        frozen: while it is set, what is taken takes for ever.
        strangeness: raised instead of acting, once each.
    """

    url: str
    name: str
    stop: threading.Event = field(default_factory=threading.Event)
    taken: list[int] = field(default_factory=list)
    sessions: int = 0
    is_at_work: threading.Event = field(default_factory=threading.Event)
    frozen: threading.Event = field(default_factory=threading.Event)
    strangeness: list[Exception] = field(default_factory=list)

    def run(self) -> None:
        follow(self.name, self.connect, self.act, self.stop, lock=Lock.POLICIES)

    def connect(self) -> Connection:
        self.sessions += 1
        return ledger.connect(self.url, self.name)

    def act(self, conn: Connection) -> None:
        if self.strangeness:
            raise self.strangeness.pop(0)
        take_up(conn, NAME, "1", WAY_OUT)
        self.is_at_work.set()
        while not self.stop.is_set():
            if not take_next(conn, NAME, 2, self.take):
                self.stop.wait(0.01)

    def take(self, rows: list[ledger.Stored]) -> None:
        while self.frozen.is_set():
            time.sleep(0.01)
        self.taken += [row.position for row in rows]


@contextmanager
def running(*processes: Process) -> Iterator[None]:
    threads = [threading.Thread(target=process.run) for process in processes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for process in processes:
            process.stop.set()
            process.frozen.clear()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        assert not any(thread.is_alive() for thread in threads)


def wait_for(satisfied: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not satisfied():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def some_events(url: str, count: int) -> int:
    """Where the ledger stands then."""
    with writer_on(url) as writer:
        for _ in range(count):
            assert tell(writer, capture(uuid4())).status == 201
    with ledger.connect(url) as conn:
        return ledger.head(conn)


def checkpoint(url: str) -> Checkpoint:
    with ledger.connect(url) as conn:
        found = checkpoints.fetch(conn, NAME)
    assert found is not None
    return found


def caught_up(url: str, head: int) -> Callable[[], bool]:
    return lambda: checkpoint(url).position == head


def test_of_two_one_acts_and_the_other_once_its_session_has_ended(
    ledger_url: str, superuser: psycopg.Connection[Any]
) -> None:
    first, second = Process(ledger_url, "first"), Process(ledger_url, "second")
    with running(first), capture_logs() as logged:
        wait_for(first.is_at_work.is_set, "nobody leads")
        with running(second):
            head = some_events(ledger_url, 3)
            wait_for(caught_up(ledger_url, head), "nothing is taken")
            assert not second.is_at_work.is_set()
            first.strangeness = [psycopg.OperationalError("away")] * 100
            superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name ~ '^first \\d{4}$'"
            )
            wait_for(second.is_at_work.is_set, "nobody takes over")
            head = some_events(ledger_url, 3)
            wait_for(caught_up(ledger_url, head), "nothing is taken any more")
    assert (first.taken, second.taken) == ([1, 2, 3], [4, 5, 6])
    assert {(e["part"], e["log_level"]) for e in logged if "again" in e["event"]} == {
        ("first", "warning")
    }


def test_a_leader_that_is_frozen_is_overtaken_and_cannot_move_the_checkpoint(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert re.findall(r"'(\w+)'", following.LEASE) == ["10s", "10s"]
    monkeypatch.setattr(following, "LEASE", following.LEASE.replace("10s", "2s"))
    first, second = Process(ledger_url, "first"), Process(ledger_url, "second")
    with running(first), capture_logs() as logged:
        wait_for(first.is_at_work.is_set, "nobody leads")
        first.frozen.set()
        with running(second):
            head = some_events(ledger_url, 3)
            wait_for(caught_up(ledger_url, head), "nobody takes over")
            assert first.taken == []
            first.frozen.clear()
            wait_for(lambda: first.sessions == 2, "the first never noticed")
            head = some_events(ledger_url, 2)
            wait_for(caught_up(ledger_url, head), "they are in each other's way")
    assert first.taken in ([1], [1, 2]), "only what it had read before it was frozen"
    assert second.taken == [1, 2, 3, 4, 5]
    [again] = [e for e in logged if e["event"] == "a part begins again"]
    assert (again["part"], "idle-session timeout" in again["error"]) == ("first", True)


def test_whoever_was_overtaken_has_taken_in_vain(service: Connection, ledger_url: str) -> None:
    begin_at_the_end(service, NAME, "1")
    some_events(ledger_url, 3)

    def overtaken(rows: list[ledger.Stored]) -> None:
        with ledger.connect(ledger_url) as other:
            assert take_next(other, NAME, 2, lambda _: None) == 2
        assert [row.position for row in rows] == [1, 2, 3]

    with pytest.raises(Overtaken):
        take_next(service, NAME, 5, overtaken)
    assert checkpoint(ledger_url).position == 2


def test_the_first_takes_what_comes_from_then_on(service: Connection, ledger_url: str) -> None:
    head = some_events(ledger_url, 2)
    take_up(service, NAME, "1", WAY_OUT)
    assert checkpoint(ledger_url).position == head
    some_events(ledger_url, 3)
    taken: list[int] = []

    def take(rows: list[ledger.Stored]) -> None:
        taken.extend(row.position for row in rows)

    counts = [take_next(service, NAME, 2, take) for _ in range(3)]
    assert (counts, taken) == ([2, 1, 0], [3, 4, 5])
    take_up(service, NAME, "1", WAY_OUT)
    assert checkpoint(ledger_url).position == 5


def test_a_halt_stays_until_it_is_cleared(
    ledger_url: str, superuser: psycopg.Connection[Any]
) -> None:
    head = some_events(ledger_url, 2)
    with ledger.connect(ledger_url) as conn:
        begin_at_the_end(conn, NAME, "1")
    superuser.execute("UPDATE progress.checkpoints SET event_id = gen_random_uuid()")
    with capture_logs() as logged:
        for _ in range(2):
            process = Process(ledger_url, "reader")
            with running(process):
                wait_for(process.is_at_work.is_set, "nobody leads")
                some_events(ledger_url, 1)
                time.sleep(0.2)
            assert process.taken == []
            found = checkpoint(ledger_url)
            assert (found.position, found.halted_at) == (head, head)
            assert "not this one" in str(found.halted)
            assert str(found.halted).endswith(WAY_OUT)
    assert [e["why"] for e in logged if e["event"] == "a part halted"] == [found.halted]
    process = Process(ledger_url, "reader")
    with running(process), ledger.connect(ledger_url) as conn:
        wait_for(process.is_at_work.is_set, "nobody leads")
        checkpoints.move(conn, found, replace(found, halted=None, halted_at=None))
        wait_for(caught_up(ledger_url, head + 2), "it does not go on")
    assert process.taken == [head + 1, head + 2]


def test_a_leader_begins_again_after_each_error_and_an_unexpected_one_is_logged_in_full(
    ledger_url: str,
) -> None:
    process = Process(ledger_url, "reader")
    process.strangeness = [
        psycopg.OperationalError("gone\n"),
        Overtaken("by another"),
        ZeroDivisionError("a mistake of ours"),
    ]
    with capture_logs() as logged, running(process):
        wait_for(process.is_at_work.is_set, "it gave up")
        head = some_events(ledger_url, 1)
        wait_for(caught_up(ledger_url, head), "it does not go on")
    assert process.sessions == 4
    assert [e for e in logged if e.get("part") == "reader"] == [
        {
            "event": "a part begins again",
            "part": "reader",
            "error": "gone",
            "log_level": "warning",
        },
        {
            "event": "a part begins again",
            "part": "reader",
            "error": "by another",
            "log_level": "warning",
        },
        {
            "event": "a part begins again after an unexpected error",
            "part": "reader",
            "exc_info": True,
            "log_level": "error",
        },
    ]


def no_session() -> Connection:
    raise psycopg.OperationalError("the database system is starting up")


def test_between_attempts_a_second_passes_and_twice_as_much_with_each_failure_in_a_row() -> None:
    stop = Paused(3)
    follow("reader", no_session, lambda _: None, stop)
    assert stop.pauses == [1, 1, 1]
    stop = Paused(8)
    failures = iter([0, 1, 2, 3, 4, 5, 6, 5_000])
    follow("reader", no_session, lambda _: None, stop, failures=lambda: next(failures))
    assert stop.pauses == [1, 1, 2, 4, 8, 16, 30, 30]


def test_errors_are_expected_only_where_a_part_says_so() -> None:
    def connect() -> Connection:
        raise LookupError("no such place")

    levels = []
    for expected in ((), (LookupError,)):
        with capture_logs() as logged:
            follow("reader", connect, lambda _: None, Paused(1), expected=expected)
        levels += [entry["log_level"] for entry in logged]
    assert levels == ["error", "warning"]


def test_whoever_stands_by_pauses_or_rests_stops_at_once(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("AWAY_SECONDS", "LONGEST_AWAY_SECONDS"):
        monkeypatch.setattr(following, pause, 60.0)
    leader, standby = Process(ledger_url, "leader"), Process(ledger_url, "standby")
    pausing = Process("host=/nowhere", "pausing")
    with running(leader):
        wait_for(leader.is_at_work.is_set, "nobody leads")
        for process in (standby, pausing, leader):
            began = time.monotonic()
            with running(*([] if process is leader else [process])):
                time.sleep(0.2)
            process.stop.set()
            assert time.monotonic() - began < PROMPT_SECONDS
    assert not standby.is_at_work.is_set()


def test_nothing_is_done_when_the_stop_comes_first(ledger_url: str) -> None:
    acted: list[Connection] = []
    stop = threading.Event()

    def connect() -> Connection:
        stop.set()
        return ledger.connect(ledger_url)

    for lock in (None, Lock.POLICIES):
        stop.clear()
        follow("reader", connect, acted.append, stop, lock=lock)
    assert acted == []


def test_a_lock_is_one_sessions_until_it_ends(service: Connection, ledger_url: str) -> None:
    with ledger.connect(ledger_url) as leader:
        assert leads(leader, Lock.RELAY)
        assert not leads(service, Lock.RELAY)
        assert leads(service, Lock.FACTS)
    wait_for(lambda: leads(service, Lock.RELAY), "the lock outlives its session")


def test_the_ledger_is_looked_at_more_often_while_events_come() -> None:
    stop = Paused(3)
    following.rest(stop, 0.05, time.monotonic())
    following.rest(stop, 0.05, time.monotonic() - 0.5)
    following.rest(stop, 0.05, time.monotonic() - 1.5)
    assert stop.pauses == [0.001, 0.001, 0.05]


def test_the_numbers_of_locks_stand_in_one_place() -> None:
    """Code names them; only migrations, which never change, repeat them."""
    number = re.compile(r"advisory\w*\(\s*(\d+(?:, \d+)?)")
    found = {
        (path.suffix, numbers)
        for room in ("events", "commands", "projections", "analytics", "read_api", "pledge")
        for suffix in ("py", "sql")
        for path in (ROOT / room).rglob(f"*.{suffix}")
        for numbers in number.findall(path.read_text(encoding="utf-8"))
    }
    assert found == {(".sql", Lock.APPEND)}
    assert len({*Lock.__members__.values()}) == len(Lock.__members__)
