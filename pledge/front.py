"""The server's front: bounds on what comes in and how slowly, and on answers that nobody reads.

uvicorn's protocol on httptools, which has none of its own. Every request that it refuses itself is
answered with a problem.
"""

from __future__ import annotations

import asyncio
import resource
from http import HTTPStatus
from time import monotonic
from typing import Any, NamedTuple

import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from commands.http.problems import Answer, problem

MAX_HEAD = 32_000
"""Bytes of a request's line and headers, and of what stands around the pieces of its body."""
MAX_HEADERS = 100
MAX_URL = 8_000
PIECE = 16_384
"""Bytes that are parsed before the bounds are looked at."""
HEAD_SECONDS = 10.0
"""How long a request's line and headers may take, and a new connection to begin one."""
BODY_SECONDS = 30.0
"""How long a body may take that is not answered while it comes."""
REST_SECONDS = 5.0
"""How long the rest of a body may take that was answered before it came."""
UNREAD_SECONDS = 30.0
UNREAD_BYTES = 15_000
"""A reader takes so many bytes of an answer in so many seconds, or is cut off."""
LINGER_SECONDS = 1.0
"""How long what a refused client still sends is thrown away, so that it can read why."""
LOOK_TICKS = 5
"""Of a tenth of a second each: how often connections are looked at."""
SPARE_FILES = 48
"""File descriptors for the database, files and the process itself."""
FEWEST = 8

MALFORMED = problem(
    HTTPStatus.BAD_REQUEST, "malformed", "This is no HTTP request that can be read."
)
HEAD_TOO_LARGE = problem(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers-too-large",
    f"A request may have {MAX_HEADERS} headers, and {MAX_HEAD} bytes of them in all.",
)
URL_TOO_LONG = problem(
    HTTPStatus.REQUEST_URI_TOO_LONG, "url-too-long", f"A URL may have {MAX_URL} bytes at most."
)
HEAD_TOO_SLOW = problem(
    HTTPStatus.REQUEST_TIMEOUT,
    "too-slow",
    f"The request's line and headers did not come within {HEAD_SECONDS:.0f} seconds.",
)
BODY_TOO_SLOW = problem(
    HTTPStatus.REQUEST_TIMEOUT,
    "too-slow",
    f"The body did not come within {BODY_SECONDS:.0f} seconds. Nothing of it was recorded.",
)
CROWDED = problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too-many-connections",
    "More connections are open than this process can hold. Come back in a moment.",
)


class _Refused(Exception):
    """What was read so far is refused."""


class Waiting(NamedTuple):
    """What a connection waits for its client to do.

    Attributes:
        since: when it began to, by the monotonic clock.
        seconds: how long it does.
        answer: what the client is told then; None where it asked for nothing.
    """

    since: float
    seconds: float
    answer: Answer | None


class Front(HttpToolsProtocol):
    """One connection."""

    cycle: Any  # None before the first request

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._waiting: Waiting | None = None
        self._fault = MALFORMED
        self._is_in_head = False
        self._is_refused = self._has_asked = False
        self._names = self._size = 0
        self._silent = self._heard = 0
        self._begun = 0.0
        self._unread: tuple[float, int] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; where there are too many, let go the one that is idle longest."""
        super().connection_made(transport)
        self._wait(HEAD_SECONDS, None)
        if len(self.connections) > most_connections():
            now = monotonic()
            others = (one for one in self.connections if isinstance(one, Front) and one is not self)
            idle = [one for one in others if one.idleness(now)[1] >= 0]
            max(idle, key=lambda one: one.idleness(now), default=self).let_go()

    def data_received(self, data: bytes) -> None:
        """Parse what came, piece by piece, until a bound is passed."""
        size = len(data)
        self._heard += size
        if self._is_refused:
            return
        if size <= PIECE:
            self._parse(data, size)
            return
        every = memoryview(data)
        for start in range(0, len(data), PIECE):
            if self.transport.is_closing() or self._is_done():
                return
            piece = every[start : start + PIECE]
            self._parse(piece, len(piece))

    def _parse(self, piece: Any, size: int) -> None:
        self._silent += size
        super().data_received(piece)
        if self._silent > MAX_HEAD + PIECE and not self._is_refused:
            self.refuse(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._is_in_head = True
        self._names = self._size = 0
        self._wait(HEAD_SECONDS, HEAD_TOO_SLOW)

    def on_url(self, url: bytes) -> None:
        """Take a piece of the URL."""
        super().on_url(url)
        if len(self.url) > MAX_URL:
            self._stop(URL_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one that comes behind the body is counted and left out."""
        self._names += 1
        self._size += len(name) + len(value)
        if self._names > MAX_HEADERS or self._size > MAX_HEAD:
            self._stop(HEAD_TOO_LARGE)
        if self._is_in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Hand the request to the application."""
        self._is_in_head = False
        self._silent = 0
        self._waiting = None
        self._begun, self._heard = monotonic(), 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._silent = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._silent = 0
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete:
            self._wait(self.timeout_keep_alive, None)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one, unless that is there already."""
        self._has_asked = True
        super().on_response_complete()
        if not self._is_in_head and self.cycle.response_complete:
            is_whole = not self.cycle.more_body
            self._wait(self.timeout_keep_alive if is_whole else REST_SECONDS, None)

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        super().pause_writing()
        self._unread = monotonic(), self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """Note that it does."""
        super().resume_writing()
        self._unread = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words
        """Say what is wrong with what was read."""
        self.refuse(self._fault)

    def look(self, now: float) -> None:
        """Close the connection if its client has used up its time."""
        is_closing = self.transport.is_closing()
        if is_closing or self._unread is not None:
            left = self.transport.get_write_buffer_size()
            since, size = self._unread = self._unread or (now, left)
            if now > since + UNREAD_SECONDS:
                self._unread = now, left
                if left > size - UNREAD_BYTES:
                    self.transport.abort()
                    return
        if is_closing:
            return
        waiting = self._waiting
        if waiting is None:
            if now > self._begun + BODY_SECONDS and self._is_owed_a_body():
                self.refuse(BODY_TOO_SLOW)
            return
        if now < waiting.since + waiting.seconds:
            return
        if self.flow.read_paused:  # it waits for us
            self._waiting = waiting._replace(since=now)
        elif waiting.answer is None:
            self.transport.close()
        else:
            self.refuse(waiting.answer)

    def _is_owed_a_body(self) -> bool:
        """Whether the application can do nothing before more of the body comes."""
        cycle = self.cycle
        return cycle.more_body and not cycle.response_started and not self.flow.read_paused

    def idleness(self, now: float) -> tuple[bool, float]:
        """How little the client does: whether it never asked, and how long it does nothing.

        Less than no time while it is the server that has to do something.
        """
        if self._unread is not None:
            seconds = now - self._unread[0]
        elif self._waiting is not None:
            seconds = now - self._waiting.since
        elif not self.cycle.more_body or self.flow.read_paused:
            seconds = -1
        else:
            seconds = (now - self._begun) / (1 + self._heard / 1_000)
        return not self._has_asked, seconds

    def _is_between_requests(self) -> bool:
        return self.cycle is not None and not self.cycle.more_body and not self._is_in_head

    def let_go(self) -> None:
        """Close at once, for another one's sake."""
        is_answered = self.cycle is not None and self.cycle.response_started
        is_amid = is_answered and not self.cycle.response_complete
        if is_amid or self._unread is not None or self.transport.is_closing():
            self.transport.abort()
            return
        if not (self._waiting is not None and self._is_between_requests()):
            self.transport.write(_http(CROWDED))
        self.transport.close()

    def refuse(self, answer: Answer) -> None:
        """Answer with a problem and close, once the client had time to read it."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self._unset_keepalive_if_required()
        is_amid = self.cycle is not None and not self.cycle.response_complete
        if is_amid and self.cycle.response_started:
            self.transport.abort()
            return
        if is_amid:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(_http(answer))
        self.transport.write_eof()
        self._wait(LINGER_SECONDS, None)

    def _unsupported_upgrade_warning(self) -> None:
        """Answer over HTTP/1.1, and close: what follows may be of the other protocol."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _is_done(self) -> bool:
        return self._is_refused

    def _stop(self, answer: Answer) -> None:
        self._fault = answer
        raise _Refused

    def _wait(self, seconds: float, answer: Answer | None) -> None:
        self._waiting = Waiting(monotonic(), seconds, answer)


class Server(uvicorn.Server):
    """uvicorn's server, which looks at its connections now and then."""

    async def on_tick(self, counter: int) -> bool:
        """Do what is due; whether to stop."""
        if counter % LOOK_TICKS == 0:
            now = monotonic()
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, Front):
                    connection.look(now)
        return await super().on_tick(counter)


def most_connections() -> int:
    """How many connections this process can hold, by its limit of open files."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(FEWEST, limit - SPARE_FILES) if limit != resource.RLIM_INFINITY else 2**31


def _http(answer: Answer) -> bytes:
    body = answer.encoded()
    headers = [*answer.headers(len(body)), (b"connection", b"close")]
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return STATUS_LINE[int(answer.status)] + lines + b"\r\n" + body
