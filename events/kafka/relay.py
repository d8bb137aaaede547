"""The relay carries the ledger to Kafka: every event, each partition in order, each at least once.

A record may get in while one before it failed, and a relay that was frozen may write late. Neither
does harm, for every record names what came before it in its partition (``events.kafka.records``):
a reader sees the hole, and the relay, which moves its checkpoint only behind acknowledged records,
sends the missing ones again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import structlog

from events.kafka.client import KafkaAway, KafkaError, Producer, Topic, awaited
from events.kafka.leading import NAME, take_lead
from events.kafka.records import (
    HEADERS,
    PARTITIONS,
    event_record,
    home_of,
    source_of,
    watermark_record,
)
from events.kafka.topic import TOPIC, TopicUnfit, prepare_topic, tail_of
from events.ledger import checkpoints, ledger
from events.ledger.checkpoints import Checkpoint
from events.ledger.collection import without_cycle_collection
from events.ledger.following import AWAY_SECONDS, follow, rest
from events.ledger.ledger import Connection, Stored
from events.ledger.locks import Lock

log = structlog.get_logger()

BATCH = 2_000
"""The most events sent before their acknowledgements are awaited."""
BATCH_BYTES = 8_000_000
IN_FLIGHT = 5
"""Batches on their way at once; the next is read and sent while earlier ones are acknowledged."""
POLL_SECONDS = 0.005
AWAIT_SECONDS = 0.1
BEAT_SECONDS = 1.0
LOOK_SECONDS = 5.0
CLOSE_SECONDS = 5.0
READ = """
SELECT position, event_id::text, stream_type, stream_id::text, version, occurred_at, recorded_at,
       actor, actor_kind, command_id::text, correlation_id::text, causation_id::text,
       type, schema_version, payload
  FROM ledger.events WHERE position > %b ORDER BY position LIMIT %b
"""
"""As ``ledger.READ``, but ids are texts, as records have them."""
UNHURRIED = "SET synchronous_commit = off"
"""A crash may take the last moves of the checkpoint along; their events are sent again."""


class Lost(RuntimeError):
    """A record was not taken; everything from the checkpoint on is sent again."""


EXPECTED = (KafkaAway, KafkaError, Lost, TopicUnfit)
"""Errors to retry: transient, or logged until an operator fixes them."""


class Batch(NamedTuple):
    """Events on their way to Kafka.

    Attributes:
        acks: a future for each record.
        position: of its last event, which is ``event_id``.
        recorded_ms: when the ledger took that event, in milliseconds since 1970.
        last: of each partition, the position of the last event up to there.
    """

    acks: list[Any]
    position: int
    event_id: UUID
    recorded_ms: int
    last: tuple[int, ...]


class Marks(NamedTuple):
    """The watermarks behind a batch, on their way; the checkpoint moves once they are taken."""

    acks: list[Any]
    position: int
    event_id: UUID


@dataclass(slots=True)
class _Leading:
    """What a leader holds.

    Attributes:
        conn: the session with the leader's lock.
        send: gives the producer a record.
        look: gives the id of the topic that is there now, if one is.
        checkpoint: every partition's chain is acknowledged up to its position.
        sent: the position of the last event sent.
        last: of each partition, up to where its chain was sent.
        leaves: when a relay that is to stop no longer waits for Kafka.
    """

    conn: Connection
    send: Callable[..., Any]
    look: Callable[[], UUID | None]
    topic_id: UUID
    source: str
    checkpoint: Checkpoint
    sent: int
    last: list[int]
    stop: threading.Event
    batches: deque[Batch] = field(default_factory=deque)
    marks: deque[Marks] = field(default_factory=deque)
    beaten: float = 0.0
    looked: float = 0.0
    sent_at: float = 0.0
    leaves: float | None = None


class Relay:
    """Of any number of relays one leads; the others stand by.

    Args:
        connect: opens an autocommit session on the ledger.
        bootstrap: Kafka's servers, ``host:port`` with commas between them.
    """

    def __init__(
        self, connect: Callable[[], Connection], bootstrap: str, topic: str = TOPIC
    ) -> None:
        self._connect = connect
        self._bootstrap = bootstrap
        self._topic = topic
        self._refusals = 0

    def run(self, stop: threading.Event) -> None:
        """Carry events until told to stop; outlives a database or a Kafka that goes away."""
        act, refusals = partial(self._lead, stop), lambda: self._refusals
        # Pauses grow with refusals, so that Kafka is not filled with repeats.
        follow(NAME, self._ready, act, stop, lock=Lock.RELAY, expected=EXPECTED, failures=refusals)

    @contextmanager
    def _ready(self) -> Iterator[Connection]:
        """Make ready what takes time, before the lead is waited for."""
        self._topic_id = prepare_topic(self._bootstrap, self._topic)
        with (
            closing(Producer(self._bootstrap)) as self._producer,
            closing(Topic(self._bootstrap, self._topic)) as self._watched,
            self._connect() as conn,
        ):
            try:
                yield conn
            except Lost:
                self._refusals += 1
                raise

    def _lead(self, stop: threading.Event, conn: Connection) -> None:
        if self._watched.id() != self._topic_id:
            raise Lost(f"the topic {self._topic} was made anew while this relay stood by")
        conn.execute("SELECT 1")
        tail = tail_of(self._bootstrap, self._topic, lambda: conn.execute("SELECT 1"))
        checkpoint = take_lead(conn, self._topic_id, tail)
        if checkpoint.halted is not None:
            log.error("the relay halted", why=checkpoint.halted)
            while not stop.wait(AWAY_SECONDS) and _still_halted(conn):
                pass
            return
        conn.execute(UNHURRIED)
        log.info("the relay leads", epoch=checkpoint.epoch, position=checkpoint.position)
        position, source = checkpoint.position, source_of(checkpoint.ledger_id)
        send, look, last = self._producer.send, self._watched.id, [position] * PARTITIONS
        leading = _Leading(
            conn, send, look, self._topic_id, source, checkpoint, position, last, stop
        )
        while not stop.is_set():
            self._turn(leading)
        self._leave(leading)

    def _leave(self, leading: _Leading) -> None:
        """Await everything that was sent, so that the next leader sends nothing again."""
        while leading.batches:
            self._settle(leading)
        for marks in leading.marks:
            self._await(leading, marks.acks)
        self._move(leading)

    def _turn(self, leading: _Leading) -> None:
        rows = []
        self._beat(leading)
        room = 1 if self._refusals else IN_FLIGHT  # one batch is enough to see it refused again
        if len(leading.batches) < room:
            rows = ledger.read(leading.conn, leading.sent, BATCH, READ)
        if rows:
            self._send(leading, rows)
        if leading.batches and (not rows or len(leading.batches) >= room):
            self._settle(leading)
        elif not rows:
            self._move(leading)
            rest(leading.stop, POLL_SECONDS, leading.sent_at)

    def _send(self, leading: _Leading, rows: Sequence[Stored]) -> None:
        source, last = leading.source, leading.last
        size, acks = 0, []
        with without_cycle_collection():
            for row in rows:
                partition, key = home_of(row.stream_id)
                value = event_record(row, source, last[partition])
                ms = _ms(row.recorded_at)
                acks.append(leading.send(self._topic, value, key, HEADERS, partition, ms))
                last[partition] = row.position
                size += len(value)
                if size > BATCH_BYTES:
                    break
        end = rows[len(acks) - 1]
        leading.sent = end.position
        leading.sent_at = time.monotonic()
        leading.batches.append(
            Batch(acks, end.position, UUID(str(end.event_id)), _ms(end.recorded_at), tuple(last))
        )

    def _settle(self, leading: _Leading) -> None:
        """Await the oldest batch, then close the chain of every partition behind it.

        Raises:
            Lost: when Kafka did not take a record.
            Overtaken: when another relay leads by now.
        """
        batch = leading.batches[0]
        self._await(leading, batch.acks)
        self._mark(leading, batch)
        leading.batches.popleft()
        if len(leading.marks) > IN_FLIGHT:
            self._await(leading, leading.marks[0].acks)
        self._move(leading)

    def _mark(self, leading: _Leading, batch: Batch) -> None:
        """Say in every partition that nothing of it is missing up to the batch's end."""
        position, ms, acks = batch.position, batch.recorded_ms, []
        for partition, previous in enumerate(batch.last):
            if previous < position:
                value = watermark_record(position, previous, leading.source, partition)
                acks.append(leading.send(self._topic, value, None, HEADERS, partition, ms))
                leading.last[partition] = max(leading.last[partition], position)
        leading.marks.append(Marks(acks, position, batch.event_id))

    def _move(self, leading: _Leading) -> None:
        """Move the checkpoint to the last watermarks that every partition has; waits for none.

        So the chain of every partition is acknowledged up to the checkpoint, and whoever leads next
        names the checkpoint's position as the one before its first record of each. Watermarks stand
        behind all that was sent before them: to wait for each would empty the pipeline each time.
        """
        new = leading.checkpoint
        while leading.marks and all(ack.is_done for ack in leading.marks[0].acks):
            marks = leading.marks.popleft()
            self._await(leading, marks.acks)
            new = replace(new, position=marks.position, event_id=marks.event_id)
        if new is not leading.checkpoint:
            checkpoints.move(leading.conn, leading.checkpoint, new)
            leading.checkpoint = new
            self._refusals = 0

    def _await(self, leading: _Leading, acks: Sequence[Any]) -> None:
        for ack in acks:
            while not ack.is_done:
                self._beat(leading)
                awaited(ack, AWAIT_SECONDS)
            if ack.exception is not None:
                raise Lost(f"Kafka did not take a record: {ack.exception!r}")

    def _beat(self, leading: _Leading) -> None:
        """Keep the lease, look whether the topic is still the same, and wait not for ever to stop.

        Raises:
            Lost: when the topic is another one by now, or Kafka is away and the relay is to stop.
        """
        now = time.monotonic()
        if now > leading.beaten + BEAT_SECONDS:
            leading.conn.execute("SELECT 1")
            leading.beaten = now
            if leading.stop.is_set():
                leading.leaves = leading.leaves or now + CLOSE_SECONDS
                if now > leading.leaves:
                    raise Lost("Kafka does not answer, and the relay is to stop")
        if now > leading.looked + LOOK_SECONDS and not leading.stop.is_set():
            leading.looked = now
            self._look(leading)

    def _look(self, leading: _Leading) -> None:
        try:
            found = leading.look()
        except KafkaAway as error:
            log.warning("the topic cannot be looked at", error=str(error))
            return
        if found != leading.topic_id:
            raise Lost(f"the topic {self._topic} is not the one that it was")


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)


def _still_halted(conn: Connection) -> bool:
    found = checkpoints.fetch(conn, NAME)
    return found is not None and found.halted is not None
