"""Lanes: each kind of question has threads and sessions of its own, and a bounded queue.

So a question waits only for others of its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from enum import Enum
from threading import Condition, Thread
from typing import Any, NamedTuple

from psycopg_pool import ConnectionPool
from pydantic import BaseModel

from analytics.facts.scope import Scope
from projections.asking.breaking_off import WORK, Work
from projections.asking.listing import Asked, AskedAt

Task = Callable[[], Any]


class Kind(NamedTuple):
    """How much is done at once for a kind of question.

    Attributes:
        about: the questions.
        threads: how many are answered at once; as many sessions with the database there are.
        queue: how many wait.
    """

    about: str
    threads: int
    queue: int


class Lane(Enum):
    """The kinds of question."""

    LIVE = Kind("live questions", 8, 400)
    LEDGER = Kind("audit questions", 2, 40)
    PAST = Kind("questions about the past", 2, 16)
    FILES = Kind("whole lists as files", 2, 6)
    FIGURES = Kind("figures", 2, 16)
    OPERATIONS = Kind("questions of operators", 2, 100)


class Busy(RuntimeError):
    """As many questions of a kind wait already as may."""

    def __init__(self, what: str) -> None:
        super().__init__(f"Too many {what} wait already. Ask again in a moment.")


def lane_of(asked: BaseModel | None, *, is_whole_file: bool, is_of_operators: bool) -> Lane:
    """The lane of a question, by its declaration and what is asked.

    Args:
        is_whole_file: whether all pages are wanted as one file.
    """
    if is_of_operators:
        return Lane.OPERATIONS
    if isinstance(asked, Scope):
        return Lane.FIGURES
    if isinstance(asked, AskedAt) and not (asked.as_of is None and asked.known_at is None):
        return Lane.PAST
    if is_whole_file:
        return Lane.FILES
    return Lane.LEDGER if asked is not None and not isinstance(asked, Asked) else Lane.LIVE


class Workers:
    """The threads and the queue of one lane.

    Args:
        lane: whose they are.
        pool: its sessions.
        threads: how many are answered at once.
    """

    def __init__(self, lane: Lane, pool: ConnectionPool[Any], threads: int) -> None:
        self.lane = lane
        self.pool = pool
        self._threads = threads
        self._more = Condition()
        self._waiting: dict[Future[Any], Task] = {}
        self._working: dict[Future[Any], Work] = {}
        self._started = self._idle = 0
        self._is_closed = False

    def submit(self, task: Task, work: Work) -> Future[Any]:
        """Do this once it is its turn.

        Raises:
            Busy: when the queue is full.
        """
        future: Future[Any] = Future()
        context = copy_context()
        context.run(_HERE.set, self)
        context.run(WORK.set, work)
        with self._more:
            is_free = len(self._waiting) < self._idle or self._started < self._threads
            if not is_free and len(self._waiting) - self._idle >= self.lane.value.queue:
                raise Busy(self.lane.value.about)
            self._waiting[future] = lambda: context.run(self._done, future, task, work)
            if len(self._waiting) > self._idle and self._started < self._threads:
                self._started += 1
                name = f"{self.lane.name.lower()} {self._started}"
                Thread(target=self._serve, name=name, daemon=True).start()
            self._more.notify()
        return future

    def leave(self, future: Future[Any]) -> bool:
        """Let it not be done, if it has not begun; whether it had not."""
        with self._more:
            is_waiting = self._waiting.pop(future, None) is not None
        if is_waiting:
            future.cancel()
        return is_waiting

    def close(self) -> None:
        """Break off what is under way, and let go of what waits."""
        with self._more:
            self._is_closed = True
            waiting, working = tuple(self._waiting), tuple(self._working.values())
            self._more.notify_all()
        for future in waiting:
            self.leave(future)
        for work in working:
            Thread(target=work.break_off, name="breaking off", daemon=True).start()
        self.pool.close()

    def _serve(self) -> None:
        while (task := self._next()) is not None:
            task()

    def _next(self) -> Task | None:
        with self._more:
            self._idle += 1
            while not self._waiting and not self._is_closed:
                self._more.wait()
            self._idle -= 1
            return None if self._is_closed else self._waiting.pop(next(iter(self._waiting)))

    def _done(self, future: Future[Any], task: Task, work: Work) -> None:
        if not future.set_running_or_notify_cancel():
            return
        self._working[future] = work
        try:
            found = task()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(found)
        finally:
            self._working.pop(future)


_HERE: ContextVar[Workers] = ContextVar("lane")


def here() -> Workers | None:
    """The lane that the present thread works in."""
    return _HERE.get(None)
