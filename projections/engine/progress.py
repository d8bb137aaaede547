"""What read models set aside or pass over, and whether they stand on the ledger at hand."""

from __future__ import annotations

from uuid import UUID

from events.kafka.records import partition_of
from events.ledger.checkpoints import LEDGER, Checkpoint
from projections.engine.model import ReadModel
from projections.engine.tables import Connection

FAR = 20_000
ENOUGH = 1_000
"""Of how many events the next ones are looked at, and how many of these. Events were taken in their
order, so the first ones tell; each partition of each read model is looked at when it is assigned.
"""
NEXT = """
SELECT stream_id FROM ledger.events WHERE position > %s AND position <= %s AND type = ANY (%s)
 ORDER BY position LIMIT %s
"""
REACHED = """
SELECT coalesce(min(greatest(position, watermark)), 0), count(DISTINCT name)
  FROM progress.checkpoints WHERE name = ANY (%s) AND shape = ANY (%s)
"""


def set_back(conn: Connection, model: ReadModel, checkpoint: Checkpoint) -> str | None:
    """Why rows and checkpoint do not belong together; None when they do.

    Rows that know the events behind their checkpoint would take them twice.
    """
    types = list(model.types)
    found = conn.execute(NEXT, (checkpoint.taken, checkpoint.taken + FAR, types, ENOUGH))
    streams = [
        stream
        for stream in {row[0] for row in found}
        if checkpoint.source == LEDGER or partition_of(stream) == checkpoint.partition
    ]
    for table in model.tables if streams else ():
        if "position" not in table.columns:
            continue
        ahead = conn.execute(
            f"SELECT FROM {model.schema}.{table.name} "
            f"WHERE {table.key[0]} = ANY (%s) AND position > %s LIMIT 1".encode(),
            (streams, checkpoint.taken),
        ).fetchone()
        if ahead is not None:
            return (
                f"stands at position {checkpoint.taken}, and its rows know more (was the "
                "checkpoint restored from a backup?)"
            )
    return None


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


def position_of(conn: Connection, *models: ReadModel) -> int | None:
    """The position that all these read models have reached; None while one has not their shape."""
    row = conn.execute(
        REACHED,
        ([model.name for model in models], [model.shape for model in models]),
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
