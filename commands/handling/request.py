"""A command on its way to the ledger, and the answer on its way back."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

import orjson

from aggregates import base
from commands.base import Command
from commands.catalog import Streams
from events.envelope import Actor
from events.ledger.ledger import MAX_BYTES, MAX_EVENTS, Outcome

JSON = "application/json"
PROBLEM = "application/problem+json"


@dataclass(slots=True)
class Request:
    """One command, validated, with all that its handling needs.

    Attributes:
        name: as in the catalog, like ``leads/claim``.
        key: the idempotency key; a fresh id when the caller gave none.
        body_hash: of the raw body and path; tells a repeat from another use of the key.
        if_match: the stream version that the caller decided on.
        attempts: how often it was decided on a guess that proved wrong.
    """

    name: str
    streams: Streams[Any, Any]
    command: Command[Any, Any]
    stream_id: UUID
    actor: Actor
    key: str
    body_hash: bytes
    command_id: UUID
    correlation_id: UUID
    causation_id: UUID | None = None
    occurred_at: datetime | None = None
    if_match: int | None = None
    attempts: int = 0

    creates: bool = field(init=False)

    def __post_init__(self) -> None:
        """Note whether the command begins its stream."""
        self.creates = self.name.rpartition("/")[2] == self.streams.creates


@dataclass(slots=True)
class Answer:
    """What the caller is told: the same bytes for the same key, for ever."""

    status: int
    body: dict[str, Any]
    version: int | None = None

    @property
    def content_type(self) -> str:
        """Of the body."""
        return JSON if self.status < HTTPStatus.BAD_REQUEST else PROBLEM

    def encoded(self) -> bytes:
        """The body as JSON."""
        return orjson.dumps(self.body)


def appended(
    stream_id: UUID, version: int, position: int, types: list[str], first: int | None, status: int
) -> Answer:
    """The command was carried out; ``position`` includes all its effects."""
    body = {
        "id": stream_id,
        "version": version,
        "position": position,
        "events": [
            {
                "type": name,
                "version": version - len(types) + 1 + place,
                "position": (first or 0) + place,
            }
            for place, name in enumerate(types)
        ],
    }
    return Answer(status, body, version)


def refused(
    stream_id: UUID, version: int, position: int, rule: str, detail: str, fields: list[str]
) -> Answer:
    """A rule said no, at this version of the stream; the refusal is on record."""
    unknown = issubclass(getattr(base, rule, base.Refused), base.Unknown) and not fields
    status = HTTPStatus.NOT_FOUND if unknown else HTTPStatus.CONFLICT
    body = {
        "type": f"/problems/{kebab(rule)}",
        "title": spaced(rule),
        "status": status.value,
        "detail": detail,
        "rule": rule,
        "fields": fields,
        "id": stream_id,
        "version": version,
        "position": position,
    }
    return Answer(status, body, version)


def from_outcome(outcome: Outcome, *, creates: bool) -> Answer:
    """The answer that the stored outcome stands for."""
    if outcome.status == "refused":
        return refused(
            outcome.stream_id,
            outcome.version,
            outcome.after,
            outcome.rule or "",
            outcome.detail or "",
            outcome.fields or [],
        )
    status = HTTPStatus.CREATED if creates else HTTPStatus.OK
    types = outcome.types or []
    return appended(outcome.stream_id, outcome.version, outcome.after, types, outcome.first, status)


def problem(
    status: HTTPStatus, kind: str, detail: str, errors: list[dict[str, str]] | None = None
) -> Answer:
    """An RFC 9457 problem that is not on record."""
    body: dict[str, Any] = {
        "type": f"/problems/{kind}",
        "title": kind.replace("-", " ").capitalize(),
        "status": status.value,
        "detail": detail,
    }
    if errors is not None:
        body["errors"] = errors
    return Answer(status, body)


def precondition_failed(version: int) -> Answer:
    """If-Match named another version than the stream has."""
    answer = problem(
        HTTPStatus.PRECONDITION_FAILED,
        "precondition-failed",
        f"The stream is at version {version}. Read it again, then decide again.",
    )
    answer.body["version"] = version
    answer.version = version
    return answer


def key_reused() -> Answer:
    """The idempotency key stands for another body."""
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "idempotency-key-reused",
        "This Idempotency-Key was used before with another body or path. Use a new key.",
        [{"field": "Idempotency-Key", "message": "stands for another command"}],
    )


def too_large() -> Answer:
    """One command would record more than the ledger takes at once."""
    return problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "command-too-large",
        f"One command may record {MAX_EVENTS} events of {MAX_BYTES} bytes in all.",
    )


def failed() -> Answer:
    """A fault of ours; the command was not recorded."""
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal-error",
        "Something failed on our side and nothing was recorded. The log says what.",
    )


def unavailable() -> Answer:
    """Nobody knows yet what became of the command."""
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "ledger-unavailable",
        "The ledger did not answer in time, so it is not known yet whether the command was "
        "recorded. Send it again with the same Idempotency-Key.",
    )


def stopping() -> Answer:
    """The server goes; what was under way may have been recorded or not."""
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "stopping",
        "The service is stopping. Come back in a moment; send a command again with the same "
        "Idempotency-Key.",
    )


def spaced(name: str) -> str:
    """LeadClosed → Lead closed."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def kebab(name: str) -> str:
    """LeadClosed → lead-closed."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
