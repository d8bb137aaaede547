"""Where projectors take events from: the ledger itself, or the topic that carries it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from events import ledger
from events.checkpoints import LEDGER, Checkpoint
from events.topic import (
    PARTITIONS,
    SETTLING_SECONDS,
    TOPIC,
    WATERMARK,
    KafkaAway,
    Record,
    Watched,
    answering,
    client,
    position_of,
    record_of,
    row_of,
    source_of,
)
from projections.tables import Connection

log = structlog.get_logger()

POLL_SECONDS = 0.01
BUSY_POLL_SECONDS = 0.001
"""Between looks at the ledger for as long as somebody seems to be at work."""
BUSY_SECONDS = 1.0
AWAIT_SECONDS = 0.1
LOOK_SECONDS = 5.0
CONSUMING: dict[str, Any] = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "session.timeout.ms": 10_000,  # who says nothing for so long loses its partitions to others
    "fetch.queue.backoff.ms": 10,
    "queued.max.messages.kbytes": 16_384,
}
AT = "SELECT position, event_id FROM ledger.events WHERE position = ANY (%s)"
RECORDED_AT = "SELECT recorded_at FROM ledger.events WHERE position = %s"


class Piece(NamedTuple):
    """What one partition brought.

    Attributes:
        rows: of ``ledger.COLUMNS``, each position above the one before.
        offset: in a topic, of the record after the last one read; None of the ledger, and where
            nothing could be taken.
        watermark: in a topic, up to where nothing of this partition is missing; None of the ledger.
        strange: why nothing can be taken.
    """

    partition: int
    rows: list[tuple[Any, ...]]
    offset: int | None = None
    watermark: int | None = None
    strange: str | None = None

    def is_behind(self, checkpoint: Checkpoint) -> bool:
        """Whether it brings nothing that the checkpoint does not have."""
        if self.rows and self.rows[-1][0] > checkpoint.taken:
            return False
        if self.offset is None:
            return self.strange is None
        return checkpoint.offset is not None and self.offset <= checkpoint.offset


class SourceAway(RuntimeError):
    """The source does not answer; come back later."""


class Source(Protocol):
    """A source of events in partitions; all events of a stream are in one, in order.

    Attributes:
        id: what checkpoints call it.
        partitions: how many there are.
    """

    id: str
    partitions: int

    def open(self, conn: Connection) -> None:
        """Begin, with a session on the ledger.

        Raises:
            SourceAway: when the source does not answer, here and in everything below.
        """

    def close(self) -> None:
        """Let go of what was opened, if anything was."""

    def assigned(self) -> frozenset[int] | None:
        """The partitions that are this process's to read, if that is news; None if not.

        After news the caller seeks all of them before it reads.
        """

    def strange(self, checkpoint: Checkpoint) -> str | None:
        """Why the checkpoint does not belong to this source; None when it does."""

    def seek(self, wanted: Mapping[int, Sequence[Checkpoint]]) -> None:
        """Read next what any of a partition's checkpoints lacks; nothing of those not named."""

    def read(self, limit: int) -> list[Piece]:
        """What comes next, none or more of it; at most so many events."""

    def rest(self, stop: threading.Event) -> None:
        """Wait a little, after nothing came."""


class FromLedger:
    """The ledger, one partition."""

    id = LEDGER
    partitions = 1

    def __init__(self) -> None:
        self._is_news = False
        self._after: int | None = None
        self._read_at = -BUSY_SECONDS

    def open(self, conn: Connection) -> None:
        """See ``Source``."""
        self._conn = conn
        self._is_news = True

    def close(self) -> None:
        """See ``Source``."""

    def assigned(self) -> frozenset[int] | None:
        """See ``Source``."""
        if not self._is_news:
            return None
        self._is_news = False
        return frozenset([0])

    def strange(self, checkpoint: Checkpoint) -> str | None:
        """See ``Source``."""
        if checkpoint.source != LEDGER:
            name = checkpoint.name
            raise SourceAway(
                f"read model {name} follows Kafka, and this process the ledger; to have it follow "
                "the ledger again, stop the processes that follow Kafka, and run: "
                f"pledge project rebuild {name}"
            )
        return None

    def seek(self, wanted: Mapping[int, Sequence[Checkpoint]]) -> None:
        """See ``Source``."""
        found = wanted.get(0, ())
        self._after = min((checkpoint.position for checkpoint in found), default=None)

    def read(self, limit: int) -> list[Piece]:
        """See ``Source``."""
        if self._after is None:
            return []
        rows = ledger.read(self._conn, self._after, limit)
        if not rows:
            return []
        self._after = rows[-1][0]
        self._read_at = time.monotonic()
        return [Piece(0, rows)]

    def rest(self, stop: threading.Event) -> None:
        """See ``Source``."""
        is_busy = time.monotonic() < self._read_at + BUSY_SECONDS
        stop.wait(BUSY_POLL_SECONDS if is_busy else POLL_SECONDS)


class FromTopic:
    """The topic of events. Several processes share its partitions, as members of one group.

    Kafka's own record of offsets is not used: an offset ahead of a checkpoint would be a hole. So
    a partition that is assigned begins at its first record, until it is sought.

    Args:
        bootstrap: Kafka's servers, ``host:port`` with commas between them.
    """

    partitions = PARTITIONS

    def __init__(self, bootstrap: str, topic: str = TOPIC) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._consumer: Consumer | None = None
        self._looked = 0.0
        self._held: frozenset[int] = frozenset()
        self._is_news = False
        self._ends: dict[int, int] = {}
        self._highest: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._proofs: dict[int, tuple[int, int]] = {}
        self._short_since: dict[int, float] = {}
        self._source = b""

    def open(self, conn: Connection) -> None:
        """See ``Source``: join the group."""
        self._conn = conn
        self._source = source_of(ledger.ledger_id(conn)).encode()
        with self._away():
            self._watched = Watched(self._bootstrap, self._topic)
            found = self._watched.id()
            if found is None:
                raise SourceAway(f"Kafka at {self._bootstrap} has no topic {self._topic}")
            self.id = str(found)
            group = f"{self._topic}.projections"
            self._consumer = Consumer(client(self._bootstrap, **{"group.id": group}, **CONSUMING))
            self._held, self._is_news = frozenset(), False
            self._consumer.subscribe(
                [self._topic], on_assign=self._given, on_revoke=self._taken, on_lost=self._taken
            )

    def _given(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign([])  # nothing is read of them before they are sought
        self._held = frozenset(found.partition for found in partitions)
        self._is_news = True

    def _taken(self, consumer: Consumer, _: list[TopicPartition]) -> None:
        consumer.unassign()
        self._held = frozenset()
        self._is_news = True

    @contextmanager
    def _away(self) -> Iterator[None]:
        try:
            with answering(f"{self._bootstrap}, {self._topic}"):
                yield
        except KafkaAway as error:
            raise SourceAway(str(error)) from error

    def close(self) -> None:
        """See ``Source``: leave the group."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(KafkaException):  # what cannot be left in order is left anyway
                consumer.close()

    def assigned(self) -> frozenset[int] | None:
        """See ``Source``."""
        self._look()
        if not self._is_news:
            return None
        self._is_news = False
        with self._away():
            self._ends = self._watched.ends(self._held)
        return self._held

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._looked + LOOK_SECONDS:
            return
        self._looked = now
        try:
            found = str(self._watched.id())
        except KafkaAway as error:
            log.warning("the topic cannot be looked at", topic=self._topic, error=str(error))
            return
        if found != self.id:
            self.id = found
            self._is_news = True

    def strange(self, checkpoint: Checkpoint) -> str | None:
        """See ``Source``."""
        if checkpoint.source != self.id:
            return f"followed a topic that is not there any more (was {self._topic} made anew?)"
        partition = checkpoint.partition
        if checkpoint.offset is not None and checkpoint.offset > self._ends.get(partition, 0):
            with self._away():
                self._ends |= self._watched.ends([partition])
            if checkpoint.offset > self._ends[partition]:
                self._let_settle(partition)
                return (
                    f"had read partition {partition} of {self._topic} up to offset "
                    f"{checkpoint.offset}, and it ends at {self._ends[partition]} (did Kafka lose "
                    "records?)"
                )
        return None

    def _let_settle(self, partition: int) -> None:
        """Wait for what Kafka may not show yet.

        Raises:
            SourceAway: while that may still come.
        """
        since = self._short_since.setdefault(partition, time.monotonic())
        if time.monotonic() < since + SETTLING_SECONDS:
            raise SourceAway(f"partition {partition} of {self._topic} shows less than was read")

    def seek(self, wanted: Mapping[int, Sequence[Checkpoint]]) -> None:
        """See ``Source``."""
        self._short_since = {}
        self._highest, self._next, self._proofs = {}, {}, {}
        for partition in self._held:
            if found := wanted.get(partition):
                self._seek(partition, found)
        with self._away():
            self._reading.assign([TopicPartition(self._topic, *at) for at in self._next.items()])

    @property
    def _reading(self) -> Consumer:
        if self._consumer is None:
            raise SourceAway(f"the topic {self._topic} is not open")
        return self._consumer

    def _seek(self, partition: int, checkpoints: Sequence[Checkpoint]) -> None:
        offset = min(
            self._offset_after(partition, c.taken) if c.offset is None else c.offset
            for c in checkpoints
        )
        known = [c.taken for c in checkpoints if c.offset == offset]
        if known and offset > 0:
            offset -= 1
            self._proofs[partition] = offset, min(known)
        self._next[partition] = offset
        self._highest[partition] = min(c.taken for c in checkpoints)

    def _offset_after(self, partition: int, position: int) -> int:
        """An offset before which the partition holds nothing above the position.

        Records bear the time at which the ledger took their event, and that never falls.
        """
        row = self._conn.execute(RECORDED_AT, (position,)).fetchone()
        if row is None:
            return 0
        with self._away():
            found = self._watched.offset_at(partition, int(row[0].timestamp() * 1000))
            return self._watched.ends([partition])[partition] if found is None else found

    def read(self, limit: int) -> list[Piece]:
        """See ``Source``."""
        polled: dict[int, list[Record]] = {}
        for record in self._polled(limit):
            polled.setdefault(record.partition, []).append(record)
        if any(records[0].offset < self._next.get(p, 0) for p, records in polled.items()):
            self._is_news = True  # the client went back by itself: an offset is not there any more
        if self._is_news:
            return []  # these may be of partitions that were not sought yet
        pieces = [
            self._piece(partition, records)
            for partition, records in polled.items()
            if partition in self._highest
        ]
        return self._known(pieces)

    def _polled(self, limit: int) -> Iterator[Record]:
        """What is there already, or the first that comes."""
        with self._away():
            first = self._reading.poll(AWAIT_SECONDS)
            more = [] if first is None else self._reading.consume(limit - 1, 0)
        for message in [first, *more] if first else []:
            error = message.error()
            if error is None:
                yield record_of(message)
            else:
                log.warning("the topic cannot be read", topic=self._topic, error=error.str())

    def _known(self, pieces: list[Piece]) -> list[Piece]:
        """The pieces; one that names what the ledger does not have brings nothing."""
        named = [piece.rows[-1][0] for piece in pieces if piece.rows]
        named += [piece.watermark for piece in pieces if piece.watermark]
        if not named:
            return pieces
        there = dict(self._conn.execute(AT, (named,), prepare=True).fetchall())
        return [piece if _is_in(there, piece) else self._unknown(piece) for piece in pieces]

    def _unknown(self, piece: Piece) -> Piece:
        position = max(piece.rows[-1][0] if piece.rows else 0, piece.watermark or 0)
        strange = (
            f"follows {self._topic}, which knows of an event at position {position} that this "
            "ledger does not have (was it restored from a backup?)"
        )
        return Piece(piece.partition, [], None, 0, strange)

    def _piece(self, partition: int, records: Sequence[Record]) -> Piece:
        """The records without late repeats, of which relays that were frozen and woke make some.

        What others wrote into the topic is passed over: none of our events is missing for it. The
        first record read is the last one taken; where it is not, the topic lost what lay between.
        """
        highest, watermark = self._highest[partition], 0
        proof, bound = self._proofs.pop(partition, (-1, 0))
        rows = []
        for _, offset, told, value in records:
            try:
                position = position_of(told, self._source)
                is_mark = told["ce_type"] == WATERMARK.encode()
                row = row_of(told, value) if position > highest and not is_mark else None
            except (KeyError, ValueError, TypeError, AttributeError) as error:
                log.error(  # noqa: TRY400 - told whole
                    "a record of somebody else",
                    partition=partition,
                    offset=offset,
                    error=repr(error),
                )
                continue
            if offset == proof and position > bound:
                strange = (
                    f"had read less of partition {partition} than is gone (did Kafka lose records?)"
                )
                return Piece(partition, [], None, 0, strange)
            if row is not None:
                rows.append(row)
            elif is_mark:
                watermark = max(watermark, position)
            highest = max(highest, position)
        self._highest[partition] = highest
        self._next[partition] = after = records[-1].offset + 1
        return Piece(partition, rows, after, watermark)

    def rest(self, stop: threading.Event) -> None:
        """See ``Source``: reading waits by itself."""


def _is_in(there: Mapping[int, UUID], piece: Piece) -> bool:
    is_known = not piece.rows or there.get(piece.rows[-1][0]) == piece.rows[-1][1]
    return is_known and (not piece.watermark or piece.watermark in there)
