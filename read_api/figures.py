"""Figures over facts: who comes back, who is worth what, and the purchases that it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from analytics import purchases, rfm
from analytics.asking import Basis, Scope, Session, session
from analytics.rfm import Scheme, Scoring
from analytics.store import Manifest
from events import ledger
from events.values import COINS, Money
from projections.asking import LIMIT, Unanswerable, moment, time_zone
from read_api.answers import as_json, listed
from read_api.parameters import AsOf, Cursor, Day, KnownAt, Limit, MinPosition, Word
from read_api.reading import NotThereYet, Reader
from read_api.shapes import Shape

Currency = Annotated[
    str | None,
    Query(pattern="^[A-Z]{3}$", examples=["EUR"], description="Needed where there are several."),
]
Thresholds = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{1,12}(,[0-9]{1,12}){3}$",
        description="Four rising numbers; without them customers are scored by equal share.",
        examples=["30,90,180,365"],
    ),
]
Segment = Annotated[str | None, Query(pattern="^[a-z-]{1,30}$", examples=["important-value"])]
Since = Annotated[
    str,
    Query(max_length=40, description="The moment to compare with.", examples=["2026-03-31"]),
]


class Parameters(Shape):
    """What was asked, defaults filled in."""

    from_: date | None = Field(alias="from")
    to: date | None
    merge_by_day: bool
    basis: Basis
    currency: str | None
    owner: str | None
    product: str | None
    time_zone: str


class Figure(Shape):
    """What every figure says of itself."""

    position: int
    as_of: datetime | None
    known_at: int | None
    today: date
    parameters: Parameters


class CustomerFigures(Figure):
    """Who bought, in the window and ever."""

    customers_ever: int
    new: int
    returning: int
    purchasing: int
    repeat: int
    recruited: int
    old: int
    repurchasing: int
    purchases: int
    purchases_ever: int
    repeat_rate: float | None
    repurchase_rate: float | None
    amount: Money | None
    amount_ever: Money | None
    amount_per_purchase: Money | None
    amount_per_customer: Money | None


class ProductCycle(Shape):
    """How long until a customer buys the same product again."""

    product: str
    customers: int
    gaps: int
    mean_gap: float | None


class Repurchase(Figure):
    """Days between purchases of those who bought several times."""

    customers: int
    gaps: int
    mean_gap: float | None
    mean_of_means: float | None
    first_gap: float | None
    products: list[ProductCycle]


class CohortMonth(Shape):
    """What those do who first bought in one month, so many months later."""

    cohort: date
    size: int
    month: int
    customers: int
    retention: float | None
    purchases: int
    amount: Money | None


class Cohorts(Figure):
    """Customers by the month of their first purchase."""

    items: list[CohortMonth]
    next: str | None


class ScoringShape(Shape):
    """How customers were scored."""

    scheme: Scheme
    r_thresholds: list[int] | None
    f_thresholds: list[int] | None
    m_thresholds: list[str] | None


class SegmentShape(Shape):
    """One segment's customers, with their purchases and amounts in the window."""

    segment: str
    customers: int
    purchases: int
    amount: Money | None


class Segments(Figure):
    """Customers by segment."""

    scoring: ScoringShape
    items: list[SegmentShape]
    next: str | None


class Scored(Shape):
    """A customer's recency, frequency and monetary value."""

    customer_id: UUID
    recency_days: int
    frequency: int
    monetary: Money | None
    r_score: int
    f_score: int
    m_score: int
    segment: str


class ScoredCustomers(Figure):
    """Customers with their scores, by id."""

    scoring: ScoringShape
    items: list[Scored]
    next: str | None


class Move(Shape):
    """How many customers went from one segment to another; null where they had or have none."""

    before: str | None
    after: str | None
    customers: int


class Movement(Figure):
    """How customers moved between segments."""

    since: datetime
    scoring: ScoringShape
    items: list[Move]
    next: str | None


class PurchaseShape(Shape):
    """A purchase; with days merged, all of a customer's day."""

    customer_id: UUID
    day: date
    amount: Money | None
    orders: int
    position: int
    in_window: bool


class Purchases(Figure):
    """Purchases by the position of their first order."""

    items: list[PurchaseShape]
    next: str | None


class FactTableShape(Shape):
    """One kind of fact."""

    table: str
    files: list[str]
    rows: int


class FactsState(Shape):
    """How far the facts are, and which files hold them."""

    position: int
    head: int
    halted: str | None
    tables: list[FactTableShape]


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters that all figures share."""

    scope: dict[str, Any]
    as_of: str | None
    known_at: str | None
    min_position: int | None


def asked(
    from_: Annotated[Day, Query(alias="from", description="The window's first day.")] = None,
    to: Annotated[Day, Query(description="The day after the window's last one.")] = None,
    *,
    merge_by_day: Annotated[
        bool, Query(description="Count a customer's purchases of one day as one.")
    ] = False,
    basis: Annotated[Basis, Query(description="What a purchase's amount is.")] = "ordered",
    currency: Currency = None,
    owner: Word = None,
    product: Word = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    min_position: MinPosition = None,
) -> Asked:
    """The parameters that all figures share."""
    if from_ is not None and to is not None and from_ > to:
        raise Unanswerable("to", "must not lie before from")
    if currency is not None and currency not in COINS:
        raise Unanswerable("currency", "is no currency of ISO 4217")
    scope = {
        "start": from_,
        "end": to,
        "merge_by_day": merge_by_day,
        "basis": basis,
        "currency": currency,
        "owner": owner,
        "product": product,
    }
    return Asked(scope, as_of, known_at, min_position)


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


Shared = Annotated[Asked, Depends(asked)]
Scores = Annotated[Scoring, Depends(scored)]


def add_routes(routes: APIRouter, reader: Reader) -> None:
    """The routes of figures."""

    @routes.get("/analytics", tags=["analytics"], response_model=FactsState)
    def facts(min_position: MinPosition = None) -> Response:
        """How far the facts are, and the Parquet files that hold them."""
        with reader.connection() as conn:
            head = ledger.head(conn)
        found = _reached(reader, min_position or 0)
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

    @routes.get("/analytics/customers", tags=["analytics"], response_model=CustomerFigures)
    def customer_figures(shared: Shared) -> Response:
        """New, returning, repeat, recruited and repurchasing customers; average order values."""
        with _session(reader, shared) as (told, open_session):
            return as_json({**told(), **purchases.customers(open_session)})

    @routes.get("/analytics/repurchase", tags=["analytics"], response_model=Repurchase)
    def repurchase(shared: Shared) -> Response:
        """Repurchase cycles in days: of customers, to the second purchase, of products."""
        with _session(reader, shared) as (told, open_session):
            return as_json({**told(), **purchases.repurchase(open_session)})

    @routes.get("/analytics/cohorts", tags=["analytics"], response_model=Cohorts)
    def cohorts(request: Request, shared: Shared) -> Response:
        """Customers by the month of their first purchase, and who of them bought again when."""
        with _session(reader, shared) as (told, open_session):
            return listed(request, told(), purchases.cohorts(open_session), None)

    @routes.get("/analytics/rfm", tags=["analytics"], response_model=Segments)
    def rfm_segments(request: Request, shared: Shared, scoring: Scores) -> Response:
        """Recency, frequency and monetary value: how many customers are in which segment."""
        with _session(reader, shared) as (told, open_session):
            items = rfm.segments(open_session, scoring)
            return listed(request, {**told(), "scoring": scoring.told()}, items, None)

    @routes.get("/analytics/rfm/customers", tags=["analytics"], response_model=ScoredCustomers)
    def rfm_customers(
        request: Request,
        shared: Shared,
        scoring: Scores,
        segment: Segment = None,
        customer_id: UUID | None = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """The customers behind the segments, each with its scores."""
        with _session(reader, shared) as (told, open_session):
            items, more = rfm.customers(
                open_session,
                scoring,
                segment=segment,
                customer=customer_id,
                after=cursor,
                limit=limit,
            )
            return listed(request, {**told(), "scoring": scoring.told()}, items, more)

    @routes.get("/analytics/rfm/movement", tags=["analytics"], response_model=Movement)
    def rfm_movement(request: Request, shared: Shared, scoring: Scores, since: Since) -> Response:
        """How many customers moved from which segment to which since an earlier moment."""
        then = replace(shared, as_of=since)
        with (
            _session(reader, shared) as (told, now_session),
            _session(reader, then) as (_, then_session),
        ):
            items = rfm.movement(then_session, now_session, scoring)
            earlier = then_session.scope.when.as_of
            head = {**told(), "since": earlier, "scoring": scoring.told()}
            return listed(request, head, items, None)

    @routes.get("/analytics/purchases", tags=["analytics"], response_model=Purchases)
    def purchases_behind(
        request: Request,
        shared: Shared,
        customer_id: UUID | None = None,
        cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """The purchases that figures rest on; their positions lead into /audit/events."""
        with _session(reader, shared) as (told, open_session):
            items, more = purchases.evidence(open_session, customer_id, int(cursor or 0), limit)
            return listed(request, told(), items, None if more is None else str(more))


@contextmanager
def _session(reader: Reader, shared: Asked) -> Iterator[tuple[Any, Session]]:
    """What to say at the head of the answer, and the session that computes it."""
    with reader.connection() as conn:
        when = moment(conn, shared.as_of, shared.known_at)
        zone = time_zone(conn, when.known_at).key
    found = _reached(reader, max(shared.min_position or 0, when.known_at or 0))
    scope = Scope(when, zone, **shared.scope)
    with session(reader.facts, found, scope) as opened:

        def told() -> dict[str, Any]:
            return {
                "position": found.position if when.known_at is None else when.known_at,
                "as_of": when.as_of,
                "known_at": when.known_at,
                "today": when.today,
                "parameters": opened.scope.told(),
            }

        yield told, opened


def _reached(reader: Reader, wanted: int) -> Manifest:
    found = reader.facts.latest()
    if found.position >= wanted:
        return found
    if found.halted is not None:
        raise NotThereYet(f"the facts halted: {found.halted}", (), wanted, is_final=True)
    raise NotThereYet(f"position {wanted} is not reached yet; this is {found.position}", (), wanted)
