"""What comes in too slowly, or is more than is taken at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

import orjson
import pytest

from commands.handling.outcome import Failed
from commands.handling.writer import Writer
from commands.http import bulk, routes
from commands.http.routes import WriteApi

Message = MutableMapping[str, Any]


class Slow:
    """A writer that answers when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    def submit(self, requests: Any, *, is_import: bool = False) -> Awaitable[list[Any]]:  # noqa: ARG002
        async def outcomes() -> list[Any]:
            await self.go.wait()
            return [Failed() for _ in requests]

        return asyncio.ensure_future(outcomes())


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def answered(api: WriteApi, path: str, *messages: Message) -> tuple[int, list[Any]]:
    """Status and JSON lines of the answer to a request whose client then says no more."""
    left, sent = list(messages), []

    async def receive() -> Message:
        if left:
            return left.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"path": path, "query_string": b"", "headers": [(b"x-actor", b"ada")]}
    await api(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], [orjson.loads(line) for line in body.splitlines()]


def run(ask: Callable[[WriteApi, Slow], Awaitable[Any]]) -> Any:
    async def with_api() -> Any:
        writer = Slow()
        return await ask(WriteApi(cast("Writer", writer)), writer)

    return asyncio.run(with_api())


def test_a_line_that_does_not_come_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "LINE_SECONDS", 0.05)
    dripping = [part(b"x"), part(b"\n"), part(b"\n"), part(b'{"command"')]
    status, lines = run(lambda api, _: answered(api, "/commands", *dripping))
    assert status == 200
    assert [(line["line"], line["status"]) for line in lines] == [(1, 422), (3, 408)]


def test_more_commands_than_can_wait_are_asked_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "MAX_WAITING", 2)
    body = part(b'{"name": "Ada"}', more=False)

    async def ask(api: WriteApi, writer: Slow) -> list[int]:
        asking = [asyncio.ensure_future(answered(api, "/leads", body)) for _ in range(3)]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        writer.go.set()
        return [status for status, _ in await asyncio.gather(*asking)]

    assert run(ask) == [500, 500, 503]


def test_more_imports_than_are_read_are_asked_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "MAX_IMPORTS", 1)
    line = b'{"command": "leads/capture", "key": "1", "data": {"name": "Ada"}}\n'

    async def ask(api: WriteApi, writer: Slow) -> list[int]:
        first = asyncio.ensure_future(answered(api, "/commands", part(line, more=False)))
        await asyncio.sleep(0)
        second, _ = await answered(api, "/commands", part(line, more=False))
        writer.go.set()
        return [(await first)[0], second]

    assert run(ask) == [200, 503]
