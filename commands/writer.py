"""The one place of a process that writes: it takes whatever commands wait, as one group."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import psycopg
import structlog

from commands import request as answers
from commands.deciding import Decider, Plan
from commands.request import Answer, Request
from events.keys import Keyring
from events.ledger import Connection, Verdict

log = structlog.get_logger()

GROUP = 256
"""The most commands in one append."""
PATIENCE_SECONDS = 20.0
"""How long a group waits for a database that is away."""
ATTEMPTS = 200
"""How often one command may lose a race before its caller is asked to come back."""

LIMIT_EXCEEDED = "54"
"""SQLSTATE class "program limit exceeded", which psycopg counts as operational."""

Handled = list[Answer]


class Closed(RuntimeError):
    """The writer was stopped; nothing is taken any more."""


@dataclass(slots=True)
class Ticket:
    """Requests handed in together, whose answers go out together."""

    requests: Sequence[Request]
    future: asyncio.Future[Handled]


@dataclass(slots=True)
class Flight:
    """A plan on its way into the ledger."""

    plan: Plan
    verdicts: Future[list[Verdict]]


class Writer:
    """Handles requests in groups, each group in one transaction, all from one thread.

    There is no timer: the next group fills while the last one commits, and is decided meanwhile as
    far as it concerns other streams. A group whose outcome is unknown, because the connection died,
    is appended again: the idempotency keys, stored with the events, tell what had happened.

    Args:
        connect: opens an autocommit session on the ledger.
        keyring: the subjects' keys.
        remembered: how many folded streams to keep between groups.
    """

    def __init__(
        self, connect: Callable[[], Connection], keyring: Keyring, *, remembered: int = 50_000
    ) -> None:
        self._connect = connect
        self._decider = Decider(keyring, remembered)
        self._appending: Connection | None = None
        self._reading: Connection | None = None
        self._waiting: deque[Ticket] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._answered: dict[int, Answer] = {}
        self._open: deque[Ticket] = deque()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._append = ThreadPoolExecutor(1, "append")
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
        self._append.shutdown()
        self._drop_connections()

    def submit(self, requests: Sequence[Request]) -> asyncio.Future[Handled]:
        """The answers to these requests, in their order, as a future of the running loop.

        Raises:
            Closed: after ``stop``.
        """
        ticket = Ticket(requests, asyncio.get_running_loop().create_future())
        with self._wake:
            if self._stopping:
                raise Closed
            self._waiting.append(ticket)
            self._wake.notify()
        return ticket.future

    def handle(self, requests: Sequence[Request]) -> Handled:
        """The answers to these requests, in their order; in the caller's own thread.

        Only for a writer that was not started.
        """
        self._settle_all(list(requests))
        return [self._answered.pop(id(request)) for request in requests]

    def _run(self) -> None:
        backlog: list[Request] = []
        flight: Flight | None = None
        while True:
            idle = not backlog and flight is None
            fresh = self._take(GROUP - len(backlog), idle=idle)
            if not fresh and idle:
                return
            group = backlog + fresh
            try:
                backlog, flight = self._step(group, flight)
            except Exception as error:
                if not _is_away(error):
                    log.exception("a group could not be handled at once")
                under_way: list[Request] = []
                if flight is not None:
                    under_way = [d.request for d in flight.plan.decided]
                    wait([flight.verdicts])
                self._drop_connections()
                self._settle_all([r for r in under_way + group if id(r) not in self._answered])
                backlog, flight = [], None
            self._hand_out()

    def _take(self, room: int, *, idle: bool) -> list[Request]:
        taken: list[Request] = []
        with self._wake:
            while idle and not self._waiting and not self._stopping:
                self._wake.wait()
            while self._waiting and (
                not taken or len(taken) + len(self._waiting[0].requests) <= room
            ):
                ticket = self._waiting.popleft()
                self._open.append(ticket)
                taken += ticket.requests
        return taken

    def _step(
        self, group: list[Request], flight: Flight | None, *, may_fly: bool = True
    ) -> tuple[list[Request], Flight | None]:
        """Decide a group beside the one under way, land that one, send this one.

        Where nothing waits there is nothing to do meanwhile, and the group is appended at once.
        """
        plan = None
        if group:
            busy = flight.plan.streams if flight else ()
            plan = self._decider.prepare(self._reader(), group, busy)
            self._note(plan)
        again: list[Request] = []
        if flight is not None:
            again = self._land(flight.plan, flight.verdicts.result())
        if plan is None:
            return again, None
        later = again + plan.later
        if not plan.decided:
            return later, None
        self.groups += 1
        self.commands += len(plan.decided)
        if may_fly and (self._waiting or later):
            return later, Flight(plan, self._append.submit(plan.append, self._appender()))
        return self._land(plan, plan.append(self._appender())) + later, None

    def _land(self, plan: Plan, verdicts: list[Verdict]) -> list[Request]:
        again = self._decider.settle(self._reader(), plan, verdicts)
        self._note(plan)
        return self._give_up_on_the_worn(again)

    def _note(self, plan: Plan) -> None:
        self._answered.update((id(request), answer) for request, answer in plan.done)
        plan.done.clear()

    def _settle_all(self, left: list[Request]) -> None:
        """Answer all of these, group by group, whatever happens; without a flight beside."""
        patience = time.monotonic() + PATIENCE_SECONDS
        pause = 0.05
        while left:
            group, rest = left[:GROUP], left[GROUP:]
            try:
                again, _ = self._step(group, None, may_fly=False)
            except Exception as error:
                if not _is_away(error):
                    self._decider.forget()
                    self._bisect(group, error)
                    left = rest
                    continue
                log.warning("the ledger is away", error=str(error).strip())
                self._drop_connections()
                if time.monotonic() > patience:
                    self._answered.update((id(r), answers.unavailable()) for r in left)
                    return
                time.sleep(pause)
                pause = min(pause * 2, 1.0)
            else:
                left = again + rest

    def _bisect(self, group: list[Request], error: Exception) -> None:
        if len(group) == 1:
            log.error("a command could not be recorded", command=group[0].name, exc_info=error)
            self._answered[id(group[0])] = answers.failed()
            return
        middle = len(group) // 2
        self._settle_all(group[:middle])
        self._settle_all(group[middle:])

    def _give_up_on_the_worn(self, again: list[Request]) -> list[Request]:
        worn = [request for request in again if request.attempts > ATTEMPTS]
        self._answered.update((id(request), answers.unavailable()) for request in worn)
        return [request for request in again if request.attempts <= ATTEMPTS]

    def _hand_out(self) -> None:
        """Let go of every ticket whose requests are all answered."""
        ready: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Handled], Handled]]] = {}
        still_open: deque[Ticket] = deque()
        for ticket in self._open:
            if all(id(request) in self._answered for request in ticket.requests):
                handled = [self._answered.pop(id(request)) for request in ticket.requests]
                ready.setdefault(ticket.future.get_loop(), []).append((ticket.future, handled))
            else:
                still_open.append(ticket)
        self._open = still_open
        for loop, results in ready.items():
            try:
                loop.call_soon_threadsafe(_set_results, results)
            except RuntimeError:
                log.warning("answers came after their server had stopped", answers=len(results))

    def _appender(self) -> Connection:
        if self._appending is None:
            self._appending = self._connect()
        return self._appending

    def _reader(self) -> Connection:
        if self._reading is None:
            self._reading = self._connect()
        return self._reading

    def _drop_connections(self) -> None:
        """Begin anew: whatever was remembered came over connections that are gone."""
        self._decider.forget()
        for conn in (self._appending, self._reading):
            if conn is not None:
                conn.close()
        self._appending = self._reading = None


def _is_away(error: Exception) -> bool:
    """Whether the database could not serve us, rather than not accept what we sent."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return not (error.sqlstate or "").startswith(LIMIT_EXCEEDED)


def _set_results(results: list[tuple[asyncio.Future[Handled], Handled]]) -> None:
    for future, handled in results:
        if not future.done():
            future.set_result(handled)
