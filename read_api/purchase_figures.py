"""Figures over purchases: who comes back, who is worth what, and what they rest on."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from analytics import lifetime, purchases, retention, rfm, tiers
from analytics.lifetime import Outlook
from analytics.rfm import Scheme, Scoring
from analytics.tiers import Shares
from events.ledger import ledger
from projections.asking.clocks import Unanswerable
from projections.asking.pages import LIMIT
from read_api import figure_shapes as shapes
from read_api.answers import answered, as_json, listed
from read_api.figures import Lived, Place, Purchased, on_purchases, reached
from read_api.parameters import Cursor, Day, Limit, MinPosition
from read_api.reading import Reader

Thresholds = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{1,12}(,[0-9]{1,12}){3}$",
        description="Four rising numbers; without them customers are scored by equal share.",
        examples=["30,90,180,365"],
    ),
]
Segment = Annotated[str | None, Query(max_length=30, examples=["important-value"])]
Since = Annotated[
    str,
    Query(max_length=40, description="The moment to compare with.", examples=["2026-03-31"]),
]
LostAfter = Annotated[
    int, Query(ge=1, le=3660, description="Days without a purchase after which one is lost.")
]
ShareOf = Annotated[str, Query(pattern=r"^(0\.[0-9]{1,4}|1)$")]
Tier = Annotated[Literal["premium", "ordinary", "potential"] | None, Query()]


def scored(
    scheme: Scheme = "value",
    r_thresholds: Thresholds = None,
    f_thresholds: Thresholds = None,
    m_thresholds: Thresholds = None,
) -> Scoring:
    """How customers are to be scored."""
    amounts = _rising("m_thresholds", m_thresholds)
    return Scoring(
        scheme,
        _rising("r_thresholds", r_thresholds),
        _rising("f_thresholds", f_thresholds),
        None if amounts is None else [Decimal(edge) for edge in amounts],
    )


def _rising(field: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    edges = [int(part) for part in text.split(",")]
    if edges != sorted(set(edges)):
        raise Unanswerable(field, "must rise, like 30,90,180,365")
    return edges


def foreseen(
    calibrate_to: Annotated[
        Day,
        Query(description="The last day that the models know; what came later judges them."),
    ] = None,
    horizon_days: Annotated[
        int, Query(ge=1, le=3660, description="How far ahead expectations reach.")
    ] = 364,
    discount_rate: Annotated[
        str,
        Query(
            pattern=r"^(0(\.[0-9]{1,4})?|1)$", description="By which a year makes money worth less."
        ),
    ] = "0.1",
) -> Outlook:
    """What is asked of the models."""
    return Outlook(calibrate_to, horizon_days, Decimal(discount_rate))


def shared_out(premium_share: ShareOf = "0.8", ordinary_share: ShareOf = "0.95") -> Shares:
    """Where one tier ends and the next begins."""
    found = Shares(Decimal(premium_share), Decimal(ordinary_share))
    if found.premium > found.ordinary:
        raise Unanswerable("ordinary_share", "must not lie below premium_share")
    return found


Scores = Annotated[Scoring, Depends(scored)]
Outlooks = Annotated[Outlook, Depends(foreseen)]
Tiered = Annotated[Shares, Depends(shared_out)]


def add_routes(routes: APIRouter, reader: Reader) -> None:
    """The routes of figures over purchases."""

    @routes.get("/analytics", tags=["analytics"], response_model=shapes.FactsState)
    def facts(min_position: MinPosition = None) -> Response:
        """How far the facts are, and the Parquet files that hold them."""
        with reader.connection() as conn:
            head = ledger.head(conn)
        found = reached(reader, min_position or 0)
        tables = [
            {
                "table": table,
                "files": [reader.facts.url(name) for name, _ in files],
                "rows": sum(rows for _, rows in files),
            }
            for table, files in sorted(found.files.items())
        ]
        told = {"position": found.position, "head": max(head, found.position)}
        return as_json({**told, "halted": found.halted, "tables": tables})

    @routes.get("/analytics/customers", tags=["analytics"], response_model=shapes.CustomerFigures)
    def customer_figures(request: Request, asked: Purchased) -> Response:
        """New, returning, repeat, recruited and repurchasing customers; average order values."""
        with on_purchases(reader, asked) as (told, session):
            return answered(request, told(), purchases.customers(session))

    @routes.get("/analytics/repurchase", tags=["analytics"], response_model=shapes.Repurchase)
    def repurchase(request: Request, asked: Purchased) -> Response:
        """Repurchase cycles in days: of customers, to the second purchase, of products."""
        with on_purchases(reader, asked) as (told, session):
            return answered(request, told(), purchases.repurchase(session))

    @routes.get("/analytics/cohorts", tags=["analytics"], response_model=shapes.Cohorts)
    def cohorts(request: Request, asked: Purchased) -> Response:
        """Customers by the month of their first purchase, and who of them bought again when."""
        with on_purchases(reader, asked) as (told, session):
            return listed(request, told(), purchases.cohorts(session), None)

    @routes.get("/analytics/retention", tags=["analytics"], response_model=shapes.Retention)
    def kept(request: Request, asked: Purchased, lost_after_days: LostAfter = 180) -> Response:
        """Month by month: customers kept, lost, new and regained."""
        with on_purchases(reader, asked) as (told, session):
            items = retention.retention(session, lost_after_days)
            return listed(request, {**told(), "lost_after_days": lost_after_days}, items, None)

    _segments(routes, reader)
    _lives(routes, reader)

    @routes.get("/analytics/purchases", tags=["analytics"], response_model=shapes.Purchases)
    def purchases_behind(
        request: Request,
        asked: Purchased,
        customer_id: UUID | None = None,
        cursor: Place = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """The purchases that figures rest on; their positions lead into /audit/events."""
        with on_purchases(reader, asked) as (told, session):
            items, more = purchases.evidence(session, customer_id, int(cursor or 0), limit)
            return listed(request, told(), items, more)


def _segments(routes: APIRouter, reader: Reader) -> None:
    @routes.get("/analytics/rfm", tags=["analytics"], response_model=shapes.Segments)
    def rfm_segments(request: Request, asked: Purchased, scoring: Scores) -> Response:
        """Recency, frequency and monetary value: how many customers are in which segment."""
        with on_purchases(reader, asked) as (told, session):
            items = rfm.segments(session, scoring)
            return listed(request, {**told(), "scoring": scoring.told()}, items, None)

    @routes.get(
        "/analytics/rfm/customers", tags=["analytics"], response_model=shapes.ScoredCustomers
    )
    def rfm_customers(
        request: Request,
        asked: Purchased,
        scoring: Scores,
        segment: Segment = None,
        customer_id: UUID | None = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """The customers behind the segments, each with its scores."""
        with on_purchases(reader, asked) as (told, session):
            items, more = rfm.customers(
                session, scoring, segment=segment, customer=customer_id, after=cursor, limit=limit
            )
            return listed(request, {**told(), "scoring": scoring.told()}, items, more)

    @routes.get("/analytics/rfm/movement", tags=["analytics"], response_model=shapes.Movement)
    def rfm_movement(request: Request, asked: Purchased, scoring: Scores, since: Since) -> Response:
        """How many customers moved from which segment to which since an earlier moment."""
        with (
            on_purchases(reader, asked) as (told, now),
            on_purchases(reader, asked.at(since)) as (_, then),
        ):
            items = rfm.movement(then, now, scoring)
            head = {**told(), "since": then.scope.when.as_of, "scoring": scoring.told()}
            return listed(request, head, items, None)

    @routes.get("/analytics/tiers", tags=["analytics"], response_model=shapes.Tiers)
    def tier_sums(request: Request, asked: Purchased, shares: Tiered) -> Response:
        """Premium, ordinary and potential customers, by their share of the amount."""
        with on_purchases(reader, asked) as (told, session):
            items = tiers.tiers(session, shares)
            return listed(request, {**told(), "shares": shares.told()}, items, None)

    @routes.get(
        "/analytics/tiers/customers", tags=["analytics"], response_model=shapes.TieredCustomers
    )
    def tiered_customers(
        request: Request,
        asked: Purchased,
        shares: Tiered,
        tier: Tier = None,
        customer_id: UUID | None = None,
        cursor: Place = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """Customers with their tier and their rep, the greatest first: the key accounts."""
        with on_purchases(reader, asked) as (told, session):
            items, more = tiers.customers(
                session,
                shares,
                tier=tier,
                customer=customer_id,
                after=int(cursor or 0),
                limit=limit,
            )
            head = {**told(), "shares": shares.told()}
            return listed(request, head, items, more, by_rank=True)


def _lives(routes: APIRouter, reader: Reader) -> None:
    @routes.get("/analytics/lifetime", tags=["analytics"], response_model=shapes.Lifetime)
    def lifetimes(request: Request, asked: Lived, outlook: Outlooks) -> Response:
        """BG/NBD and Gamma-Gamma: their parameters, how well they fit, what came instead."""
        with on_purchases(reader, asked) as (told, session):
            found = lifetime.lifetime(session, outlook)
            return answered(request, {**told(), "outlook": outlook.told()}, found)

    @routes.get(
        "/analytics/lifetime/customers",
        tags=["analytics"],
        response_model=shapes.CustomerOutlooks,
    )
    def customer_outlooks(
        request: Request,
        asked: Lived,
        outlook: Outlooks,
        customer_id: UUID | None = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """Whether each customer is still one, what they will buy, what that is worth today."""
        with on_purchases(reader, asked) as (told, session):
            items, more = lifetime.customers(
                session, outlook, customer=customer_id, after=cursor, limit=limit
            )
            return listed(request, {**told(), "outlook": outlook.told()}, items, more)
