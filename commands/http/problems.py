"""Outcomes and refusals as HTTP answers: status, headers, JSON or problem (RFC 9457)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, assert_never

import orjson
from pydantic import ValidationError

from commands.handling.outcome import (
    Appended,
    Conflict,
    Failed,
    KeyReused,
    Outcome,
    Outdated,
    Refused,
    TooLarge,
    Unknown,
)
from events.values import EMAIL

KEY = r"^[\x20-\x7e]+$"
"""Of an idempotency key."""
IN_WORDS = {
    EMAIL: "must be a mail address, like anna@example.com",
    KEY: "must be 1 to 200 printable ASCII characters",
}
"""What a text must be, by the pattern that says it to a machine."""
JSON = "application/json"
PROBLEM = "application/problem+json"
MAX_ERRORS = 20
"""Mistakes that are named at once."""
COUNTED_ERRORS = 1_000
"""Mistakes of which the first are named; to find them, pydantic makes a record of each."""
LONGEST_NAME = 200
"""Characters of a field's name that are repeated."""


@dataclass(slots=True)
class Answer:
    """What the caller is told: the same bytes for the same key, for ever.

    Attributes:
        repeated: whether an earlier request with this key got it; told beside the body.
    """

    status: int
    body: dict[str, Any]
    version: int | None = None
    repeated: bool = False

    @property
    def content_type(self) -> str:
        """Of the body."""
        return JSON if self.status < HTTPStatus.BAD_REQUEST else PROBLEM

    def headers(self, length: int) -> list[tuple[bytes, bytes]]:
        """The headers, as ASGI takes them, for a body of so many bytes."""
        headers = [
            (b"content-type", self.content_type.encode()),
            (b"content-length", str(length).encode()),
        ]
        if self.version is not None:
            headers.append((b"etag", b'"%d"' % self.version))
        if self.repeated:
            headers.append((b"idempotent-replayed", b"true"))
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append((b"retry-after", b"1"))
        if self.body.get("type") == "/problems/method-not-allowed":
            headers.append((b"allow", b"POST"))
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers.append((b"www-authenticate", b"X-Actor"))
        return headers

    def encoded(self) -> bytes:
        """The body as JSON."""
        return orjson.dumps(self.body)


def render(outcome: Outcome) -> Answer:
    """The answer that tells a caller what became of their command."""
    match outcome:
        case Appended():
            return _appended(outcome)
        case Refused():
            return _refused(outcome)
        case Conflict():
            return _precondition_failed(outcome.version)
        case KeyReused():
            return _key_reused(outcome)
        case TooLarge():
            return problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "command-too-large",
                f"One command may record {outcome.events} events of {outcome.size} bytes in all.",
            )
        case Failed():
            return problem(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "internal-error",
                "Something failed on our side and nothing was recorded. The log says what.",
            )
        case Outdated(why=why):
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "other-version",
                f"The ledger is of a later version of Pledge than this process: {why}. Nothing was "
                "recorded. Send it again, to a process of that version.",
            )
        case Unknown():
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "ledger-unavailable",
                "The ledger did not answer in time, so it is not known yet whether the command "
                "was recorded. Send it again with the same Idempotency-Key.",
            )
        case _:
            assert_never(outcome)


def problem(
    status: HTTPStatus, kind: str, detail: str, errors: list[dict[str, str]] | None = None
) -> Answer:
    """An answer of RFC 9457 that is not on record."""
    body: dict[str, Any] = {
        "type": f"/problems/{kind}",
        "title": kind.replace("-", " ").capitalize(),
        "status": status.value,
        "detail": detail,
    }
    if errors is not None:
        body["errors"] = errors
    return Answer(status, body)


def stopping() -> Answer:
    """The server goes; what was under way may have been recorded or not."""
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "stopping",
        "The service is stopping. Come back in a moment; send a command again with the same "
        "Idempotency-Key.",
    )


def busy(what: str) -> Answer:
    """More was asked at once than is taken."""
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "busy",
        f"{what}. Send this again in a moment, with the same Idempotency-Key.",
    )


def unprocessable(field: str, message: str) -> Answer:
    """422 for one field."""
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid",
        f"{field} {message}.",
        [{"field": field, "message": message}],
    )


def invalid(error: ValidationError, skip: int = 0) -> Answer:
    """422 with every field that is wrong.

    Args:
        error: what the model found.
        skip: how many leading parts of a field's place are the model's own and not the caller's.
    """
    count = error.error_count()
    if count > COUNTED_ERRORS:
        return unprocessable("body", f"has {count} mistakes, too many to name any")
    errors: list[dict[str, str]] = []
    every = error.errors(include_url=False, include_input=False)
    for item in every[:MAX_ERRORS]:
        place = item["loc"] if item["type"].startswith("union_tag") else item["loc"][skip:]
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "string_pattern_mismatch":
            message = IN_WORDS.get(item["ctx"]["pattern"], "is not of the form that is asked here")
        if item["type"].startswith("union_tag"):
            place, message = ("command",), "must be a name in GET /commands"
        field = ".".join(map(str, place))[:LONGEST_NAME] or "body"
        errors.append({"field": field, "message": message})
    detail = "; ".join(f"{e['field']}: {e['message']}" for e in errors[:3])
    if count > MAX_ERRORS:
        detail += f"; errors has the first {MAX_ERRORS} mistakes of {count}"
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail, errors)


def _appended(outcome: Appended) -> Answer:
    before = outcome.version - len(outcome.types) + 1
    first = outcome.first or 0
    body = {
        "id": outcome.stream_id,
        "version": outcome.version,
        "position": outcome.position,
        "events": [
            {"type": name, "version": before + place, "position": first + place}
            for place, name in enumerate(outcome.types)
        ],
    }
    status = HTTPStatus.CREATED if outcome.begins else HTTPStatus.OK
    return Answer(status, body, outcome.version, outcome.repeated)


def _refused(outcome: Refused) -> Answer:
    status = HTTPStatus.NOT_FOUND if outcome.no_such_stream else HTTPStatus.CONFLICT
    body = {
        "type": f"/problems/{_kebab(outcome.rule)}",
        "title": _spaced(outcome.rule),
        "status": status.value,
        "detail": outcome.detail,
        "rule": outcome.rule,
        "fields": list(outcome.fields),
        "id": outcome.stream_id,
        "version": outcome.version,
        "position": outcome.position,
    }
    return Answer(status, body, outcome.version, outcome.repeated)


def _key_reused(outcome: KeyReused) -> Answer:
    answer = problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "idempotency-key-reused",
        "This Idempotency-Key was used before with another body or path. Use a new key.",
        [{"field": "Idempotency-Key", "message": "stands for another command"}],
    )
    first = render(outcome.first)
    told = ("id", "version", "position", "rule", "detail")
    answer.body["first"] = {"status": int(first.status)} | {
        name: first.body[name] for name in told if name in first.body
    }
    return answer


def _precondition_failed(version: int) -> Answer:
    answer = problem(
        HTTPStatus.PRECONDITION_FAILED,
        "precondition-failed",
        f"The stream is at version {version}. Read it again, then decide again.",
    )
    answer.body["version"] = version
    answer.version = version
    return answer


def _spaced(name: str) -> str:
    """LeadClosed → Lead closed."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def _kebab(name: str) -> str:
    """LeadClosed → lead-closed."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
