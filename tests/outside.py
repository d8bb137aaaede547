"""A consumer of the topic that knows nothing of the product: JSON, kafka-python and the rule.

The rule is that of docs/consuming.md. What it takes is what any outsider would.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition

WATERMARK = "pledge.watermark"
PATIENCE_SECONDS = 240


class Seen(NamedTuple):
    """A record as Kafka gave it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp: int

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.value)
        return found


class Hole(NamedTuple):
    """What was missing when a record came: something above ``taken`` and up to ``previous``."""

    partition: int
    taken: int
    previous: int


@dataclass
class Outsider:
    """Reads records in the order of each partition and takes what the rule lets it take."""

    source: str
    taken: dict[int, int] = field(default_factory=dict)
    events: list[Seen] = field(default_factory=list)
    repeats: int = 0
    foreign: int = 0
    seen: list[Hole] = field(default_factory=list)

    def read(self, records: list[Seen]) -> Outsider:
        for record in records:
            self._read(record)
        return self

    def _read(self, record: Seen) -> None:
        try:
            event = json.loads(record.value)
            mine = event["source"] == self.source
            position, previous = event["position"], event["previous"]
        except (KeyError, TypeError, ValueError):
            mine = False
        if not mine:
            self.foreign += 1
            return
        taken = self.taken.setdefault(record.partition, 0)
        if position <= taken:
            self.repeats += 1
        elif previous <= taken:
            self.taken[record.partition] = position
            if event["type"] != WATERMARK:
                self.events.append(record)
        else:
            self.seen.append(Hole(record.partition, taken, previous))

    @property
    def holes(self) -> list[Hole]:
        """The holes that nothing has closed since."""
        return [hole for hole in self.seen if self.taken[hole.partition] < hole.previous]


def records_of(bootstrap: str, topic: str) -> list[Seen]:
    """All records that are in the topic now, each partition in its order.

    Raises:
        TimeoutError: when they do not all come.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        found = sorted(consumer.partitions_for_topic(topic) or ())
        partitions = [TopicPartition(topic, n) for n in found]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning(*partitions)
        seen: list[Seen] = []
        while any(consumer.position(p) < ends[p] for p in partitions):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Kafka gave {len(seen)} records of {sum(ends.values())}")
            for partition, records in consumer.poll(timeout_ms=500).items():
                seen += [
                    Seen(
                        partition.partition, r.offset, r.key, r.value, list(r.headers), r.timestamp
                    )
                    for r in records
                ]
        return seen
    finally:
        consumer.close()
