"""What is refused of any request before a side of the product sees it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from commands.http.problems import Answer, problem, unprocessable

ONCE = frozenset(
    {b"authorization", b"content-encoding", b"content-type", b"idempotency-key", b"if-match"}
)
"""Headers of which only one can count; so can one of each ``X-…`` but those of proxies."""
OF_PROXIES = b"x-forwarded-"
JSON = frozenset(
    {
        "application/json",
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-www-form-urlencoded",  # which curl says of any data, unless told otherwise
    }
)


def refusal(scope: Any, *, takes_body: bool) -> Answer | None:
    """Why this request is not taken; None if it is.

    Args:
        takes_body: whether its body would be read.
    """
    seen: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in seen:
            if name == b"host":
                return _host("is given more than once")
            if name in ONCE or (name.startswith(b"x-") and not name.startswith(OF_PROXIES)):
                return unprocessable(_title(name), "is given more than once")
        seen[name] = value
    if b"host" not in seen and scope["http_version"] == "1.1":
        return _host("is missing")
    if seen.get(b"transfer-encoding", b"chunked").strip().lower() != b"chunked":
        return problem(
            HTTPStatus.NOT_IMPLEMENTED,
            "transfer-encoding-unknown",
            "A body comes whole or in chunks: Transfer-Encoding may be chunked and nothing else.",
        )
    if not takes_body:
        return None
    encoding = seen.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    if encoding not in ("", "identity"):
        return _not_taken("Content-Encoding", "A body is not compressed: send it without one.")
    kind = seen.get(b"content-type")
    return None if kind is None or kind == b"application/json" else _of_kind(kind)


def _of_kind(header: bytes) -> Answer | None:
    media, *parameters = header.decode("latin-1").split(";")
    media = media.strip().lower()
    if media not in JSON and not (media.startswith("application/") and media.endswith("+json")):
        return _not_taken("Content-Type", "A body is JSON: send it as application/json.")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        is_charset = name.strip().lower() == "charset"
        if is_charset and value.strip().strip('"').lower() not in ("utf-8", "utf8"):
            return _not_taken("Content-Type", "JSON is written in UTF-8 and in no other charset.")
    return None


def _not_taken(header: str, detail: str) -> Answer:
    errors = [{"field": header, "message": "is not taken"}]
    return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail, errors)


def _host(message: str) -> Answer:
    errors = [{"field": "Host", "message": message}]
    return problem(HTTPStatus.BAD_REQUEST, "malformed", f"The header Host {message}.", errors)


def _title(name: bytes) -> str:
    return name.decode("latin-1").title()
