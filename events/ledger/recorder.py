"""The ledger as an application recorder of the ``eventsourcing`` library.

``PERSISTENCE_MODULE=events.recorder:LedgerFactory`` puts any application of that library on this
ledger. Its appends go through the same function as ours, each as a group of one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, cast
from uuid import UUID

import psycopg
from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    Notification,
    StoredEvent,
    Subscription,
)
from eventsourcing.persistence import ProgrammingError as LibraryProgrammingError
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore, PostgresFactory
from psycopg.conninfo import make_conninfo
from psycopg.rows import tuple_row
from uuid_utils.compat import uuid7

from events.envelope import Actor
from events.ledger import ledger
from events.ledger.arrays import register
from events.ledger.migrate import migrate

LIBRARY = Actor("eventsourcing", "library")
POLL_SECONDS = 0.05

SELECT_EVENTS = """
SELECT stream_id, version, type, payload FROM ledger.events
 WHERE stream_id = %s AND version > %s AND version <= %s ORDER BY version {order} LIMIT %s
"""
SELECT_NOTIFICATIONS = """
SELECT position, stream_id, version, type, payload FROM ledger.events
 WHERE position >= %s AND position <= %s AND (%s::text[] = '{}' OR type = ANY (%s))
 ORDER BY position LIMIT %s
"""
MAX_BIGINT = 2**63 - 1


class AppendTooLarge(LibraryProgrammingError):
    """One append holds more events or bytes than the ledger takes at once."""


class LedgerRecorder(PostgresApplicationRecorder):
    """Records the library's stored events in ``ledger.events``.

    The library's blind retries are overridden: an error reaches the caller as it happened.
    """

    def __init__(
        self, datastore: PostgresDatastore, *, events_table_name: str = "ledger.events"
    ) -> None:
        super().__init__(datastore, events_table_name=events_table_name)
        self.sql_create_statements = []

    @property
    def conninfo(self) -> str:
        """How to reach this ledger's database, with the rights that the datastore was given."""
        kwargs = cast("dict[str, Any]", self.datastore.pool.kwargs)
        wanted = ("dbname", "host", "port", "user", "password")
        return make_conninfo(**{name: kwargs[name] for name in wanted if kwargs.get(name)})

    def create_table(self) -> None:
        """Migrate the database: one explicit, locked step."""
        migrate(self.conninfo)

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **_kwargs: Any
    ) -> Sequence[int] | None:
        """Append all or nothing; the positions taken, or None for no events.

        Raises:
            IntegrityError: when a stream already has one of the versions.
            AppendTooLarge: above 1,000 events or 1,000,000 bytes.
        """
        if not stored_events:
            return None
        size = sum(len(event.state) for event in stored_events)
        if len(stored_events) > ledger.MAX_EVENTS or size > ledger.MAX_BYTES:
            raise AppendTooLarge(
                f"{len(stored_events)} events of {size} bytes in one append; "
                f"the ledger takes {ledger.MAX_EVENTS} events of {ledger.MAX_BYTES} bytes at most"
            )
        now = datetime.now(UTC)
        proposals = [
            _proposal(cast("UUID", stream_id), list(run), now)
            for stream_id, run in groupby(stored_events, key=lambda event: event.originator_id)
        ]
        with self.datastore.get_connection() as conn:
            register(conn.adapters)
            try:
                verdicts = ledger.append(conn, proposals)
            except psycopg.errors.UniqueViolation as error:
                raise IntegrityError(str(error)) from error
            except psycopg.errors.NotNullViolation as error:
                raise LibraryProgrammingError(str(error)) from error
        return [
            cast("int", verdict.first) + offset
            for verdict, proposal in zip(verdicts, proposals, strict=True)
            for offset in range(len(proposal.events))
        ]

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """A stream's events, by version."""
        statement = SELECT_EVENTS.format(order="DESC" if desc else "ASC")
        low = -1 if gt is None else gt
        high = MAX_BIGINT if lte is None else lte
        with self.datastore.get_connection() as conn, conn.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(statement.encode(), (originator_id, low, high, limit), prepare=True)
            return [StoredEvent(i, v, t, bytes(s)) for i, v, t, s in cursor]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Events in the order of their positions."""
        low = 0 if start is None else start if inclusive_of_start else start + 1
        high = MAX_BIGINT if stop is None else stop
        wanted = list(topics)
        with self.datastore.get_connection() as conn, conn.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(SELECT_NOTIFICATIONS, (low, high, wanted, wanted, limit), prepare=True)
            return [Notification(i, v, t, bytes(s), id=p) for p, i, v, t, s in cursor]

    def max_notification_id(self) -> int | None:
        """The last position, or None when the ledger is empty."""
        with self.datastore.get_connection() as conn:
            return ledger.head(conn) or None

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        """A subscription that polls: nothing in an append notifies."""
        return PollingSubscription(recorder=self, gt=gt, topics=topics)


class PollingSubscription(Subscription[ApplicationRecorder]):
    """Yields notifications as they come, looking every ``POLL_SECONDS``."""

    def __init__(
        self, recorder: ApplicationRecorder, gt: int | None = None, topics: Sequence[str] = ()
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._waiting: list[Notification] = []
        self._seen = gt

    def __next__(self) -> Notification:
        """The next notification.

        Raises:
            StopIteration: after ``stop``.
        """
        while not self._has_been_stopped:
            if not self._waiting:
                self._waiting = list(
                    self._recorder.select_notifications(
                        self._seen, 500, topics=self._topics, inclusive_of_start=False
                    )
                )[::-1]
            if self._waiting:
                notification = self._waiting.pop()
                self._seen = notification.id
                return notification
            time.sleep(POLL_SECONDS)
        raise StopIteration


class LedgerFactory(PostgresFactory):
    """Makes ``LedgerRecorder`` where the library asks for an application recorder."""

    application_recorder_class = LedgerRecorder


def _proposal(stream_id: UUID, run: list[StoredEvent], now: datetime) -> ledger.Proposal:
    command_id = uuid7()
    return ledger.Proposal(
        command="library/append",
        command_id=command_id,
        correlation_id=command_id,
        causation_id=None,
        actor=LIBRARY,
        key=str(command_id),
        body_hash=b"",
        stream_type="library",
        stream_id=stream_id,
        expected=None,
        occurred_at=now,
        events=[
            ledger.NewEvent(uuid7(), event.topic, 1, event.state, event.originator_version)
            for event in run
        ],
    )
