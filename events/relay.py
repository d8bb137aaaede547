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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import structlog
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource
from kafka.errors import KafkaError, TopicAlreadyExistsError

from events import checkpoints, ledger
from events.checkpoints import Checkpoint, Overtaken

Connection = psycopg.Connection[Any]
Header = tuple[str, bytes]

log = structlog.get_logger()

TOPIC = "pledge.events"
PARTITIONS = 12
NAME = "relay"
WATERMARK = "pledge.watermark"
BATCH = 2_000
"""The most events sent before their acknowledgements are awaited."""
BATCH_BYTES = 16_000_000
IN_FLIGHT = 2
"""Batches on their way at once; the next is read and sent while the last one is acknowledged."""
LARGEST_RECORD = 4_000_000
"""Bytes; the ledger takes no event near to that."""
POLL_SECONDS = 0.01
AWAY_SECONDS = 1.0
BEAT_SECONDS = 1.0
FOREVER_MS = 2**31 - 1
SETTINGS = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "max.message.bytes": str(LARGEST_RECORD),
    "message.timestamp.type": "CreateTime",
}
"""The ledger is for ever, and so is its topic: a consumer from the first offset gets everything."""
PRODUCING: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "delivery_timeout_ms": FOREVER_MS,
    "compression_type": "lz4",
    "linger_ms": 1,
    "batch_size": 256_000,
    "max_request_size": LARGEST_RECORD,
}
LEADER = "SELECT pg_try_advisory_lock(7203, 2)"
LEASE = "SET idle_session_timeout = '10s'"
"""A frozen leader loses its session, and with it the lock; a living one asks more often."""


class TopicUnfit(RuntimeError):
    """The topic cannot carry the ledger; the message says why and what to do."""


class Lost(RuntimeError):
    """A record was not taken; everything from the checkpoint on is sent again."""


class Flight(NamedTuple):
    """A batch on its way: what is to be acknowledged, and where the ledger stands then."""

    acks: list[Any]
    position: int
    event_id: UUID


def prepare_topic(bootstrap: str, topic: str = TOPIC) -> UUID:
    """Create the topic, or check the one that is there; its id, which no other topic ever has.

    Raises:
        TopicUnfit: when it has another number of partitions, or would lose records.
        KafkaError: when Kafka does not answer.
    """
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        try:
            admin.create_topics(
                {topic: {"num_partitions": PARTITIONS, "configs": SETTINGS}}, wait_for_metadata=True
            )
        except TopicAlreadyExistsError:
            _check(admin, topic)
        [described] = admin.describe_topics([topic])
        if len(described["partitions"]) != PARTITIONS:
            raise TopicUnfit(
                f"the topic {topic} has {len(described['partitions'])} partitions and must have "
                f"{PARTITIONS}: streams would change their partition, and their order would be lost"
            )
        return UUID(str(described["topic_id"]))


def _check(admin: KafkaAdminClient, topic: str) -> None:
    found = admin.describe_configs([ConfigResource("topic", topic)], config_filter="all")
    for name, wanted in SETTINGS.items():
        [value] = [
            str(data["value"])
            for resources in found.values()
            for configs in resources.values()
            for key, data in configs.items()
            if key == name
        ]
        fits = int(value) >= int(wanted) if name == "max.message.bytes" else value == wanted
        if not fits:
            raise TopicUnfit(
                f"the topic {topic} has {name}={value} and must have {wanted}: "
                f"kafka-configs.sh --alter --topic {topic} --add-config {name}={wanted}"
            )


def headers(row: Sequence[Any], source: bytes) -> list[Header]:
    """An event's envelope as CloudEvents 1.0 in binary mode, with ours under their own names."""
    found = [
        ("ce_specversion", b"1.0"),
        ("ce_id", str(row[1]).encode()),
        ("ce_type", row[12].encode()),
        ("ce_source", source),
        ("ce_time", row[5].isoformat().encode()),
        ("ce_subject", f"{row[2]}/{row[3]}".encode()),
        ("content-type", b"application/json"),
        ("ce_position", b"%d" % row[0]),
        ("ce_streamversion", b"%d" % row[4]),
        ("ce_schemaversion", b"%d" % row[13]),
        ("ce_recordedtime", row[6].isoformat().encode()),
        ("ce_actor", row[7].encode()),
        ("ce_actorkind", row[8].encode()),
        ("ce_commandid", str(row[9]).encode()),
        ("ce_correlationid", str(row[10]).encode()),
    ]
    if row[11] is not None:
        found.append(("ce_causationid", str(row[11]).encode()))
    return found


@dataclass(slots=True)
class _Leading:
    """What a leader holds: its session with the lock, its checkpoint and its producer."""

    conn: Connection
    producer: Any
    source: bytes
    checkpoint: Checkpoint
    sent: int
    flights: deque[Flight]
    beaten: float = 0.0


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
                with self._connect() as conn:
                    conn.execute(LEASE)
                    while not stop.is_set() and not self._is_leader(conn):
                        stop.wait(AWAY_SECONDS)
                    if not stop.is_set():
                        self._lead(conn, stop)
            except (psycopg.OperationalError, KafkaError, Overtaken, Lost, TopicUnfit) as error:
                log.warning("the relay begins again", error=str(error).strip())
                stop.wait(AWAY_SECONDS)

    def _is_leader(self, conn: Connection) -> bool:
        row = conn.execute(LEADER).fetchone()
        return bool(row and row[0])

    def _lead(self, conn: Connection, stop: threading.Event) -> None:
        topic_id = prepare_topic(self._bootstrap, self._topic)
        checkpoint = take_lead(conn, topic_id)
        if checkpoint.halted is not None:
            log.error("the relay halted", why=checkpoint.halted)
            while not stop.wait(AWAY_SECONDS) and _still_halted(conn):
                pass
            return
        log.info("the relay leads", epoch=checkpoint.epoch, position=checkpoint.position)
        producer = KafkaProducer(bootstrap_servers=self._bootstrap, **PRODUCING)
        source = f"urn:pledge:ledger:{checkpoint.ledger_id}".encode()
        leading = _Leading(conn, producer, source, checkpoint, checkpoint.position, deque())
        try:
            self._mark(leading)
            while not stop.is_set():
                self._turn(leading, stop)
            while leading.flights:
                self._settle(leading)
        finally:
            # What was not acknowledged is sent again from the checkpoint; nothing may follow it.
            producer.close(timeout=0 if leading.flights else None)

    def _turn(self, leading: _Leading, stop: threading.Event) -> None:
        rows = []
        if len(leading.flights) < IN_FLIGHT:
            rows = ledger.read(leading.conn, leading.sent, BATCH)
            leading.beaten = time.monotonic()
        if rows:
            self._send(leading, rows)
        if leading.flights and (not rows or len(leading.flights) == IN_FLIGHT):
            self._settle(leading)
        elif not rows:
            stop.wait(POLL_SECONDS)

    def _send(self, leading: _Leading, rows: list[tuple[Any, ...]]) -> None:
        size, acks = 0, []
        for row in rows:
            key = str(row[3]).encode()
            acks.append(
                leading.producer.send(
                    self._topic,
                    value=bytes(row[14]),
                    key=key,
                    headers=headers(row, leading.source),
                    timestamp_ms=int(row[6].timestamp() * 1000),
                )
            )
            size += len(row[14])
            if size > BATCH_BYTES:
                break
        last = rows[len(acks) - 1]
        leading.sent = last[0]
        leading.flights.append(Flight(acks, last[0], last[1]))

    def _settle(self, leading: _Leading) -> None:
        """Await the oldest batch, move the checkpoint, and say in every partition how far it is.

        Raises:
            Lost: when Kafka did not take a record.
            Overtaken: when another relay leads by now.
        """
        flight = leading.flights[0]
        for ack in flight.acks:
            self._await(leading, ack)
        new = replace(leading.checkpoint, position=flight.position, event_id=flight.event_id)
        checkpoints.move(leading.conn, leading.checkpoint, new)
        leading.checkpoint = new
        leading.flights.popleft()
        self._mark(leading)

    def _await(self, leading: _Leading, ack: Any) -> None:
        while not ack.is_done:
            if time.monotonic() > leading.beaten + BEAT_SECONDS:
                leading.conn.execute("SELECT 1")
                leading.beaten = time.monotonic()
            time.sleep(0.0005)
        if ack.exception is not None:
            raise Lost(f"Kafka did not take a record: {ack.exception}")

    def _mark(self, leading: _Leading) -> None:
        position = b"%d" % leading.checkpoint.position
        told = [
            ("ce_specversion", b"1.0"),
            ("ce_type", WATERMARK.encode()),
            ("ce_source", leading.source),
            ("ce_position", position),
        ]
        for partition in range(PARTITIONS):
            leading.producer.send(self._topic, value=b"{}", partition=partition, headers=told)


def take_lead(conn: Connection, topic_id: UUID) -> Checkpoint:
    """The relay's checkpoint, with an epoch above all before; the caller holds the leader's lock.

    It comes back halted when ledger or topic are not those that it was made with.
    """
    shape = str(topic_id)
    with conn.transaction():
        if checkpoints.fetch(conn, NAME) is None:
            checkpoints.begin(conn, NAME, shape, 0, None)
        found = checkpoints.raise_epoch(conn, NAME)
        strange = None
        if found.shape != shape:
            strange = (
                f"it had carried up to position {found.position} into a topic that is not there "
                "any more (deleted and made anew?); to fill the new one from the first event on, "
                "run: pledge relay --from-the-start"
            )
        elif not checkpoints.fits(conn, found):
            strange = (
                f"it stands at position {found.position} of a ledger that is not this one as it "
                "is now (restored from a backup?): the topic holds events that the ledger does "
                "not. Delete the topic, then run: pledge relay --from-the-start"
            )
        if strange is None:
            return found
        halted = replace(found, halted=strange, halted_at=found.position)
        checkpoints.move(conn, found, halted)
        return halted


def from_the_start(conn: Connection, topic_id: UUID) -> None:
    """Let the next leader carry everything from the first event on."""
    checkpoints.begin(conn, NAME, str(topic_id), 0, None)


def _still_halted(conn: Connection) -> bool:
    found = checkpoints.fetch(conn, NAME)
    return found is not None and found.halted is not None
