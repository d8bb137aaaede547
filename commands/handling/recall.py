"""Outcomes on record, looked up beside the writer: a repeat needs no validation and no append."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import psycopg
import structlog

from events.ledger import ledger
from events.ledger.ledger import Connection, StoredOutcome

log = structlog.get_logger()

Pair = tuple[str, str]
"""An actor and an idempotency key."""


class Recall:
    """Looks outcomes up by their keys, on a session of its own.

    An outcome that is found never changes. Of one that is not found nothing is known: the append
    looks again, under the ledger's lock.

    Args:
        connect: opens an autocommit session on the ledger.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._conn: Connection | None = None
        self._lock = threading.Lock()

    def outcomes(self, pairs: Iterable[Pair]) -> dict[Pair, StoredOutcome]:
        """The outcomes of these that are on record; from any thread.

        None while the database is away: the writer has the patience to wait for it.
        """
        with self._lock:
            try:
                if self._conn is None:
                    self._conn = self._connect()
                return ledger.outcomes(self._conn, list(pairs))
            except psycopg.Error as error:
                log.warning("outcomes could not be looked up", error=str(error).strip())
                self._drop()
                return {}

    def close(self) -> None:
        """Give the session back."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None
