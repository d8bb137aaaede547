"""Where each customer stands among all: the segment that the 360° view shows.

Scores compare a customer with every other one, so they are computed for all at once and kept for a
while: a view of one customer costs a look-up, however many there are.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import Any
from uuid import UUID

import duckdb
import structlog

from analytics import rfm
from analytics.asking import Scope, currencies, session
from analytics.store import Manifest, Store
from projections.asking import Moment, money

log = structlog.get_logger()

FRESH_SECONDS = 60.0
"""How long scores are shown before new facts are looked for."""
TABLE = """
CREATE TABLE standing (
    customer_id VARCHAR, currency VARCHAR, recency_days BIGINT, frequency BIGINT,
    monetary DECIMAL(38, 4), r_score INTEGER, f_score INTEGER, m_score INTEGER, segment VARCHAR
)
"""
ONE = "SELECT * EXCLUDE (customer_id) FROM standing WHERE customer_id = $1 ORDER BY currency"


class Standing:
    """The scores of all customers.

    Args:
        store: of the facts that they are computed from.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: tuple[int, object] | None = None
        self._conn: duckdb.DuckDBPyConnection | None = None
        self._position = 0
        self._looked = 0.0

    def of(self, customer: UUID, when: Moment, zone: str) -> dict[str, Any] | None:
        """The customer's scores, by currency; None where the facts do not tell them yet.

        Those of now are kept, and at most some minutes old; each answer says its own position.
        """
        try:
            ask = self._now if when.is_live else self._then
            return ask(customer, when, zone)
        except (OSError, duckdb.Error) as error:
            log.warning("the facts cannot be read", error=str(error))
            return None

    def _then(self, customer: UUID, when: Moment, zone: str) -> dict[str, Any] | None:
        found = self._store.latest()
        if found.position == 0 or found.position < (when.known_at or 0):
            return None
        with closing(_scored(self._store, found, when, zone)) as conn:
            return _one(conn, customer, when.known_at or found.position)

    def _now(self, customer: UUID, when: Moment, zone: str) -> dict[str, Any] | None:
        with self._lock:
            if self._conn is None:
                self._refresh(when, zone)
            elif time.monotonic() > self._looked + FRESH_SECONDS:
                self._looked = time.monotonic()
                threading.Thread(target=self._refresh_aside, args=(when, zone), daemon=True).start()
            return None if self._conn is None else _one(self._conn, customer, self._position)

    def _refresh_aside(self, when: Moment, zone: str) -> None:
        try:
            self._refresh(when, zone)
        except (OSError, duckdb.Error) as error:
            log.warning("the facts cannot be read", error=str(error))

    def _refresh(self, when: Moment, zone: str) -> None:
        found = self._store.latest()
        known = (found.number, when.today)
        if found.position > 0 and known != self._known:
            self._conn = _scored(self._store, found, when, zone)
            self._position, self._known = found.position, known
            self._looked = time.monotonic()


def _scored(store: Store, found: Manifest, when: Moment, zone: str) -> duckdb.DuckDBPyConnection:
    conn = duckdb.connect()
    conn.execute(TABLE)
    for currency in currencies(store, found, Scope(when, zone)):
        with session(store, found, Scope(when, zone, currency=currency)) as opened:
            every = rfm.every(opened, rfm.Scoring())
            conn.register("every", every)
            conn.execute("INSERT INTO standing BY NAME SELECT * FROM every ORDER BY customer_id")
            conn.unregister("every")
    return conn


def _one(conn: duckdb.DuckDBPyConnection, customer: UUID, position: int) -> dict[str, Any]:
    found = conn.execute(ONE, [str(customer)])
    names = [column[0] for column in found.description or ()]
    items = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    for item in items:
        item["monetary"] = money(item["monetary"], item.pop("currency"))
    return {"position": position, "items": items}
