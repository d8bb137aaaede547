"""A library user's read model of deals: each event's rows and tracking record in one transaction.

That is the way of the library's documentation: the view is a tracking recorder, its methods take
the tracking object along. It writes our own tables.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection
from psycopg.types.json import Jsonb
from yardsticks.deals import Deal

OPEN_DEAL = """
INSERT INTO opportunities (opportunity_id, version, position, opened_position, title, pipeline,
    stage, kind, owner, product, expected_close, opened_at, stage_since, changed_at)
VALUES (%(id)s, %(version)s, %(position)s, %(position)s, %(title)s, 'sales',
    %(stage)s, 'open', %(owner)s, %(product)s, %(expected_close)s, %(at)s, %(at)s, %(at)s)
"""
STAND = """
UPDATE opportunities SET version = %(version)s, position = %(position)s, stage = %(stage)s,
    kind = %(kind)s, stage_since = %(at)s, changed_at = %(at)s, closed_at = %(closed_at)s
 WHERE opportunity_id = %(id)s
"""
WORTH = """
UPDATE opportunities SET version = %(version)s, position = %(position)s, amount = %(amount)s,
    currency = %(currency)s, changed_at = %(at)s WHERE opportunity_id = %(id)s
"""
FACT = """
INSERT INTO deal_facts (deal_id, version, position, occurred_at, recorded_at, kind, actor, pipeline,
    stage, owner, product, amount, currency, expected_close)
VALUES (%(id)s, %(version)s, %(position)s, %(at)s, %(at)s, %(fact)s, %(actor)s,
    CASE %(fact)s WHEN 'opened' THEN 'sales' END,
    %(stage)s, %(owner)s, %(product)s, %(amount)s, %(currency)s, %(expected_close)s)
"""
BLANK = dict.fromkeys(("stage", "owner", "product", "amount", "currency", "expected_close"))
QUOTE = """
INSERT INTO quotes (opportunity_id, quote_id, version, position, occurred_at, given_by, total,
    currency, valid_until, lines)
VALUES (%(id)s, %(quote_id)s, %(version)s, %(position)s, %(at)s, %(actor)s, %(amount)s,
    %(currency)s, %(valid_until)s, %(lines)s)
"""


class DealsView(PostgresTrackingRecorder):
    """Our tables, written one event a transaction."""

    def write(self, tracking: Tracking, values: dict[str, Any], *statements: str) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            for statement in statements:
                cursor.execute(statement.encode(), values, prepare=True)


class Deals(Projection[DealsView]):
    """Notes when its first event came and when its last one was done."""

    name = "deals"

    def __init__(self, view: DealsView) -> None:
        super().__init__(view)
        self.taken = 0
        self.awaited = 0
        self.began = self.ended = 0.0
        self.done = threading.Event()

    def expect(self, events: int) -> None:
        self.awaited = events
        self._note()

    def write(self, event: DomainEvent, tracking: Tracking, *statements: str, **more: Any) -> None:
        if self.taken == 0:
            self.began = time.perf_counter()
        values = {
            "id": event.originator_id,
            "version": event.originator_version,
            "position": tracking.notification_id,
            "at": event.timestamp,
            **BLANK,
            **more,
        }
        self.view.write(tracking, values, *statements)
        self.taken += 1
        self._note()

    def _note(self) -> None:
        if self.taken == self.awaited:
            self.ended = time.perf_counter()
            self.done.set()

    @singledispatchmethod
    def process_event(self, event: DomainEvent, tracking: Tracking) -> None:
        raise TypeError(f"no view of {type(event).__name__} at {tracking.notification_id}")

    @process_event.register
    def opened(self, event: Deal.Opened, tracking: Tracking) -> None:  # type: ignore[name-defined]  # made by eventsourcing
        self.write(
            event, tracking, OPEN_DEAL, WORTH, FACT, kind="open", fact="opened", **given(event)
        )

    @process_event.register
    def stage_moved(self, event: Deal.StageMoved, tracking: Tracking) -> None:  # type: ignore[name-defined]  # made by eventsourcing
        self.write(
            event,
            tracking,
            STAND,
            FACT,
            kind="open",
            fact="stage-moved",
            closed_at=None,
            **given(event),
        )

    @process_event.register
    def quote_given(self, event: Deal.QuoteGiven, tracking: Tracking) -> None:  # type: ignore[name-defined]  # made by eventsourcing
        fields = given(event)
        fields["lines"] = Jsonb(fields["lines"])
        self.write(event, tracking, QUOTE, WORTH, FACT, fact="quote-given", **fields)

    @process_event.register
    def won(self, event: Deal.Won, tracking: Tracking) -> None:  # type: ignore[name-defined]  # made by eventsourcing
        self.write(
            event,
            tracking,
            STAND,
            WORTH,
            FACT,
            kind="won",
            fact="won",
            closed_at=event.timestamp,
            **given(event),
        )


def given(event: DomainEvent) -> dict[str, Any]:
    """The event's own fields."""
    return {n: v for n, v in event.__dict__.items() if not n.startswith("originator_")}
