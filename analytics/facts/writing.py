"""The projector of facts: it tails the ledger and keeps the files up to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog

from analytics.facts.store import Damaged, Manifest, Store, WrittenByOthers
from analytics.facts.tables import COLUMNS, SHAPE, TYPES, rows_of
from events.ledger import ledger
from events.ledger.collection import without_cycle_collection
from events.ledger.following import follow
from events.ledger.keys import Keyring
from events.ledger.locks import Lock
from projections.engine.folding import Batch, Poison, readable
from projections.engine.tables import Connection

log = structlog.get_logger()

BATCH = 20_000
POLL_SECONDS = 0.25
"""A file for every change that comes alone would be many; a question may wait so long."""
AGAIN = "run: pledge analytics rebuild"


class Writing:
    """Keeps facts up to the ledger; of several one acts, the others stand by.

    Args:
        connect: opens an autocommit session on the ledger.
    """

    def __init__(self, connect: Callable[[], Connection], keyring: Keyring, store: Store) -> None:
        self._connect = connect
        self._keyring = keyring
        self._store = store
        self._swept = 0

    def run(self, stop: threading.Event) -> None:
        """Write facts until told to stop; outlives a database or a store that goes away."""
        act, expected = partial(self._act, stop), (WrittenByOthers, Damaged, OSError)
        follow("facts", self._connect, act, stop, lock=Lock.FACTS, expected=expected)

    def _act(self, stop: threading.Event, conn: Connection) -> None:
        while not stop.is_set():
            if not self.step(conn):
                stop.wait(POLL_SECONDS)

    def step(self, conn: Connection, batch: int = BATCH) -> int:
        """Write the facts of what comes next, if anything; how many events it held.

        An event that cannot be read halts the facts in front of it; it is tried again each time.

        Raises:
            WrittenByOthers: when another writer was faster.
        """
        manifest = self._fitting(conn, self._store.latest())
        if manifest.halted is not None and manifest.halted.endswith(AGAIN):
            return 0
        with without_cycle_collection():
            rows = ledger.read(conn, manifest.position, batch)
            if not rows:
                return 0
            taken = readable(conn, self._keyring, rows)
            poison = _poison(taken)
            events = taken.events
            if poison is not None:
                events = taken.between(0, poison.position).events
            new = self._written(manifest, Batch(events, {}))
            if poison is None:
                new = replace(
                    new, position=rows[-1].position, event_id=rows[-1].event_id, halted=None
                )
            else:
                new = replace(new, halted=str(poison))
        if new == manifest:
            return 0
        if new.halted is not None and new.halted != manifest.halted:
            log.error("the facts halted", why=new.halted)
        self._commit(new)
        return new.position - manifest.position

    def catch_up(self, conn: Connection, batch: int = BATCH) -> None:
        """Write the facts of everything that is in the ledger by now."""
        while self.step(conn, batch):
            pass

    def _written(self, manifest: Manifest, batch: Batch) -> Manifest:
        files = {table: list(found) for table, found in manifest.files.items()}
        for table, rows in rows_of(batch.events):
            files.setdefault(table.name, []).append(self._store.write(table.name, rows))
        new = replace(manifest, files=files)
        if batch.events:
            last = batch.events[-1]
            new = replace(new, position=last.position, event_id=last.event_id)
        return new

    def _commit(self, new: Manifest) -> None:
        committed = self._store.commit(self._store.compacted(new.settled()))
        if new.names - committed.names or committed.number > self._swept + 50:
            self._swept = committed.number
            self._store.sweep(committed)

    def _fitting(self, conn: Connection, found: Manifest) -> Manifest:
        """The manifest, begun anew where it is of other code, halted where of another ledger."""
        if found.shape != SHAPE:
            return _anew(conn, found)
        if _is_of(conn, found):
            return found
        if found.halted is None or not found.halted.endswith(AGAIN):
            why = (
                f"the facts know of events up to position {found.position} that this ledger does "
                f"not have (was it restored from a backup?); {AGAIN}"
            )
            log.error("the facts halted", why=why, facts=self._store.root)
            found = self._store.commit(replace(found, halted=why))
        return found


def begin_anew(conn: Connection, store: Store) -> None:
    """Let the facts be written again from the first event on; those before answer until then.

    Raises:
        WrittenByOthers: when a writer committed in this moment; try again.
    """
    try:
        found = store.latest()
        store.check(found)
    except Damaged:
        found = Manifest(store.number())  # nothing of it answers any more
    store.commit(_anew(conn, found))


def _anew(conn: Connection, found: Manifest) -> Manifest:
    before, goal = found.answering, ledger.head(conn)
    if before is not None and before.position > 0 and _is_of(conn, before):
        goal = before.position
    else:
        before = None
    ledger_id = ledger.ledger_id(conn)
    return found.anew(SHAPE, ledger_id, COLUMNS, before=before, goal=goal)


def _is_of(conn: Connection, found: Manifest) -> bool:
    """Whether the ledger has the last event that the facts know of."""
    at_hand = ledger.ledger_id(conn), ledger.event_at(conn, found.position)
    return at_hand == (found.ledger_id, found.event_id)


def _poison(batch: Batch) -> Poison | None:
    found = [p for p in batch.broken.values() if p.fatal or p.type in TYPES]
    return min(found, key=lambda poison: poison.position, default=None)
