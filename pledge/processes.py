"""Processes of Pledge beside this one, and how each of them ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import structlog

from pledge.settings import Settings
from pledge.wiring import Parts

log = structlog.get_logger()

STOP_SECONDS = 10
RESTART_SECONDS = 1.0


@contextmanager
def beside(found: Parts, settings: Settings, *arguments: str) -> Iterator[None]:
    """A part of Pledge in a process of its own, started again whenever it dies.

    The child ends when its standard input does, so it never outlives a killed parent.
    """
    stop = threading.Event()
    environment = {
        **os.environ,
        "PLEDGE_DATABASE_URL": found.conninfo,
        "PLEDGE_HOME": str(settings.home.absolute()),
    }
    command = program("--until-eof", *arguments)
    children: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        child = subprocess.Popen(  # noqa: S603 - our own program
            command, env=environment, stdin=subprocess.PIPE, start_new_session=True
        )
        children[:] = [child]

    def watch() -> None:
        while not stop.wait(RESTART_SECONDS / 5):
            code = children[0].poll()
            if code is not None and not stop.is_set():
                log.warning("a part died and is started again", part=arguments[0], code=code)
                stop.wait(RESTART_SECONDS)
                start()

    start()
    watcher = threading.Thread(target=watch, name=f"{arguments[0]} watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        _end(children[0])


def _end(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    with suppress(BrokenPipeError):
        child.stdin.close()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def program(*arguments: str) -> list[str]:
    """The command line of another of our processes."""
    return [sys.executable, "-P", "-m", "pledge", *arguments]


def end_with_input() -> None:
    """End this process as SIGTERM does once standard input ends: when its parent is gone."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="until eof", daemon=True).start()


def on_signals(stop: Callable[[], None]) -> None:
    """Call ``stop`` at SIGINT and SIGTERM.

    In a thread of its own: the main thread may hold the very lock that ``stop`` takes, for a signal
    can come between any two of its steps.
    """

    def handle(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=stop, name="stopping", daemon=True).start()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
