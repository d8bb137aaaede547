"""Projectors: they take events batch by batch and keep the read models' rows up to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial

import psycopg
import structlog

from events.kafka.client import KafkaAway
from events.ledger import checkpoints, ledger
from events.ledger.checkpoints import LEDGER, Checkpoint, Overtaken
from events.ledger.collection import without_cycle_collection
from events.ledger.following import AWAY_SECONDS, follow, halt
from events.ledger.keys import Keyring
from projections.engine import progress
from projections.engine.folding import Batch, readable
from projections.engine.model import ReadModel
from projections.engine.projector import Projector, Taken, say
from projections.engine.rebuild import create, is_changed, rebuild_if_changed
from projections.engine.sources import FromLedger, Piece, Source
from projections.engine.tables import Connection

log = structlog.get_logger()

BATCH = 5_000
"""The most events taken at once."""
SESSION = "SET synchronous_commit = off; SET enable_seqscan = off"
"""A crash may take the last moments' rows and their checkpoint along, together: they come again.
All that is asked are look-ups by key, which the planner would not believe of small tables."""


class SourceUnfit(RuntimeError):
    """A read model is another version's or follows another source; the message says what to do."""


EXPECTED = (KafkaAway, SourceUnfit)


class Runner:
    """Runs the projectors of some read models in one thread, on one reading of the source.

    Args:
        connect: opens an autocommit session, able to send what ``Rows`` sends.
        source: the ledger where none is given.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        keyring: Keyring,
        models: Iterable[ReadModel],
        *,
        source: Source | None = None,
        batch: int = BATCH,
    ) -> None:
        self._connect = connect
        self._keyring = keyring
        self._models = tuple(models)
        self._source = source or FromLedger()
        self._batch = batch
        self._partitions: frozenset[int] = frozenset()
        self._next_look = 0.0
        self._has_begun = False
        self.projectors: list[Projector] = []

    def run(self, stop: threading.Event) -> None:
        """Keep the read models up to the source until told to stop; outlives whatever goes away."""
        follow("projections", self._connect, partial(self._act, stop), stop, expected=EXPECTED)

    def _act(self, stop: threading.Event, conn: Connection) -> None:
        with closing(self):
            self.prepare(conn)
            conn.execute(SESSION)
            while not stop.is_set():
                if not self.step(conn):
                    self._source.rest(stop)

    def prepare(self, conn: Connection) -> None:
        """Create what is missing, rebuild what has another shape than the code, open the source.

        Raises:
            KafkaAway: when the source does not answer.
        """
        self.projectors = []
        for model in self._models:
            create(conn, model)
            build = self._is_built if self._has_begun else self._built
            if build(conn, model):
                self.projectors.append(Projector(model))
        self._has_begun = True
        self._source.open(conn)
        self._take_over(conn)

    def step(self, conn: Connection) -> int:
        """Take what comes next, if anything; how many events it held.

        Raises:
            psycopg.OperationalError: when the database is away.
            KafkaAway: when Kafka is.
        """
        self._take_over(conn)
        self._look_for_resumed(conn)
        with without_cycle_collection():
            pieces = self._source.read(self._batch)
            if not pieces:
                return 0
            rows = [row for piece in pieces for row in piece.rows]
            whole = readable(conn, self._keyring, rows)
            taken = _apart(pieces, whole)
            concerned = [one for one in self.projectors if one.is_concerned(whole)]
            overtaken = self._pass(conn, taken, [o for o in self.projectors if o not in concerned])
            for projector in concerned:
                try:
                    projector.take(conn, taken)
                except Overtaken:
                    overtaken.append(projector)
                except (psycopg.DataError, psycopg.IntegrityError) as error:
                    projector.halt(conn, [piece.partition for piece in pieces], error)
        for projector in overtaken:
            self._load(conn, projector)
        if overtaken or any(piece.strange is not None for piece in pieces):
            self._seek()
        return len(rows)

    def _pass(
        self, conn: Connection, taken: Sequence[Taken], unconcerned: list[Projector]
    ) -> list[Projector]:
        """Move, all at once, what changes no row; those whom another process overtook."""
        moves = [(projector, projector.moves(taken)) for projector in unconcerned]
        every = [move for _, its in moves for move in its.values()]
        if not every:
            return []
        try:
            with conn.transaction():
                checkpoints.move_all(conn, every)
        except Overtaken:
            return unconcerned
        for projector, its in moves:
            projector.moved(its)
        return []

    def close(self) -> None:
        """Let go of the source."""
        self._source.close()

    def catch_up(self, conn: Connection) -> int:
        """Take everything that is in the ledger by now; how many events that were."""
        head, taken = ledger.head(conn), 0
        while True:
            taken += self.step(conn)
            running = self._running()
            if self._partitions and all(c.taken >= head for c in running):
                return taken

    def _take_over(self, conn: Connection) -> None:
        partitions = self._source.assigned()
        if partitions is None:
            return
        if self._source.id != LEDGER:
            log.info("projectors read these partitions", partitions=sorted(partitions))
        self._partitions = partitions
        for projector in self.projectors:
            self._load(conn, projector)
        self._seek()

    def _load(self, conn: Connection, projector: Projector) -> None:
        name = projector.model.name
        found = checkpoints.fetch_all(conn, name)
        if found[0].source != self._source.id:
            self._change_source(conn, found)
            found = checkpoints.fetch_all(conn, name)
        if found[0].shape != projector.model.shape:
            raise SourceUnfit(
                f"another version of Pledge keeps the read model {name}; stop one of them"
            )
        projector.checkpoints = {
            checkpoint.partition: self._fitting(conn, projector.model, checkpoint)
            for checkpoint in found
            if checkpoint.partition in self._partitions
        }
        projector.parked = progress.parked(conn, name)
        projector.skipped = progress.skipped(conn, name)

    def _change_source(self, conn: Connection, found: Sequence[Checkpoint]) -> None:
        """Let a read model go on with this source; the chain proves that it misses nothing.

        Raises:
            SourceUnfit: when it follows a topic, and this process the ledger or other partitions.
        """
        name, source = found[0].name, self._source
        if source.id == LEDGER:
            raise SourceUnfit(
                f"read model {name} follows Kafka, and this process the ledger; to have it follow "
                "the ledger again, stop the processes that follow Kafka, and run: "
                f"pledge project rebuild {name}"
            )
        if found[0].source == LEDGER:
            checkpoints.split(conn, name, source.id, source.partitions)
        elif len(found) != source.partitions:
            raise SourceUnfit(
                f"read model {name} has read {len(found)} partitions, and the topic has "
                f"{source.partitions}; stop the projectors, and run: pledge project rebuild {name}"
            )
        else:
            checkpoints.follow(conn, name, source.id)
            log.info("a read model follows another topic", model=name, topic_id=source.id)

    def _fitting(self, conn: Connection, model: ReadModel, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint, halted where it does not fit what there is to read."""
        strange = checkpoints.mismatch(conn, checkpoint) or progress.set_back(
            conn, model, checkpoint
        )
        if strange is None or checkpoint.halted is not None:
            return checkpoint
        halted = halt(conn, checkpoint, say(model.name, strange))
        log.error("a read model halted", model=model.name, why=halted.halted)
        return halted

    def _is_built(self, conn: Connection, model: ReadModel) -> bool:
        """Whether a model that could not be built is built now; once it is resumed, it is tried."""
        found = checkpoints.fetch_all(conn, model.name)
        if is_changed(conn, model) and any(c.halted is not None for c in found):
            return False
        return self._built(conn, model)

    def _built(self, conn: Connection, model: ReadModel) -> bool:
        return rebuild_if_changed(conn, self._keyring, model)

    def _running(self) -> list[Checkpoint]:
        every = [c for projector in self.projectors for c in projector.checkpoints.values()]
        return [checkpoint for checkpoint in every if checkpoint.halted is None]

    def _seek(self) -> None:
        wanted: dict[int, list[Checkpoint]] = {}
        for checkpoint in self._running():
            wanted.setdefault(checkpoint.partition, []).append(checkpoint)
        self._source.seek(wanted)

    def _look_for_resumed(self, conn: Connection) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + AWAY_SECONDS
        before = len(self._running())
        there = {projector.model for projector in self.projectors}
        for model in self._models:
            if model not in there and self._is_built(conn, model):
                self.projectors.append(Projector(model))
                self._load(conn, self.projectors[-1])
        for projector in self.projectors:
            if any(c.halted is not None for c in projector.checkpoints.values()):
                self._load(conn, projector)
        if len(self._running()) != before:
            self._seek()


def _apart(pieces: Sequence[Piece], whole: Batch) -> list[Taken]:
    """What was read at once, again by partition."""
    taken = []
    at = 0
    for piece in pieces:
        broken = {
            row.position: whole.broken[row.position]
            for row in piece.rows
            if row.position in whole.broken
        }
        until = at + len(piece.rows) - len(broken)
        taken.append(Taken(piece, Batch(whole.events[at:until], broken)))
        at = until
    return taken
