"""A server of ours that died is started again, for as long as this process runs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

log = structlog.get_logger()

LOOK_SECONDS = 0.25
CALM_SECONDS = 10.0
"""A server that lived so long is started again at once."""
PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0


@contextmanager
def kept_running(
    name: str,
    lives: Callable[[], bool],
    start: Callable[[], None],
    last_words: Callable[[], str],
    failures: tuple[type[Exception], ...],
) -> Iterator[None]:
    """Look after a running server in a thread.

    Args:
        name: of the server, in logs.
        lives: whether it is there; cheap, and no matter whether it answers.
        start: starts it, and returns when it answers.
        last_words: what it said at last, for the log.
        failures: what ``start`` raises while the server cannot be started.
    """
    stop = threading.Event()

    def watch() -> None:
        pause, began = PAUSE_SECONDS, 0.0
        while not stop.wait(LOOK_SECONDS):
            if lives():
                continue
            log.warning("a server ended and is started again", server=name, said=last_words())
            pause = PAUSE_SECONDS if time.monotonic() > began + CALM_SECONDS else doubled(pause)
            if pause > PAUSE_SECONDS:
                stop.wait(pause)
            while not stop.is_set():
                try:
                    start()
                except failures as error:
                    log.error(  # noqa: TRY400 - its message says it all
                        "a server does not start", server=name, why=str(error), again_in=pause
                    )
                    stop.wait(pause)
                    pause = doubled(pause)
                else:
                    log.info("a server runs again", server=name)
                    break
            began = time.monotonic()

    watcher = threading.Thread(target=watch, name=f"{name} watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def doubled(pause: float) -> float:
    """The pause after the next failure."""
    return min(pause * 2, LONGEST_PAUSE_SECONDS)


def at_work(program: str, folder: Path) -> list[int]:
    """The processes of a program that work in a folder, or in a deleted one of its name."""
    every = (int(process.name) for process in Path("/proc").glob("[0-9]*"))
    return [pid for pid in every if is_at_work(pid, program, folder)]


def is_at_work(pid: int, program: str, folder: Path) -> bool:
    """Whether this is such a process, and not dead; asks Linux."""
    process = Path("/proc", str(pid))
    with suppress(OSError):
        there = (process / "cwd").readlink()
        return (process / "comm").read_text() == f"{program}\n" and (
            str(there) == f"{folder} (deleted)" or there.samefile(folder)
        )
    return False


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put SIGINT and SIGTERM off: a server half started could be neither stopped nor forgotten."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    kept = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
