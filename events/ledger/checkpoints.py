"""How far each reader of events has come; moved in the transaction that keeps what it made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg

from events.ledger import ledger

Connection = psycopg.Connection[Any]

LEDGER = "ledger"
"""The source that is one partition, 0, whose offsets are the positions."""

LEASE = "SET idle_session_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'"
"""For the session that holds a leader's lock: a frozen leader loses both, a living one asks more
often than that."""


class Overtaken(RuntimeError):
    """Another process moved the checkpoint; what was done here is undone."""


@dataclass(slots=True)
class Checkpoint:
    """What a reader took of one partition of its source.

    Attributes:
        position: the highest that was taken, from this partition.
        event_id: the event at ``position``, None at 0; tells a restored ledger from the old one.
        shape: of what the reader makes of the events; another one has to begin anew.
        halted: why the reader stands still, None while it moves.
        halted_at: the position of the event that it cannot take.
        epoch: of the leader that moves it, where one of several leads.
        source: the ledger, or the id of the topic.
        offset: in a topic, of the next record to read; None where nobody knows yet.
        watermark: in a topic, up to where no event of this partition is missing.
    """

    name: str
    shape: str
    ledger_id: UUID
    position: int = 0
    event_id: UUID | None = None
    halted: str | None = None
    halted_at: int | None = None
    epoch: int = 0
    partition: int = 0
    source: str = LEDGER
    offset: int | None = None
    watermark: int | None = None

    @property
    def taken(self) -> int:
        """Up to here no event of this partition is missing, and none is to be taken again.

        Of a topic this is how far the partition's chain was followed.
        """
        return max(self.position, self.watermark or 0)


COLUMNS = """name, shape, ledger_id, position, event_id, halted, halted_at, epoch, partition,
source, next_offset, watermark"""
FETCH = f"SELECT {COLUMNS} FROM progress.checkpoints WHERE name = %s ORDER BY partition"
BEGIN = """
INSERT INTO progress.checkpoints (name, partition, shape, ledger_id, position, event_id, epoch)
VALUES (%s, 0, %s, %s, %s, %s, %s)
"""
SPLIT = """
INSERT INTO progress.checkpoints (name, partition, shape, ledger_id, position, event_id, halted,
                                  halted_at, epoch, source, watermark)
SELECT c.name, n, c.shape, c.ledger_id, c.position, c.event_id, c.halted, c.halted_at, c.epoch,
       %s, c.position
  FROM progress.checkpoints c, generate_series(0, %s) AS n WHERE c.name = %s AND c.source = 'ledger'
ON CONFLICT (name, partition) DO UPDATE SET source = excluded.source, watermark = excluded.watermark
"""
FOLLOW = """
UPDATE progress.checkpoints SET source = %s, next_offset = NULL WHERE name = %s AND source <> %s
"""
MOVE = """
UPDATE progress.checkpoints c
   SET position = n.position, event_id = n.event_id, halted = n.halted, halted_at = n.halted_at,
       next_offset = n.next_offset, watermark = n.watermark, moved_at = clock_timestamp()
  FROM unnest(%s::text[], %s::int[], %s::text[], %s::bigint[], %s::uuid[], %s::text[], %s::bigint[],
              %s::bigint[], %s::bigint[], %s::bigint[], %s::uuid[], %s::bigint[], %s::bigint[],
              %s::bigint[])
       AS n (name, partition, shape, position, event_id, halted, halted_at, next_offset, watermark,
             old_position, old_event_id, old_offset, old_watermark, epoch)
 WHERE c.name = n.name AND c.partition = n.partition AND c.shape = n.shape AND c.ledger_id = %s
   AND c.source = %s AND c.epoch = n.epoch AND c.position = n.old_position
   AND c.event_id IS NOT DISTINCT FROM n.old_event_id
   AND c.next_offset IS NOT DISTINCT FROM n.old_offset
   AND c.watermark IS NOT DISTINCT FROM n.old_watermark
"""


def fetch(conn: Connection, name: str) -> Checkpoint | None:
    """The checkpoint of a reader of the ledger, if it has one."""
    found = fetch_all(conn, name)
    return found[0] if found else None


def fetch_all(conn: Connection, name: str) -> list[Checkpoint]:
    """The reader's checkpoints, one for each partition of its source."""
    return [Checkpoint(*row) for row in conn.execute(FETCH, (name,))]


def begin(conn: Connection, name: str, shape: str, position: int, event_id: UUID | None) -> None:
    """Write a checkpoint in the ledger anew, in the place of all old ones of the reader."""
    with conn.transaction():
        old = conn.execute(
            "DELETE FROM progress.checkpoints WHERE name = %s RETURNING epoch", (name,)
        ).fetchall()
        epoch = max((row[0] for row in old), default=-1) + 1
        conn.execute(BEGIN, (name, shape, ledger.ledger_id(conn), position, event_id, epoch))


def split(conn: Connection, name: str, source: str, partitions: int) -> None:
    """Let a reader of the ledger go on with a topic; one that reads a topic stays as it is."""
    with conn.transaction():
        conn.execute("SELECT FROM progress.checkpoints WHERE name = %s FOR UPDATE", (name,))
        conn.execute(SPLIT, (source, partitions - 1, name))


def follow(conn: Connection, name: str, source: str) -> None:
    """Let a reader of a topic go on with another one that has the same partitions."""
    conn.execute(FOLLOW, (source, name, source))


def raise_epoch(conn: Connection, name: str) -> Checkpoint:
    """The checkpoint under a new leader; whoever led before cannot move it any more."""
    row = conn.execute(
        f"UPDATE progress.checkpoints SET epoch = epoch + 1 WHERE name = %s RETURNING {COLUMNS}",
        (name,),
    ).fetchone()
    assert row is not None
    return Checkpoint(*row)


def move(conn: Connection, old: Checkpoint, new: Checkpoint) -> None:
    """Compare and swap.

    Raises:
        Overtaken: when the stored checkpoint is not ``old`` any more.
    """
    move_all(conn, [(old, new)])


def move_all(conn: Connection, moves: Sequence[tuple[Checkpoint, Checkpoint]]) -> None:
    """Compare and swap checkpoints in one ledger and one source.

    Raises:
        Overtaken: when a stored checkpoint is not the old one any more; undo the transaction.
    """
    first = moves[0][0]
    done = conn.execute(
        MOVE,
        (
            [new.name for _, new in moves],
            [new.partition for _, new in moves],
            [old.shape for old, _ in moves],
            [new.position for _, new in moves],
            [new.event_id for _, new in moves],
            [new.halted for _, new in moves],
            [new.halted_at for _, new in moves],
            [new.offset for _, new in moves],
            [new.watermark for _, new in moves],
            [old.position for old, _ in moves],
            [old.event_id for old, _ in moves],
            [old.offset for old, _ in moves],
            [old.watermark for old, _ in moves],
            [old.epoch for old, _ in moves],
            first.ledger_id,
            first.source,
        ),
        prepare=False,  # a plan for any number of them is ten times slower than one for these
    )
    if done.rowcount != len(moves):
        names = ", ".join(sorted({old.name for old, _ in moves}))
        raise Overtaken(f"another process moved a checkpoint of {names}")


def fits(conn: Connection, checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint belongs to the ledger at hand.

    Where it does not, going on would skip or repeat events.
    """
    found = conn.execute(
        "SELECT event_id FROM ledger.events WHERE position = %s", (checkpoint.position,)
    ).fetchone()
    lost = checkpoint.position > 0 and (found is None or found[0] != checkpoint.event_id)
    return ledger.ledger_id(conn) == checkpoint.ledger_id and not lost
