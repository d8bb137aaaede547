"""The topic that carries the ledger: how it is made, what its records look like, where it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar
from uuid import UUID, SafeUUID

import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    TopicDescription,
)
from confluent_kafka.cimpl import murmur2

log = structlog.get_logger()

Answer = TypeVar("Answer")
Header = tuple[str, str | bytes | None]
set_field = object.__setattr__

TOPIC = "pledge.events"
PARTITIONS = 12
WATERMARK = "pledge.watermark"
SEVERAL = 3
"""Replicas from which on a record is to outlive a node."""
LARGEST_RECORD = 4_000_000
"""Bytes; the ledger takes no event near to that."""
ANSWER_SECONDS = 5.0
"""After which a Kafka that says nothing counts as away."""
SILENCE_SECONDS = 3 * ANSWER_SECONDS
"""After which an answer is not waited for that should have come, or have failed, long ago."""
TAIL_SECONDS = 30.0
RECONNECT_MS = 2_000
"""A Kafka that is away is tried again at least that often."""
SETTLING_SECONDS = 45.0
"""How long a partition may show less than it holds: a leader that was killed and came back shows
what a follower has confirmed anew, and all of it once a silent follower is out (30 s)."""
UNSETTLED = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
"""What is said of a topic just made, or of one whose node has just died, and soon not any more."""
ONLY_CRITICAL = 2
"""Of librdkafka's own log; what concerns us comes by ``error_cb``."""
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


class KafkaAway(RuntimeError):
    """Kafka does not answer, or refuses; the message says where and why.

    Attributes:
        passes: whether asking again soon may help.
    """

    def __init__(self, said: str, *, passes: bool = False) -> None:
        super().__init__(said)
        self.passes = passes


def client(bootstrap: str, **more: Any) -> dict[str, Any]:
    """The settings of a client of Kafka."""
    return {
        "bootstrap.servers": bootstrap,
        "reconnect.backoff.max.ms": RECONNECT_MS,
        "log_level": ONLY_CRITICAL,
        "error_cb": lambda error: log.warning("Kafka", bootstrap=bootstrap, error=error.str()),
        **more,
    }


@contextmanager
def answering(bootstrap: str) -> Iterator[None]:
    """What Kafka's client raises inside becomes KafkaAway."""
    try:
        yield
    except KafkaException as error:
        why = error.args[0]
        passes = why.code() in UNSETTLED
        raise KafkaAway(f"Kafka at {bootstrap}: {why.str()}", passes=passes) from error


class Watched:
    """A topic, looked at from outside by one who does not wait long for an answer.

    Everything raises KafkaAway when Kafka does not answer.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._admin = AdminClient(client(bootstrap))

    def create(self) -> bool:
        """Make it; False where it is there already."""
        asked = NewTopic(self._topic, num_partitions=PARTITIONS, config=SETTINGS)
        with answering(self._bootstrap):
            made = self._admin.create_topics(
                [asked], operation_timeout=ANSWER_SECONDS, request_timeout=2 * ANSWER_SECONDS
            )
            try:
                self._answer(made[self._topic])
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
                return False
            return True

    def described(self) -> TopicDescription | None:
        """What Kafka says of it; None where there is none."""
        with answering(self._bootstrap):
            asked = TopicCollection([self._topic])
            found = self._admin.describe_topics(asked, request_timeout=ANSWER_SECONDS)
            try:
                described: TopicDescription = self._answer(found[self._topic])
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
                return None
            return described

    def id(self) -> UUID | None:
        """What it has from its creation to its deletion, and no other; None where there is none."""
        found = self.described()
        return None if found is None else _id_of(found)

    def settings(self) -> dict[str, str]:
        """How it is set up, defaults included."""
        asked = ConfigResource(ConfigResource.Type.TOPIC, self._topic)

        def ask() -> dict[str, str]:
            found = self._admin.describe_configs([asked], request_timeout=ANSWER_SECONDS)
            return {name: str(entry.value) for name, entry in self._answer(found[asked]).items()}

        return self._settled(ask)

    def ends(self, partitions: Collection[int]) -> dict[int, int]:
        """The offset after the last record, by partition."""
        return self._offsets(partitions, OffsetSpec.latest())

    def offset_at(self, partition: int, moment_ms: int) -> int | None:
        """The first record's offset with that time or a later one; None where there is none."""
        found = self._offsets([partition], OffsetSpec.for_timestamp(moment_ms))[partition]
        return None if found < 0 else found

    def _offsets(self, partitions: Collection[int], spec: OffsetSpec) -> dict[int, int]:
        asked = {TopicPartition(self._topic, partition): spec for partition in partitions}
        if not asked:
            return {}

        def ask() -> dict[int, int]:
            found = self._admin.list_offsets(asked, request_timeout=ANSWER_SECONDS)
            return {at.partition: self._answer(future).offset for at, future in found.items()}

        return self._settled(ask)

    def _answer(self, future: Future[Any]) -> Any:
        """What a future holds; some never come to hold anything when a node dies meanwhile."""
        try:
            return future.result(SILENCE_SECONDS)
        except TimeoutError as error:
            self._admin = AdminClient(client(self._bootstrap))
            raise KafkaAway(f"Kafka at {self._bootstrap} says nothing") from error

    def _settled(self, ask: Callable[[], Answer]) -> Answer:
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                with answering(self._bootstrap):
                    return ask()
            except KafkaAway as error:
                if not error.passes or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def _id_of(described: TopicDescription) -> UUID:
    found: Any = described.topic_id
    high, low = found.get_most_significant_bits(), found.get_least_significant_bits()
    return UUID(int=(high % 2**64 << 64) | low % 2**64)


def prepare_topic(bootstrap: str, topic: str = TOPIC) -> UUID:
    """Create the topic, or check the one that is there; its id, which no other topic ever has.

    Raises:
        TopicUnfit: when it has another number of partitions, or would lose records.
        KafkaAway: when Kafka does not answer.
    """
    watched = Watched(bootstrap, topic)
    found = watched.described()
    is_new = found is None and watched.create()
    settings = watched.settings()
    if not is_new:
        _check(settings, topic)
    found = found or watched.described()
    if found is None:
        raise KafkaAway(f"Kafka at {bootstrap} does not show the topic {topic} any more")
    if len(found.partitions) != PARTITIONS:
        raise TopicUnfit(
            f"the topic {topic} has {len(found.partitions)} partitions and must have "
            f"{PARTITIONS}: streams would change their partition, and their order would be lost"
        )
    if len(found.partitions[0].replicas) >= SEVERAL:
        _check_durable(settings, topic)
    return _id_of(found)


def _check_durable(settings: Mapping[str, str], topic: str) -> None:
    if int(settings["min.insync.replicas"]) < SEVERAL - 1:
        raise TopicUnfit(
            f"the topic {topic} has min.insync.replicas={settings['min.insync.replicas']} and must "
            "have 2: what one node alone acknowledges is lost with it"
        )


def _check(settings: Mapping[str, str], topic: str) -> None:
    for name, wanted in SETTINGS.items():
        value = settings[name]
        fits = int(value) >= int(wanted) if name == "max.message.bytes" else value == wanted
        if not fits:
            raise TopicUnfit(
                f"the topic {topic} has {name}={value} and must have {wanted}: "
                f"kafka-configs.sh --alter --topic {topic} --add-config {name}={wanted}"
            )


class Record(NamedTuple):
    """A record of the topic, with its headers by name; what others wrote may hold other types."""

    partition: int
    offset: int
    told: dict[str, bytes]
    value: bytes


def record_of(message: Any) -> Record:
    """What Kafka's client gives, which types every part of it as if it could be missing."""
    told = dict(message.headers() or ())
    return Record(message.partition(), message.offset(), told, message.value())


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
    return murmur2(str(stream_id).encode(), PARTITIONS)


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
        KafkaAway: when Kafka does not answer.
    """
    ends = Watched(bootstrap, topic).ends(range(PARTITIONS))
    with answering(bootstrap):
        consumer = Consumer(
            client(
                bootstrap,
                **{
                    "group.id": f"{topic}.tail",
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "fetch.wait.max.ms": 10,
                },
            )
        )
        try:
            consumer.assign(
                [TopicPartition(topic, n, max(0, end - TAIL)) for n, end in ends.items()]
            )
            return _read_tail(consumer, bootstrap)
        finally:
            consumer.close()


def _read_tail(consumer: Consumer, bootstrap: str) -> Tail:
    tail, each, ended = Tail(), dict.fromkeys(range(PARTITIONS), 0), set[int]()
    deadline = time.monotonic() + TAIL_SECONDS
    while len(ended) < PARTITIONS:
        if time.monotonic() > deadline:
            raise KafkaAway(f"Kafka at {bootstrap} does not give the topic's last records")
        for message in consumer.consume(PARTITIONS, 0.1):
            partition, error = message.partition() or 0, message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                ended.add(partition)
            elif error is not None:
                raise KafkaException(error)
            elif found := _place_of(record_of(message)):
                tail = _with(tail, *found)
                each[partition] = max(each[partition], found[0])
    return tail._replace(each=each)


def _place_of(record: Record) -> tuple[int, str, str | None] | None:
    """Position, source and event id that a record names; None when it is none of a relay's."""
    try:
        told = {name: value.decode() for name, value in record.told.items()}
        return int(told["ce_position"]), told["ce_source"], told.get("ce_id")
    except (KeyError, ValueError, AttributeError):
        return None


def _with(tail: Tail, position: int, source: str, event_id: str | None) -> Tail:
    if position >= tail.position:
        tail = tail._replace(position=position, source=source)
    if event_id is not None and position >= tail.event_at:
        tail = tail._replace(event_id=event_id, event_at=position)
    return tail
