"""``POST /commands``: one command a line in, one answer a line out, in the order of the lines.

Callers may send much before they read anything: answers that nobody reads yet go to a temporary
file. Once that is full, lines wait until the caller reads; memory and disk stay bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from tempfile import SpooledTemporaryFile
from typing import Any

import orjson

from commands.handling.outcome import KeyReused, from_stored
from commands.handling.request import Request
from commands.handling.writer import Handled, Sender, Writer
from commands.http.problems import Answer, problem, render
from commands.http.wire import Unprocessable, from_line, hash_of, key_of
from events.envelope import Actor

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Lines = list[tuple[int, bytes | Answer]]

LINES = 128
"""Lines handled as one batch."""
BATCHES = 3
"""Batches under way at once."""
MAX_LINE = 1_000_000
"""Bytes of one line."""
MAX_BATCH = 1_000_000
"""Bytes of lines handled as one batch, but for its last line."""
IN_MEMORY = 1_000_000
"""Bytes of unread answers kept in memory; more go to disk."""
MAX_UNREAD = 32_000_000
"""Bytes of unread answers there; while there are more, no line is taken."""
CHUNK = 64_000
MARKS = b"mark-repeated"
"""What a caller prefers (RFC 7240) who wants repeats to be marked; others get the bare answers."""
WOULD_BE_TRIED = Answer(HTTPStatus.ACCEPTED, {})
"""Of a line that is checked: its form is right and its key is new; its rules were not asked."""
LINE_SECONDS = 30
"""How long a line may take to come."""


TOO_LONG = problem(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "line-too-large",
    f"A line may have {MAX_LINE} bytes at most.",
)
SLOW = problem(
    HTTPStatus.REQUEST_TIMEOUT,
    "too-slow",
    f"No line came within {LINE_SECONDS} seconds, so no more is read. Send the rest again.",
)


class Spool:
    """Bytes written at one end and read at the other, of any length, in bounded memory."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by close
        self._read = self._written = 0
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._ended = False

    async def room(self) -> None:
        """Wait until there are few enough unread bytes."""
        await self._room.wait()

    def write(self, data: bytes) -> None:
        """Add at the end."""
        self._file.seek(self._written)
        self._file.write(data)
        self._written += len(data)
        self._more.set()
        if self._written > MAX_UNREAD:
            self._room.clear()

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
                    self._room.set()
                yield chunk
            elif self._ended:
                return
            else:
                self._more.clear()
                await self._more.wait()

    def close(self) -> None:
        """Give the memory and the file back."""
        self._file.close()


@dataclass(slots=True)
class Batch:
    """Lines under way: what answers each, as far as it is known, and the future of the others."""

    slots: list[tuple[int, Answer | None]]
    handled: asyncio.Future[Handled] | None


class Taker:
    """Makes batches of lines: repeats are answered from the record, the others are handed in.

    The record is asked while lines are repeats: for the first batch, and after each batch that
    had one.

    Args:
        actor: of lines that name none.
        checks: hand nothing in; say of each line what would become of it, as far as the record
            and its form tell.
    """

    def __init__(self, writer: Writer, actor: Actor, *, checks: bool = False) -> None:
        self._writer, self._sender = writer, Sender()
        self._actor = actor
        self._checks = checks
        self.asks = True

    async def take(self, lines: Lines) -> Batch:
        """Begin to handle these."""
        answers = await self._on_record(lines) if self.asks or self._checks else {}
        self.asks = bool(answers)
        slots: list[tuple[int, Answer | None]] = []
        requests: list[Request] = []
        for number, raw in lines:
            parsed = answers.get(number) or _parse(raw, self._actor)
            if isinstance(parsed, Request) and self._checks:
                slots.append((number, WOULD_BE_TRIED))
            elif isinstance(parsed, Request):
                requests.append(parsed)
                slots.append((number, None))
            else:
                slots.append((number, parsed))
        return Batch(slots, self._writer.submit(requests, self._sender) if requests else None)

    async def _on_record(self, lines: Lines) -> dict[int, Answer]:
        """The answers to lines that were sent before, byte for byte.

        A line with a known key and other bytes is left to the writer; where nothing is handed in
        it is answered here.
        """
        pairs = {
            number: pair
            for number, raw in lines
            if isinstance(raw, bytes) and (pair := key_of(raw, self._actor)) is not None
        }
        if not pairs:
            return {}
        found = await asyncio.to_thread(self._writer.recall.outcomes, set(pairs.values()))
        answers: dict[int, Answer] = {}
        for number, raw in lines if found else ():
            stored = found.get(pairs[number]) if number in pairs else None
            if not isinstance(raw, bytes) or stored is None:
                continue
            if bytes(stored.body_hash) == hash_of(raw):
                answers[number] = render(from_stored(stored))
            elif self._checks:
                answers[number] = render(KeyReused(from_stored(stored)))
        return answers


async def bulk(taker: Taker, receive: Receive, send: Send, *, marks: bool = False) -> None:
    """Answer a stream of commands with a stream of answers.

    Args:
        marks: whether to say of a line's answer that it is an earlier one, repeated.
    """
    spool = Spool()
    under_way: asyncio.Queue[Batch | None] = asyncio.Queue(BATCHES)

    async def take() -> None:
        try:
            async for lines in batches(receive):
                await spool.room()
                await under_way.put(await taker.take(lines))
        finally:
            await under_way.put(None)

    async def collect() -> None:
        try:
            while (batch := await under_way.get()) is not None:
                handled = iter(await batch.handled if batch.handled is not None else ())
                for number, known in batch.slots:
                    answer = known or render(next(handled))
                    taker.asks = taker.asks or answer.repeated
                    spool.write(_line(number, answer, marks=marks))
        finally:
            spool.end()

    async def deliver() -> None:
        headers = [(b"content-type", b"application/x-ndjson")]
        if marks:
            headers.append((b"preference-applied", MARKS))
        await send(
            {"type": "http.response.start", "status": HTTPStatus.OK.value, "headers": headers}
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
    """Numbered lines of a body, as many at a time as have come; an answer stands for a bad one.

    A last line without its line feed counts when the body ended, and not when the caller broke off.
    """
    loop = asyncio.get_running_loop()
    begun: list[bytes] = []
    number = held = 0
    more = True
    deadline = loop.time() + LINE_SECONDS
    while more:
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            yield [(number + 1, SLOW)]
            return
        if message["type"] != "http.request":
            return
        more = message.get("more_body", False)
        first, *others = message.get("body", b"").split(b"\n")
        held += len(first)
        if held <= MAX_LINE:
            begun.append(first)
        if more and not others:
            continue
        whole: list[bytes | Answer] = [TOO_LONG if held > MAX_LINE else b"".join(begun), *others]
        if more:
            begun, held = [others[-1]], len(others[-1])
            whole.pop()
        elif not others and not whole[0]:
            return
        elif others and not others[-1]:
            whole.pop()
        for lines in _batched(whole, number):
            yield lines
            deadline = loop.time() + LINE_SECONDS
        number += len(whole)


def _batched(whole: list[bytes | Answer], number: int) -> Iterator[Lines]:
    """Lines that are not empty, numbered from the one behind ``number`` on, some at a time."""
    lines: Lines = []
    size = 0
    for raw in whole:
        number += 1
        if isinstance(raw, Answer):
            lines.append((number, raw))
        elif raw.strip():
            lines.append((number, raw if len(raw) <= MAX_LINE else TOO_LONG))
            size += len(raw)
        if len(lines) == LINES or size > MAX_BATCH:
            yield lines
            lines, size = [], 0
    if lines:
        yield lines


def _parse(raw: bytes | Answer, actor: Actor) -> Request | Answer:
    if isinstance(raw, Answer):
        return raw
    try:
        return from_line(raw, actor)
    except Unprocessable as error:
        return error.answer


def _line(number: int, answer: Answer, *, marks: bool) -> bytes:
    told: dict[str, Any] = {"line": number, "status": int(answer.status)}
    if marks and answer.repeated:
        told["repeated"] = True
    return orjson.dumps(told | answer.body) + b"\n"
