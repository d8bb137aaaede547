"""Figures over deals, leads, receipts and tickets."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from analytics import deals, leads, receipts, tickets
from projections.asking.pages import LIMIT
from read_api import figure_shapes as shapes
from read_api.answers import listed
from read_api.figures import Captured, Place, Served, Sold, on_facts
from read_api.parameters import Limit, Word
from read_api.reading import Reader

Kind = Literal["open", "won", "lost"]
Idle = Annotated[
    int | None, Query(ge=0, le=36600, description="Nothing happened to them for longer.")
]


def add_routes(routes: APIRouter, reader: Reader) -> None:
    """The routes of figures over sales and service."""

    @routes.get("/analytics/deals/conversion", tags=["analytics"], response_model=shapes.Conversion)
    def conversion(request: Request, asked: Sold, pipeline: Word = None) -> Response:
        """Of the deals that entered a stage in the window, those that later entered the next."""
        with on_facts(reader, asked, deals.TABLES, pipeline=pipeline) as (told, session):
            items = deals.conversion(session, pipeline)
            return listed(request, told(), items, None)

    @routes.get("/analytics/deals/stages", tags=["analytics"], response_model=shapes.StageTimes)
    def stages(request: Request, asked: Sold, pipeline: Word = None) -> Response:
        """How long deals stand in each stage."""
        with on_facts(reader, asked, deals.TABLES, pipeline=pipeline) as (told, session):
            items = deals.stage_times(session, pipeline)
            return listed(request, told(), items, None)

    @routes.get("/analytics/deals/closings", tags=["analytics"], response_model=shapes.Closings)
    def closings(
        request: Request, asked: Sold, by: deals.ClosingsBy = "owner", pipeline: Word = None
    ) -> Response:
        """Deals won and lost by closing day: rates, amounts, sales cycles; by owner the league."""
        with on_facts(reader, asked, deals.TABLES, pipeline=pipeline, by=by) as (told, session):
            items = deals.closings(session, by, pipeline)
            return listed(request, told(), items, None)

    @routes.get("/analytics/deals/open", tags=["analytics"], response_model=shapes.OpenDeals)
    def open_deals(
        request: Request, asked: Sold, by: deals.OpenBy = "stage", pipeline: Word = None
    ) -> Response:
        """The pipeline: open deals, their amounts, weighted by the chance of their stages."""
        with on_facts(reader, asked, deals.TABLES, pipeline=pipeline, by=by) as (told, session):
            items = deals.open_deals(session, by, pipeline)
            return listed(request, told(), items, None)

    @routes.get("/analytics/deals", tags=["analytics"], response_model=shapes.Deals)
    def deals_behind(
        request: Request,
        asked: Sold,
        pipeline: Word = None,
        kind: Kind | None = None,
        stage: Word = None,
        reason: Word = None,
        idle_days: Idle = None,
        cursor: Place = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """The deals behind figures; open ones with idle_days are those that got stuck."""
        with on_facts(reader, asked, deals.TABLES, pipeline=pipeline) as (told, session):
            items, more = deals.deals(
                session,
                pipeline,
                kind=kind,
                stage=stage,
                reason=reason,
                idle_days=idle_days,
                after=int(cursor or 0),
                limit=limit,
            )
            return listed(request, told(), items, more)

    @routes.get("/analytics/leads", tags=["analytics"], response_model=shapes.LeadGroups)
    def lead_groups(request: Request, asked: Captured, by: leads.By = "source") -> Response:
        """Leads captured in the window, by source: what became of them, and how soon."""
        with on_facts(reader, asked, leads.TABLES, by=by) as (told, session):
            items = leads.leads(session, by)
            return listed(request, told(), items, None)

    @routes.get("/analytics/receipts", tags=["analytics"], response_model=shapes.Receipts)
    def receipt_months(request: Request, asked: Sold) -> Response:
        """Month by month: what was due, what came in, and how far behind that is."""
        with on_facts(reader, asked, receipts.TABLES) as (told, session):
            items = receipts.receipts(session)
            return listed(request, told(), items, None)

    @routes.get("/analytics/tickets", tags=["analytics"], response_model=shapes.TicketGroups)
    def ticket_groups(request: Request, asked: Served, by: tickets.By = "all") -> Response:
        """Tickets opened in the window: backlog, times, reopenings, ratings."""
        with on_facts(reader, asked, tickets.TABLES, by=by) as (told, session):
            items = tickets.tickets(session, by)
            return listed(request, told(), items, None)
