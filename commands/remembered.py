"""What policies remember beside the stream that they answer: which deals are a customer's.

Whose a deal is never changes once it is known, so a memory that is ahead of its reader says the
same. It is folded from the ledger behind a checkpoint of its own, and made anew when that does not
fit.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from events.ledger import checkpoints, ledger
from events.ledger.checkpoints import Checkpoint
from events.ledger.codec import decode_sealed
from events.ledger.ledger import Connection
from events.opportunity import CustomerIdentified, OpportunityOpened

NAME = "policy_memory"
SHAPE = "1"
BATCH = 2_000

NEXT = f"""
SELECT {ledger.COLUMNS} FROM ledger.events
 WHERE position > %b
   AND type IN ('{OpportunityOpened.event_type}', '{CustomerIdentified.event_type}')
 ORDER BY position LIMIT %b
"""
FORGET = "DELETE FROM progress.deals_of_customers"
KEEP = """
INSERT INTO progress.deals_of_customers (deal_id, customer_id, position) VALUES (%s, %s, %s)
    ON CONFLICT (deal_id) DO NOTHING
"""
DEALS = """
SELECT deal_id FROM progress.deals_of_customers
 WHERE customer_id = %s AND position < %s ORDER BY position
"""


def deals_of(conn: Connection, customer_id: UUID, before: int) -> list[UUID]:
    """The deals that were known to be a customer's before a position."""
    catch_up(conn, before - 1)
    return [row[0] for row in conn.execute(DEALS, (customer_id, before))]


def catch_up(conn: Connection, goal: int) -> None:
    """Fold the ledger, at least up to a position that it has."""
    at = _checkpoint(conn)
    while at.position < goal:
        rows = ledger.read(conn, at.position, BATCH, NEXT)
        last = rows[-1].position if rows else 0
        end = last if len(rows) == BATCH else max(goal, last)
        with conn.transaction():
            for row in rows:
                event = decode_sealed(row.type, row.schema_version, row.payload)
                assert isinstance(event, OpportunityOpened | CustomerIdentified)
                if event.customer_id is not None:
                    conn.execute(KEEP, (row.stream_id, event.customer_id, row.position))
            moved = replace(at, position=end, event_id=ledger.event_at(conn, end))
            checkpoints.move(conn, at, moved)
        at = moved


def _checkpoint(conn: Connection) -> Checkpoint:
    """Where the memory stands; at the beginning, and empty, where it does not fit this ledger."""
    at = checkpoints.fetch(conn, NAME)
    if at is not None and at.shape == SHAPE and checkpoints.mismatch(conn, at) is None:
        return at
    with conn.transaction():
        conn.execute(FORGET)
        checkpoints.begin(conn, NAME, SHAPE, 0, None)
    at = checkpoints.fetch(conn, NAME)
    assert at is not None
    return at
