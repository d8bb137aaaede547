"""One consistent snapshot of the read models: its position, and the moment asked about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from select import POLLIN, poll
from uuid import UUID

from fastapi import Request
from psycopg import IsolationLevel
from psycopg.conninfo import make_conninfo
from psycopg.errors import InvalidSchemaName, UndefinedTable
from psycopg_pool import ConnectionPool

from analytics.facts.store import Store
from events.envelope import actor_named
from events.ledger import checkpoints, ledger
from events.ledger.arrays import register
from events.ledger.keys import Keyring
from events.ledger.ledger import SESSION
from projections.asking.breaking_off import interruptible
from projections.asking.clocks import FOREVER, Moment, Unanswerable, moment
from projections.asking.listing import Asked, AskedAt, Pinned
from projections.asking.view import Caller, View
from projections.catalog import SEARCH_PATH
from projections.engine.model import ReadModel
from projections.engine.progress import parked_streams, position_of
from projections.engine.rebuild import is_changed
from projections.engine.tables import Connection
from read_api.lanes import Lane, Workers, here
from read_api.standing import Scoreboard, Standing

ANONYMOUS = "anonymous"
WAIT_SECONDS = 5.0
"""How long a query waits for ``min_position`` before it answers 503."""
CANCEL_SECONDS = 2.0
"""How long the database may take to cancel a query whose asker is gone."""
ALWAYS_OPEN = (Lane.LIVE, Lane.OPERATIONS)
"""The lanes that keep a session while nothing is asked."""
POSITIONS = "SELECT name, position, halted IS NOT NULL FROM progress.readers"


class NotThereYet(RuntimeError):
    """The read models have not reached the position asked for, or stand still.

    Attributes:
        models: the names of those that the question needs.
        position: what they have to reach.
        is_final: whether waiting would be in vain.
    """

    def __init__(
        self, detail: str, models: Sequence[ReadModel], position: int = 0, *, is_final: bool = False
    ) -> None:
        super().__init__(detail)
        self.models = [model.name for model in models]
        self.position = position
        self.is_final = is_final


def caller_of(request: Request) -> Caller:
    """The caller of a request: the actor that it names, trusted as for commands.

    Raises:
        Unanswerable: when it cannot be one.
    """
    named = request.headers.get("x-actor")
    if named is None:
        return Caller(ANONYMOUS)
    try:
        return Caller(actor_named(named.encode("latin-1")))
    except ValueError:
        raise Unanswerable("X-Actor", "must be 1 to 200 printable characters") from None


class Reader:
    """The read side's connections.

    Args:
        conninfo: how to reach the database.
        keyring: opens personal fields for audits and past views.
        facts: what figures are computed from, where this process answers such questions.
    """

    def __init__(
        self, conninfo: str, keyring: Keyring, size: int = 8, *, facts: Store | None = None
    ) -> None:
        self.keyring = keyring
        self._facts = facts
        self._standing = None if facts is None else Scoreboard(facts)
        self.aside = ThreadPoolExecutor(2, "aside")
        options = f"{SESSION} -c search_path={SEARCH_PATH.replace(' ', '')},public"
        common = make_conninfo(conninfo, options=options, application_name="pledge read")
        self.lanes = {lane: _workers(common, lane, size) for lane in Lane}

    @property
    def facts(self) -> Store:
        """The facts that figures are computed from.

        Raises:
            NotThereYet: when this process was given none.
        """
        if self._facts is None:
            raise NotThereYet("this process has no facts", (), is_final=True)
        return self._facts

    def open(self) -> None:
        """Begin to connect; does not wait for the database."""
        for workers in self.lanes.values():
            workers.pool.open(wait=False)

    def close(self) -> None:
        """Break off what is under way, and let the connections go."""
        self.aside.shutdown(wait=False)
        for workers in self.lanes.values():
            workers.close()
        if self._standing is not None:
            self._standing.close()

    @contextmanager
    def ledger(self, caller: Caller) -> Iterator[View]:
        """A snapshot of the ledger itself, which no read model can lag behind."""
        with self.connection() as conn:
            now = datetime.now(UTC)
            when = Moment(None, None, now, now.date())
            yield View(conn, caller, when, ledger.head(conn), [])

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection of the lane that one is in, in one snapshot."""
        with self._session(here() or self.lanes[Lane.OPERATIONS]) as conn, conn.transaction():
            yield conn

    @contextmanager
    def _session(self, workers: Workers) -> Iterator[Connection]:
        with (
            workers.pool.connection() as conn,
            interruptible(partial(conn.cancel_safe, timeout=CANCEL_SECONDS)),
        ):
            yield conn

    @contextmanager
    def view(
        self,
        caller: Caller,
        models: Sequence[ReadModel],
        asked: Asked,
        *,
        past: bool = False,
    ) -> Iterator[View]:
        """A snapshot in which these read models reflect what is asked for.

        Args:
            asked: with the position to wait for, and both clocks if it has them.
            past: whether temporary tables are needed.

        Raises:
            NotThereYet: when they do not, or one of them is halted or not built.
            Unanswerable: when a clock cannot be read.
        """
        lane = Lane.PAST if past else Lane.OPERATIONS
        with self._session(here() or self.lanes[lane]) as conn:
            with conn.transaction(force_rollback=past):
                reached = position_of(conn, *models) if hold(conn, *models) else None
                if reached is not None:
                    yield _view(conn, caller, models, asked, reached)
                    return
            changed = [model for model in models if is_changed(conn, model)]
            _refuse_if_halted(conn, changed, FOREVER)
            raise NotThereYet(
                "the read models are being built; come back in a moment",
                models,
                is_final=bool(changed),
            )

    def standing(self, customer: UUID, when: Moment) -> Standing | None:
        """A customer's RFM segments; None where there are no facts yet.

        Raises:
            NotThereYet: when the facts have not reached ``known_at`` yet.
        """
        if self._standing is None or self._facts is None:
            return None
        if when.is_live:
            return self._standing.now(customer, when)
        found = self._facts.latest().answering
        if found is None or found.position == 0:
            return None
        if found.position < (when.known_at or 0):
            raise NotThereYet("the facts are not there yet", (), when.known_at or 0)
        return self._standing.then(customer, found, when)

    def positions(self) -> dict[str, int]:
        """How far each read model is; one that halted counts as far as anybody could ask for."""
        with self.connection() as conn:
            rows = conn.execute(POSITIONS, prepare=True).fetchall()
        return {name: FOREVER if halted else position for name, position, halted in rows}


def _view(
    conn: Connection, caller: Caller, models: Sequence[ReadModel], asked: Asked, reached: int
) -> View:
    clocks = asked if isinstance(asked, AskedAt) else AskedAt()
    when = moment(conn, clocks.as_of, clocks.known_at)
    pinned_at = asked.pinned_at if isinstance(asked, Pinned) else None
    if pinned_at is not None and pinned_at > (head := ledger.head(conn)):
        raise Unanswerable("pinned_at", f"lies ahead of the ledger, which ends at {head}")
    wanted = max(asked.min_position or 0, when.known_at or 0, pinned_at or 0)
    if reached < wanted:
        _refuse_if_halted(conn, models, wanted)
        raise NotThereYet(
            f"position {wanted} is not reached yet; this is {reached}", models, wanted
        )
    if pinned_at is not None and pinned_at < (reached if when.known_at is None else when.known_at):
        when = replace(when, known_at=pinned_at)
    shown = reached if when.known_at is None else when.known_at
    return View(conn, caller, when, shown, parked_streams(conn, *models))


def hold(conn: Connection, *models: ReadModel) -> bool:
    """Keep a rebuild from swapping these tables until the transaction ends; False if not built.

    It must come first in a transaction: a lock takes no snapshot, so that the snapshot which comes
    after it sees the very tables that the names stand for.
    """
    names = ", ".join(f"{m.schema}.{table.name}" for m in models for table in m.tables)
    try:
        conn.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE".encode())
    except (UndefinedTable, InvalidSchemaName):
        return False  # the transaction is of no use any more
    return True


def _refuse_if_halted(conn: Connection, models: Sequence[ReadModel], wanted: int) -> None:
    for model in models:
        for checkpoint in checkpoints.fetch_all(conn, model.name):
            if checkpoint.halted is not None and checkpoint.taken < wanted:
                place = checkpoint.halted_at or checkpoint.taken
                raise NotThereYet(
                    f"read model {model.name} halted at position {place}: {checkpoint.halted}",
                    models,
                    is_final=True,
                )


def _workers(conninfo: str, lane: Lane, live: int) -> Workers:
    threads = live if lane is Lane.LIVE else lane.value.threads
    pool = ConnectionPool(
        conninfo,
        open=False,
        configure=_configure_past if lane is Lane.PAST else _configure,
        check=_check,
        min_size=int(lane in ALWAYS_OPEN),
        max_size=threads,
        timeout=10,
    )
    return Workers(lane, pool, threads)


def _check(conn: Connection) -> None:
    """Find out what happened to a session while it waited: PostgreSQL says nothing unasked.

    Raises:
        psycopg.OperationalError: when the session is dead; the pool then takes another one.
    """
    waiting = poll()
    waiting.register(conn.fileno(), POLLIN)
    if waiting.poll(0):
        ConnectionPool.check_connection(conn)


def _configure(conn: Connection) -> None:
    register(conn.adapters)
    conn.isolation_level = IsolationLevel.REPEATABLE_READ
    conn.read_only = True


def _configure_past(conn: Connection) -> None:
    register(conn.adapters)
    conn.isolation_level = IsolationLevel.REPEATABLE_READ
    conn.prepare_threshold = None
