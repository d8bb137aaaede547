"""What Kafka carries, as an AsyncAPI 3.0 document: made of the event classes and the topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from events.base import Event
from events.topic import PARTITIONS, SETTINGS, TOPIC, WATERMARK

UUID = {"type": "string", "format": "uuid"}
TIME = {"type": "string", "format": "date-time"}
NUMBER = {"type": "string", "pattern": "^[0-9]+$"}
WORD = {"type": "string"}
HEADERS: dict[str, tuple[dict[str, str], str]] = {
    "ce_specversion": ({"type": "string", "const": "1.0"}, "Of CloudEvents."),
    "ce_id": (UUID, "The event's id."),
    "ce_type": (WORD, "The event's type."),
    "ce_source": (WORD, "`urn:pledge:ledger:` and the ledger's id."),
    "ce_time": (TIME, "When it happened."),
    "ce_subject": (WORD, "The stream: its type, `/`, and its id, which is the key too."),
    "content-type": ({"type": "string", "const": "application/json"}, "Of the value."),
    "ce_position": (NUMBER, "Its place in the whole ledger, from 1."),
    "ce_streamversion": (NUMBER, "Its place in its stream, from 1."),
    "ce_schemaversion": (NUMBER, "The version of its payload's schema."),
    "ce_recordedtime": (TIME, "When the ledger took it."),
    "ce_actor": (WORD, "Who did it."),
    "ce_actorkind": (WORD, "user, service, policy or import."),
    "ce_commandid": (UUID, "The command that it came of."),
    "ce_correlationid": (UUID, "What it belongs together with."),
    "ce_causationid": (UUID, "The event that it was done because of, if any."),
}
OF_A_WATERMARK = ("ce_specversion", "ce_type", "ce_source", "ce_position")
ABOUT = """\
Every event of the ledger, for ever. A record may come again: take of each partition only what lies
above the highest position that you have taken from it. A watermark says that everything up to its
position has come before it in its partition. docs/consuming.md has an example."""


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
        "summary": "Everything up to its position has come before it in its partition.",
        "contentType": "application/json",
        "headers": {
            **_headers(OF_A_WATERMARK, OF_A_WATERMARK),
            "allOf": [{"properties": {"ce_type": {"const": WATERMARK}}}],
        },
        "payload": {"type": "object", "maxProperties": 0},
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Pledge", "version": version("pledge-crm"), "description": ABOUT},
        "defaultContentType": "application/json",
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
        "components": {"messages": messages, "schemas": {"EventHeaders": _all_headers()}},
    }


def _message(cls: type[Event], schema: str) -> dict[str, Any]:
    return {
        "name": cls.event_type,
        "title": cls.__name__,
        "summary": " ".join((cls.__doc__ or "").split()),
        "contentType": "application/json",
        "headers": {
            "allOf": [{"$ref": "#/components/schemas/EventHeaders"}],
            "properties": {"ce_type": {"const": cls.event_type}},
        },
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": schema},
        },
    }


def _all_headers() -> dict[str, Any]:
    return _headers(list(HEADERS), [name for name in HEADERS if name != "ce_causationid"])


def _headers(names: Sequence[str], needed: Sequence[str]) -> dict[str, Any]:
    properties = {name: {**HEADERS[name][0], "description": HEADERS[name][1]} for name in names}
    return {"type": "object", "properties": properties, "required": list(needed)}
