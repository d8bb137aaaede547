"""The one place of a process that writes: it takes whatever commands wait, as one group."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import psycopg
import structlog

from commands.handling.deciding import Decider, Plan
from commands.handling.outcome import Failed, Outcome, Outdated, Unknown
from commands.handling.recall import Recall
from commands.handling.request import Request
from events.ledger import sessions
from events.ledger.keys import Keyring
from events.ledger.ledger import Appending, Connection, Verdict
from events.ledger.steps import OTHER_VERSION

log = structlog.get_logger()

GROUP = 256
"""The most commands in one append."""
MANY = 16
"""From how many callers on it pays to serve them in two halves, in turn."""
PATIENCE_SECONDS = 8.0
"""How long callers wait for a ledger that does not answer, and groups for a database that is away;
after that each group tries once."""
ATTEMPTS = 200
"""How often one command may lose a race before its caller is asked to come back."""

LIMIT_EXCEEDED = "54"
"""SQLSTATE class "program limit exceeded", which psycopg counts as operational."""

Handled = list[Outcome]


class Closed(RuntimeError):
    """The writer was stopped; nothing is taken any more."""


@dataclass(slots=True)
class Sender:
    """Hands in requests whose order matters.

    Attributes:
        is_lost: whether the outcome of some is unknown; none that comes after them is decided.
    """

    is_lost: bool = False


@dataclass(slots=True)
class Ticket:
    """Requests handed in together, whose outcomes go out together.

    Attributes:
        until: when their caller is told that their outcome is unknown.
    """

    requests: Sequence[Request]
    future: asyncio.Future[Handled]
    sender: Sender
    until: float

    @property
    def is_given_up(self) -> bool:
        """Whether nothing of it is to be decided any more."""
        return self.sender.is_lost or time.monotonic() > self.until

    def give_up(self) -> None:
        """Tell the caller that the outcome is unknown; in the thread of its loop."""
        if not self.future.done():
            self.sender.is_lost = True
            self.future.set_result([Unknown()] * len(self.requests))


@dataclass(slots=True)
class Flight:
    """A plan on its way into the ledger; until it lands nobody knows what became of it."""

    plan: Plan
    appending: Appending


class Bell:
    """Wakes a thread that waits for a socket."""

    def __init__(self) -> None:
        self._heard, self._rope = socket.socketpair()
        self._rung = False

    def ring(self) -> None:
        """Wake who waits, or who will wait next; from any thread."""
        if not self._rung:
            self._rung = True
            with suppress(OSError):  # nobody listens any more
                self._rope.send(b".")

    def wait(self, flight: Flight | None) -> None:
        """Until it is rung, or the flight's answer comes or is overdue."""
        both = select.poll()
        both.register(self._heard, select.POLLIN)
        if flight is not None:
            both.register(flight.appending, select.POLLIN)
        limit = None if flight is None else sessions.SILENCE_SECONDS * 1_000
        if any(ready == self._heard.fileno() for ready, _ in both.poll(limit)):
            self._heard.recv(1)
            self._rung = False

    def close(self) -> None:
        """Give the sockets back."""
        self._heard.close()
        self._rope.close()


class Writer:
    """Handles requests in groups, each group in one transaction, all from one thread.

    There is no timer: the next group fills while the last one commits, and is decided meanwhile as
    far as it concerns other streams. A group whose outcome is unknown, because the connection died,
    is appended again: the idempotency keys, stored with the events, tell what had happened. A
    caller waits ``PATIENCE_SECONDS`` at most; what was under way by then goes on.

    Args:
        connect: opens an autocommit session on the ledger.
        keyring: the subjects' keys.
        remembered: how many folded streams to keep between groups.

    Attributes:
        recall: looks up what is on record already.
    """

    def __init__(
        self, connect: Callable[[], Connection], keyring: Keyring, *, remembered: int = 50_000
    ) -> None:
        self._connect = connect
        self.recall = Recall(connect)
        self._decider = Decider(keyring, remembered)
        self._away_since: float | None = None
        self._appending: Connection | None = None
        self._reading: Connection | None = None
        self._waiting: deque[Ticket] = deque()
        self._importing: deque[Ticket] = deque()
        self._lock = threading.Lock()
        self._bell = Bell()
        self._stopping = False
        self._settled: dict[int, Outcome] = {}
        self._open: deque[Ticket] = deque()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.groups = 0
        self.commands = 0

    def start(self) -> None:
        """Begin to take requests."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what waits, then end."""
        with self._lock:
            self._stopping = True
        self._bell.ring()
        if self._thread.is_alive():
            self._thread.join()
        self._bell.close()
        self._drop_connections()
        self.recall.close()

    def submit(
        self, requests: Sequence[Request], sender: Sender | None = None
    ) -> asyncio.Future[Handled]:
        """The outcomes of these requests, in their order, as a future of the running loop.

        Args:
            sender: an import that handed in others before, which must not be overtaken. It comes
                behind all requests that are of none.

        Raises:
            Closed: after ``stop``.
        """
        loop = asyncio.get_running_loop()
        until = time.monotonic() + PATIENCE_SECONDS
        ticket = Ticket(requests, loop.create_future(), sender or Sender(), until)
        if ticket.sender.is_lost:
            ticket.give_up()
            return ticket.future
        timer = loop.call_later(PATIENCE_SECONDS, ticket.give_up)
        ticket.future.add_done_callback(lambda _: timer.cancel())
        with self._lock:
            if self._stopping:
                raise Closed
            (self._waiting if sender is None else self._importing).append(ticket)
        # Whoever was answered together asks again together: all of them first, then the bell.
        loop.call_soon(self._bell.ring)
        return ticket.future

    def handle(self, requests: Sequence[Request]) -> Handled:
        """The outcomes of these requests, in their order; in the caller's own thread.

        Only for a writer that was not started.
        """
        self._settle_all(list(requests))
        return [self._settled.pop(id(request)) for request in requests]

    def _run(self) -> None:
        backlog: list[Request] = []
        flight: Flight | None = None
        while backlog or flight is not None or not self._is_over():
            group = backlog
            try:
                if not backlog and not self._waiting and not self._importing:
                    self._bell.wait(flight)
                group = backlog + self._take(GROUP - len(backlog), alone=flight is None)
                backlog, flight = self._turn(group, flight)
            except Exception as error:
                if not _is_away(error):
                    log.exception("a group could not be handled at once")
                under_way = [d.request for d in flight.plan.decided] if flight else []
                _doubt(under_way + group)
                self._drop_connections()
                self._settle_all([r for r in under_way + group if id(r) not in self._settled])
                backlog, flight = [], None
            self._hand_out()

    def _is_over(self) -> bool:
        with self._lock:
            return self._stopping and not self._waiting and not self._importing

    def _take(self, room: int, *, alone: bool) -> list[Request]:
        """What waits, as far as there is room; of many only half where nothing is under way.

        The other half is decided while the first one commits.
        """
        taken: list[Request] = []
        with self._lock:
            if alone and len(self._waiting) >= MANY:
                room = min(room, len(self._waiting) // 2)
            for queue in (self._waiting, self._importing):
                while queue and (not taken or len(taken) + len(queue[0].requests) <= room):
                    ticket = queue.popleft()
                    self._open.append(ticket)
                    if ticket.is_given_up:
                        self._settled.update((id(one), Unknown()) for one in ticket.requests)
                        continue
                    taken += ticket.requests
        return taken

    def _turn(
        self, group: list[Request], flight: Flight | None
    ) -> tuple[list[Request], Flight | None]:
        """Decide a group beside the one under way, land that one, send this one."""
        if flight is None:
            plan = self._decided(group)
            return plan.later, self._sent(plan)
        if flight.appending.has_landed():
            return self._landed(flight.plan, flight.appending.verdicts()) + group, None
        if not group:
            return [], flight
        plan = self._decided(group, flight.plan.streams)
        verdicts = flight.appending.verdicts()
        following = self._sent(plan)
        return self._landed(flight.plan, verdicts) + plan.later, following

    def _decided(self, group: list[Request], busy: Collection[UUID] = ()) -> Plan:
        plan = self._decider.prepare(self._reader(), group, busy)
        self._note(plan)
        if not plan.decided:
            self._away_since = None
        return plan

    def _sent(self, plan: Plan) -> Flight | None:
        if not plan.decided:
            return None
        self.groups += 1
        self.commands += len(plan.decided)
        return Flight(plan, plan.append(self._appender()))

    def _landed(self, plan: Plan, verdicts: list[Verdict]) -> list[Request]:
        again = self._decider.settle(self._reader(), plan, verdicts)
        self._note(plan)
        self._away_since = None
        return self._give_up_on_the_worn(again)

    def _note(self, plan: Plan) -> None:
        self._settled.update((id(request), outcome) for request, outcome in plan.done)
        plan.done.clear()

    def _settle_all(self, left: list[Request]) -> None:
        """Settle all of these, group by group, whatever happens; without a flight beside."""
        pause = 0.05
        while left:
            group, rest = left[:GROUP], left[GROUP:]
            try:
                plan = self._decided(group)
                flight = self._sent(plan)
                again = self._landed(plan, flight.appending.verdicts()) if flight else []
            except Exception as error:
                if not _is_away(error):
                    self._decider.forget()
                    self._bisect(group, error)
                    left = rest
                    continue
                log.warning("the ledger is away", error=str(error).strip())
                _doubt(group)
                self._drop_connections()
                self._away_since = self._away_since or time.monotonic()
                if time.monotonic() > self._away_since + PATIENCE_SECONDS:
                    self._settled.update((id(r), Unknown()) for r in left)
                    return
                time.sleep(pause)
                pause = min(pause * 2, 1.0)
            else:
                self._away_since = None
                left = again + plan.later + rest

    def _bisect(self, group: list[Request], error: Exception) -> None:
        if len(group) == 1:
            [request] = group
            if isinstance(error, OTHER_VERSION):
                why = str(error).partition("\n")[0]
                log.error("the ledger is of a later version", command=request.name, why=why)
                self._settled[id(request)] = Outdated(why)
            else:
                log.error("a command could not be recorded", command=request.name, exc_info=error)
                self._settled[id(request)] = Failed()
            return
        middle = len(group) // 2
        self._settle_all(group[:middle])
        self._settle_all(group[middle:])

    def _give_up_on_the_worn(self, again: list[Request]) -> list[Request]:
        worn = [request for request in again if request.attempts > ATTEMPTS]
        self._settled.update((id(request), Unknown()) for request in worn)
        return [request for request in again if request.attempts <= ATTEMPTS]

    def _hand_out(self) -> None:
        """Let go of every ticket whose requests are all settled."""
        ready: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Handled], Handled]]] = {}
        still_open: deque[Ticket] = deque()
        for ticket in self._open:
            if all(id(request) in self._settled for request in ticket.requests):
                handled = [self._settled.pop(id(request)) for request in ticket.requests]
                if any(isinstance(outcome, Unknown) for outcome in handled):
                    ticket.sender.is_lost = True
                ready.setdefault(ticket.future.get_loop(), []).append((ticket.future, handled))
            else:
                still_open.append(ticket)
        self._open = still_open
        for loop, results in ready.items():
            try:
                loop.call_soon_threadsafe(_set_results, results)
            except RuntimeError:
                log.warning("outcomes came after their server had stopped", outcomes=len(results))

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


def _doubt(requests: Iterable[Request]) -> None:
    """Note that these may have been recorded: a stream that they begin may exist by now."""
    for request in requests:
        request.attempts = max(request.attempts, 1)


def _is_away(error: Exception) -> bool:
    """Whether the database could not serve us, rather than not accept what we sent."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return not (error.sqlstate or "").startswith(LIMIT_EXCEEDED)


def _set_results(results: list[tuple[asyncio.Future[Handled], Handled]]) -> None:
    for future, handled in results:
        if not future.done():
            future.set_result(handled)
