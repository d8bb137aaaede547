"""What Kafka carries, as an AsyncAPI 3.0 document: made of the event classes and the topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from events.base import Event
from events.kafka.records import PARTITIONS, WATERMARK
from events.kafka.topic import SETTINGS, TOPIC

CLOUDEVENT = "application/cloudevents+json"
UUID = {"type": "string", "format": "uuid"}
TIME = {"type": "string", "format": "date-time"}
WORD = {"type": "string"}


def number(least: int) -> dict[str, Any]:
    """A whole number of 64 bits."""
    return {"type": "integer", "format": "int64", "minimum": least}


ENVELOPE: dict[str, tuple[dict[str, Any], str]] = {
    "specversion": ({"type": "string", "const": "1.0"}, "Of CloudEvents."),
    "id": (UUID, "The event's id."),
    "type": (WORD, "The event's type."),
    "source": (WORD, "`urn:pledge:ledger:` and the ledger's id."),
    "subject": (WORD, "The stream: its type, `/`, and its id, which is the record's key too."),
    "time": (TIME, "When it happened."),
    "datacontenttype": ({"type": "string", "const": "application/json"}, "Of `data`."),
    "position": (number(1), "Its place in the whole ledger, from 1."),
    "previous": (
        number(0),
        "A position before it: no event of this partition lies between the two.",
    ),
    "streamversion": (number(1), "Its place in its stream, from 1."),
    "schemaversion": (number(1), "The version of the schema of `data`."),
    "recordedtime": (TIME, "When the ledger took it."),
    "actor": (WORD, "Who did it."),
    "actorkind": (WORD, "user, service, policy or import."),
    "commandid": (UUID, "The command that it came of."),
    "correlationid": (UUID, "What it belongs together with."),
    "causationid": (UUID, "The event that it was done because of, if any."),
}
OF_A_WATERMARK = ("specversion", "id", "type", "source", "position", "previous")
ABOUT = """\
Every event of the ledger, for ever, as CloudEvents 1.0 in structured mode. Keep of each partition \
the position up to which you have `taken` everything, from 0. A record with `position <= taken` is \
a repeat: skip it. One with `previous <= taken` is the next: take it, and `taken` becomes its \
`position`. Any other shows that records are missing: take nothing more of this partition until \
they are there. A watermark is a record without an event. docs/consuming.md has an example."""


def _object(properties: dict[str, Any], needed: Sequence[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(needed)}


def _properties(names: Sequence[str]) -> dict[str, Any]:
    return {name: {**ENVELOPE[name][0], "description": ENVELOPE[name][1]} for name in names}


def document(
    events: Sequence[type[Event]], schema_file: Callable[[type[Event]], str]
) -> dict[str, Any]:
    """The document.

    Args:
        schema_file: where an event's JSON Schema lies, relative to the document.
    """
    messages = {cls.event_type: _message(cls, schema_file(cls)) for cls in events}
    messages[WATERMARK] = {
        "name": WATERMARK,
        "title": "Watermark",
        "summary": "No event of its partition lies between `previous` and `position`.",
        "contentType": CLOUDEVENT,
        "headers": {"$ref": "#/components/schemas/Headers"},
        "payload": _object(
            {**_properties(OF_A_WATERMARK), "id": WORD, "type": {"const": WATERMARK}},
            OF_A_WATERMARK,
        ),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Pledge", "version": version("pledge-crm"), "description": ABOUT},
        "defaultContentType": CLOUDEVENT,
        "channels": {
            "events": {
                "address": TOPIC,
                "description": "Keyed by the stream's id: a stream is in one partition, in order.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
                "bindings": {
                    "kafka": {
                        "topic": TOPIC,
                        "partitions": PARTITIONS,
                        "topicConfiguration": {
                            "cleanup.policy": [SETTINGS["cleanup.policy"]],
                            "retention.ms": int(SETTINGS["retention.ms"]),
                            "retention.bytes": int(SETTINGS["retention.bytes"]),
                        },
                    }
                },
            }
        },
        "operations": {
            "carry": {
                "action": "send",
                "channel": {"$ref": "#/channels/events"},
                "summary": "The relay carries the ledger's events.",
            }
        },
        "components": {
            "messages": messages,
            "schemas": {"Envelope": _envelope(), "Headers": HEADERS},
        },
    }


HEADERS = _object({"content-type": {"const": f"{CLOUDEVENT}; charset=utf-8"}}, ["content-type"])


def _message(cls: type[Event], schema: str) -> dict[str, Any]:
    return {
        "name": cls.event_type,
        "title": cls.__name__,
        "summary": " ".join((cls.__doc__ or "").split()),
        "contentType": CLOUDEVENT,
        "headers": {"$ref": "#/components/schemas/Headers"},
        "payload": {
            "allOf": [{"$ref": "#/components/schemas/Envelope"}],
            "type": "object",
            "properties": {"type": {"const": cls.event_type}, "data": {"$ref": schema}},
            "required": ["data"],
        },
    }


def _envelope() -> dict[str, Any]:
    return _object(
        _properties(list(ENVELOPE)), [name for name in ENVELOPE if name != "causationid"]
    )
