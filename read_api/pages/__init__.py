"""Pages: server-rendered views over the very query functions that the JSON API uses."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from projections import customers, funnel, leads, opportunities, promises
from projections.asking.listing import AskedAt
from projections.asking.rows import fetch
from projections.asking.shape import Shape
from projections.asking.view import Caller
from projections.customers import AskCustomers
from projections.funnel import AskFunnel
from projections.promises import AskPromises
from read_api import health
from read_api.answers import address
from read_api.door import door
from read_api.reading import Reader, caller_of

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'none'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
DOCS_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; frame-ancestors 'none'"
)


def install(app: FastAPI, reader: Reader, local_url: str) -> None:
    """Give an application its pages.

    Args:
        local_url: where it is reached on this machine, for examples where no public address is set.
    """
    environment = Environment(
        loader=PackageLoader("read_api.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = files("read_api.pages").joinpath("pledge.css").read_bytes()

    routes = APIRouter(route_class=door(reader))

    @routes.get("/", include_in_schema=False)
    def start(request: Request) -> Response:
        """What is here, and where to go from here."""
        try:
            facts = _facts(reader, caller_of(request))
        except (OperationalError, PoolTimeout):
            facts = None
        html = environment.get_template("start.html").render(
            facts=facts, base=address(request, "") or local_url
        )
        return Response(html, media_type="text/html", headers={"Content-Security-Policy": POLICY})

    app.include_router(routes)

    @app.get("/pledge.css", include_in_schema=False)
    async def stylesheet() -> Response:
        """The one stylesheet."""
        return Response(style, media_type="text/css", headers={"Cache-Control": "max-age=3600"})


class Counts(Shape):
    """How many there are of each."""

    customers: int
    leads: int
    open_deals: int
    open_promises: int


COUNTS = """
SELECT (SELECT count(*) FROM customers) AS customers,
       (SELECT count(*) FROM leads) AS leads,
       (SELECT count(*) FROM opportunities WHERE kind = 'open') AS open_deals,
       (SELECT count(*) FROM promises WHERE status = 'open') AS open_promises
"""
SHOWN = (customers.MODEL, leads.MODEL, opportunities.MODEL, promises.MODEL)


def _facts(reader: Reader, caller: Caller) -> dict[str, Any]:
    with reader.connection() as conn:
        built = {item.name for item in health.projections(conn).items}
    if not {model.name for model in SHOWN} <= built:
        return {"building": True}
    with reader.view(caller, SHOWN, AskedAt()) as view:
        [counts] = fetch(view.conn, Counts, COUNTS, {})
        at_odds, _ = promises.LIST.rows(
            view.conn, view.when, AskPromises(contradicting=True, limit=6)
        )
        overdue, _ = promises.LIST.rows(
            view.conn, view.when, AskPromises(overdue=True, status="open", limit=6)
        )
        some, _ = customers.LIST.rows(view.conn, view.when, AskCustomers(limit=1))
        return {
            "building": False,
            "counts": counts,
            "position": view.position,
            "today": view.when.today,
            "promises": (at_odds + [p for p in overdue if p not in at_odds])[:6],
            "funnel": funnel.funnel(view, AskFunnel()).stages,
            "customer": some[0].id if some else None,
            "projections": health.projections(view.conn).items,
        }
