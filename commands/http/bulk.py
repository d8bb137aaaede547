"""``POST /commands``: one command a line in, one answer a line out, in the order of the lines.

Callers may send everything before they read anything: answers that nobody reads yet go to a
temporary file, so neither side ever waits for the other and memory stays bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from http import HTTPStatus
from tempfile import SpooledTemporaryFile
from typing import Any

import orjson

from commands.handling.request import Request
from commands.handling.writer import Sender, Writer
from commands.http.problems import Answer, problem, render
from commands.http.wire import Unprocessable, from_line
from events.envelope import Actor

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Lines = list[tuple[int, bytes | None]]

LINES = 128
"""Lines handled as one batch."""
BATCHES = 3
"""Batches under way at once."""
MAX_LINE = 1_000_000
"""Bytes of one line."""
IN_MEMORY = 1_000_000
"""Bytes of unread answers kept in memory; more go to disk."""
CHUNK = 64_000


class Spool:
    """Bytes written at one end and read at the other, of any length, in bounded memory."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by close
        self._read = self._written = 0
        self._more = asyncio.Event()
        self._ended = False

    def write(self, data: bytes) -> None:
        """Add at the end."""
        self._file.seek(self._written)
        self._file.write(data)
        self._written += len(data)
        self._more.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._more.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """What was written, in pieces, until the end."""
        while True:
            if self._read < self._written:
                self._file.seek(self._read)
                chunk = self._file.read(CHUNK)
                self._read += len(chunk)
                if self._read == self._written:
                    self._file.seek(0)
                    self._file.truncate()
                    self._read = self._written = 0
                yield chunk
            elif self._ended:
                return
            else:
                self._more.clear()
                await self._more.wait()

    def close(self) -> None:
        """Give the memory and the file back."""
        self._file.close()


async def bulk(writer: Writer, actor: Actor, receive: Receive, send: Send) -> None:
    """Answer a stream of commands with a stream of answers."""
    spool, sender = Spool(), Sender()
    under_way: asyncio.Queue[tuple[list[tuple[int, Answer | None]], Any] | None] = asyncio.Queue(
        BATCHES
    )

    async def take() -> None:
        try:
            async for batch in batches(receive):
                slots: list[tuple[int, Answer | None]] = []
                requests: list[Request] = []
                for number, raw in batch:
                    parsed = _parse(raw, actor)
                    if isinstance(parsed, Request):
                        requests.append(parsed)
                        slots.append((number, None))
                    else:
                        slots.append((number, parsed))
                future = writer.submit(requests, sender) if requests else None
                await under_way.put((slots, future))
        finally:
            await under_way.put(None)

    async def collect() -> None:
        try:
            while (batch := await under_way.get()) is not None:
                slots, future = batch
                handled = iter(await future if future is not None else ())
                for number, answer in slots:
                    spool.write(_line(number, answer or render(next(handled))))
        finally:
            spool.end()

    async def deliver() -> None:
        await send(
            {
                "type": "http.response.start",
                "status": HTTPStatus.OK.value,
                "headers": [(b"content-type", b"application/x-ndjson")],
            }
        )
        async for chunk in spool.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(take())
            tasks.create_task(collect())
            tasks.create_task(deliver())
    finally:
        spool.close()


async def batches(receive: Receive) -> AsyncIterator[Lines]:
    """Numbered lines of a body, as many at a time as have come; None stands for one too long.

    A last line without its line feed counts when the body ended, and not when the caller broke off.
    """
    rest = b""
    number = 0
    too_long = False
    lines: Lines = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        *whole, rest = (rest + message.get("body", b"")).split(b"\n")
        more = message.get("more_body", False)
        if not more and (rest or too_long):
            whole.append(rest)
        for raw in whole:
            number += 1
            if too_long or len(raw) > MAX_LINE:
                lines.append((number, None))
                too_long = False
            elif raw.strip():
                lines.append((number, raw))
            if len(lines) == LINES:
                yield lines
                lines = []
        if len(rest) > MAX_LINE:
            rest, too_long = b"", True
        if not more:
            break
        if lines:
            yield lines
            lines = []
    if lines:
        yield lines


def _parse(raw: bytes | None, actor: Actor) -> Request | Answer:
    if raw is None:
        return problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "line-too-large",
            f"A line may have {MAX_LINE} bytes at most.",
        )
    try:
        return from_line(raw, actor)
    except Unprocessable as error:
        return error.answer


def _line(number: int, answer: Answer) -> bytes:
    return orjson.dumps({"line": number, "status": int(answer.status)} | answer.body) + b"\n"
