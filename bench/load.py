"""The load generator: bare sockets, requests built beforehand, the same for both sides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import cast

import uvloop

END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length: "
PIECE = 64_000


def post(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A whole HTTP/1.1 request."""
    lines = [f"POST {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Client(asyncio.Protocol):
    """One keep-alive connection: sends, waits for the whole answer, sends again."""

    def __init__(self, request: bytes, until: float, ended: asyncio.Future[int]) -> None:
        self._request = request
        self._until = until
        self._ended = ended
        self._buffer = b""
        self._answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer = self._buffer + data
        head = buffer.find(END_OF_HEAD)
        if head < 0:
            return
        length = buffer.index(LENGTH) + len(LENGTH)
        if len(buffer) < head + len(END_OF_HEAD) + int(
            buffer[length : buffer.index(b"\r", length)]
        ):
            return
        if not buffer.startswith(b"HTTP/1.1 201 "):
            self._ended.set_exception(AssertionError(buffer.decode()))
            return
        self._buffer = b""
        self._answers += 1
        if time.perf_counter() < self._until:
            self._transport.write(self._request)
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._ended.done():
            if error is None:
                self._ended.set_result(self._answers)
            else:
                self._ended.set_exception(error)


def requests(port: int, request: bytes, connections: int, seconds: float) -> tuple[int, float]:
    """Answers taken, and the seconds that took; every answer must be 201."""

    async def run() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        ends = [loop.create_future() for _ in range(connections)]
        began = time.perf_counter()
        for end in ends:
            await loop.create_connection(
                partial(Client, request, began + seconds, end), "127.0.0.1", port
            )
        return sum(await asyncio.gather(*ends)), time.perf_counter() - began

    return uvloop.run(run())


def body_of(answer: bytes) -> bytes:
    """The body of a chunked answer; a line may be cut between two chunks."""
    head, _, rest = answer.partition(END_OF_HEAD)
    assert b"transfer-encoding: chunked" in head.lower(), head
    parts: list[bytes] = []
    at = 0
    while True:
        end = rest.index(b"\r\n", at)
        size = int(rest[at:end], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(rest[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


def stream(port: int, request: bytes) -> tuple[bytes, float]:
    """Sends one long request piece by piece while it reads; the answer's body and seconds."""

    async def run() -> tuple[bytes, float]:
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def send() -> None:
            for start in range(0, len(request), PIECE):
                writer.write(request[start : start + PIECE])
                await writer.drain()

        sending = asyncio.create_task(send())
        answer = await reader.read()
        took = time.perf_counter() - began
        await sending
        writer.close()
        return body_of(answer), took

    return uvloop.run(run())
