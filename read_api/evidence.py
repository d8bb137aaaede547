"""What stands behind figures: the customers, deals, leads, tickets and amounts that they count."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from analytics import deals, leads, purchases, receipts, retention, rfm, tickets
from projections.asking.clocks import Unanswerable
from projections.asking.pages import LIMIT
from read_api import evidence_shapes as shapes
from read_api.answers import listed
from read_api.figures import Captured, Place, Purchased, Served, Sold, on_facts, on_purchases
from read_api.parameters import Cursor, Limit, Word
from read_api.purchase_figures import LostAfter, Scores, Since
from read_api.reading import Reader

Month = Annotated[
    str,
    Query(
        pattern=r"^(19|20|21)[0-9]{2}-(0[1-9]|1[0-2])(-[0-9]{2})?$",
        examples=["2026-03"],
        description="A month, or any day of it.",
    ),
]
Stage = Annotated[
    str,
    Query(min_length=1, max_length=200, pattern=r"^[^\x00]*$", examples=["proposal"]),
]
Group = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00]*$",
        description="As the figure names it; left out, the group without a name.",
    ),
]
LaterMonth = Annotated[
    int | None, Query(ge=0, le=12_000, description="Who bought so many months later.")
]


def add_routes(routes: APIRouter, reader: Reader) -> None:
    """The routes of lists behind figures."""
    _of_purchases(routes, reader)
    _of_sales(routes, reader)


def _of_purchases(routes: APIRouter, reader: Reader) -> None:
    @routes.get("/analytics/customers/list", tags=["analytics"], response_model=shapes.Buyers)
    def buyers(
        request: Request,
        asked: Purchased,
        kind: purchases.Kind | None = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """The customers behind a number of customers, as new, repeat or recruited ones."""
        with on_purchases(reader, asked) as (told, session):
            return listed(request, told(), *purchases.buyers(session, kind, cursor, limit))

    @routes.get(
        "/analytics/repurchase/customers", tags=["analytics"], response_model=shapes.Repeaters
    )
    def repeaters(
        request: Request, asked: Purchased, cursor: Cursor = None, limit: Limit = LIMIT
    ) -> Response:
        """The customers behind the cycles; with a product those behind that product's."""
        with on_purchases(reader, asked) as (told, session):
            return listed(request, told(), *purchases.repeaters(session, cursor, limit))

    @routes.get(
        "/analytics/cohorts/customers", tags=["analytics"], response_model=shapes.CohortMembers
    )
    def cohort_members(
        request: Request,
        asked: Purchased,
        cohort: Month,
        month: LaterMonth = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """The customers of a cohort, or those of them who bought in one of its months."""
        with on_purchases(reader, asked) as (told, session):
            found = purchases.cohort(session, _first_day(cohort), month, cursor, limit)
            return listed(request, told(), *found)

    @routes.get("/analytics/retention/customers", tags=["analytics"], response_model=shapes.Changes)
    def changes(
        request: Request,
        asked: Purchased,
        month: Month,
        change: retention.Change | None = None,
        lost_after_days: LostAfter = 180,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """Who was kept, lost, won or won back in a month."""
        with on_purchases(reader, asked) as (told, session):
            first = _first_day(month)
            found = retention.customers(session, lost_after_days, first, change, cursor, limit)
            return listed(request, {**told(), "lost_after_days": lost_after_days}, *found)

    @routes.get(
        "/analytics/rfm/movement/customers",
        tags=["analytics"],
        response_model=shapes.MovedCustomers,
    )
    def moved(
        request: Request,
        asked: Purchased,
        scoring: Scores,
        since: Since,
        before: Word = None,
        after: Word = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """The customers who moved from one segment to another; `none` is no segment."""
        with (
            on_purchases(reader, asked) as (told, now),
            on_purchases(reader, asked.at(since)) as (_, then),
        ):
            items, more = rfm.moved(
                then, now, scoring, before=before, after=after, beyond=cursor, limit=limit
            )
            head = {**told(), "since": then.scope.when.as_of, "scoring": scoring.told()}
            return listed(request, head, items, more)


def _of_sales(routes: APIRouter, reader: Reader) -> None:
    @routes.get(
        "/analytics/deals/conversion/deals", tags=["analytics"], response_model=shapes.Entrants
    )
    def entrants(
        request: Request,
        asked: Sold,
        stage: Stage,
        pipeline: Word = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """The deals that entered a stage in the window, and whether they went on."""
        with on_facts(reader, asked, deals.TABLES, pipeline=pipeline) as (told, session):
            found = deals.entrants(session, stage, pipeline, cursor, limit)
            return listed(request, told(), *found)

    @routes.get("/analytics/deals/stages/deals", tags=["analytics"], response_model=shapes.Stays)
    def stays(
        request: Request,
        asked: Sold,
        stage: Stage,
        pipeline: Word = None,
        cursor: Place = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """The stays in a stage that ended in the window, and those that have not ended."""
        with on_facts(reader, asked, deals.TABLES, pipeline=pipeline) as (told, session):
            found = deals.stays(session, stage, pipeline, _number(cursor), limit)
            return listed(request, told(), *found)

    @routes.get("/analytics/leads/list", tags=["analytics"], response_model=shapes.LeadsBehind)
    def leads_behind(
        request: Request,
        asked: Captured,
        by: leads.By | None = None,
        group: Group = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """The leads behind a group, or all that were captured in the window."""
        if by is None and group is not None:
            raise Unanswerable("group", "needs a by that says of what it is one")
        with on_facts(reader, asked, leads.TABLES, by=by) as (told, session):
            return listed(request, told(), *leads.each(session, by, group, cursor, limit))

    @routes.get("/analytics/tickets/list", tags=["analytics"], response_model=shapes.TicketsBehind)
    def tickets_behind(
        request: Request,
        asked: Served,
        by: tickets.By = "all",
        group: Group = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """The tickets behind a group, or all that were opened in the window."""
        if by == "all" and group is not None:
            raise Unanswerable("group", "needs a by that says of what it is one")
        with on_facts(reader, asked, tickets.TABLES, by=by) as (told, session):
            return listed(request, told(), *tickets.each(session, by, group, cursor, limit))

    @routes.get("/analytics/receipts/moves", tags=["analytics"], response_model=shapes.MoneyMoves)
    def moves(
        request: Request, asked: Sold, month: Month, cursor: Place = None, limit: Limit = LIMIT
    ) -> Response:
        """What a month's receipts are made of: what fell due, came in, went back."""
        with on_facts(reader, asked, receipts.TABLES) as (told, session):
            items, more = receipts.moves(session, month[:7], _number(cursor), limit)
            return listed(request, told(), items, more, by_rank=True)


def _first_day(month: str) -> date:
    return date.fromisoformat(f"{month[:7]}-01")


def _number(cursor: str | None) -> int | None:
    return None if cursor is None else int(cursor)
