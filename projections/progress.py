"""How far each read model is, kept in the same transaction as its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from events import ledger

Connection = psycopg.Connection[Any]

PARTITION = 0
"""The ledger itself is one partition."""


class Overtaken(RuntimeError):
    """Another process moved the checkpoint; what was done here is undone."""


@dataclass(slots=True)
class Checkpoint:
    """Everything up to ``position`` is in the read model's rows.

    Attributes:
        event_id: the event at ``position``, None at 0; tells a restored ledger from the old one.
        halted: why the read model stands still, None while it moves.
        halted_at: the position of the event that it cannot take.
    """

    name: str
    shape: str
    ledger_id: UUID
    position: int = 0
    event_id: UUID | None = None
    halted: str | None = None
    halted_at: int | None = None


def fetch(conn: Connection, name: str) -> Checkpoint | None:
    """The read model's checkpoint, if it has one."""
    row = conn.execute(
        "SELECT name, shape, ledger_id, position, event_id, halted, halted_at "
        "FROM progress.checkpoints WHERE name = %s AND partition = %s",
        (name, PARTITION),
    ).fetchone()
    return Checkpoint(*row) if row else None


def begin(conn: Connection, name: str, shape: str, position: int, event_id: UUID | None) -> None:
    """Write a checkpoint anew, in the place of any old one."""
    conn.execute(
        "INSERT INTO progress.checkpoints (name, partition, shape, ledger_id, position, event_id) "
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (name, partition) DO UPDATE SET "
        "shape = excluded.shape, ledger_id = excluded.ledger_id, position = excluded.position, "
        "event_id = excluded.event_id, halted = NULL, halted_at = NULL, "
        "moved_at = clock_timestamp()",
        (name, PARTITION, shape, ledger.ledger_id(conn), position, event_id),
    )


def move(conn: Connection, old: Checkpoint, new: Checkpoint) -> None:
    """Compare and swap.

    Raises:
        Overtaken: when the stored checkpoint is not ``old`` any more.
    """
    done = conn.execute(
        "UPDATE progress.checkpoints SET position = %s, event_id = %s, halted = %s, "
        "halted_at = %s, moved_at = clock_timestamp() WHERE name = %s AND partition = %s "
        "AND position = %s AND shape = %s AND ledger_id = %s "
        "AND event_id IS NOT DISTINCT FROM %s",
        (
            new.position,
            new.event_id,
            new.halted,
            new.halted_at,
            old.name,
            PARTITION,
            old.position,
            old.shape,
            old.ledger_id,
            old.event_id,
        ),
        prepare=True,
    )
    if done.rowcount != 1:
        raise Overtaken(f"another process moved the checkpoint of {old.name}")


def mismatch(conn: Connection, checkpoint: Checkpoint) -> str | None:
    """Why the checkpoint does not belong to the ledger at hand; None when it does.

    Where it does not, going on would skip or repeat events.
    """
    found = conn.execute(
        "SELECT event_id FROM ledger.events WHERE position = %s", (checkpoint.position,)
    ).fetchone()
    lost = checkpoint.position > 0 and (found is None or found[0] != checkpoint.event_id)
    if ledger.ledger_id(conn) == checkpoint.ledger_id and not lost:
        return None
    return (
        f"read model {checkpoint.name} stands at position {checkpoint.position} of a ledger that "
        "is not this one as it is now (restored from a backup?); "
        f"run: pledge project rebuild {checkpoint.name}"
    )


def parked(conn: Connection, name: str) -> dict[UUID, int]:
    """The streams that the read model has set aside, and from which position on."""
    rows = conn.execute("SELECT stream_id, position FROM progress.parked WHERE name = %s", (name,))
    return dict(rows.fetchall())


def park(conn: Connection, name: str, stream_id: UUID, position: int, error: str) -> None:
    """Set a stream aside at the event that could not be taken."""
    conn.execute(
        "INSERT INTO progress.parked (name, stream_id, position, error) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT DO NOTHING",
        (name, stream_id, position, error),
    )


def skipped(conn: Connection, name: str) -> set[int]:
    """The positions that an operator told the read model to pass over."""
    rows = conn.execute("SELECT position FROM progress.skipped WHERE name = %s", (name,))
    return {row[0] for row in rows}


def skip(conn: Connection, name: str, position: int, actor: str, reason: str) -> None:
    """Tell a read model to pass over one event; that it was told so is on record."""
    conn.execute(
        "INSERT INTO progress.skipped (name, position, actor, reason) VALUES (%s, %s, %s, %s)",
        (name, position, actor, reason),
    )


def resume(conn: Connection, name: str) -> None:
    """Let a halted read model try again."""
    conn.execute(
        "UPDATE progress.checkpoints SET halted = NULL, halted_at = NULL WHERE name = %s", (name,)
    )
