"""What auditors ask. The ledger itself answers, never a read model that could lag or halt."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from events.ledger import ledger
from events.ledger.keys import Keyring
from projections.asking.clocks import Unanswerable
from projections.asking.pages import Filter, page
from projections.engine.folding import readable
from projections.engine.tables import Connection

EVENTS = f"SELECT {ledger.COLUMNS} FROM ledger.events"
REFUSALS = """
SELECT recorded_at, occurred_at, actor, actor_kind, command, command_id, correlation_id,
       stream_type, stream_id, version, rule, detail,
       coalesce(fields, '{}') AS fields, key, after_position AS position
  FROM ledger.outcomes
"""


def events(
    conn: Connection,
    keyring: Keyring,
    *,
    type: str | None = None,
    stream_type: str | None = None,
    stream_id: UUID | None = None,
    actor: str | None = None,
    correlation_id: UUID | None = None,
    after: int | None = None,
    until: int | None = None,
    recorded_from: datetime | None = None,
    recorded_to: datetime | None = None,
    occurred_from: datetime | None = None,
    occurred_to: datetime | None = None,
    newest_first: bool = True,
    cursor: str | None = None,
    limit: int,
) -> tuple[list[dict[str, Any]], str | None]:
    """Events with their whole envelope, by position."""
    items, more = page(
        conn,
        EVENTS,
        [
            Filter("type = %s", (type,)),
            Filter("stream_type = %s", (stream_type,)),
            Filter("stream_id = %s", (stream_id,)),
            Filter("actor = %s", (actor,)),
            Filter("correlation_id = %s", (correlation_id,)),
            Filter("position > %s", (after,)),
            Filter("position <= %s", (until,)),
            Filter("recorded_at >= %s", (recorded_from,)),
            Filter("recorded_at < %s", (recorded_to,)),
            Filter("occurred_at >= %s", (occurred_from,)),
            Filter("occurred_at < %s", (occurred_to,)),
        ],
        ("position", "version"),
        cursor,
        limit,
        descending=newest_first,
        kinds=(int, int),
    )
    return _shown(conn, keyring, items), more


def stream(
    conn: Connection, keyring: Keyring, stream_id: UUID, *, cursor: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """One stream from its first event on."""
    items, more = page(
        conn,
        EVENTS,
        [Filter("stream_id = %s", (stream_id,))],
        ("version", "position"),
        cursor,
        limit,
        kinds=(int, int),
    )
    return _shown(conn, keyring, items), more


def refusals(
    conn: Connection,
    *,
    actor: str | None = None,
    rule: str | None = None,
    stream_id: UUID | None = None,
    command: str | None = None,
    recorded_from: datetime | None = None,
    recorded_to: datetime | None = None,
    cursor: str | None = None,
    limit: int,
) -> tuple[list[dict[str, Any]], str | None]:
    """Who tried what in vain, at which version of the stream, and which rule said no."""
    return page(
        conn,
        REFUSALS,
        [
            Filter("status = %s", ("refused",)),
            Filter("actor = %s", (actor,)),
            Filter("rule = %s", (rule,)),
            Filter("stream_id = %s", (stream_id,)),
            Filter("command = %s", (command,)),
            Filter("recorded_at >= %s", (recorded_from,)),
            Filter("recorded_at < %s", (recorded_to,)),
        ],
        ("recorded_at", "command_id"),
        cursor,
        limit,
        descending=True,
    )


def _shown(conn: Connection, keyring: Keyring, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = [tuple(item.values()) for item in items]
    batch = readable(conn, keyring, rows)
    plain = {
        recorded.position: recorded.event.model_dump(mode="json", exclude_none=True)
        for recorded in batch.events
    }
    for item in items:
        del item["payload"]
        position = item["position"]
        item["data"] = plain.get(position)
        if position in batch.broken:
            item["unreadable"] = str(batch.broken[position])
    return items


def refuse_backwards(low: Any, high: Any, field: str) -> None:
    """Refuse an interval that ends before it begins.

    Raises:
        Unanswerable: naming the field.
    """
    if low is not None and high is not None and high < low:
        raise Unanswerable(field, "ends before it begins")


def head(conn: Connection) -> int:
    """The ledger's last position."""
    return ledger.head(conn)
