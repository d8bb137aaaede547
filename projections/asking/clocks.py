"""The two clocks of a question: when things occurred, and when the ledger knew of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from events.company import COMPANY, business_zone
from events.ledger import ledger
from events.values import EARLIEST, LATEST
from projections.engine.tables import Connection

FOREVER = 2**63 - 1
TIME_ZONE = """
SELECT payload FROM ledger.events
 WHERE stream_id = %s AND type = 'company.time-zone-set' AND position <= %s
 ORDER BY version DESC LIMIT 1
"""


class Unanswerable(ValueError):
    """A question that cannot be answered as put.

    Attributes:
        field: the parameter at fault.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Pin(NamedTuple):
    """What the first page of a list knew: the pages after it are of the very same list.

    Attributes:
        position: the ledger's, up to which everything was known.
        today: the business day.
    """

    position: int
    today: date


@dataclass(frozen=True, slots=True)
class Moment:
    """Which events count: those that occurred before ``as_of`` and are known at ``known_at``.

    Attributes:
        as_of: business time, exclusive; None for no bound.
        known_at: ledger position, inclusive; None for no bound.
        now: what "today" means for the answer: ``as_of``, else when ``known_at`` was recorded,
            else the present.
        today: the business day of ``now``.
        zone: of business days.
        in_force: before when a setting must have been made to be in force; ``as_of`` by default.
        pin: what the next page is to know; None where ``known_at`` was asked for and says it.
    """

    as_of: datetime | None
    known_at: int | None
    now: datetime
    today: date
    zone: tzinfo = UTC
    in_force: datetime | None = None
    pin: Pin | None = None

    @property
    def is_live(self) -> bool:
        """Whether everything counts."""
        return self.as_of is None and self.known_at is None

    def counts(self, alias: str, at: str = "occurred_at", position: str = "position") -> str:
        """SQL: whether a row's event counts.

        Args:
            at: the column with the event's business time.
            position: the column with its position.
        """
        parts = []
        if self.as_of is not None:
            parts.append(f"{alias}.{at} < %(as_of)s")
        if self.known_at is not None:
            parts.append(f"{alias}.{position} <= %(known_at)s")
        return " AND ".join(parts) or "true"

    @property
    def values(self) -> dict[str, Any]:
        """The moment's values by name, as SQL takes them."""
        return {
            "as_of": self.as_of,
            "known_at": self.known_at,
            "in_force": self.in_force or self.as_of,
            "now": self.now,
            "today": self.today,
            "zone": str(self.zone),
        }


def moment(
    conn: Connection, as_of: str | None, known_at: str | None, pin: Pin | None = None
) -> Moment:
    """What a caller means by these two parameters.

    Args:
        as_of: an ISO 8601 instant, or a date, whose whole business day is included.
        known_at: a ledger position, or an instant or date of recording.
        pin: what the first page knew, where this is a later one and ``known_at`` does not say it.

    Raises:
        Unanswerable: when either cannot be read, or lies ahead of the ledger.
    """
    position = None if pin is None else _reached("cursor", pin.position, conn)
    if known_at is not None:
        position = _position(conn, known_at, time_zone(conn))
    zone = time_zone(conn, position)
    until = None if as_of is None else _instant("as_of", as_of, zone)
    if until is not None:
        now = until - timedelta(microseconds=1)
    elif known_at is None and pin is not None:
        now = min(datetime.now(UTC), _end(pin.today, zone) - timedelta(microseconds=1))
    elif position is not None:
        now = _recorded_at(conn, position)
    else:
        now = datetime.now(UTC)
    return Moment(until, position, now, now.astimezone(zone).date(), zone)


def time_zone(conn: Connection, known_at: int | None = None) -> ZoneInfo:
    """The zone of the company's business days, as known at a position or now."""
    last = FOREVER if known_at is None else known_at
    row = conn.execute(TIME_ZONE, (COMPANY, last), prepare=True).fetchone()
    return business_zone(orjson.loads(bytes(row[0]))["time_zone"] if row else "UTC")


def _instant(field: str, text: str, zone: ZoneInfo) -> datetime:
    try:
        if len(text) == len("2026-01-31"):
            found = _end(date.fromisoformat(text), zone)
        else:
            found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        found = None
    if found is None or found.tzinfo is None:
        raise Unanswerable(
            field,
            "must be a date like 2026-01-31, or an instant with a zone like 2026-01-31T12:00Z",
        )
    if not EARLIEST <= found < LATEST:
        raise Unanswerable(field, f"must lie from {EARLIEST:%Y} on and before {LATEST:%Y}")
    return found.astimezone(UTC)


def _position(conn: Connection, text: str, zone: ZoneInfo) -> int:
    if text.isascii() and text.isdecimal():
        return _reached("known_at", int(text), conn)
    until = _instant("known_at", text, zone)
    low, high = 0, ledger.head(conn)
    while low < high:
        middle = (low + high + 1) // 2
        if _recorded_at(conn, middle) < until:
            low = middle
        else:
            high = middle - 1
    return low


def _end(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC)


def _reached(field: str, position: int, conn: Connection) -> int:
    head = ledger.head(conn)
    if position > head:
        raise Unanswerable(field, f"lies ahead of the ledger, which ends at {head}")
    return position


def _recorded_at(conn: Connection, position: int) -> datetime:
    row = conn.execute(
        "SELECT recorded_at FROM ledger.events WHERE position = %s", (position,), prepare=True
    ).fetchone()
    return row[0] if row else EARLIEST
