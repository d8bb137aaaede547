"""Clients of Kafka: the one module that knows kafka-python."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any
from uuid import UUID

from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import TopicPartition as Partition
from kafka.admin import ConfigResource, OffsetSpec
from kafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code
from kafka.net.compat import KafkaNetClient
from kafka.partitioner.default import murmur2

__all__ = [
    "Consumer",
    "KafkaAway",
    "KafkaError",
    "Partition",
    "Producer",
    "Topic",
    "awaited",
    "brokers_of",
    "murmur2",
]

Listener = Callable[[], None]

LARGEST_RECORD = 4_000_000
"""Bytes; the ledger takes no event near to that."""
REACH_SECONDS = 1.0
ANSWER_SECONDS = 5.0
"""How long a question about a topic may take."""
CLOSE_SECONDS = 5.0
LEAVE_SECONDS = 2.0
EVERY: dict[str, Any] = {"reconnect_backoff_max_ms": 2_000, "bootstrap_timeout_ms": 5_000}
"""Settings of every client: a Kafka that is away is tried again at least that often."""
PRODUCING: dict[str, Any] = {
    **EVERY,
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": "lz4",
    "linger_ms": 1,
    "batch_size": 256_000,
    "max_request_size": LARGEST_RECORD,
    "request_timeout_ms": 10_000,
    "delivery_timeout_ms": 30_000,
    "allow_auto_create_topics": False,  # a topic that was deleted would come back as it must not be
    "max_block_ms": 5_000,  # a leader must ask its session for more before its lease ends
}
CONSUMING: dict[str, Any] = {
    **EVERY,
    "auto_offset_reset": "earliest",
    "enable_auto_commit": False,
    "allow_auto_create_topics": False,
    "session_timeout_ms": 10_000,  # a member that is silent for so long loses its partitions
    "fetch_max_bytes": 16_000_000,
    "max_partition_fetch_bytes": 4_000_000,
}


class KafkaAway(RuntimeError):
    """Kafka does not answer, or refuses; the message says where and why."""


@contextmanager
def answering(bootstrap: str) -> Iterator[None]:
    """Turn whatever kafka-python raises inside into KafkaAway.

    It lets more than its own errors out: of sockets, of its event loop, of its own assertions.
    """
    try:
        yield
    except KafkaAway:
        raise
    except Exception as error:
        raise KafkaAway(f"Kafka at {bootstrap}: {error!r}") from error


def _reach(bootstrap: str) -> None:
    """Look whether a broker listens, which a client of kafka-python takes long to find out.

    Raises:
        KafkaAway: when none does.
    """
    failed: Exception | None = None
    for place in bootstrap.split(","):
        host, _, port = place.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()
        except (OSError, ValueError) as error:
            failed = error
        else:
            return
    raise KafkaAway(f"Kafka does not answer at {bootstrap} ({failed})")


def _made(kind: Callable[..., Any], bootstrap: str, **settings: Any) -> Any:
    """A client of kafka-python; where its constructor fails, its thread and sockets are freed.

    Raises:
        KafkaAway: when Kafka does not answer.
    """
    _reach(bootstrap)
    nets: list[Any] = []

    def net(**config: Any) -> Any:
        nets.append(KafkaNetClient(**config))
        return nets[-1]

    try:
        with answering(bootstrap):
            return kind(bootstrap_servers=bootstrap, kafka_client=net, **settings)
    except KafkaAway:
        for left in nets:
            with suppress(Exception):  # half made, it may fail at being freed
                left.close()
            with suppress(Exception):
                left._net.stop(CLOSE_SECONDS * 1_000)  # noqa: SLF001 - its thread has no other end
        raise


class Topic:
    """One topic, described, made and configured.

    Every method raises KafkaAway when Kafka does not answer.
    """

    def __init__(self, bootstrap: str, name: str) -> None:
        self._bootstrap = bootstrap
        self._name = name
        waiting = int(ANSWER_SECONDS * 1_000)
        self._admin = _made(KafkaAdminClient, bootstrap, request_timeout_ms=waiting, **EVERY)

    def close(self) -> None:
        """Let go of the connection."""
        with suppress(Exception):  # nothing is left to be done with it
            self._admin.close()

    def create(self, partitions: int, settings: Mapping[str, str]) -> bool:
        """Make the topic; False where it exists already."""
        asked = {self._name: {"num_partitions": partitions, "configs": dict(settings)}}
        with answering(self._bootstrap):
            try:
                self._admin.create_topics(asked, wait_for_metadata=True)
            except TopicAlreadyExistsError:
                return False
            return True

    def described(self) -> dict[str, Any] | None:
        """Its id and partitions; None where there is no such topic."""
        with answering(self._bootstrap):
            [found] = self._admin.describe_topics([self._name])
            code = found["error_code"]
            if code == UnknownTopicOrPartitionError.errno:
                return None
            if code:
                raise for_code(code)(self._name)
            return dict(found)

    def id(self) -> UUID | None:
        """What it bears from its creation to its deletion, and no other topic ever."""
        found = self.described()
        return None if found is None else UUID(str(found["topic_id"]))

    def settings(self) -> dict[str, str]:
        """How it is set up, defaults included."""
        asked = [ConfigResource("topic", self._name)]
        with answering(self._bootstrap):
            found = self._admin.describe_configs(asked, config_filter="all")
        return {
            name: str(entry["value"])
            for resources in found.values()
            for entries in resources.values()
            for name, entry in entries.items()
        }

    def ends(self, partitions: int) -> list[int]:
        """The offset after the last record of each partition."""
        asked = {Partition(self._name, n): OffsetSpec.LATEST for n in range(partitions)}
        with answering(self._bootstrap):
            found = self._admin.list_partition_offsets(asked)
            return [int(found[partition].offset) for partition in asked]


class Producer:
    """An idempotent producer that waits for all replicas in sync."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = _made(KafkaProducer, bootstrap, **PRODUCING)
        self.send = self._producer.send

    def close(self) -> None:
        """End at once; what is not acknowledged by now may get in or not."""
        sender = self._producer._sender  # noqa: SLF001 - close() itself waits for every record
        sender.force_close()
        sender.join(CLOSE_SECONDS)
        with suppress(KafkaError):
            self._producer.close(timeout=CLOSE_SECONDS)


def awaited(ack: Any, seconds: float) -> None:
    """Wait until a record was taken or failed, or so many seconds; the ack then says which."""
    with suppress(Exception):
        ack.get(timeout=seconds)


class Consumer:
    """A consumer whose group, if any, only shares out partitions: no offset is ever committed.

    Every method raises KafkaAway when Kafka does not answer.
    """

    def __init__(self, bootstrap: str, group: str | None = None) -> None:
        self._bootstrap = bootstrap
        self._consumer = _made(KafkaConsumer, bootstrap, group_id=group, **CONSUMING)

    def close(self) -> None:
        """Leave the group."""
        with suppress(Exception):  # a member that cannot say that it leaves is missed soon
            self._consumer.close(autocommit=False, timeout_ms=LEAVE_SECONDS * 1_000)

    def subscribe(self, topic: str, changed: threading.Event) -> None:
        """Share the topic with the group's other members; the event tells of each change."""
        with answering(self._bootstrap):
            self._consumer.subscribe([topic], listener=_Changes(changed))
            # A leader of the group that knew no partitions yet would give none to anybody.
            if not self._consumer.partitions_for_topic(topic):
                raise KafkaAway(f"Kafka at {self._bootstrap} has no topic {topic}")

    def assign(self, partitions: list[Partition]) -> None:
        """Read these partitions, alone."""
        with answering(self._bootstrap):
            self._consumer.assign(partitions)

    def assignment(self) -> frozenset[Partition]:
        """The partitions that are this member's to read."""
        return frozenset(self._consumer.assignment())

    def seek(self, partition: Partition, offset: int) -> bool:
        """Read next from this offset; False when the partition was taken away in this moment."""
        try:
            self._consumer.seek(partition, offset)
            self._consumer.resume(partition)
        except (ValueError, KeyError):
            return False
        return True

    def pause(self, partition: Partition) -> None:
        """Read nothing of this partition until it is sought."""
        with suppress(ValueError, KeyError):  # taken away in this moment
            self._consumer.pause(partition)

    def poll(self, seconds: float, most: int) -> dict[Partition, list[Any]]:
        """What came by now, or what comes within so many seconds, by partition."""
        with answering(self._bootstrap):
            found = self._consumer.poll(timeout_ms=int(seconds * 1_000), max_records=most)
            return dict(found)

    def position(self, partition: Partition) -> int:
        """The offset of the record to be read next."""
        with answering(self._bootstrap):
            return int(self._consumer.position(partition, timeout_ms=ANSWER_SECONDS * 1_000))

    def offset_at(self, partition: Partition, moment_ms: int) -> int:
        """The offset of the first record as young as that; the end where there is none."""
        with answering(self._bootstrap):
            waiting = ANSWER_SECONDS * 1_000
            end = self._consumer.end_offsets([partition], waiting)[partition]  # first: it may grow
            found = self._consumer.offsets_for_times({partition: moment_ms}, waiting)[partition]
            return int(end if found is None else found.offset)

    def is_at_end(self, partition: Partition) -> bool:
        """Whether everything was read that the partition is known to hold."""
        end = self._consumer.highwater(partition)
        return end is None or self.position(partition) >= end


class _Changes(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python is untyped
    """Tells that partitions come or go; kafka-python calls it in a thread of its own, and waits."""

    def __init__(self, changed: threading.Event) -> None:
        self._changed = changed

    def on_partitions_revoked(self, _: object) -> None:
        self._changed.set()

    def on_partitions_assigned(self, _: object) -> None:
        self._changed.set()


def brokers_of(bootstrap: str) -> int:
    """How many brokers the cluster has now.

    Raises:
        KafkaAway: when Kafka does not answer.
    """
    with (
        closing(_made(KafkaAdminClient, bootstrap, bootstrap_timeout_ms=2_000)) as admin,
        answering(bootstrap),
    ):
        return len(admin.describe_cluster()["brokers"])
