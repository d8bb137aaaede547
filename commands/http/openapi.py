"""The write API's part of the OpenAPI document, and the catalog that ``GET /commands`` shows."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from aggregates.base import IdTaken, Refused
from commands.catalog import BY_TYPE
from commands.http.wire import ENTRIES, LINES, Entry

REF = "#/components/schemas/{model}"

ANSWER: dict[str, Any] = {
    "title": "CommandAnswer",
    "type": "object",
    "required": ["id", "version", "position", "events"],
    "properties": {
        "id": {"type": "string", "format": "uuid", "description": "The stream."},
        "version": {"type": "integer", "description": "The stream's version now."},
        "position": {
            "type": "integer",
            "description": "The ledger's position after the command; give it as min_position.",
        },
        "events": {
            "type": "array",
            "description": "What happened; empty when what was asked was so already.",
            "items": {
                "type": "object",
                "required": ["type", "version", "position"],
                "properties": {
                    "type": {"type": "string"},
                    "version": {"type": "integer"},
                    "position": {"type": "integer"},
                },
            },
        },
    },
    "example": {
        "id": "019aaf1e-7f3c-7c3e-9d1a-2f4f3a1b5c6d",
        "version": 2,
        "position": 1284,
        "events": [{"type": "lead.claimed", "version": 2, "position": 1284}],
    },
}
COMMAND_PROBLEM: dict[str, Any] = {
    "title": "CommandProblem",
    "description": "RFC 9457. A refusal (404, 409) names its rule and is on record.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "rule": {"type": "string"},
        "fields": {"type": "array", "items": {"type": "string"}},
        "id": {"type": "string", "format": "uuid"},
        "version": {"type": "integer"},
        "position": {"type": "integer"},
        "first": {
            "type": "object",
            "description": "Of a key that was reused: what became of the command it stands for.",
            "required": ["status"],
            "properties": {
                "status": {"type": "integer"},
                "id": {"type": "string", "format": "uuid"},
                "version": {"type": "integer"},
                "position": {"type": "integer"},
                "rule": {"type": "string"},
                "detail": {"type": "string"},
            },
        },
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
    "example": {
        "type": "/problems/lead-owned",
        "title": "Lead owned",
        "status": 409,
        "detail": "Another rep owns this lead.",
        "rule": "LeadOwned",
        "fields": [],
        "id": "019aaf1e-7f3c-7c3e-9d1a-2f4f3a1b5c6d",
        "version": 2,
        "position": 1284,
    },
}
LINE_ANSWER: dict[str, Any] = {
    "title": "LineAnswer",
    "description": "A line of the answer: what the command alone would have got, and which it was.",
    "type": "object",
    "required": ["line", "status"],
    "properties": {
        "line": {"type": "integer", "description": "The command's line, from 1."},
        "status": {"type": "integer"},
        "repeated": {
            "type": "boolean",
            "description": (
                "true if an earlier request with this key got this answer; told only to those who "
                "send Prefer: mark-repeated."
            ),
        },
    },
    "anyOf": [
        {"$ref": REF.format(model="CommandAnswer")},
        {"$ref": REF.format(model="CommandProblem")},
        {
            "title": "Checked",
            "description": "Of a line that was only checked, and would be tried.",
            "properties": {"status": {"const": 202}},
        },
    ],
}
ERRORS = {
    401: "Nobody is named in X-Actor.",
    404: "There is no such thing with this id; the refusal is on record.",
    409: "A rule refused; the refusal is on record: {rules}.",
    408: "The body did not come in time.",
    412: "If-Match named another version than the stream has.",
    413: "The body is too large.",
    415: "The body is compressed, no JSON, or not in UTF-8.",
    422: "The body or a header is malformed, or the Idempotency-Key stands for another body.",
    503: "The ledger does not answer, or too much is asked at once; send again with the same "
    "Idempotency-Key.",
}


def _header(name: str, about: str, *, required: bool = False, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": about,
        "schema": {"type": "string", **schema},
    }


ACTOR = _header("X-Actor", "Who acts.", required=True, minLength=1, maxLength=200, example="anna")
HEADERS = [
    ACTOR,
    _header(
        "Idempotency-Key",
        "The same key and body give the same answer again, for ever.",
        minLength=1,
        maxLength=200,
    ),
    _header("If-Match", "The stream version decided on, as an ETag.", pattern=r'^"\d+"$'),
    _header("X-Correlation-Id", "Ties several commands together.", format="uuid"),
]
STREAM_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
}


def document() -> tuple[dict[str, Any], dict[str, Any]]:
    """OpenAPI paths and component schemas of every command."""
    schemas = _schemas()
    paths = {entry.path: {"post": _operation(entry)} for entry in ENTRIES.values()}
    paths["/commands"] = {"post": _bulk()}
    paths["/commands/check"] = {"post": _check()}
    schemas["CommandAnswer"] = ANSWER
    schemas["CommandProblem"] = COMMAND_PROBLEM
    schemas["LineAnswer"] = LINE_ANSWER
    return paths, schemas


def catalog() -> list[dict[str, Any]]:
    """Every command: its name in a line of NDJSON, its route, what it means, its data's schema."""
    return [
        {
            "command": entry.name,
            "method": "POST",
            "path": entry.path,
            "creates": entry.creates,
            "summary": _summary(entry),
            "schema": entry.command.model_json_schema(),
        }
        for entry in ENTRIES.values()
    ]


def _schemas() -> dict[str, Any]:
    models = [entry.body for entry in ENTRIES.values()] + LINES
    _, schema = models_json_schema([(model, "validation") for model in models], ref_template=REF)
    return dict(schema["$defs"])


def _summary(entry: Entry) -> str:
    return (entry.command.__doc__ or "").strip().split("\n")[0].removesuffix(".")


def _operation(entry: Entry) -> dict[str, Any]:
    plural = entry.name.split("/")[0]
    errors = dict(ERRORS)
    if rules := _rules(entry):
        errors[409] = errors[409].format(rules=", ".join(rule.__name__ for rule in rules))
    else:
        del errors[409]
    if entry.creates:
        del errors[404]
    return {
        "tags": [plural],
        "operationId": _operation_id(entry),
        "summary": _summary(entry),
        "description": (entry.command.__doc__ or "").strip(),
        "parameters": HEADERS if entry.creates else [STREAM_ID, *HEADERS],
        "requestBody": {
            "required": any(f.is_required() for f in entry.command.model_fields.values()),
            "content": {
                "application/json": {"schema": {"$ref": REF.format(model=entry.body.__name__)}}
            },
        },
        "responses": {
            "201" if entry.creates else "200": {
                "description": "Recorded, or so already.",
                "headers": {
                    "ETag": {"schema": {"type": "string"}},
                    "Idempotent-Replayed": {
                        "description": "true if an earlier request with this key got this answer.",
                        "schema": {"type": "string", "enum": ["true"]},
                    },
                },
                "content": {
                    "application/json": {"schema": {"$ref": REF.format(model="CommandAnswer")}}
                },
                "links": _links(entry),
            },
            **{str(code): _problem(about) for code, about in errors.items()},
        },
    }


def _operation_id(entry: Entry) -> str:
    verb = entry.name.split("/")[1]
    return f"{verb}_{entry.streams.stream_type}".replace("-", "_")


def _rules(entry: Entry) -> list[type[Refused]]:
    """What may answer 409: the stream is there already, the command's own rules, its references."""
    streams, command = entry.streams, entry.command
    there = [streams.exists, IdTaken] if entry.creates and streams.exists is not None else []
    others = command.all_references()
    absent = [BY_TYPE[other.stream_type].unknown for other in others]
    differing = [BY_TYPE[other.stream_type].other_currency for other in others if other.currency_of]
    unmet = [rule for other in others if other.condition for rule in other.condition.rules]
    referring = dict.fromkeys(rule for rule in (*absent, *differing, *unmet) if rule is not None)
    return [*there, *command.rules, *referring]


def _links(entry: Entry) -> dict[str, Any]:
    """What can be done next with the stream: read it, and every command that acts on it."""
    if entry.streams.creates is None:
        return {}
    acting = [e for e in ENTRIES.values() if e.streams is entry.streams and not e.creates]
    names = [entry.streams.reading, *map(_operation_id, acting)]
    return {
        name: {"operationId": name, "parameters": {"id": "$response.body#/id"}} for name in names
    }


def _bulk() -> dict[str, Any]:
    return {
        "tags": ["commands"],
        "operationId": "handle_commands",
        "summary": "Many commands, one a line",
        "description": (
            "NDJSON in, NDJSON out: one answer a line, in the order of the lines, each with its "
            "line number and status. Commands of one stream are handled in their order."
        ),
        "parameters": [
            ACTOR,
            _header(
                "Prefer",
                "mark-repeated: mark the lines whose answer is an earlier one, repeated. Any other "
                "preference is ignored (RFC 7240).",
                example="mark-repeated",
            ),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/x-ndjson": {
                    "schema": {
                        "oneOf": [{"$ref": REF.format(model=line.__name__)} for line in LINES]
                    }
                }
            },
        },
        "responses": {
            "200": {
                "description": "An answer a line.",
                "content": {
                    "application/x-ndjson": {"schema": {"$ref": REF.format(model="LineAnswer")}}
                },
            },
            **{str(code): _problem(ERRORS[code]) for code in (401, 415, 422, 503)},
        },
    }


def _check() -> dict[str, Any]:
    return _bulk() | {
        "operationId": "check_commands",
        "summary": "What would become of many commands; nothing is recorded",
        "description": (
            "Takes what POST /commands takes. A line that was sent before gets its answer again, "
            "marked as repeated; a new one gets status 202, or 422 when it is malformed. Rules are "
            "not asked."
        ),
        "parameters": [ACTOR],
    }


def _problem(about: str) -> dict[str, Any]:
    return {
        "description": about,
        "content": {
            "application/problem+json": {"schema": {"$ref": REF.format(model="CommandProblem")}}
        },
    }
