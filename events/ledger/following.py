"""Following the ledger: one of several processes leads; after any error the part is run again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import psycopg
import structlog

from events.ledger import checkpoints, ledger
from events.ledger.checkpoints import Checkpoint, Overtaken
from events.ledger.ledger import Connection, Stored
from events.ledger.locks import Lock

log = structlog.get_logger()

LEASE = "SET idle_session_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'"
"""A frozen leader loses its session, and with it the lock; a live one uses it more often."""
AWAY_SECONDS = 1.0
"""Between attempts, and between looks at locks and at what operators ask for."""
LONGEST_AWAY_SECONDS = 30.0
BUSY_SECONDS = 1.0
BUSY_POLL_SECONDS = 0.001


def follow(
    part: str,
    session: Callable[[], AbstractContextManager[Connection]],
    act: Callable[[Connection], None],
    stop: threading.Event,
    *,
    lock: Lock | None = None,
    expected: tuple[type[Exception], ...] = (),
    failures: Callable[[], int] = lambda: 0,
) -> None:
    """Run a part until told to stop, again after every error; unexpected errors are logged in full.

    Args:
        part: its name in logs.
        session: opens an autocommit session on the ledger.
        act: does the part's work until told to stop. A leader uses its session at least every few
            seconds.
        lock: whoever holds it leads, the others stand by; without one every process acts.
        expected: errors that are logged in one line, like those of a database that goes away.
        failures: how many in a row; each after the first doubles the pause, up to half a minute.
    """
    known: tuple[type[Exception], ...] = (psycopg.OperationalError, Overtaken, *expected)
    while not stop.is_set():
        try:
            with session() as conn:
                if lock is not None:
                    conn.execute(LEASE)
                    while not leads(conn, lock) and not stop.wait(AWAY_SECONDS):
                        pass
                if not stop.is_set():
                    act(conn)
        except known as error:
            log.warning("a part begins again", part=part, error=str(error).strip())
        except Exception:  # a part that ended would do nothing any more
            log.exception("a part begins again after an unexpected error", part=part)
        doublings = min(max(0, failures() - 1), 10)
        stop.wait(min(AWAY_SECONDS * 2**doublings, LONGEST_AWAY_SECONDS))


def leads(conn: Connection, lock: Lock) -> bool:
    """Whether the lock was free; the session then holds it."""
    row = conn.execute(f"SELECT pg_try_advisory_lock({lock})").fetchone()
    return bool(row and row[0])


def rest(stop: threading.Event, poll_seconds: float, came_at: float) -> None:
    """Wait before the next look at the ledger; hardly at all soon after an event."""
    is_busy = time.monotonic() < came_at + BUSY_SECONDS
    stop.wait(BUSY_POLL_SECONDS if is_busy else poll_seconds)


def take_up(conn: Connection, name: str, shape: str, way_out: str) -> None:
    """Begin at the ledger's end, or go on; halt if the checkpoint is of another ledger."""
    found = checkpoints.fetch(conn, name)
    if found is None:
        begin_at_the_end(conn, name, shape)
    elif found.halted is None and (strange := checkpoints.mismatch(conn, found)):
        why = f"the checkpoint of {name} {strange}; {way_out}"
        halt(conn, found, why)
        log.error("a part halted", part=name, why=why)


def begin_at_the_end(conn: Connection, name: str, shape: str) -> None:
    """Place the checkpoint at the ledger's end: only later events are taken."""
    head = ledger.head(conn)
    checkpoints.begin(conn, name, shape, head, ledger.event_at(conn, head))


def take_next(conn: Connection, name: str, limit: int, take: Callable[[list[Stored]], None]) -> int:
    """Take the next events, then move the checkpoint; how many: 0 while it is halted.

    Raises:
        Overtaken: when another process moved it: both took the events.
    """
    old = checkpoints.fetch(conn, name)
    assert old is not None
    rows = ledger.read(conn, old.position, limit) if old.halted is None else []
    if rows:
        take(rows)
        end = rows[-1]
        checkpoints.move(conn, old, replace(old, position=end.position, event_id=end.event_id))
    return len(rows)


def halt(conn: Connection, found: Checkpoint, why: str) -> Checkpoint:
    """Halt a reader at its checkpoint until an operator resumes it."""
    halted = replace(found, halted=why, halted_at=found.taken)
    checkpoints.move(conn, found, halted)
    return halted
