"""What all queries share: the two clocks, pages, money, and the position an answer reflects."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from psycopg.rows import dict_row

from events.company import COMPANY
from events.ledger import ledger
from events.values import COINS, EARLIEST, LATEST
from projections.model import ReadModel
from projections.tables import Connection

LIMIT = 50
MAX_LIMIT = 1_000
FOREVER = 2**63 - 1
DECIMAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,10})?")

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


@dataclass(frozen=True, slots=True)
class Moment:
    """Which events count: those that occurred before ``as_of`` and are known at ``known_at``.

    Attributes:
        as_of: business time, exclusive; None for no bound.
        known_at: ledger position, inclusive; None for no bound.
        now: what "today" means for the answer: ``as_of``, else when ``known_at`` was recorded,
            else the present.
        today: the business day of ``now``.
    """

    as_of: datetime | None
    known_at: int | None
    now: datetime
    today: date

    @property
    def is_live(self) -> bool:
        """Whether everything counts."""
        return self.as_of is None and self.known_at is None

    def bounds(self, alias: str) -> tuple[str, list[Any]]:
        """SQL conditions on a fact table's ``occurred_at`` and ``position``, and their values."""
        parts = ["true"]
        values: list[Any] = []
        if self.as_of is not None:
            parts.append(f"{alias}.occurred_at < %s")
            values.append(self.as_of)
        if self.known_at is not None:
            parts.append(f"{alias}.position <= %s")
            values.append(self.known_at)
        return " AND ".join(parts), values


def moment(conn: Connection, as_of: str | None, known_at: str | None) -> Moment:
    """What a caller means by these two parameters.

    Args:
        as_of: an ISO 8601 instant, or a date, whose whole business day is included.
        known_at: a ledger position, or an instant or date of recording.

    Raises:
        Unanswerable: when either cannot be read, or lies ahead of the ledger.
    """
    position = None if known_at is None else _position(conn, known_at, time_zone(conn))
    zone = time_zone(conn, position)
    until = None if as_of is None else _instant("as_of", as_of, zone)
    if until is not None:
        now = until - timedelta(microseconds=1)
    elif position is not None:
        now = _recorded_at(conn, position)
    else:
        now = datetime.now(UTC)
    return Moment(until, position, now, now.astimezone(zone).date())


def time_zone(conn: Connection, known_at: int | None = None) -> ZoneInfo:
    """The zone of the company's business days, as known at a position or now."""
    last = FOREVER if known_at is None else known_at
    row = conn.execute(TIME_ZONE, (COMPANY, last), prepare=True).fetchone()
    return ZoneInfo(orjson.loads(bytes(row[0]))["time_zone"] if row else "UTC")


def _instant(field: str, text: str, zone: ZoneInfo) -> datetime:
    try:
        if len(text) == len("2026-01-31"):
            day = date.fromisoformat(text) + timedelta(days=1)
            found = datetime.combine(day, time(), zone).astimezone(UTC)
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
    head = ledger.head(conn)
    if text.isascii() and text.isdecimal():
        position = int(text)
        if position > head:
            raise Unanswerable("known_at", f"lies ahead of the ledger, which ends at {head}")
        return position
    until = _instant("known_at", text, zone)
    low, high = 0, head
    while low < high:
        middle = (low + high + 1) // 2
        if _recorded_at(conn, middle) < until:
            low = middle
        else:
            high = middle - 1
    return low


def _recorded_at(conn: Connection, position: int) -> datetime:
    row = conn.execute(
        "SELECT recorded_at FROM ledger.events WHERE position = %s", (position,), prepare=True
    ).fetchone()
    return row[0] if row else EARLIEST


def position_of(conn: Connection, *models: ReadModel) -> int | None:
    """The position that all these read models have reached; None while one is not built yet."""
    row = conn.execute(
        "SELECT coalesce(min(position), 0), count(*) FROM progress.readers WHERE name = ANY (%s)",
        ([model.name for model in models],),
        prepare=True,
    ).fetchone()
    assert row is not None
    return int(row[0]) if row[1] == len(models) else None


def parked_streams(conn: Connection, *models: ReadModel) -> list[UUID]:
    """Streams whose later events are missing from these read models' answers."""
    rows = conn.execute(
        "SELECT DISTINCT stream_id FROM progress.parked WHERE name = ANY (%s) ORDER BY 1 LIMIT 100",
        ([model.name for model in models],),
        prepare=True,
    )
    return [row[0] for row in rows]


def money(amount: Decimal | None, currency: str | None) -> dict[str, Any] | None:
    """An amount as the API shows it, in whole coins of its currency."""
    if amount is None or currency is None:
        return None
    return {"amount": str(amount.quantize(COINS[currency])), "currency": currency}


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition with one placeholder a value; left out when the first value is None."""

    sql: str
    values: tuple[Any, ...]


def fetch(conn: Connection, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
    """The rows of a query, each a dict."""
    cursor = conn.cursor(row_factory=dict_row)
    may_prepare = conn.prepare_threshold is not None
    return cursor.execute(sql.encode(), values, prepare=may_prepare).fetchall()


def page(
    conn: Connection,
    select: str,
    filters: Sequence[Filter],
    order: tuple[str, str],
    cursor: str | None,
    limit: int,
    *,
    values: Sequence[Any] = (),
    descending: bool = False,
    kinds: tuple[type, type] = (datetime, UUID),
    shape: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> tuple[list[dict[str, Any]], str | None]:
    """One page of a list, and the cursor of the next one, or None at the end.

    Args:
        select: everything up to WHERE; its own ``values`` come first.
        order: two expressions, of which the second is unique; pages follow them.
        cursor: as a page before gave it.
        kinds: of the two expressions' values: datetime, UUID, int, Decimal or str.

    Raises:
        Unanswerable: when the cursor is none of ours.
    """
    used = [condition for condition in filters if condition.values[0] is not None]
    conditions = [condition.sql for condition in used]
    bound = [*values, *(value for condition in used for value in condition.values)]
    direction, beyond = ("DESC", "<") if descending else ("ASC", ">")
    if cursor is not None:
        conditions.append(f"({order[0]}, {order[1]}) {beyond} (%s, %s)")
        bound += _opened(cursor, kinds)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = fetch(
        conn,
        f"{select} {where} ORDER BY {order[0]} {direction}, {order[1]} {direction} LIMIT %s",
        [*bound, limit + 1],
    )
    more = None
    if len(rows) > limit:
        last = rows[limit - 1]
        more = _closed([last[name.split(".")[-1]] for name in order])
    return [shape(row) for row in rows[:limit]], more


def _closed(key: list[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(key, default=str)).decode().rstrip("=")


def _opened(cursor: str, kinds: tuple[type, type]) -> list[Any]:
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return [_part(part, kind) for part, kind in zip(orjson.loads(raw), kinds, strict=True)]
    except (ValueError, TypeError, binascii.Error):
        raise Unanswerable("cursor", "is not one that this list gave") from None


def _part(part: Any, kind: type) -> Any:
    if kind is int and type(part) is int and 0 <= part <= FOREVER:
        return part
    if kind is UUID and isinstance(part, str):
        return UUID(part)
    if kind is str and isinstance(part, str) and part.isprintable():
        return part
    if kind is Decimal and isinstance(part, str) and DECIMAL.fullmatch(part):
        return Decimal(part)
    if kind is datetime and isinstance(part, str):
        moment = datetime.fromisoformat(part)
        if moment.tzinfo is not None and EARLIEST <= moment < LATEST:
            return moment
    raise ValueError(part)
