"""What a record of the topic holds, and the chain by which a reader proves that it has them all.

A record is a CloudEvents 1.0 event in structured mode: one JSON object. Beside the event's envelope
it names its own ``position`` in the ledger and, as ``previous``, one before it: no event of the
record's partition lies between the two. That is true of the ledger, whoever says it and whenever,
so a reader's whole rule is local. It keeps up to where it has ``taken`` everything of a partition:

    position <= taken               known already: skip it
    previous <= taken < position    the next one: take it, and taken becomes position
    taken < previous                a hole: records are missing, or come again later

A watermark is a record without an event. It closes the chain up to its position in a partition in
which nothing happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec import UNSET, Raw, UnsetType

from events.kafka.client import murmur2
from events.ledger.ledger import Stored

FORMAT = 2
"""Of the records; another one goes into another topic. The first was binary mode, without chain."""
PARTITIONS = 12
WATERMARK = "pledge.watermark"
HEADERS = [("content-type", b"application/cloudevents+json; charset=utf-8")]


class _Mark(msgspec.Struct, frozen=True, gc=False):
    """The value of a watermark's record."""

    specversion: Literal["1.0"]
    id: UUID
    type: str
    source: str
    position: int
    previous: int


class _Event(_Mark, frozen=True, gc=False):
    """The value of an event's record."""

    subject: str
    time: datetime
    datacontenttype: str
    streamversion: int
    schemaversion: int
    recordedtime: datetime
    actor: str
    actorkind: str
    commandid: UUID
    correlationid: UUID
    data: Raw
    causationid: UUID | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode
_event_in = msgspec.json.Decoder(_Event).decode
_mark_in = msgspec.json.Decoder(_Mark).decode


class Link(NamedTuple):
    """A record as its place in the chain.

    Attributes:
        row: the event as the ledger stores it; None of a watermark, and of an event that
            the reader knows already.
    """

    position: int
    previous: int
    row: Stored | None = None


class Foreign(ValueError):
    """The record is not of this ledger; none of our events is missing for it."""


def source_of(ledger_id: UUID | str) -> str:
    """What CloudEvents calls the source: the ledger."""
    return f"urn:pledge:ledger:{ledger_id}"


class Home(NamedTuple):
    """Where the records of a stream are."""

    partition: int
    key: bytes


@lru_cache(100_000)
def home_of(stream_id: str) -> Home:
    """A stream's key, and the partition that Kafka's own partitioner gives it."""
    key = stream_id.encode()
    return Home(int(murmur2(key) & 0x7FFFFFFF) % PARTITIONS, key)


def partition_of(stream_id: UUID) -> int:
    """The partition of a stream."""
    return home_of(str(stream_id)).partition


def event_record(row: Sequence[Any], source: str, previous: int) -> bytes:
    """The record of an event, its payload verbatim.

    Args:
        row: of the ledger; ids may be texts.
    """
    (
        position,
        event_id,
        stream_type,
        stream_id,
        version,
        occurred_at,
        recorded_at,
        actor,
        actor_kind,
        command_id,
        correlation_id,
        causation_id,
        event_type,
        schema_version,
        payload,
    ) = row
    return _encode(
        _Event(
            "1.0",
            event_id,
            event_type,
            source,
            position,
            previous,
            f"{stream_type}/{stream_id}",
            occurred_at,
            "application/json",
            version,
            schema_version,
            recorded_at,
            actor,
            actor_kind,
            command_id,
            correlation_id,
            Raw(payload),
            causation_id or UNSET,
        )
    )


def watermark_record(position: int, previous: int, source: str, partition: int) -> bytes:
    """The record that says: no event of this partition lies between the two positions."""
    mark_id = UUID(int=partition << 64 | position)
    return _encode(_Mark("1.0", mark_id, WATERMARK, source, position, previous))


def link_of(value: bytes, source: str, taken: int) -> Link:
    """A record's link, with the event's row where it lies above ``taken``.

    Raises:
        Foreign: when it is of another ledger, or no record of a relay.
    """
    try:
        found = _event_in(value)
        stream_type, _, stream_id = found.subject.partition("/")
        stream = msgspec.convert(stream_id, UUID)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        return _mark_of(value, source, error)
    position, previous = found.position, found.previous
    if found.source != source or not 0 <= previous < position:
        return _mark_of(value, source)
    if position <= taken:
        return Link(position, previous)
    cause = found.causationid
    row = Stored(
        position,
        found.id,
        stream_type,
        stream,
        found.streamversion,
        found.time,
        found.recordedtime,
        found.actor,
        found.actorkind,
        found.commandid,
        found.correlationid,
        None if cause is UNSET else cause,
        found.type,
        found.schemaversion,
        bytes(found.data),
    )
    return Link(position, previous, row)


def _mark_of(value: bytes, source: str, no_event: Exception | None = None) -> Link:
    """The link of a watermark.

    Raises:
        Foreign: when it is none of this ledger.
    """
    try:
        found = _mark_in(value)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise Foreign(str(no_event or error)) from error
    if found.source != source:
        raise Foreign(f"it is of {found.source}")
    if not 0 <= found.previous < found.position:
        raise Foreign(f"position {found.position} does not lie above previous {found.previous}")
    if found.type != WATERMARK:
        raise Foreign(str(no_event))
    return Link(found.position, found.previous)
