"""The servers under load, each a process of its own: Pledge as it serves, and a bare FastAPI."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

from databases import ledger_in
from measuring import SPAWN, STOP_SECONDS
from rich.console import Console

from pledge import app
from pledge.serving import _serve_http
from pledge.settings import Settings
from pledge.wiring import facts
from read_api.reading import Reader

START_SECONDS = 30


def pledge(port: int, url: str) -> None:
    """The product's own server; only its projectors, a process apart, are left out."""
    signal.signal(signal.SIGTERM, lambda *_: exit_quietly())
    settings, found = Settings(port=port), ledger_in(url)
    writer = found.writer()
    writer.start()
    try:
        reader = Reader(found.conninfo, found.keyring(), facts=facts(settings))
        _serve_http(settings, app.whole(writer, reader, settings), Console(quiet=True), ())
    finally:
        writer.stop()


def exit_quietly() -> None:
    raise SystemExit(0)


@contextmanager
def running(serve: Callable[..., None], *arguments: Any) -> Iterator[int]:
    """The port on which ``serve(port, …)`` answers, in a process that ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = SPAWN.Process(target=serve, args=(port, *arguments), daemon=True)
    child.start()
    try:
        _wait_for(port, child)
        yield port
    finally:
        child.terminate()
        child.join(STOP_SECONDS)
        if child.is_alive():
            child.kill()
            child.join()


def _wait_for(port: int, child: BaseProcess) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        assert child.is_alive(), "the server died"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the server does not answer")
