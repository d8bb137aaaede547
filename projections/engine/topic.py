"""The topic as a source of events: partitions shared out, chains followed, holes noticed."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog

from events.kafka.client import Consumer, KafkaAway, Partition, Topic
from events.kafka.leading import NAME as RELAY
from events.kafka.records import PARTITIONS, Foreign, Link, link_of, source_of
from events.kafka.topic import TOPIC
from events.ledger import checkpoints, ledger
from events.ledger.checkpoints import Checkpoint
from projections.engine.sources import Piece
from projections.engine.tables import Connection

AWAIT_SECONDS = 0.1
log = structlog.get_logger()

LOOK_SECONDS = 5.0
HOLE_SECONDS = 30.0
"""After which records that are missing are not expected any more."""
AT = "SELECT position, event_id FROM ledger.events WHERE position = ANY (%s)"
RECORDED_AT = "SELECT recorded_at FROM ledger.events WHERE position = %s"


@dataclass(slots=True)
class _Chain:
    """How far a partition's chain was followed.

    Attributes:
        taken: everything of the partition up to here was given.
        offset: of the record after those that the chain has.
        hole: where the chain is broken, if it is.
    """

    taken: int
    offset: int
    hole: _Hole | None = None

    def follow(self, offset: int, link: Link) -> bool:
        """Whether a record brings something; a hole is closed once what lay behind it is there."""
        position, previous, _ = link
        is_next = previous <= self.taken < position
        if is_next:
            self.taken = position
        elif self.taken < previous:
            if self.hole is None or self.hole.previous <= self.taken:
                self.hole = _Hole(previous, self.hole.behind if self.hole else 0)
            self.hole.behind = max(self.hole.behind, position)
        if self.hole is not None and self.taken >= self.hole.behind:
            self.hole = None
        if self.hole is None:
            self.offset = offset + 1
        return is_next

    def passed(self, offset: int) -> None:
        """Note that a record of somebody else was read."""
        if self.hole is None:
            self.offset = offset + 1


@dataclass(slots=True)
class _Hole:
    """Records are missing that a later one names.

    Attributes:
        previous: the position of the last of them.
        behind: the highest position seen behind the hole.
        looked: when the partition was last sought to be read again.
        lost_since: when they were first missing although the relay had carried them.
    """

    previous: int
    behind: int = 0
    looked: float = field(default_factory=time.monotonic)
    lost_since: float | None = None


class FromTopic:
    """The topic of events. Several processes share its partitions, as members of one group.

    Kafka's own record of offsets is not used, and an offset in a checkpoint only says where to look
    first: what is taken is decided by the chain (``events.kafka.records``).

    Args:
        bootstrap: Kafka's servers, ``host:port`` with commas between them.
    """

    partitions = PARTITIONS

    def __init__(self, bootstrap: str, topic: str = TOPIC) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._opened = ExitStack()
        self._changed = threading.Event()
        self._consumer: Consumer | None = None
        self._looked = 0.0
        self._chains: dict[Partition, _Chain] = {}
        self._source = ""

    def open(self, conn: Connection) -> None:
        """See ``Source``: join the group."""
        self._conn = conn
        self._source = source_of(ledger.ledger_id(conn))
        self._watched = self._opened.enter_context(closing(Topic(self._bootstrap, self._topic)))
        found = self._watched.id()
        if found is None:
            raise KafkaAway(f"Kafka at {self._bootstrap} has no topic {self._topic}")
        self.id = str(found)
        self._chains = {}
        self._changed.clear()
        group = f"{self._topic}.projections"
        self._consumer = self._opened.enter_context(closing(Consumer(self._bootstrap, group)))
        self._consumer.subscribe(self._topic, self._changed)

    def close(self) -> None:
        """See ``Source``: leave the group."""
        self._consumer = None
        self._opened.close()

    @property
    def _reading(self) -> Consumer:
        if self._consumer is None:
            raise KafkaAway(f"the topic {self._topic} is not open")
        return self._consumer

    def assigned(self) -> frozenset[int] | None:
        """See ``Source``."""
        self._look()
        if not self._changed.is_set():
            return None
        self._changed.clear()
        self._chains = {}
        return frozenset(partition.partition for partition in self._reading.assignment())

    def _look(self) -> None:
        """Notice a topic that was made anew."""
        now = time.monotonic()
        if now < self._looked + LOOK_SECONDS:
            return
        self._looked = now
        try:
            found = self._watched.id()
        except KafkaAway as error:
            log.warning("the topic cannot be looked at", topic=self._topic, error=str(error))
            return
        if found is not None and str(found) != self.id:
            self.id = str(found)
            self._changed.set()

    def seek(self, wanted: Mapping[int, Sequence[Checkpoint]]) -> None:
        """See ``Source``."""
        self._chains = {}
        for partition in self._reading.assignment():
            if found := wanted.get(partition.partition):
                offsets = [c.offset for c in found if c.offset is not None]
                nowhere = [c.taken for c in found if c.offset is None]
                if nowhere:
                    offsets.append(self._offset_after(partition, min(nowhere)))
                offset = min(offsets)
                if self._reading.seek(partition, offset):
                    self._chains[partition] = _Chain(min(c.taken for c in found), offset)
            else:
                self._reading.pause(partition)

    def _offset_after(self, partition: Partition, position: int) -> int:
        """An offset before which the partition holds nothing above the position.

        Records bear the time at which the ledger took their event, and that never falls.
        """
        row = self._conn.execute(RECORDED_AT, (position,)).fetchone()
        if row is None:
            return 0
        return self._reading.offset_at(partition, int(row[0].timestamp() * 1000))

    def read(self, limit: int) -> list[Piece]:
        """See ``Source``."""
        polled = self._reading.poll(AWAIT_SECONDS, limit)
        if self._changed.is_set():
            return []  # these may be of partitions that were not sought yet
        pieces = [
            self._piece(partition, self._chains[partition], records)
            for partition, records in polled.items()
            if partition in self._chains
        ]
        return self._known(pieces) + self._holes()

    def _piece(self, partition: Partition, chain: _Chain, records: Sequence[Any]) -> Piece:
        """What the records add to the chain: no repeats, and nothing behind a hole."""
        rows = []
        for record in records:
            try:
                link = link_of(record.value, self._source, chain.taken)
            except Foreign as error:
                log.error(  # noqa: TRY400 - told whole
                    "a record of somebody else",
                    partition=partition.partition,
                    offset=record.offset,
                    error=str(error),
                )
                chain.passed(record.offset)
                continue
            if chain.follow(record.offset, link) and link.row is not None:
                rows.append(link.row)
        return Piece(partition.partition, rows, chain.offset, chain.taken)

    def _holes(self) -> list[Piece]:
        """Of partitions with a hole, those in which it stays; the others are read again.

        What the relay has not confirmed yet is not missing: it comes again, perhaps later.
        """
        pieces, now = [], time.monotonic()
        for partition, chain in list(self._chains.items()):
            hole = chain.hole
            if hole is None or now < hole.looked + LOOK_SECONDS:
                continue
            if not self._reading.is_at_end(partition):
                continue
            log.warning(
                "records are missing",
                topic=self._topic,
                partition=partition.partition,
                above=chain.taken,
                up_to=hole.previous,
            )
            if chain.taken < hole.previous and self._is_carried(hole.previous):
                hole.lost_since = hole.lost_since or now
                if now > hole.lost_since + HOLE_SECONDS:
                    pieces.append(self._missing(partition.partition, chain.taken, hole.previous))
                    continue
            hole.looked = now
            offset = min(chain.offset, self._offset_after(partition, chain.taken))
            self._reading.seek(partition, offset)
        return pieces

    def _is_carried(self, position: int) -> bool:
        found = checkpoints.fetch(self._conn, RELAY)
        return found is None or found.position >= position

    def _missing(self, partition: int, taken: int, previous: int) -> Piece:
        strange = (
            f"lacks events of partition {partition} of {self._topic}: what is left there after "
            f"position {taken} begins behind position {previous} (did Kafka lose records?)"
        )
        return Piece(partition, [], strange=strange, strange_up_to=previous)

    def _known(self, pieces: list[Piece]) -> list[Piece]:
        """The pieces; one that names what the ledger does not have brings nothing."""
        named = [piece.rows[-1].position for piece in pieces if piece.rows]
        named += [piece.watermark for piece in pieces if piece.watermark]
        if not named:
            return pieces
        there = dict(self._conn.execute(AT, (named,), prepare=True).fetchall())
        return [piece if _is_in(there, piece) else self._unknown(piece) for piece in pieces]

    def _unknown(self, piece: Piece) -> Piece:
        position = max(piece.rows[-1].position if piece.rows else 0, piece.watermark or 0)
        strange = (
            f"follows {self._topic}, which knows of an event at position {position} that this "
            "ledger does not have (was it restored from a backup?)"
        )
        return Piece(piece.partition, [], strange=strange, strange_up_to=position + 1)

    def rest(self, stop: threading.Event) -> None:
        """See ``Source``: reading waits by itself."""


def _is_in(there: Mapping[int, UUID], piece: Piece) -> bool:
    is_known = not piece.rows or there.get(piece.rows[-1].position) == piece.rows[-1].event_id
    return is_known and (not piece.watermark or piece.watermark in there)
