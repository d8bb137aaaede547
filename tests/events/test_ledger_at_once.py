import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest

from events.ledger import ledger
from events.ledger.ledger import Connection, append
from tests.events.proposals import propose

PATIENCE_SECONDS = 120


def positions(conn: Connection) -> list[int]:
    return [row[0] for row in conn.execute("SELECT position FROM ledger.events ORDER BY position")]


def counts(conn: Connection) -> tuple[int, int]:
    """How many events and outcomes there are."""
    query = "SELECT (SELECT count(*) FROM ledger.events), (SELECT count(*) FROM ledger.outcomes)"
    row = conn.execute(query).fetchone()
    assert row is not None
    return row[0], row[1]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def test_recorded_time_is_taken_when_the_lock_is_held(
    ledger_url: str, superuser: Connection
) -> None:
    superuser.execute("SELECT pg_advisory_lock(7201, 1)")
    with ledger.connect(ledger_url) as writer, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(append, writer, [propose(uuid4())])
        until(lambda: _waits_for_a_lock(superuser))
        row = superuser.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        superuser.execute("SELECT pg_advisory_unlock(7201, 1)")
        waiting.result(PATIENCE_SECONDS)
        recorded = writer.execute("SELECT recorded_at FROM ledger.events").fetchone()
    assert recorded is not None
    assert recorded[0] > row[0]


@contextmanager
def held_back(superuser: Connection, stream: UUID) -> Iterator[None]:
    """Whoever commits events of this stream waits, until the end of the block."""
    superuser.execute("SELECT pg_advisory_lock(99)")
    superuser.execute(
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_advisory_xact_lock_shared(99); RETURN NULL; END'"
    )
    superuser.execute(
        "CREATE CONSTRAINT TRIGGER held AFTER INSERT ON ledger.events DEFERRABLE INITIALLY DEFERRED"
        f" FOR EACH ROW WHEN (NEW.stream_id = '{stream}') EXECUTE FUNCTION hold()"
    )
    try:
        yield
    finally:
        superuser.execute("SELECT pg_advisory_unlock(99)")


@pytest.mark.timeout(120)
def test_a_tailing_reader_misses_nothing_while_a_commit_is_held_back(
    ledger_url: str, superuser: Connection
) -> None:
    slow, seen, done = uuid4(), [], threading.Event()

    def write(stream: UUID, times: int) -> None:
        with ledger.connect(ledger_url) as conn:
            for version in range(times):
                append(conn, [propose(stream, version)])

    def tail() -> None:
        with ledger.connect(ledger_url) as conn:
            while True:
                last = done.is_set()
                rows = ledger.read(conn, seen[-1] if seen else 0, 7)
                seen.extend(row[0] for row in rows)
                if last and not rows:
                    return

    with ThreadPoolExecutor(6) as pool:
        reader = pool.submit(tail)
        before = [pool.submit(write, uuid4(), 20) for _ in range(2)]
        with held_back(superuser, slow):
            held = pool.submit(write, slow, 1)
            until(lambda: _is_held_back(superuser))
            after = [pool.submit(write, uuid4(), 20) for _ in range(2)]
            until(lambda: _waits_for_a_lock(superuser))
            assert not held.done()
        for writer in (*before, held, *after):
            writer.result(PATIENCE_SECONDS)
        done.set()
        reader.result(PATIENCE_SECONDS)
    assert seen == list(range(1, 82))
    assert positions(superuser) == seen


@pytest.mark.timeout(120)
def test_writers_on_one_stream_lose_nothing(ledger_url: str, service: Connection) -> None:
    stream = uuid4()

    def write(times: int) -> int:
        conflicts = 0
        with ledger.connect(ledger_url) as conn:
            for _ in range(times):
                while True:
                    row = conn.execute(
                        "SELECT coalesce(max(version), 0) FROM ledger.events WHERE stream_id = %s",
                        (stream,),
                    ).fetchone()
                    assert row is not None
                    if append(conn, [propose(stream, row[0])])[0].status == "appended":
                        break
                    conflicts += 1
        return conflicts

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [25] * 4))
    versions = [row[1] for row in ledger.load(service, [stream])]
    assert versions == list(range(1, 101))
    assert counts(service) == (100, 100)


def _is_held_back(conn: Connection) -> bool:
    query = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 99 AND NOT granted"
    return conn.execute(query).fetchone() is not None


def _waits_for_a_lock(conn: Connection) -> bool:
    query = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 7201 AND NOT granted"
    return conn.execute(query).fetchone() is not None
