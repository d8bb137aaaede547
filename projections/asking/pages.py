"""Pages of a list: a query with filters, its order, and the cursor of the next page."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from psycopg.rows import dict_row

from events.values import EARLIEST, LATEST
from projections.asking.clocks import FOREVER, Unanswerable
from projections.engine.tables import Connection

LIMIT = 50
MAX_LIMIT = 1_000
DECIMAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,10})?")


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
