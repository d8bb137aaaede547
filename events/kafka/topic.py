"""The topic that carries the ledger: how it is made, whether it is fit, where it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from events.kafka.client import LARGEST_RECORD, Consumer, KafkaAway, Partition, Topic
from events.kafka.records import FORMAT, PARTITIONS, source_of

TOPIC = f"pledge.events.{FORMAT}"
SEVERAL = 3
"""Replicas from which on a record is to outlive a node."""
TAIL = 50
"""How many of a partition's last records tell whose topic it is."""
TAIL_SECONDS = 30.0
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


def prepare_topic(bootstrap: str, name: str = TOPIC) -> UUID:
    """Create the topic, or check the one that is there; its id, which no other topic ever has.

    Raises:
        TopicUnfit: when it has another number of partitions, or would lose records.
        KafkaAway: when Kafka does not answer.
    """
    with closing(Topic(bootstrap, name)) as topic:
        found = topic.described()
        is_new = found is None and topic.create(PARTITIONS, SETTINGS)
        settings = topic.settings()
        if not is_new:
            _check(settings, name)
        found = found or topic.described()
    if found is None:
        raise KafkaAway(f"Kafka at {bootstrap} does not show the topic {name} any more")
    if len(found["partitions"]) != PARTITIONS:
        raise TopicUnfit(
            f"the topic {name} has {len(found['partitions'])} partitions and must have "
            f"{PARTITIONS}: streams would change their partition, and their order would be lost"
        )
    if len(found["partitions"][0]["replica_nodes"]) >= SEVERAL:
        _check_durable(settings, name)
    return UUID(str(found["topic_id"]))


def _check_durable(settings: Mapping[str, str], name: str) -> None:
    if int(settings["min.insync.replicas"]) < SEVERAL - 1:
        raise TopicUnfit(
            f"the topic {name} has min.insync.replicas={settings['min.insync.replicas']} and must "
            "have 2: what one node alone acknowledges is lost with it"
        )


def _check(settings: Mapping[str, str], name: str) -> None:
    for key, wanted in SETTINGS.items():
        value = settings[key]
        fits = int(value) >= int(wanted) if key == "max.message.bytes" else value == wanted
        if not fits:
            raise TopicUnfit(
                f"the topic {name} has {key}={value} and must have {wanted}: "
                f"kafka-configs.sh --alter --topic {name} --add-config {key}={wanted}"
            )


class Tail(NamedTuple):
    """The end of what a topic holds.

    Attributes:
        position: the highest that any of its last records names, 0 of an empty topic.
        source: of that record; tells one ledger from another.
        event_id: of the highest event among them, which is at ``event_at``.
    """

    position: int = 0
    source: str = ""
    event_id: str | None = None
    event_at: int = 0


def tail_of(bootstrap: str, name: str, beat: Callable[[], object]) -> Tail:
    """The last records of every partition, taken together; what others wrote there is passed over.

    Args:
        beat: called at least every few seconds: this may take longer than a lease lasts.

    Raises:
        KafkaAway: when Kafka does not answer.
    """
    with closing(Topic(bootstrap, name)) as topic:
        beat()
        found = topic.ends(PARTITIONS)
    beat()
    ends = {Partition(name, n): end for n, end in enumerate(found) if end > 0}
    if not ends:
        return Tail()
    deadline = time.monotonic() + TAIL_SECONDS
    with closing(Consumer(bootstrap)) as consumer:
        consumer.assign([*ends])
        for partition, end in ends.items():
            consumer.seek(partition, max(0, end - TAIL))
        beat()
        tail = Tail()
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            beat()
            if time.monotonic() > deadline:
                raise KafkaAway(f"Kafka at {bootstrap} does not give the last records of {name}")
            for records in consumer.poll(0.2, TAIL * PARTITIONS).values():
                for record in records:
                    tail = _with(tail, record)
        return tail


def _with(tail: Tail, record: Any) -> Tail:
    """The tail with one more record, of this format or of the first one."""
    try:
        told = {key: value.decode() for key, value in record.headers}
        if "ce_position" in told:
            found = {key.removeprefix("ce_"): value for key, value in told.items()}
        else:
            found = orjson.loads(record.value)
        position, source = int(found["position"]), str(found["source"])
        is_event = "subject" in found
        event_id = str(found["id"]) if is_event else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return tail
    if not source.startswith(source_of("")):
        return tail
    if position >= tail.position:
        tail = tail._replace(position=position, source=source)
    if event_id is not None and position >= tail.event_at:
        tail = tail._replace(event_id=event_id, event_at=position)
    return tail
