"""The RFM segment of each customer, which the 360° view shows.

Scores compare a customer with every other one, so they are computed for all at once and kept for a
while: a view of one customer costs a look-up, however many there are.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import NamedTuple
from uuid import UUID

import duckdb
import structlog

from analytics import rfm
from analytics.facts.asking import NotAnswerable, Snapshot, currencies, purchases
from analytics.facts.engine import SpillFull, TooLarge
from analytics.facts.scope import OfPurchases
from analytics.facts.store import Damaged, Manifest, Store
from events.values import StoredMoney
from projections.asking.clocks import Moment
from projections.asking.rows import maker
from projections.asking.shape import Shape

log = structlog.get_logger()

FRESH_SECONDS = 60.0
"""How long scores are shown before new facts are looked for."""
STALE_SECONDS = 600.0
"""How old scores may be that are shown at all."""
PATIENCE_SECONDS = 2.0
"""How long a view waits for scores; they are computed on behind it."""
COLUMNS = """
TABLE standing (
    customer_id VARCHAR, currency VARCHAR, recency_days BIGINT, frequency BIGINT,
    monetary DECIMAL(38, 4), r_score INTEGER, f_score INTEGER, m_score INTEGER, segment VARCHAR
)
"""
ONE = "SELECT * EXCLUDE (customer_id) FROM standing WHERE customer_id = $1 ORDER BY currency"


class StandingIn(Shape):
    """A customer's segment by recency, frequency and monetary value, in one currency."""

    recency_days: int
    frequency: int
    monetary: StoredMoney | None
    r_score: int
    f_score: int
    m_score: int
    segment: str


class Standing(Shape):
    """A customer's RFM segments: its purchases compared with those of all customers."""

    position: int
    items: list[StandingIn]


class Scores(NamedTuple):
    """All customers' scores, as the facts had them."""

    conn: duckdb.DuckDBPyConnection
    manifest: Manifest
    when: Moment
    since: float


class Scoreboard:
    """The scores of all customers.

    Args:
        store: of the facts that they are computed from.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._scores: Scores | None = None
        self._aside = ThreadPoolExecutor(1, "standing")
        self._lock = Lock()
        self._coming: Future[None] | None = None

    def close(self) -> None:
        """Wait for what is being computed."""
        self._aside.shutdown(cancel_futures=True)

    def now(self, customer: UUID, when: Moment) -> Standing | None:
        """The customer's scores, by currency, with their own position; at most ten minutes old.

        None while there are no facts, or they cannot be read, or are still being compared.
        """
        held = self._scores
        if held is None or held.when.today != when.today or _age(held) > STALE_SECONDS:
            wait([self._refresh(when)], PATIENCE_SECONDS)
            held = self._scores
        elif _age(held) > FRESH_SECONDS:
            self._refresh(when)
        if held is None or held.when.today < when.today or _age(held) > STALE_SECONDS:
            return None
        return _one(held.conn.cursor(), customer, held.manifest.position)

    def then(self, customer: UUID, found: Manifest, when: Moment) -> Standing | None:
        """The customer's scores at a moment of either clock; None where the facts are away."""
        try:
            with self._store.engine.session() as conn:
                conn.execute(f"CREATE TEMP {COLUMNS}")
                _score(conn, self._store, found, when)
                return _one(conn, customer, when.known_at or found.position)
        except (OSError, duckdb.Error, NotAnswerable, TooLarge, SpillFull, Damaged) as error:
            log.warning("the facts cannot be read", error=str(error))
            return None

    def _refresh(self, when: Moment) -> Future[None]:
        with self._lock:
            if self._coming is None or self._coming.done():
                self._coming = self._aside.submit(self._compute, when)
            return self._coming

    def _compute(self, when: Moment) -> None:
        try:
            found, held = self._store.latest().answering, self._scores
            if found is None or found.position == 0:
                return
            is_same = held is not None and held.manifest.number == found.number
            if held is not None and is_same and held.when.today == when.today:
                self._scores = held._replace(since=time.monotonic())
            else:
                conn = duckdb.connect(config={"threads": 1})  # apart, for it outlives questions
                conn.execute(f"CREATE {COLUMNS}")
                _score(conn, self._store, found, when)
                self._scores = Scores(conn, found, when, time.monotonic())
        except Exception as error:  # a store's client raises what it likes
            log.warning("the facts cannot be read", error=str(error))


def _age(held: Scores) -> float:
    return time.monotonic() - held.since


def _score(conn: duckdb.DuckDBPyConnection, store: Store, found: Manifest, when: Moment) -> None:
    """Fill the session's table."""
    on = Snapshot(store, found, when)
    for currency in currencies(on):
        with purchases(on, OfPurchases(currency=currency)) as opened:
            every = rfm.every(opened, rfm.Scoring())
            conn.register("every", every)
            conn.execute("INSERT INTO standing BY NAME SELECT * FROM every ORDER BY customer_id")
            conn.unregister("every")


def _one(conn: duckdb.DuckDBPyConnection, customer: UUID, position: int) -> Standing:
    found = conn.execute(ONE, [str(customer)])
    make = maker(StandingIn, tuple(column[0] for column in found.description or ()))
    return Standing.of(position=position, items=[make(row) for row in found.fetchall()])
