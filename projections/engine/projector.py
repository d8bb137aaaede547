"""One read model at work: what partitions brought becomes rows and checkpoints."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple
from uuid import UUID

import psycopg
import structlog

from events.envelope import Recorded
from events.ledger import checkpoints
from events.ledger.checkpoints import Checkpoint
from projections.engine import progress
from projections.engine.folding import Batch, Parked, Poison, fold
from projections.engine.model import ReadModel
from projections.engine.sources import Piece
from projections.engine.sums import keep
from projections.engine.tables import Connection, Rows

log = structlog.get_logger()

Moves = dict[int, tuple[Checkpoint, Checkpoint]]
"""By partition, a checkpoint and what it becomes."""


class Taken(NamedTuple):
    """What a partition brought, and the events that its rows hold."""

    piece: Piece
    batch: Batch


@dataclass(slots=True)
class Projector:
    """One read model at work.

    Attributes:
        checkpoints: of the partitions that this process reads.
    """

    model: ReadModel
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)
    parked: Parked = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)

    def moves(self, taken: Sequence[Taken]) -> Moves:
        """By partition, what its checkpoint becomes of what partitions brought."""
        moves = {}
        for piece, _ in taken:
            old = self.checkpoints.get(piece.partition)
            if old is not None and old.halted is None and not piece.is_behind(old):
                moves[piece.partition] = old, _behind(old, piece)
        return moves

    def is_concerned(self, batch: Batch) -> bool:
        """Whether any of it could change a row, or be poison."""
        types = self.model.types
        return bool(batch.broken) or any(recorded.type in types for recorded in batch.events)

    def take(self, conn: Connection, taken: Sequence[Taken]) -> None:
        """Fold what partitions brought; commit rows and checkpoints.

        A poison event halts a critical model in its partition, after the good events before it are
        committed; elsewhere its stream is parked. An event of unknown type halts every model.

        Raises:
            Overtaken: when another process was faster; nothing was written.
        """
        moves = self.moves(taken)
        if not moves:
            return
        batches = {
            piece.partition: batch.between(moves[piece.partition][0].taken)
            for piece, batch in taken
            if piece.partition in moves
        }
        while True:
            whole = Batch.of(list(batches.values()))
            try:
                rows, parking = fold(
                    self.model, partial(self._stored, conn, whole), whole, self.parked, self.skipped
                )
                break
            except Poison as poison:
                [place] = [p for p, batch in batches.items() if batch.holds(poison.position)]
                old, _ = moves[place]
                good = batches[place] = batches[place].between(old.taken, poison.position)
                moves[place] = old, _halted(old, good, poison)
        with conn.transaction():
            checkpoints.move_all(conn, list(moves.values()))
            keep(conn, self.model, self.model.schema, rows)
            for stream_id, why in parking.items():
                progress.park(conn, self.model.name, stream_id, why.position, str(why))
        name = self.model.name
        self.moved(moves)
        for stream_id, why in parking.items():
            self.parked[stream_id] = why.position
            log.error("a stream was parked", model=name, stream=str(stream_id), why=str(why))

    def moved(self, moves: Moves) -> None:
        """Note what has been committed."""
        for place, (_, new) in moves.items():
            self.checkpoints[place] = new
            if new.halted is not None:
                log.error("a read model halted", model=self.model.name, why=new.halted)

    def halt(self, conn: Connection, partitions: Collection[int], error: psycopg.Error) -> None:
        """Stand still in these partitions: the database does not take the rows.

        Raises:
            Overtaken: when another process was faster.
        """
        for place in partitions:
            old = self.checkpoints.get(place)
            if old is not None and old.halted is None:
                why = f"its rows cannot be written: {error.__class__.__name__}: {error}"
                new = replace(old, halted=why)
                checkpoints.move(conn, old, new)
                self.moved({place: (old, new)})

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


def _behind(old: Checkpoint, piece: Piece) -> Checkpoint:
    """The checkpoint once the whole piece is taken."""
    if piece.strange is not None:
        return replace(old, halted=say(old.name, piece.strange))
    new = replace(old, offset=piece.offset)
    if piece.rows and piece.rows[-1].position > old.position:
        new.position, new.event_id = piece.rows[-1].position, piece.rows[-1].event_id
    if piece.watermark is not None:
        new.watermark = max(old.watermark or 0, piece.watermark)
    return new


def say(name: str, strange: str) -> str:
    """Why a read model stands still, and what to do."""
    return f"read model {name} {strange}; run: pledge project rebuild {name}"


def _halted(old: Checkpoint, good: Batch, poison: Poison) -> Checkpoint:
    new = replace(old, halted=str(poison), halted_at=poison.position)
    if good.events:
        new.position, new.event_id = good.events[-1].position, good.events[-1].event_id
    if old.watermark is not None:
        new.watermark = max(old.watermark, poison.position - 1)
    return new
