"""The lag of each part of the service behind the ledger, and why one is halted."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from analytics.facts.store import Damaged, Store
from events.ledger import ledger
from projections.asking.rows import fetch
from projections.asking.shape import Shape
from projections.catalog import MODELS
from projections.engine.tables import Connection

STALLED_SECONDS = 15.0
"""How long a read model may stand before an event that it could take."""


class ProjectionShape(Shape):
    """The lag of a read model behind the ledger."""

    name: str
    position: int
    lag_positions: int
    lag_seconds: float
    status: str = Field(examples=["running", "stalled", "behind", "halted"])
    halted: str | None
    halted_at: int | None
    parked: list[UUID]


class Projections(Shape):
    """The lag of every read model behind the ledger."""

    position: int
    items: list[ProjectionShape]


class RelayShape(Shape):
    """The relay's checkpoint and its lag behind the ledger; nulls where no relay ever ran.

    ``epoch`` rises with each relay that takes the lead.
    """

    ledger_position: int
    position: int | None
    lag_positions: int | None
    lag_seconds: float
    halted: str | None
    epoch: int | None
    topic_id: UUID | None
    source: str = Field(description="The `source` of every record that carries this ledger.")


class ParkedPolicy(Shape):
    """A command that a policy gave in answer to an event, and the rule that refused it."""

    policy: str
    position: int
    event_id: UUID
    stream_id: UUID
    command: str
    rule: str
    detail: str
    attempts: int
    parked_at: datetime
    is_retried: bool = Field(description="Whether an operator asked for a retry.")


class PoliciesShape(Shape):
    """The policies' checkpoint, why they are halted if they are, and their refused commands."""

    position: int
    halted: str | None
    items: list[ParkedPolicy]


STATUS = """
SELECT name, position, lag_positions, lag_seconds, halted, halted_at, parked,
       -- Behind a topic it may be Kafka or the relay that is away; what is there can be asked for.
       CASE WHEN halted IS NOT NULL THEN 'halted' WHEN NOT stalled THEN 'running'
            WHEN by_topic THEN 'behind' ELSE 'stalled' END AS status
  FROM (
    SELECT c.name, c.position, greatest(h.position - c.position, 0) AS lag_positions,
           c.halted, c.halted_at, c.source <> 'ledger' AS by_topic,
           h.position > c.position AND EXISTS (
               SELECT FROM ledger.events e
                WHERE e.position = c.position + 1
                  AND greatest(e.recorded_at, c.moved_at)
                      < clock_timestamp() - %(stalled)s * interval '1s'
           ) AS stalled,
           coalesce((SELECT greatest(extract(epoch FROM clock_timestamp() - e.recorded_at), 0)
                       FROM ledger.events e WHERE e.position = c.position + 1), 0)::float8
               AS lag_seconds,
           ARRAY(SELECT stream_id FROM progress.parked p WHERE p.name = c.name
                  ORDER BY position LIMIT 100) AS parked
      FROM progress.readers c,
           (SELECT coalesce(max(position), 0) AS position FROM ledger.events) h
     WHERE c.name = ANY (%(names)s)
  ) x ORDER BY name
"""
PARKED_POLICIES = """
SELECT policy, position, event_id, stream_id, command, rule, detail, attempts, parked_at,
       retried_by IS NOT NULL AS is_retried
  FROM progress.parked_policies ORDER BY position, policy
"""
POLICIES_AT = "SELECT position, halted FROM progress.checkpoints WHERE name = 'policies'"
RELAY = """
SELECT h.position AS ledger_position, c.position, h.position - c.position AS lag_positions,
       coalesce((SELECT greatest(extract(epoch FROM clock_timestamp() - e.recorded_at), 0)
                   FROM ledger.events e WHERE e.position = c.position + 1), 0)::float8
           AS lag_seconds,
       c.halted, c.epoch, split_part(c.shape, '/', -1)::uuid AS topic_id,
       'urn:pledge:ledger:' || i.ledger_id AS source
  FROM ledger.identity i, (SELECT coalesce(max(position), 0) AS position FROM ledger.events) h
  LEFT JOIN progress.checkpoints c ON c.name = 'relay'
"""
WAITS = """
SELECT extract(epoch FROM clock_timestamp() - recorded_at)::float8
  FROM ledger.events WHERE position = %s
"""


def projections(conn: Connection) -> Projections:
    """The lag of every read model behind the ledger."""
    asked = {"stalled": STALLED_SECONDS, "names": [model.name for model in MODELS]}
    items = fetch(conn, ProjectionShape, STATUS, asked)
    return Projections.of(position=ledger.head(conn), items=items)


def relay(conn: Connection) -> RelayShape:
    """How far the relay has carried the ledger to Kafka; a position of None where there is none."""
    [found] = fetch(conn, RelayShape, RELAY, {})
    return found


def policies(conn: Connection) -> PoliciesShape:
    """The checkpoint of the policies, and their commands that a rule refused."""
    position, halted = conn.execute(POLICIES_AT).fetchone() or (0, None)
    items = fetch(conn, ParkedPolicy, PARKED_POLICIES, {})
    return PoliciesShape.of(position=position, halted=halted, items=items)


def relay_stands(conn: Connection) -> str | None:
    """Why nothing is carried to Kafka; None when it is."""
    found = relay(conn)
    if found.position is None:
        return "no relay has begun yet"
    if found.halted is not None:
        return f"halted: {found.halted}"
    if found.lag_seconds > STALLED_SECONDS:
        return f"{found.lag_positions} events behind, for {found.lag_seconds:.0f} seconds"
    return None


def projections_stand(conn: Connection) -> str | None:
    """Why a read model is not brought up to date; None when all are."""
    for item in projections(conn).items:
        if item.status != "running":
            return f"{item.name} is {item.status}: {item.halted or 'it does not move'}"
    return None


def policies_stand(conn: Connection) -> str | None:
    """Why policies do not act; None when they do."""
    found = policies(conn).halted
    return None if found is None else f"halted: {found}"


def facts_stand(conn: Connection, store: Store) -> str | None:
    """Why the facts behind figures are not brought up to date; None when they are."""
    try:
        every = store.latest()
        store.check(every, footers=True)
    except Damaged as error:
        return str(error)
    if every.halted is not None:
        return f"halted: {every.halted}"
    found = every.answering
    if found is None:
        return f"they are being written: {every.position} of {every.goal} events are read"
    row = conn.execute(WAITS, (found.position + 1,)).fetchone()
    if row is not None and row[0] > STALLED_SECONDS:
        return f"the event at position {found.position + 1} waits for {row[0]:.0f} seconds"
    return None
