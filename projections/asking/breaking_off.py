"""A question that nobody waits for any more is broken off, whatever thread works on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from threading import Lock

Interrupt = Callable[[], object]


class BrokenOff(RuntimeError):
    """Nobody waits for the answer any more."""


class Work:
    """What is done for one question, and how it is interrupted."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._interrupts: list[Interrupt] = []
        self.is_broken_off = False

    def break_off(self) -> None:
        """Interrupt what is under way; what has not begun does not begin any more."""
        with self._lock:
            self.is_broken_off = True
            for interrupt in self._interrupts:
                with suppress(Exception):  # whatever fails here is at its end already
                    interrupt()

    @contextmanager
    def interruptible(self, interrupt: Interrupt) -> Iterator[None]:
        """Inside, that is called when the question is broken off; never behind it.

        Raises:
            BrokenOff: when it is so already.
        """
        with self._lock:
            if self.is_broken_off:
                raise BrokenOff
            self._interrupts.append(interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)


WORK: ContextVar[Work] = ContextVar("work")
"""The question that the present thread works on."""


@contextmanager
def interruptible(interrupt: Interrupt) -> Iterator[None]:
    """As ``Work.interruptible`` of the present question, if it is anybody's."""
    work = WORK.get(None)
    if work is None:
        yield
        return
    with work.interruptible(interrupt):
        yield


def go_on() -> None:
    """Look whether anybody still waits for the answer.

    Raises:
        BrokenOff: when nobody does.
    """
    work = WORK.get(None)
    if work is not None and work.is_broken_off:
        raise BrokenOff
