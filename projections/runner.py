"""Projectors: they tail the ledger and keep the read models' rows up to it, batch by batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID

import psycopg
import structlog

from events import checkpoints, ledger
from events.checkpoints import Checkpoint, Overtaken
from events.envelope import Recorded
from events.keys import Keyring
from projections import progress
from projections.folding import (
    Batch,
    Parked,
    Poison,
    fold,
    readable,
    without_cycle_collection,
)
from projections.model import ReadModel
from projections.rebuild import create, rebuild
from projections.tables import Connection, Rows

log = structlog.get_logger()

BATCH = 5_000
"""The most events taken at once."""
POLL_SECONDS = 0.01
AWAY_SECONDS = 1.0


@dataclass(slots=True)
class Projector:
    """One read model at work."""

    model: ReadModel
    checkpoint: Checkpoint
    parked: Parked = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)

    def take(self, conn: Connection, batch: Batch, last: tuple[int, UUID]) -> None:
        """Fold a batch that ends at ``last``, a position and event id; commit rows and checkpoint.

        A poison event halts a critical model, after the good events before it are committed;
        elsewhere its stream is parked. An event of unknown type halts every model.

        Raises:
            Overtaken: when another process was faster; nothing was written.
        """
        old = self.checkpoint
        new = replace(old, position=last[0], event_id=last[1])
        batch = batch.between(old.position)
        while True:
            try:
                rows, parking = fold(
                    self.model, partial(self._stored, conn, batch), batch, self.parked, self.skipped
                )
                break
            except Poison as poison:
                batch = batch.between(old.position, poison.position)
                good = batch.events[-1] if batch.events else None
                new = replace(
                    old,
                    position=good.position if good else old.position,
                    event_id=good.event_id if good else old.event_id,
                    halted=str(poison),
                    halted_at=poison.position,
                )
        with conn.transaction():
            checkpoints.move(conn, old, new)
            rows.flush(conn)
            for stream_id, why in parking.items():
                progress.park(conn, self.model.name, stream_id, why.position, str(why))
        self.checkpoint = new
        name = self.model.name
        for stream_id, why in parking.items():
            self.parked[stream_id] = why.position
            log.error("a stream was parked", model=name, stream=str(stream_id), why=str(why))
        if new.halted is not None:
            log.error("a read model halted", model=name, why=new.halted)

    def _stored(self, conn: Connection, batch: Batch) -> Rows:
        rows = Rows(self.model.tables, f"{self.model.schema}.")
        seen = self._seen_before(batch.events)
        if seen:
            rows.load(conn, seen)
        return rows

    def _seen_before(self, events: list[Recorded]) -> set[UUID]:
        types = self.model.types
        begun: set[UUID] = set()
        seen: set[UUID] = set()
        for recorded in events:
            if recorded.type in types and recorded.stream_id not in begun:
                (begun if recorded.version == 1 else seen).add(recorded.stream_id)
        return seen


class Runner:
    """Runs the projectors of some read models in one thread, on one reading of the ledger.

    Args:
        connect: opens an autocommit session, able to send what ``Rows`` sends.
        on_move: called after each batch with the least position of all running models.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        keyring: Keyring,
        models: Iterable[ReadModel],
        *,
        batch: int = BATCH,
        on_move: Callable[[int], None] | None = None,
    ) -> None:
        self._connect = connect
        self._keyring = keyring
        self._models = tuple(models)
        self._batch = batch
        self._on_move = on_move
        self.projectors: list[Projector] = []
        self._next_look = 0.0

    def prepare(self, conn: Connection) -> None:
        """Create what is missing and rebuild what has another shape than the code."""
        self.projectors = []
        for model in self._models:
            checkpoint = checkpoints.fetch(conn, model.name)
            if checkpoint is None:
                create(conn, model)
            elif checkpoint.shape != model.shape:
                log.info("a read model changed its shape and is rebuilt", model=model.name)
                rebuild(conn, self._keyring, model)
            self.projectors.append(self._projector(conn, model))

    def run(self, stop: threading.Event) -> None:
        """Keep the read models up to the ledger until told to stop; outlives a database restart."""
        while not stop.is_set():
            try:
                with self._connect() as conn:
                    self.prepare(conn)
                    while not stop.is_set():
                        if not self.step(conn):
                            stop.wait(POLL_SECONDS)
            except (psycopg.OperationalError, Overtaken) as error:
                log.warning("projectors begin again", error=str(error).strip())
                stop.wait(AWAY_SECONDS)

    def step(self, conn: Connection) -> int:
        """Take one batch; how many events it held.

        Raises:
            psycopg.OperationalError: when the database is away.
        """
        self._look_for_resumed(conn)
        running = [p for p in self.projectors if p.checkpoint.halted is None]
        if not running:
            return 0
        after = min(p.checkpoint.position for p in running)
        rows = ledger.read(conn, after, self._batch)
        if not rows:
            return 0
        last = (rows[-1][0], rows[-1][1])
        with without_cycle_collection():
            batch = readable(conn, self._keyring, rows)
            for projector in running:
                if projector.checkpoint.position < last[0]:
                    try:
                        projector.take(conn, batch, last)
                    except Overtaken:
                        self._reload(conn, projector)
        if self._on_move is not None:
            self._on_move(min(p.checkpoint.position for p in self.projectors))
        return len(rows)

    def catch_up(self, conn: Connection) -> int:
        """Take batches until there is nothing left; how many events that were."""
        taken = 0
        while step := self.step(conn):
            taken += step
        return taken

    def _projector(self, conn: Connection, model: ReadModel) -> Projector:
        checkpoint = checkpoints.fetch(conn, model.name)
        assert checkpoint is not None
        strange = progress.mismatch(conn, checkpoint)
        if strange is not None and checkpoint.halted is None:
            halted = replace(checkpoint, halted=strange, halted_at=checkpoint.position)
            checkpoints.move(conn, checkpoint, halted)
            checkpoint = halted
            log.error("a read model halted", model=model.name, why=strange)
        return Projector(
            model,
            checkpoint,
            progress.parked(conn, model.name),
            progress.skipped(conn, model.name),
        )

    def _reload(self, conn: Connection, projector: Projector) -> None:
        fresh = self._projector(conn, projector.model)
        projector.checkpoint = fresh.checkpoint
        projector.parked, projector.skipped = fresh.parked, fresh.skipped

    def _look_for_resumed(self, conn: Connection) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + AWAY_SECONDS
        for projector in self.projectors:
            if projector.checkpoint.halted is not None:
                self._reload(conn, projector)
