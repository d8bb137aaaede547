"""The write API as bare ASGI: ``POST /{plural}`` and ``POST /{plural}/{id}/{verb}``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from uuid import UUID

import structlog

from commands.handling.outcome import Failed
from commands.handling.writer import Closed, Writer
from commands.http.bulk import MARKS, Taker, bulk
from commands.http.problems import (
    Answer,
    busy,
    problem,
    render,
    stopping,
    unprocessable,
)
from commands.http.wire import ENTRIES, Entry, Unprocessable, from_body
from events.envelope import Actor, actor_named

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = dict[bytes, bytes]

log = structlog.get_logger()

MAX_BODY = 1_000_000
"""Bytes of one command's body."""
MAX_WAITING = 2_000
"""Commands that wait for their outcome at once, of one process."""
MAX_IMPORTS = 32
"""Streams of many commands that are read at once."""
KINDS = ("user", "service", "import")
LONGEST = 200
UUID_TEXT = 36
ETAG = re.compile(r'"[0-9]{1,18}"')

CREATING = {entry.path[1:]: entry for entry in ENTRIES.values() if entry.creates}
ACTING = {
    (plural, verb): entry
    for entry in ENTRIES.values()
    if not entry.creates
    for plural, verb in [entry.name.split("/")]
}


class WriteApi:
    """Takes every POST of the product; what it does not know it answers with 404 itself."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._waiting = self._imports = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        headers: Headers = dict(scope["headers"])
        parts = scope["path"].strip("/").split("/")
        try:
            _refuse_parameters(scope)
            if parts in (["commands"], ["commands", "check"]):
                await self._import(headers, receive, send, checks=len(parts) > 1)
                return
            answer = await self._command(parts, headers, receive)
        except Unprocessable as error:
            answer = error.answer
        except asyncio.CancelledError:
            answer = stopping()
        except Closed:
            answer = stopping()
        except Exception:
            log.exception("a command could not be answered")
            answer = render(Failed())
        if answer is not None:
            await respond(send, answer)

    async def _command(self, parts: list[str], headers: Headers, receive: Receive) -> Answer | None:
        entry, stream_id = _route(parts)
        actor = actor_of(headers)
        key = idempotency_key(headers)
        if_match = version_of(headers.get(b"if-match"))
        correlation_id = _uuid_header(headers, b"x-correlation-id")
        raw = await body_of(receive)
        if raw is None:
            return None
        request = from_body(
            entry,
            stream_id,
            raw,
            actor,
            key=key,
            if_match=if_match,
            correlation_id=correlation_id,
        )
        if self._waiting >= MAX_WAITING:
            raise Unprocessable(busy(f"{MAX_WAITING} commands wait already"))
        self._waiting += 1
        try:
            [outcome] = await self._writer.submit((request,))
        finally:
            self._waiting -= 1
        return render(outcome)

    async def _import(
        self, headers: Headers, receive: Receive, send: Send, *, checks: bool
    ) -> None:
        taker = Taker(self._writer, actor_of(headers), checks=checks)
        marks = checks or MARKS in headers.get(b"prefer", b"")
        if self._imports >= MAX_IMPORTS:
            raise Unprocessable(busy(f"{MAX_IMPORTS} streams of commands are read already"))
        self._imports += 1
        try:
            with suppress(asyncio.CancelledError):  # the server stops in the middle of it
                await bulk(taker, receive, send, marks=marks)
        finally:
            self._imports -= 1


def takes(path: str) -> bool:
    """Whether this is the path of a command."""
    parts = path.strip("/").split("/")
    if len(parts) == 1:
        return parts[0] == "commands" or parts[0] in CREATING
    if len(parts) == 2:  # noqa: PLR2004 - commands/check
        return parts == ["commands", "check"]
    return len(parts) == 3 and (parts[0], parts[2]) in ACTING  # noqa: PLR2004 - plural, id, verb


def actor_of(headers: Headers) -> Actor:
    """Who asks. The one place that a sign-in will replace.

    Raises:
        Unprocessable: 401 when nobody is named, 422 when the name cannot be one.
    """
    raw = headers.get(b"x-actor")
    if raw is None:
        raise Unprocessable(
            problem(
                HTTPStatus.UNAUTHORIZED,
                "actor-missing",
                "Say who acts: send the header X-Actor with the id of a person or a service.",
                [{"field": "X-Actor", "message": "is missing"}],
            )
        )
    try:
        actor = actor_named(raw)
    except ValueError:
        raise Unprocessable(
            unprocessable("X-Actor", f"must be 1 to {LONGEST} printable characters")
        ) from None
    kind = headers.get(b"x-actor-kind", b"user").decode("latin-1")
    if kind not in KINDS:
        raise Unprocessable(unprocessable("X-Actor-Kind", f"must be one of {', '.join(KINDS)}"))
    return Actor(actor, kind)


def idempotency_key(headers: Headers) -> str | None:
    """The caller's own name for this attempt.

    Raises:
        Unprocessable: when it is empty, too long or not printable ASCII.
    """
    raw = headers.get(b"idempotency-key")
    if raw is None:
        return None
    key = raw.decode("latin-1").strip()
    if not key or len(key) > LONGEST or not (key.isascii() and key.isprintable()):
        raise Unprocessable(
            unprocessable("Idempotency-Key", f"must be 1 to {LONGEST} printable ASCII characters")
        )
    return key


def version_of(if_match: bytes | None) -> int | None:
    """The stream version that If-Match names, as ``"3"``.

    Raises:
        Unprocessable: when it is no entity tag of ours.
    """
    if if_match is None:
        return None
    text = if_match.decode("latin-1").strip()
    if ETAG.fullmatch(text):
        return int(text[1:-1])
    raise Unprocessable(unprocessable("If-Match", 'must be a stream version in quotes, like "3"'))


async def body_of(receive: Receive) -> bytes | None:
    """The whole body, or None when the caller has gone.

    Raises:
        Unprocessable: 413 above ``MAX_BODY`` bytes.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        raw: bytes = message.get("body", b"")
        if len(raw) > MAX_BODY:
            raise Unprocessable(_too_large())
        return raw
    parts: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise Unprocessable(_too_large())
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    return None


async def respond(send: Send, answer: Answer) -> None:
    """Send an answer."""
    body = answer.encoded()
    headers = answer.headers(len(body))
    await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _refuse_parameters(scope: Scope) -> None:
    if scope["query_string"]:
        name = scope["query_string"].decode("latin-1").partition("&")[0].partition("=")[0][:LONGEST]
        raise Unprocessable(unprocessable(name, "is no parameter: a command's fields are its body"))


def _route(parts: list[str]) -> tuple[Entry, UUID | None]:
    if len(parts) == 1 and parts[0] in CREATING:
        return CREATING[parts[0]], None
    if len(parts) == 3 and (entry := ACTING.get((parts[0], parts[2]))) is not None:  # noqa: PLR2004 - leads/ID/claim
        return entry, _uuid("id", parts[1])
    raise Unprocessable(
        problem(HTTPStatus.NOT_FOUND, "no-such-command", "GET /commands lists what can be asked.")
    )


def _uuid_header(headers: Headers, name: bytes) -> UUID | None:
    raw = headers.get(name)
    return None if raw is None else _uuid(name.decode(), raw.decode("latin-1"))


def _uuid(field: str, text: str) -> UUID:
    if len(text) == UUID_TEXT:
        try:
            return UUID(text)
        except ValueError:
            pass
    raise Unprocessable(unprocessable(field, "must be a UUID"))


def _too_large() -> Answer:
    return problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        f"A command's body may have {MAX_BODY} bytes at most.",
    )
