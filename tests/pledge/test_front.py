"""The server's front holds its bounds of time, tried with small ones."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest
import uvicorn

from pledge import front
from pledge.front import Front, Server

GET = b"GET /%s HTTP/1.1\r\nHost: pledge\r\n"
POST = b"POST /take HTTP/1.1\r\nHost: pledge\r\nContent-Length: 9\r\n\r\n"
LARGE = 20_000_000


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Takes bodies at /take, answers much at /large and little elsewhere."""
    if scope["type"] != "http":
        return
    while scope["path"] == "/take" and (await receive()).get("more_body"):
        pass
    body = b"x" * (LARGE if scope["path"] == "/large" else 2)
    length = str(len(body)).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}
    )
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server with bounds of a fraction of a second."""
    patch = pytest.MonkeyPatch()
    for name in ("HEAD", "BODY", "REST", "UNREAD", "LINGER"):
        patch.setattr(front, f"{name}_SECONDS", 0.3)
    patch.setattr(front, "LOOK_TICKS", 1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            application, http=Front, ws="none", lifespan="off", log_level="error"
        )
        server = Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
            patch.undo()


@pytest.fixture
def conn(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as made:
        yield made


def read_all(conn: socket.socket) -> bytes:
    parts = []
    with suppress(ConnectionResetError):
        while part := conn.recv(1 << 20):
            parts.append(part)
    return b"".join(parts)


def told(raw: bytes) -> Any:
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    return orjson.loads(body)


def test_a_connection_on_which_nothing_comes_is_closed(conn: socket.socket) -> None:
    assert read_all(conn) == b""


def test_half_a_head_is_too_slow(conn: socket.socket) -> None:
    conn.sendall(GET % b"")
    assert told(read_all(conn))["status"] == 408


def test_a_head_that_drips_is_too_slow(conn: socket.socket) -> None:
    def drip() -> None:
        try:
            conn.sendall(GET % b"")
            while True:
                conn.sendall(b"A: b\r\n")
                time.sleep(0.05)
        except OSError:
            pass

    thread = threading.Thread(target=drip)
    thread.start()
    assert told(read_all(conn))["status"] == 408
    thread.join()


def test_a_body_that_does_not_come_is_too_slow(conn: socket.socket) -> None:
    conn.sendall(POST + b"1234")
    assert told(read_all(conn))["detail"].startswith("The body did not come")


def test_a_body_that_was_answered_is_not_waited_for(conn: socket.socket) -> None:
    conn.sendall(GET % b"" + b"Content-Length: 9\r\n\r\n1234")
    assert read_all(conn).startswith(b"HTTP/1.1 200")


def test_an_answer_that_is_not_read_is_not_kept(conn: socket.socket) -> None:
    conn.sendall(GET % b"large" + b"\r\n")
    time.sleep(1.5)  # as one who does not read
    assert len(read_all(conn)) < LARGE


def test_an_answer_that_is_read_slowly_is_sent_whole(conn: socket.socket) -> None:
    conn.sendall(GET % b"large" + b"Connection: close\r\n\r\n")
    size = 0
    while part := conn.recv(500_000):
        size += len(part)
        time.sleep(0.02)
    assert size > LARGE


def test_a_client_that_goes_on_is_served_on_one_connection(conn: socket.socket) -> None:
    for _ in range(3):
        conn.sendall(POST)
        conn.sendall(b"123456789")
        got = b""
        while not got.endswith(b"\r\n\r\nxx"):
            got += conn.recv(1_000)
        assert got.startswith(b"HTTP/1.1 200")
        time.sleep(0.2)
