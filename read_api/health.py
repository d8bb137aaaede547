"""Whether the service lives and is ready, how far each read model is, all in figures."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, generate_latest
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from analytics.facts.store import Store
from events.ledger import ledger
from projections.asking.pages import fetch
from projections.catalog import MODELS
from projections.engine.tables import Connection
from read_api.answers import as_json, problem
from read_api.reading import Reader
from read_api.shapes import PoliciesShape, Problem, Projections, RelayShape

AWAY: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "The database does not answer."}
}
STALLED_SECONDS = 15.0
"""How long a read model may stand before an event that it could take."""

STATUS = """
SELECT c.name, c.position, greatest(h.position - c.position, 0) AS lag_positions,
       c.halted, c.halted_at, c.source <> 'ledger' AS by_topic,
       h.position > c.position AND EXISTS (
           SELECT FROM ledger.events e
            WHERE e.position = c.position + 1
              AND greatest(e.recorded_at, c.moved_at) < clock_timestamp() - %s * interval '1s'
       ) AS stalled,
       coalesce((SELECT greatest(extract(epoch FROM clock_timestamp() - e.recorded_at), 0)
                   FROM ledger.events e WHERE e.position = c.position + 1), 0)::float8
           AS lag_seconds,
       ARRAY(SELECT stream_id FROM progress.parked p WHERE p.name = c.name
              ORDER BY position LIMIT 100) AS parked
  FROM progress.readers c,
       (SELECT coalesce(max(position), 0) AS position FROM ledger.events) h
 WHERE c.name = ANY (%s) ORDER BY c.name
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
       c.halted, c.epoch, split_part(c.shape, '/', -1) AS topic_id,
       'urn:pledge:ledger:' || i.ledger_id AS source
  FROM ledger.identity i, (SELECT coalesce(max(position), 0) AS position FROM ledger.events) h
  LEFT JOIN progress.checkpoints c ON c.name = 'relay'
"""

HEAD = Gauge("pledge_ledger_position", "The ledger's last position")
POSITION = Gauge("pledge_projection_position", "Position that a read model reflects", ["name"])
LAG = Gauge("pledge_projection_lag_positions", "Events that a read model is behind", ["name"])
LAG_SECONDS = Gauge("pledge_projection_lag_seconds", "Age of the first event not taken", ["name"])
HALTED = Gauge("pledge_projection_halted", "1 while a read model stands still", ["name"])
PARKED = Gauge("pledge_projection_parked_streams", "Streams set aside", ["name"])
POLICY_POSITION = Gauge("pledge_policies_position", "Position up to which policies have acted")
POLICY_PARKED = Gauge("pledge_policies_parked", "What policies wanted done and a rule refused")
RELAY_POSITION = Gauge("pledge_relay_position", "Position up to which Kafka has acknowledged")
RELAY_LAG = Gauge("pledge_relay_lag_positions", "Events that Kafka does not have yet")
RELAY_LAG_SECONDS = Gauge("pledge_relay_lag_seconds", "Age of the first event not carried")
RELAY_HALTED = Gauge("pledge_relay_halted", "1 while the relay stands still")


def projections(conn: Connection) -> dict[str, Any]:
    """Every read model against the ledger's end."""
    items = fetch(conn, STATUS, (STALLED_SECONDS, [model.name for model in MODELS]))
    for item in items:
        stalled, by_topic = item.pop("stalled"), item.pop("by_topic")
        # Behind a topic it may be Kafka or the relay that is away; what is there can be asked for.
        late = "behind" if by_topic else "stalled"
        item["status"] = "halted" if item["halted"] else late if stalled else "running"
    head = fetch(conn, "SELECT coalesce(max(position), 0) AS head FROM ledger.events")[0]["head"]
    return {"position": head, "items": items}


def relay(conn: Connection) -> dict[str, Any]:
    """How far the relay has carried the ledger to Kafka; a position of None where there is none."""
    found = fetch(conn, RELAY)[0]
    return {**found, "topic_id": found["topic_id"] and UUID(found["topic_id"])}


def policies(conn: Connection) -> dict[str, Any]:
    """How far the policies have acted, and what of it a rule refused."""
    position = fetch(conn, POLICIES_AT)
    return {
        "position": position[0]["position"] if position else 0,
        "halted": position[0]["halted"] if position else None,
        "items": fetch(conn, PARKED_POLICIES),
    }


def relay_stands(conn: Connection) -> str | None:
    """Why nothing is carried to Kafka; None when it is."""
    found = relay(conn)
    if found["position"] is None:
        return "no relay has begun yet"
    if found["halted"] is not None:
        return f"halted: {found['halted']}"
    if found["lag_seconds"] > STALLED_SECONDS:
        return f"{found['lag_positions']} events behind, for {found['lag_seconds']:.0f} seconds"
    return None


def projections_stand(conn: Connection) -> str | None:
    """Why a read model is not brought up to date; None when all are."""
    for item in projections(conn)["items"]:
        if item["status"] != "running":
            return f"{item['name']} is {item['status']}: {item['halted'] or 'it does not move'}"
    return None


def policies_stand(conn: Connection) -> str | None:
    """Why policies do not act; None when they do."""
    found = policies(conn)["halted"]
    return None if found is None else f"halted: {found}"


WAITS = """
SELECT extract(epoch FROM clock_timestamp() - recorded_at)::float8 AS seconds
  FROM ledger.events WHERE position = %s
"""


def facts_stand(conn: Connection, store: Store) -> str | None:
    """Why the facts behind figures are not brought up to date; None when they are."""
    found = store.latest()
    if found.halted is not None:
        return f"halted: {found.halted}"
    [waits] = fetch(conn, WAITS, (found.position + 1,)) or [{"seconds": 0}]
    if waits["seconds"] > STALLED_SECONDS:
        return (
            f"the event at position {found.position + 1} waits for {waits['seconds']:.0f} seconds"
        )
    return None


def router(reader: Reader) -> APIRouter:
    """The routes for operators."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/projections", response_model=Projections, responses=AWAY)
    def list_projections() -> Response:
        """How far each read model is behind, whether it halted, what it parked."""
        with reader.connection() as conn:
            return as_json(projections(conn))

    @routes.get("/policies", response_model=PoliciesShape, responses=AWAY)
    def list_policies() -> Response:
        """Up to where policies have acted, and what they wanted done and a rule refused."""
        with reader.connection() as conn:
            return as_json(policies(conn))

    @routes.get("/relay", response_model=RelayShape, responses=AWAY)
    def show_relay() -> Response:
        """How far the ledger has been carried to Kafka, where a relay is at work."""
        with reader.connection() as conn:
            return as_json(relay(conn))

    @routes.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @routes.get("/health/ready", responses={503: {"model": Problem}})
    def ready() -> Response:
        """The database answers, and every read model is built and moves."""
        try:
            with reader.connection() as conn:
                found = projections(conn)
        except (OperationalError, PoolTimeout):
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", "The database does not answer."
            )
        names = {item["name"] for item in found["items"]}
        missing = [model.name for model in MODELS if model.name not in names]
        halted = [item["name"] for item in found["items"] if item["halted"] is not None]
        stalled = [item["name"] for item in found["items"] if item["status"] == "stalled"]
        if missing or halted or stalled:
            parts = [f"not built yet: {', '.join(missing)}"] * bool(missing)
            parts += [f"halted: {', '.join(halted)}"] * bool(halted)
            parts += [f"do not move: {', '.join(stalled)}"] * bool(stalled)
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", f"Read models {'; '.join(parts)}."
            )
        return as_json({"status": "ready", "position": found["position"]})

    @routes.get("/metrics", response_class=Response, responses=AWAY)
    def metrics() -> Response:
        """Figures for Prometheus."""
        with reader.connection() as conn:
            found = projections(conn)
            acted = policies(conn)
            carried = relay(conn)
        if carried["position"] is not None:
            RELAY_POSITION.set(carried["position"])
            RELAY_LAG.set(carried["lag_positions"])
            RELAY_LAG_SECONDS.set(carried["lag_seconds"])
            RELAY_HALTED.set(carried["halted"] is not None)
        POLICY_POSITION.set(acted["position"])
        POLICY_PARKED.set(len(acted["items"]))
        HEAD.set(found["position"])
        for item in found["items"]:
            name = item["name"]
            POSITION.labels(name).set(item["position"])
            LAG.labels(name).set(item["lag_positions"])
            LAG_SECONDS.labels(name).set(item["lag_seconds"])
            HALTED.labels(name).set(item["halted"] is not None)
            PARKED.labels(name).set(len(item["parked"]))
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return routes


def write_router(reader: Reader) -> APIRouter:
    """The routes for operators of a process that takes commands and nothing else."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @routes.get("/health/ready", responses={503: {"model": Problem}})
    def ready() -> Response:
        """The database answers."""
        with reader.connection() as conn:
            return as_json({"status": "ready", "position": ledger.head(conn)})

    @routes.get("/metrics", response_class=Response, responses=AWAY)
    def metrics() -> Response:
        """Figures for Prometheus."""
        with reader.connection() as conn:
            HEAD.set(ledger.head(conn))
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return routes
