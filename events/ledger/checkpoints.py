"""How far each reader of events has come; moved in the transaction that keeps what it made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from events.ledger import ledger
from events.ledger.ledger import Connection

LEDGER = "ledger"
"""The source that is one partition, 0, whose offsets are the positions."""


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
HALT = "UPDATE progress.checkpoints SET halted = %s, halted_at = %s WHERE name = %s"
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


def halt_all(conn: Connection, name: str, why: str, position: int | None) -> None:
    """Halt a reader in every partition, at the event that it cannot take if there is one."""
    conn.execute(HALT, (why, position, name))


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
    rows = [
        (
            *(new.name, new.partition, old.shape),
            *(new.position, new.event_id, new.halted, new.halted_at, new.offset, new.watermark),
            *(old.position, old.event_id, old.offset, old.watermark, old.epoch),
        )
        for old, new in moves
    ]
    done = conn.execute(
        MOVE,
        [*map(list, zip(*rows, strict=True)), first.ledger_id, first.source],
        prepare=False,  # a plan for any number of them is ten times slower than one for these
    )
    if done.rowcount != len(moves):
        names = ", ".join(sorted({old.name for old, _ in moves}))
        raise Overtaken(f"another process moved a checkpoint of {names}")


def mismatch(conn: Connection, checkpoint: Checkpoint) -> str | None:
    """Why the checkpoint does not belong to the ledger at hand; None when it does.

    Where it does not, going on would skip or repeat events.
    """
    at_hand = ledger.ledger_id(conn), ledger.event_at(conn, checkpoint.position)
    if at_hand == (checkpoint.ledger_id, checkpoint.event_id):
        return None
    return (
        f"stands at position {checkpoint.position} of a ledger that is not this one as it is now "
        "(restored from a backup?)"
    )
