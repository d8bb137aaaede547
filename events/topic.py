"""The topic that carries the ledger: how it is made, what its records look like, where it ends."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID, SafeUUID

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource
from kafka.errors import KafkaConnectionError, TopicAlreadyExistsError, for_code
from kafka.partitioner.default import murmur2

Header = tuple[str, bytes]
set_field = object.__setattr__

TOPIC = "pledge.events"
PARTITIONS = 12
WATERMARK = "pledge.watermark"
SEVERAL = 3
"""Replicas from which on a record is to outlive a node."""
LARGEST_RECORD = 4_000_000
"""Bytes; the ledger takes no event near to that."""
PATIENT: dict[str, Any] = {"reconnect_backoff_max_ms": 2_000}
"""Of every client: a Kafka that is away is tried again at least that often."""
LOOK_MS = 5_000
REACH_SECONDS = 3.0
TAIL = 50
"""How many of a partition's last records tell whose topic it is."""
SETTINGS = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "max.message.bytes": str(LARGEST_RECORD),
    "message.timestamp.type": "CreateTime",
}
"""The ledger is for ever, and so is its topic: a consumer from the first offset gets everything."""


class TopicUnfit(RuntimeError):
    """The topic cannot carry the ledger; the message says why and what to do."""


def refuse_unreachable(bootstrap: str) -> None:
    """Look whether anything answers there: kafka-python's clients, made in vain, are never freed.

    Raises:
        KafkaConnectionError: when nothing does.
    """
    failed: OSError | None = None
    for place in bootstrap.split(","):
        host, _, port = place.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
        except OSError as error:
            failed = error
        else:
            return
    raise KafkaConnectionError(f"nothing answers at {bootstrap} ({failed})")


def prepare_topic(bootstrap: str, topic: str = TOPIC) -> UUID:
    """Create the topic, or check the one that is there; its id, which no other topic ever has.

    Raises:
        TopicUnfit: when it has another number of partitions, or would lose records.
        KafkaError: when Kafka does not answer.
    """
    refuse_unreachable(bootstrap)
    with KafkaAdminClient(bootstrap_servers=bootstrap, **PATIENT) as admin:
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
        if len(described["partitions"][0]["replica_nodes"]) >= SEVERAL:
            _check_durable(admin, topic)
        return UUID(str(described["topic_id"]))


def _settings_of(admin: KafkaAdminClient, topic: str) -> dict[str, str]:
    found = admin.describe_configs([ConfigResource("topic", topic)], config_filter="all")
    return {
        name: str(data["value"])
        for resources in found.values()
        for configs in resources.values()
        for name, data in configs.items()
    }


def _check_durable(admin: KafkaAdminClient, topic: str) -> None:
    found = _settings_of(admin, topic)
    if int(found["min.insync.replicas"]) < SEVERAL - 1:
        raise TopicUnfit(
            f"the topic {topic} has min.insync.replicas={found['min.insync.replicas']} and must "
            "have 2: what one node alone acknowledges is lost with it"
        )


def _check(admin: KafkaAdminClient, topic: str) -> None:
    found = _settings_of(admin, topic)
    for name, wanted in SETTINGS.items():
        value = found[name]
        fits = int(value) >= int(wanted) if name == "max.message.bytes" else value == wanted
        if not fits:
            raise TopicUnfit(
                f"the topic {topic} has {name}={value} and must have {wanted}: "
                f"kafka-configs.sh --alter --topic {topic} --add-config {name}={wanted}"
            )


def watcher(bootstrap: str) -> KafkaAdminClient:
    """A client that looks at the topic now and then, and does not wait long for an answer.

    Raises:
        KafkaError: when Kafka does not answer.
    """
    refuse_unreachable(bootstrap)
    return KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=LOOK_MS, **PATIENT)


def id_of(admin: KafkaAdminClient, topic: str) -> UUID:
    """The id that the topic has from its creation to its deletion.

    Raises:
        KafkaError: when there is none, or Kafka does not answer.
    """
    [described] = admin.describe_topics([topic])
    if described["error_code"]:
        raise for_code(described["error_code"])(topic)
    return UUID(str(described["topic_id"]))


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


def position_of(told: Mapping[str, bytes], source: bytes) -> int:
    """The place in the ledger that a record's headers name.

    Raises:
        KeyError, ValueError: when it is not of this source.
    """
    if told["ce_source"] != source:
        raise ValueError(f"it is of {told['ce_source'].decode(errors='replace')}")
    return int(told["ce_position"])


def row_of(told: Mapping[str, bytes], value: bytes) -> tuple[Any, ...]:
    """An event's record as the ledger's row: what ``headers`` made headers of.

    Raises:
        KeyError, ValueError: when it is none of ours.
    """
    kind, _, stream_id = told["ce_subject"].partition(b"/")
    cause = told.get("ce_causationid")
    return (
        int(told["ce_position"]),
        _uuid(told["ce_id"]),
        kind.decode(),
        _uuid(stream_id),
        int(told["ce_streamversion"]),
        datetime.fromisoformat(told["ce_time"].decode()),
        datetime.fromisoformat(told["ce_recordedtime"].decode()),
        told["ce_actor"].decode(),
        told["ce_actorkind"].decode(),
        _uuid(told["ce_commandid"]),
        _uuid(told["ce_correlationid"]),
        None if cause is None else _uuid(cause),
        told["ce_type"].decode(),
        int(told["ce_schemaversion"]),
        value,
    )


def _uuid(text: bytes) -> UUID:
    """What UUID(text) gives, in a third of its time."""
    made = object.__new__(UUID)
    set_field(made, "int", int(text.replace(b"-", b""), 16))
    set_field(made, "is_safe", SafeUUID.unknown)
    return made


@lru_cache(100_000)
def partition_of(stream_id: UUID) -> int:
    """The partition that Kafka's own partitioner gives a stream's key."""
    return int(murmur2(str(stream_id).encode()) & 0x7FFFFFFF) % PARTITIONS


def source_of(ledger_id: UUID) -> str:
    """What CloudEvents calls the source: the ledger."""
    return f"urn:pledge:ledger:{ledger_id}"


class Tail(NamedTuple):
    """The end of what a topic holds.

    Attributes:
        position: the highest that any of its last records names, 0 of an empty topic.
        source: of that record; tells one ledger from another.
        event_id: of the highest event among them, which is at ``event_at``.
        each: the highest position in each partition; None where nobody looked.
    """

    position: int = 0
    source: str = ""
    event_id: str | None = None
    event_at: int = 0
    each: dict[int, int] | None = None


def tail_of(bootstrap: str, topic: str) -> Tail:
    """The last records of every partition, taken together; what others wrote there is passed over.

    Raises:
        KafkaError: when Kafka does not answer.
    """
    refuse_unreachable(bootstrap)
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, **PATIENT)
    try:
        partitions = [TopicPartition(topic, n) for n in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, max(0, ends[partition] - TAIL))
        tail, each = Tail(), dict.fromkeys(range(PARTITIONS), 0)
        while any(consumer.position(p) < ends[p] for p in partitions):
            for partition, records in consumer.poll(timeout_ms=1_000).items():
                for record in records:
                    found = _place_of(record)
                    if found is not None:
                        tail = _with(tail, *found)
                        each[partition.partition] = max(each[partition.partition], found[0])
        return tail._replace(each=each)
    finally:
        consumer.close()


def _place_of(record: Any) -> tuple[int, str, str | None] | None:
    """Position, source and event id that a record names; None when it is none of a relay's."""
    try:
        told = {name: value.decode() for name, value in record.headers}
        return int(told["ce_position"]), told["ce_source"], told.get("ce_id")
    except (KeyError, ValueError, AttributeError):
        return None


def _with(tail: Tail, position: int, source: str, event_id: str | None) -> Tail:
    if position >= tail.position:
        tail = tail._replace(position=position, source=source)
    if event_id is not None and position >= tail.event_at:
        tail = tail._replace(event_id=event_id, event_at=position)
    return tail
