"""The one thread of a process that writes: it takes whatever commands wait, as one group."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from http import HTTPStatus

import psycopg
import structlog

from commands import request as answers
from commands.deciding import Decider
from commands.request import Answer, Request
from events import ledger
from events.keys import Keyring

log = structlog.get_logger()

GROUP = 256
"""The most commands in one append."""
PATIENCE_SECONDS = 20.0
"""How long a group waits for a database that is away."""
ATTEMPTS = 200
"""How often one command may lose a race before its caller is asked to come back."""

Handled = list[Answer]


class Closed(RuntimeError):
    """The writer was stopped; nothing is taken any more."""


class Writer:
    """Handles requests in groups, each group in one transaction.

    There is no timer: the next group fills while the last one commits. A group whose outcome is
    unknown, because the connection died, is appended again: the idempotency keys, stored with the
    events, tell what had happened.

    Args:
        connect: opens an autocommit session on the ledger.
        keyring: the subjects' keys.
        remembered: how many folded streams to keep between groups.
        on_commit: called from the writer's thread with the ledger's new position.
    """

    def __init__(
        self,
        connect: Callable[[], ledger.Connection],
        keyring: Keyring,
        *,
        remembered: int = 50_000,
        on_commit: Callable[[int], None] | None = None,
    ) -> None:
        self._connect = connect
        self._decider = Decider(keyring, remembered)
        self._on_commit = on_commit
        self._conn: ledger.Connection | None = None
        self._waiting: deque[tuple[Sequence[Request], asyncio.Future[Handled]]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.groups = 0
        self.commands = 0

    def start(self) -> None:
        """Begin to take requests."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what waits, then end."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()
        if self._conn is not None:
            self._conn.close()

    def submit(self, requests: Sequence[Request]) -> asyncio.Future[Handled]:
        """The answers to these requests, in their order, as a future of the running loop.

        Raises:
            Closed: after ``stop``.
        """
        future: asyncio.Future[Handled] = asyncio.get_running_loop().create_future()
        with self._wake:
            if self._stopping:
                raise Closed
            self._waiting.append((requests, future))
            self._wake.notify()
        return future

    def handle(self, requests: Sequence[Request]) -> Handled:
        """The answers to these requests, in their order; in the caller's own thread.

        Only for a writer that was not started.
        """
        answered = self._answer(list(requests))
        return [answered[id(request)] for request in requests]

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._stopping:
                    self._wake.wait()
                if not self._waiting:
                    return
                taken = [self._waiting.popleft()]
                size = len(taken[0][0])
                while self._waiting and size + len(self._waiting[0][0]) <= GROUP:
                    taken.append(self._waiting.popleft())
                    size += len(taken[-1][0])
            group = [request for requests, _ in taken for request in requests]
            try:
                answered = self._answer(group)
            except Exception:
                log.exception("a group could not be handled")
                answered = {id(request): _failed() for request in group}
            self._resolve([(f, [answered[id(r)] for r in requests]) for requests, f in taken])

    def _resolve(self, results: list[tuple[asyncio.Future[Handled], Handled]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Handled], Handled]]] = {}
        for future, handled in results:
            by_loop.setdefault(future.get_loop(), []).append((future, handled))
        for loop, theirs in by_loop.items():
            try:
                loop.call_soon_threadsafe(_set_results, theirs)
            except RuntimeError:
                log.warning("answers came after their server had stopped", answers=len(theirs))

    def _answer(self, group: list[Request]) -> dict[int, Answer]:
        """Answers by the identity of their requests, which are not hashable."""
        self.groups += 1
        self.commands += len(group)
        answered: dict[int, Answer] = {}
        left = group
        patience = time.monotonic() + PATIENCE_SECONDS
        pause = 0.05
        while left:
            try:
                done, again = self._decider.round(self._connection(), left[:GROUP])
                left = [*again, *left[GROUP:]]
            except psycopg.OperationalError as error:
                log.warning("the ledger is away", error=str(error).strip())
                self._drop_connection()
                if time.monotonic() > patience:
                    answered.update((id(r), _unavailable()) for r in left)
                    break
                time.sleep(pause)
                pause = min(pause * 2, 1.0)
                continue
            except Exception as error:
                self._decider.forget()
                answered.update(self._halves(left, error))
                break
            answered.update((id(request), answer) for request, answer in done)
            worn = [request for request in left if request.attempts > ATTEMPTS]
            if worn:
                answered.update((id(r), _unavailable()) for r in worn)
                left = [request for request in left if request.attempts <= ATTEMPTS]
        self._decider.trim()
        return answered

    def _halves(self, group: list[Request], error: Exception) -> dict[int, Answer]:
        if len(group) == 1:
            log.error("a command could not be recorded", command=group[0].name, exc_info=error)
            return {id(group[0]): _failed()}
        middle = len(group) // 2
        return {**self._answer(group[:middle]), **self._answer(group[middle:])}

    def _connection(self) -> ledger.Connection:
        if self._conn is None:
            self._conn = self._connect()
        return self._conn

    def _drop_connection(self) -> None:
        self._decider.forget()
        if self._conn is not None:
            self._conn.close()
            self._conn = None


def _set_results(results: list[tuple[asyncio.Future[Handled], Handled]]) -> None:
    for future, handled in results:
        if not future.done():
            future.set_result(handled)


def _failed() -> Answer:
    return answers.problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal-error",
        "Something failed on our side. The log says what.",
    )


def _unavailable() -> Answer:
    return answers.problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "ledger-unavailable",
        "The ledger did not answer in time, so it is not known yet whether the command was "
        "recorded. Send it again with the same Idempotency-Key.",
    )
