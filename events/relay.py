"""The relay carries the ledger to Kafka: in order, every event at least once, no hole ever.

A consumer may see an event again, late, from a relay that was frozen and woke up. It takes only
records above the highest position that it has taken from that partition: first occurrences come in
the ledger's order. That rests on one thing: no producer ever lets a later record of a partition in
where an earlier one failed. So an idempotent producer never gives a record up (there is no delivery
time-out), and after any other failure it is closed and the relay begins at its checkpoint again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import structlog
from confluent_kafka import KafkaError as Failure
from confluent_kafka import KafkaException, Message, Producer

from events import checkpoints, ledger
from events.checkpoints import Checkpoint, Overtaken
from events.topic import (
    LARGEST_RECORD,
    PARTITIONS,
    SETTLING_SECONDS,
    TOPIC,
    WATERMARK,
    Header,
    KafkaAway,
    Tail,
    TopicUnfit,
    Watched,
    client,
    headers,
    partition_of,
    prepare_topic,
    source_of,
    tail_of,
)

Connection = psycopg.Connection[Any]

log = structlog.get_logger()

NAME = "relay"
BATCH = 2_000
"""The most events sent before their acknowledgements are awaited."""
BATCH_BYTES = 16_000_000
IN_FLIGHT = 2
"""Batches on their way at once; the next is read and sent while the last one is acknowledged."""
POLL_SECONDS = 0.005
BUSY_POLL_SECONDS = 0.001
"""For a while after an event, for where one came others follow."""
BUSY_SECONDS = 1.0
AWAIT_SECONDS = 0.1
AWAY_SECONDS = 1.0
BEAT_SECONDS = 1.0
LOOK_SECONDS = 5.0
CLOSE_SECONDS = 5.0
FOREVER = 0
PRODUCING: dict[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,
    "enable.gapless.guarantee": True,
    "message.timeout.ms": FOREVER,
    "compression.type": "lz4",
    "linger.ms": 1,
    "batch.size": 256_000,
    "message.max.bytes": LARGEST_RECORD,
}
AT = "SELECT event_id FROM ledger.events WHERE position = %s"
LATEST = """
SELECT position, stream_id FROM ledger.events WHERE position <= %s ORDER BY position DESC LIMIT 5000
"""
LEADER = "SELECT pg_try_advisory_lock(7203, 2)"


class Lost(RuntimeError):
    """A record was not taken; everything from the checkpoint on is sent again."""


PASSING = (psycopg.OperationalError, KafkaException, KafkaAway, Overtaken, Lost, TopicUnfit)
"""What goes by itself, or is said again and again until somebody mends it."""

FATAL = (KafkaException, SystemError)
"""What a client raises after which it takes nothing any more. A callback that comes behind the
exception, in the same call, makes a SystemError of it."""


class Sent:
    """Records on their way, and what Kafka says to them."""

    __slots__ = ("failed", "left")

    def __init__(self) -> None:
        self.left = 0
        self.failed: Failure | None = None

    def told(self, error: Failure | None, _: Message) -> None:
        """One of them was taken, or was not."""
        self.left -= 1
        self.failed = self.failed or error


class Flight(NamedTuple):
    """A batch on its way, and where the ledger stands then."""

    sent: Sent
    position: int
    event_id: UUID


@dataclass(slots=True)
class _Leading:
    """What a leader holds: its session with the lock, its checkpoint, its producer, its topic."""

    conn: Connection
    producer: Producer
    topic: Watched
    topic_id: UUID
    source: bytes
    checkpoint: Checkpoint
    sent: int
    stop: threading.Event
    flights: deque[Flight] = field(default_factory=deque)
    marks: Sent = field(default_factory=Sent)
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

    def run(self, stop: threading.Event) -> None:
        """Carry events until told to stop; outlives a database or a Kafka that goes away."""
        while not stop.is_set():
            try:
                self._stand_by(stop)
            except PASSING as error:
                log.warning("the relay begins again", error=str(error).strip())
                stop.wait(AWAY_SECONDS)
            except Exception:  # told whole; a relay that ends carries nothing any more
                log.exception("the relay begins again after something unforeseen")
                stop.wait(AWAY_SECONDS)

    def _stand_by(self, stop: threading.Event) -> None:
        """Make ready what takes time, then wait for the lead."""
        topic_id = prepare_topic(self._bootstrap, self._topic)
        producer = Producer(client(self._bootstrap, **PRODUCING))
        try:
            with self._connect() as conn:
                conn.execute(checkpoints.LEASE)
                while not stop.is_set() and not self._is_leader(conn):
                    stop.wait(AWAY_SECONDS)
                if not stop.is_set():
                    self._lead(conn, producer, topic_id, stop)
        finally:  # what was not acknowledged comes again from the checkpoint
            producer.purge(blocking=False)
            with suppress(*FATAL):
                producer.flush(CLOSE_SECONDS)

    def _is_leader(self, conn: Connection) -> bool:
        row = conn.execute(LEADER).fetchone()
        return bool(row and row[0])

    def _lead(
        self,
        conn: Connection,
        producer: Producer,
        topic_id: UUID,
        stop: threading.Event,
    ) -> None:
        tail = self._settled_tail(conn, topic_id, stop)
        checkpoint = take_lead(conn, topic_id, tail)
        if checkpoint.halted is not None:
            log.error("the relay halted", why=checkpoint.halted)
            while not stop.wait(AWAY_SECONDS) and _still_halted(conn):
                pass
            return
        log.info("the relay leads", epoch=checkpoint.epoch, position=checkpoint.position)
        source = source_of(checkpoint.ledger_id).encode()
        watched = Watched(self._bootstrap, self._topic)
        leading = _Leading(
            conn, producer, watched, topic_id, source, checkpoint, checkpoint.position, stop
        )
        self._mark(leading, checkpoint.position)
        while not stop.is_set():
            self._turn(leading)
        while leading.flights:
            self._settle(leading)
        self._await(leading, leading.marks)

    def _settled_tail(self, conn: Connection, topic_id: UUID, stop: threading.Event) -> Tail:
        """The topic's end. Where it lacks what was carried, it is looked at again for a while.

        Raises:
            Lost: when the relay is to stop before that is certain.
        """
        until = time.monotonic() + SETTLING_SECONDS
        while True:
            tail = tail_of(self._bootstrap, self._topic)
            found = checkpoints.fetch(conn, NAME)
            is_short = (
                found is not None
                and found.shape == str(topic_id)
                and _lost(conn, found, tail) is not None
            )
            if not is_short or time.monotonic() > until:
                return tail
            if stop.wait(AWAY_SECONDS):
                raise Lost("Kafka shows less than was carried, and the relay is to stop")

    def _turn(self, leading: _Leading) -> None:
        rows = []
        self._beat(leading)
        if len(leading.flights) < IN_FLIGHT:
            rows = ledger.read(leading.conn, leading.sent, BATCH)
        if rows:
            self._send(leading, rows)
        if leading.flights and (not rows or len(leading.flights) == IN_FLIGHT):
            self._settle(leading)
        elif not rows:
            is_busy = time.monotonic() < leading.sent_at + BUSY_SECONDS
            leading.stop.wait(BUSY_POLL_SECONDS if is_busy else POLL_SECONDS)

    def _send(self, leading: _Leading, rows: list[tuple[Any, ...]]) -> None:
        size, sent, last = 0, Sent(), rows[0]
        for row in rows:
            self._produce(
                leading,
                sent,
                headers(row, leading.source),
                value=row[14],
                key=str(row[3]).encode(),
                partition=partition_of(row[3]),
                timestamp=int(row[6].timestamp() * 1000),
            )
            last = row
            size += len(row[14])
            if size > BATCH_BYTES:
                break
        leading.sent = last[0]
        leading.sent_at = time.monotonic()
        leading.flights.append(Flight(sent, last[0], last[1]))

    def _produce(self, leading: _Leading, sent: Sent, told: list[Header], **record: Any) -> None:
        sent.left += 1
        leading.producer.produce(self._topic, headers=told, on_delivery=sent.told, **record)

    def _settle(self, leading: _Leading) -> None:
        """Await the oldest batch, say in every partition how far it is, and move the checkpoint.

        Raises:
            Lost: when Kafka did not take a record.
            Overtaken: when another relay leads by now.
        """
        flight = leading.flights[0]
        self._await(leading, flight.sent)
        self._await(leading, leading.marks)
        self._mark(leading, flight.position)
        new = replace(leading.checkpoint, position=flight.position, event_id=flight.event_id)
        checkpoints.move(leading.conn, leading.checkpoint, new)
        leading.checkpoint = new
        leading.flights.popleft()

    def _await(self, leading: _Leading, sent: Sent) -> None:
        while sent.left and sent.failed is None:
            self._beat(leading)
            _serve(leading.producer)
        if sent.failed is not None:
            raise Lost(f"Kafka did not take a record: {sent.failed.str()}")

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
            found = leading.topic.id()
        except KafkaAway as error:
            log.warning("the topic cannot be looked at", error=str(error))
            return
        if found != leading.topic_id:
            raise Lost(f"the topic {self._topic} is not the one that it was")

    def _mark(self, leading: _Leading, position: int) -> None:
        """Say in every partition that everything up to the position is in Kafka."""
        told: list[Header] = [
            ("ce_specversion", b"1.0"),
            ("ce_type", WATERMARK.encode()),
            ("ce_source", leading.source),
            ("ce_position", b"%d" % position),
        ]
        leading.marks = Sent()
        for partition in range(PARTITIONS):
            self._produce(leading, leading.marks, told, value=b"{}", partition=partition)


def _serve(producer: Producer) -> None:
    try:
        producer.poll(AWAIT_SECONDS)
    except FATAL as error:
        raise Lost(f"Kafka did not take a record: {error!r}") from error


def take_lead(conn: Connection, topic_id: UUID, tail: Tail) -> Checkpoint:
    """The relay's checkpoint, with an epoch above all before; the caller holds the leader's lock.

    It comes back halted when ledger, topic and checkpoint do not belong together: going on would
    leave a hole, or have consumers skip events as known that are not.
    """
    shape = str(topic_id)
    with conn.transaction():
        if checkpoints.fetch(conn, NAME) is None:
            checkpoints.begin(conn, NAME, shape, 0, None)
        found = checkpoints.raise_epoch(conn, NAME)
        strange = _strange(conn, found, shape, tail)
        if strange is None:
            return found
        halted = replace(found, halted=strange, halted_at=found.position)
        checkpoints.move(conn, found, halted)
        return halted


def _strange(conn: Connection, found: Checkpoint, shape: str, tail: Tail) -> str | None:
    if found.shape != shape:
        return (
            f"it had carried up to position {found.position} into a topic that is not there any "
            "more (deleted and made anew?); to fill the new one from the first event on, run: "
            "pledge relay --from-the-start"
        )
    row = conn.execute(AT, (tail.event_at,)).fetchone()
    known = tail.event_id is None or (row is not None and str(row[0]) == tail.event_id)
    theirs = tail.source not in ("", source_of(ledger.ledger_id(conn)))
    fits = checkpoints.fits(conn, found) and known and not theirs
    lost = _lost(conn, found, tail) if fits else None
    if lost is not None:
        return (
            f"it had carried the event at position {lost} to Kafka, and it is not there any more "
            "(did Kafka lose records?). Delete the topic, then run: pledge relay --from-the-start"
        )
    if not fits or tail.position > ledger.head(conn):
        return (
            f"the topic holds events up to position {tail.position} that this ledger does not "
            f"(it is another one, or was restored from a backup?); the relay had carried up to "
            f"{found.position}. Delete the topic, then run: pledge relay --from-the-start"
        )
    return None


def _lost(conn: Connection, found: Checkpoint, tail: Tail) -> int | None:
    """The position of an event that was acknowledged, and lies behind its partition's end."""
    if tail.each is None:
        return None
    for position, stream_id in conn.execute(LATEST, (found.position,)):
        if position > tail.each[partition_of(stream_id)]:
            return int(position)
    return None


def from_the_start(conn: Connection, topic_id: UUID, tail: Tail) -> None:
    """Let the next leader carry everything from the first event on.

    Raises:
        TopicUnfit: when the topic holds records; consumers would skip the first events behind them.
    """
    if tail.position > 0:
        raise TopicUnfit(
            f"the topic holds records up to position {tail.position} already; consumers would "
            "skip what comes again behind them. Delete the topic first."
        )
    checkpoints.begin(conn, NAME, str(topic_id), 0, None)


def _still_halted(conn: Connection) -> bool:
    found = checkpoints.fetch(conn, NAME)
    return found is not None and found.halted is not None
