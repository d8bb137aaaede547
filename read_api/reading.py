"""One consistent snapshot of the read models: its position, and the moment asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from select import POLLIN, poll
from typing import Any
from uuid import UUID

from fastapi import Request
from psycopg import IsolationLevel
from psycopg.errors import InvalidSchemaName, UndefinedTable
from psycopg_pool import ConnectionPool

from analytics.facts.store import Damaged, Store
from events.ledger import checkpoints, ledger
from events.ledger.arrays import register
from events.ledger.keys import Keyring
from events.ledger.ledger import SESSION
from events.ledger.sessions import Session, watchful
from events.texts import tidy
from projections.asking.clocks import FOREVER, Moment, Pin, moment
from projections.asking.listing import Asked, AskedAt, ListedAt
from projections.asking.pages import pin_of
from projections.asking.view import Caller, View
from projections.catalog import SEARCH_PATH
from projections.engine.model import ReadModel
from projections.engine.progress import parked_streams, position_of
from projections.engine.rebuild import is_changed
from projections.engine.tables import Connection
from read_api.standing import Scoreboard, Standing

ANONYMOUS = "anonymous"
RECONNECT_SECONDS = 2.0
"""After so long, attempts to connect begin anew, for psycopg doubles the pause after each."""
LIVE_SECONDS = 8.0
"""The most that a statement of a live question takes; on top of the wait for a session."""
WAIT_SECONDS = 5.0
"""How long a query waits for ``min_position`` before it answers 503."""
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
    """The caller of a request: the actor that it names, trusted as for commands."""
    return Caller(tidy(request.headers.get("x-actor") or "") or ANONYMOUS)


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
        self.aside = ThreadPoolExecutor(1, "watch")
        options = f"{SESSION} -c search_path={SEARCH_PATH.replace(' ', '')},public"
        common = watchful(conninfo, options, "pledge read")
        self._live = _pool(common, _configure_live, min_size=1, max_size=size, timeout=5)
        self._files = _pool(common, _configure, min_size=0, max_size=2, timeout=8)
        self._past = _pool(common, _configure_past, min_size=0, max_size=2, timeout=8)

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
        self._live.open(wait=False)
        self._files.open(wait=False)
        self._past.open(wait=False)

    def close(self) -> None:
        """Let the connections go."""
        self.aside.shutdown(wait=False)
        if self._standing is not None:
            self._standing.close()
        if self._facts is not None:
            self._facts.engine.close()
        self._live.close()
        self._files.close()
        self._past.close()

    @contextmanager
    def ledger(self, caller: Caller, *, is_file: bool = False) -> Iterator[View]:
        """A snapshot of the ledger itself, which no read model can lag behind.

        Args:
            is_file: whether a whole file is made of it.
        """
        with (self._files if is_file else self._live).connection() as conn, conn.transaction():
            now = datetime.now(UTC)
            when = Moment(None, None, now, now.date())
            yield View(conn, caller, when, ledger.head(conn), [])

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection in one snapshot, for what is nobody's: positions, settings, health."""
        with self._live.connection() as conn, conn.transaction():
            yield conn

    @contextmanager
    def view(
        self,
        caller: Caller,
        models: Sequence[ReadModel],
        asked: Asked,
        *,
        past: bool = False,
        is_file: bool = False,
    ) -> Iterator[View]:
        """A snapshot in which these read models reflect what is asked for.

        Args:
            asked: with the position to wait for, and both clocks if it has them.
            past: whether temporary tables are needed.
            is_file: whether a whole file is made of it, which takes its time.

        Raises:
            NotThereYet: when they do not, or one of them is halted or not built.
            Unanswerable: when a clock cannot be read.
        """
        pool = self._past if past else self._files if is_file else self._live
        with pool.connection() as conn:
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
        try:
            found = self._facts.latest().answering
        except Damaged:
            return None
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
    pin = None
    if isinstance(asked, ListedAt) and asked.cursor is not None and asked.known_at is None:
        pin = pin_of(asked.cursor)
    when = moment(conn, clocks.as_of, clocks.known_at, pin)
    wanted = max(asked.min_position or 0, when.known_at or 0)
    if reached < wanted:
        _refuse_if_halted(conn, models, wanted)
        raise NotThereYet(
            f"position {wanted} is not reached yet; this is {reached}", models, wanted
        )
    if clocks.known_at is None:
        when = replace(when, pin=pin or Pin(reached, when.today))
    if pin is not None and pin.position == reached:
        when = replace(when, known_at=None)  # nothing happened since
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


def _pool(
    conninfo: str, configure: Callable[[Session], None], **size: Any
) -> ConnectionPool[Session]:
    return ConnectionPool(
        conninfo,
        connection_class=Session,
        open=False,
        configure=configure,
        check=_check,
        reconnect_timeout=RECONNECT_SECONDS,
        reconnect_failed=ConnectionPool.check,
        **size,
    )


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


def _configure_live(conn: Session) -> None:
    _configure(conn)
    conn.limit = LIVE_SECONDS


def _configure_past(conn: Connection) -> None:
    register(conn.adapters)
    conn.isolation_level = IsolationLevel.REPEATABLE_READ
    conn.prepare_threshold = None
