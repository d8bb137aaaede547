"""Routes for operators: liveness, readiness, the lag of each part, and metrics."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, generate_latest
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from events.ledger import ledger
from projections.catalog import MODELS
from projections.engine.rebuild import is_changed
from read_api import health
from read_api.answers import answer, as_json, form_of, problem
from read_api.door import OPERATIONS, door
from read_api.health import PoliciesShape, Projections, RelayShape
from read_api.reading import Reader
from read_api.shapes import FILES, INVALID, NOT_ACCEPTABLE, Problem

AWAY: dict[int | str, dict[str, Any]] = {
    422: INVALID[422],
    503: {"model": Problem, "description": "The database does not answer."},
}
TABLE = {**AWAY, **FILES, **NOT_ACCEPTABLE}

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


def router(reader: Reader) -> APIRouter:
    """The routes for operators."""
    routes = APIRouter(tags=[OPERATIONS], route_class=door(reader))

    @routes.get("/projections", response_model=Projections, responses=TABLE)
    def list_projections(request: Request) -> Response:
        """The lag of each read model, whether it is halted, and the streams that it parked."""
        with reader.connection() as conn:
            return answer(request, form_of(request), health.projections(conn))

    @routes.get("/policies", response_model=PoliciesShape, responses=TABLE)
    def list_policies(request: Request) -> Response:
        """The checkpoint of the policies, and their commands that a rule refused."""
        with reader.connection() as conn:
            return answer(request, form_of(request), health.policies(conn))

    @routes.get("/relay", response_model=RelayShape, responses={**AWAY, **NOT_ACCEPTABLE})
    def show_relay(request: Request) -> Response:
        """The relay's checkpoint and its lag behind the ledger, where a relay runs."""
        with reader.connection() as conn:
            return answer(request, form_of(request, is_table=False), health.relay(conn))

    @routes.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @routes.get("/health/ready", responses={422: INVALID[422], 503: {"model": Problem}})
    def ready() -> Response:
        """The database answers, and every read model is built and moves."""
        try:
            with reader.connection() as conn:
                found = health.projections(conn)
                changed = [model.name for model in MODELS if is_changed(conn, model)]
        except (OperationalError, PoolTimeout):
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", "The database does not answer."
            )
        names = {item.name for item in found.items}
        missing = [model.name for model in MODELS if model.name not in names] + changed
        halted = [item.name for item in found.items if item.halted is not None]
        stalled = [item.name for item in found.items if item.status == "stalled"]
        if missing or halted or stalled:
            parts = [f"not built yet: {', '.join(missing)}"] * bool(missing)
            parts += [f"halted: {', '.join(halted)}"] * bool(halted)
            parts += [f"do not move: {', '.join(stalled)}"] * bool(stalled)
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", f"Read models {'; '.join(parts)}."
            )
        return as_json({"status": "ready", "position": found.position})

    @routes.get("/metrics", response_class=Response, responses=AWAY)
    def metrics() -> Response:
        """Figures for Prometheus."""
        with reader.connection() as conn:
            found = health.projections(conn)
            acted = health.policies(conn)
            carried = health.relay(conn)
        if carried.position is not None:
            RELAY_POSITION.set(carried.position)
            RELAY_LAG.set(carried.lag_positions or 0)
            RELAY_LAG_SECONDS.set(carried.lag_seconds)
            RELAY_HALTED.set(carried.halted is not None)
        POLICY_POSITION.set(acted.position)
        POLICY_PARKED.set(len(acted.items))
        HEAD.set(found.position)
        for item in found.items:
            name = item.name
            POSITION.labels(name).set(item.position)
            LAG.labels(name).set(item.lag_positions)
            LAG_SECONDS.labels(name).set(item.lag_seconds)
            HALTED.labels(name).set(item.halted is not None)
            PARKED.labels(name).set(len(item.parked))
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return routes


def write_router(reader: Reader) -> APIRouter:
    """The routes for operators of a process that takes commands and nothing else."""
    routes = APIRouter(tags=[OPERATIONS], route_class=door(reader))

    @routes.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @routes.get("/health/ready", responses={422: INVALID[422], 503: {"model": Problem}})
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
