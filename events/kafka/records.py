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
from typing import Any, NamedTuple
from uuid import UUID, SafeUUID

import orjson

from events.kafka.client import murmur2

Row = tuple[Any, ...]
set_field = object.__setattr__

FORMAT = 2
"""Of the records; another one goes into another topic. The first was binary mode, without chain."""
PARTITIONS = 12
WATERMARK = "pledge.watermark"
HEADERS = [("content-type", b"application/cloudevents+json; charset=utf-8")]
DATA = b',"data":'
"""Where the event's own bytes begin. No string inside the envelope can hold it: quotation marks in
a JSON string are escaped."""


class Link(NamedTuple):
    """A record as its place in the chain.

    Attributes:
        row: the event as a row of ``ledger.COLUMNS``; None of a watermark, and of an event that
            the reader knows already.
    """

    position: int
    previous: int
    row: Row | None = None


class Foreign(ValueError):
    """The record is not of this ledger; none of our events is missing for it."""


def source_of(ledger_id: UUID) -> str:
    """What CloudEvents calls the source: the ledger."""
    return f"urn:pledge:ledger:{ledger_id}"


@lru_cache(100_000)
def partition_of(stream_id: UUID) -> int:
    """The partition that Kafka's own partitioner gives a stream's key."""
    return int(murmur2(str(stream_id).encode()) & 0x7FFFFFFF) % PARTITIONS


def event_record(row: Sequence[Any], source: str, previous: int) -> bytes:
    """The record of an event; ``row`` is of ``ledger.COLUMNS``, its payload is kept verbatim."""
    envelope = {
        "specversion": "1.0",
        "id": row[1],
        "type": row[12],
        "source": source,
        "subject": f"{row[2]}/{row[3]}",
        "time": row[5],
        "datacontenttype": "application/json",
        "position": row[0],
        "previous": previous,
        "streamversion": row[4],
        "schemaversion": row[13],
        "recordedtime": row[6],
        "actor": row[7],
        "actorkind": row[8],
        "commandid": row[9],
        "correlationid": row[10],
    }
    if row[11] is not None:
        envelope["causationid"] = row[11]
    return b"".join((orjson.dumps(envelope)[:-1], DATA, row[14], b"}"))


def watermark_record(position: int, previous: int, source: str, partition: int) -> bytes:
    """The record that says: everything up to the position came before it in this partition."""
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": f"watermark-{partition}-{position}",
            "type": WATERMARK,
            "source": source,
            "position": position,
            "previous": previous,
        }
    )


def link_of(value: bytes, source: str, taken: int) -> Link:
    """A record's link, its event decoded only above ``taken``.

    Raises:
        Foreign: when it is of another ledger, or none of ours.
    """
    try:
        before, found, data = value.partition(DATA)
        told = orjson.loads(before + b"}" if found else value)
        if told["source"] != source:
            raise Foreign(f"it is of {told['source']}")
        position, previous = told["position"], told["previous"]
        if not 0 <= previous < position:
            raise Foreign(f"position {position} does not lie above previous {previous}")
        if position <= taken or told["type"] == WATERMARK:
            return Link(position, previous)
        return Link(position, previous, _row(told, data[:-1]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Foreign(repr(error)) from error


def _row(told: dict[str, Any], payload: bytes) -> Row:
    stream_type, _, stream_id = told["subject"].partition("/")
    cause = told.get("causationid")
    return (
        told["position"],
        _uuid(told["id"]),
        stream_type,
        _uuid(stream_id),
        told["streamversion"],
        datetime.fromisoformat(told["time"]),
        datetime.fromisoformat(told["recordedtime"]),
        told["actor"],
        told["actorkind"],
        _uuid(told["commandid"]),
        _uuid(told["correlationid"]),
        None if cause is None else _uuid(cause),
        told["type"],
        told["schemaversion"],
        payload,
    )


def _uuid(text: str) -> UUID:
    """What UUID(text) gives, in a third of its time."""
    made = object.__new__(UUID)
    set_field(made, "int", int(text.replace("-", ""), 16))
    set_field(made, "is_safe", SafeUUID.unknown)
    return made
