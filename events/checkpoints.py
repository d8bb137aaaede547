"""How far each reader of the ledger has come; moved in the transaction that keeps what it made."""

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
    """Everything up to ``position`` was taken.

    Attributes:
        event_id: the event at ``position``, None at 0; tells a restored ledger from the old one.
        shape: of what the reader makes of the events; another one has to begin anew.
        halted: why the reader stands still, None while it moves.
        halted_at: the position of the event that it cannot take.
        epoch: of the leader that moves it, where one of several leads.
    """

    name: str
    shape: str
    ledger_id: UUID
    position: int = 0
    event_id: UUID | None = None
    halted: str | None = None
    halted_at: int | None = None
    epoch: int = 0


COLUMNS = "name, shape, ledger_id, position, event_id, halted, halted_at, epoch"


def fetch(conn: Connection, name: str) -> Checkpoint | None:
    """The reader's checkpoint, if it has one."""
    row = conn.execute(
        f"SELECT {COLUMNS} FROM progress.checkpoints WHERE name = %s AND partition = %s",
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


def raise_epoch(conn: Connection, name: str) -> Checkpoint:
    """The checkpoint under a new leader; whoever led before cannot move it any more."""
    row = conn.execute(
        "UPDATE progress.checkpoints SET epoch = epoch + 1 WHERE name = %s AND partition = %s "
        f"RETURNING {COLUMNS}",
        (name, PARTITION),
    ).fetchone()
    assert row is not None
    return Checkpoint(*row)


def move(conn: Connection, old: Checkpoint, new: Checkpoint) -> None:
    """Compare and swap.

    Raises:
        Overtaken: when the stored checkpoint is not ``old`` any more.
    """
    done = conn.execute(
        "UPDATE progress.checkpoints SET position = %s, event_id = %s, halted = %s, "
        "halted_at = %s, moved_at = clock_timestamp() WHERE name = %s AND partition = %s "
        "AND position = %s AND shape = %s AND ledger_id = %s "
        "AND event_id IS NOT DISTINCT FROM %s AND epoch = %s",
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
            old.epoch,
        ),
        prepare=True,
    )
    if done.rowcount != 1:
        raise Overtaken(f"another process moved the checkpoint of {old.name}")


def fits(conn: Connection, checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint belongs to the ledger at hand.

    Where it does not, going on would skip or repeat events.
    """
    found = conn.execute(
        "SELECT event_id FROM ledger.events WHERE position = %s", (checkpoint.position,)
    ).fetchone()
    lost = checkpoint.position > 0 and (found is None or found[0] != checkpoint.event_id)
    return ledger.ledger_id(conn) == checkpoint.ledger_id and not lost
