"""Read model ``opportunities``: deals, their stages and quotes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, assert_never
from uuid import UUID

from pydantic import Field

from events.envelope import Recorded
from events.opportunity import (
    CustomerIdentified,
    OpportunityDetailsChanged,
    OpportunityEvent,
    OpportunityHandedOver,
    OpportunityLost,
    OpportunityOpened,
    OpportunityReopened,
    OpportunityWon,
    QuoteGiven,
    StageMoved,
)
from events.values import AsWritten, StageKind, StoredMoney
from projections import customers, settings
from projections.asking.clocks import Moment
from projections.asking.listing import AskedAt, By, Counted, Listing, Question, Where
from projections.asking.parameters import Amount, Day, Days, Ids, Time, Word, each
from projections.asking.rows import fetch
from projections.asking.shape import HeadAt, Shape
from projections.asking.sorting import Sorts
from projections.asking.then import last_said, latest, stood
from projections.asking.view import View
from projections.customers import CustomerRef, name_at
from projections.engine.model import ReadModel
from projections.engine.tables import Row, Rows, Sums, Table
from projections.facts.opportunities import DealFact, facts
from projections.quotes import QuoteShape, quotes
from projections.settings import called_at


@dataclass(slots=True)
class OpportunityRow(Row):
    """A deal as it stands; ``opened_position`` is 0 where its opening is not among the events."""

    opportunity_id: UUID
    version: int = 0
    position: int = 0
    opened_position: int = 0
    title: str | None = None
    pipeline: str | None = None
    stage: str | None = None
    kind: str = "open"
    customer_id: UUID | None = None
    owner: str | None = None
    product: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    expected_close: date | None = None
    lost_reason: str | None = None
    comment: str | None = None
    opened_at: datetime | None = None
    stage_since: datetime | None = None
    closed_at: datetime | None = None
    changed_at: datetime | None = None


@dataclass(slots=True)
class QuoteRow(Row):
    """A quote given; old quotes stay."""

    opportunity_id: UUID
    quote_id: UUID
    version: int = 0
    position: int = 0
    occurred_at: datetime | None = None
    given_by: str | None = None
    total: Decimal | None = None
    currency: str | None = None
    valid_until: date | None = None
    lines: list[Any] | None = None


@dataclass(slots=True)
class DealsRow(Row):
    """How many deals of a kind stand in a stage, and what they are worth; texts may be empty."""

    pipeline: str
    stage: str
    kind: str
    owner: str
    product: str
    currency: str
    count: int = 0
    amount: Decimal = Decimal(0)


OPPORTUNITIES = Table(
    "opportunities",
    OpportunityRow,
    key=("opportunity_id",),
    indexes=(
        "(opened_at, opportunity_id)",
        "(customer_id)",
        "(owner, kind)",
        "(pipeline, stage, kind)",
        "(position)",
    ),
)
FACTS = Table("deal_facts", DealFact, key=("deal_id", "version"), facts=True)
QUOTES = Table("quotes", QuoteRow, key=("opportunity_id", "quote_id"))

DEALS = Sums(
    "deals",
    DealsRow,
    key=("pipeline", "stage", "kind", "owner", "product", "currency"),
    select="SELECT coalesce(pipeline, ''), coalesce(stage, ''), kind, coalesce(owner, ''), "
    "coalesce(product, ''), coalesce(currency, ''), count(*), coalesce(sum(amount), 0) "
    "FROM opportunities WHERE opened_position > 0 AND opportunity_id {among} "
    "GROUP BY 1, 2, 3, 4, 5, 6",
    of=("opportunities.opportunity_id",),
)

CLOSED = frozenset({"won", "lost"})


def apply(rows: Rows, recorded: Recorded) -> None:
    """Change the deal's rows by one event."""
    event: OpportunityEvent = recorded.event  # type: ignore[assignment]  # of the model's events
    deal = rows.get(OPPORTUNITIES, recorded.stream_id)
    deal.version, deal.position = recorded.version, recorded.position
    deal.changed_at = recorded.occurred_at
    match event:
        case OpportunityOpened():
            deal.title, deal.pipeline = event.title, event.pipeline
            deal.customer_id, deal.owner = event.customer_id, event.owner
            deal.product, deal.expected_close = event.product, event.expected_close
            deal.opened_at, deal.opened_position = recorded.occurred_at, recorded.position
        case OpportunityDetailsChanged():
            deal.title = event.title or deal.title
            deal.product = event.product or deal.product
            deal.expected_close = event.expected_close or deal.expected_close
        case OpportunityHandedOver():
            deal.owner = event.owner
        case CustomerIdentified():
            deal.customer_id = event.customer_id
        case StageMoved():
            pass
        case QuoteGiven():
            quote = rows.get(QUOTES, recorded.stream_id, event.quote_id)
            quote.version, quote.position = recorded.version, recorded.position
            quote.occurred_at, quote.given_by = recorded.occurred_at, recorded.actor
            quote.total, quote.currency = event.total.amount, event.total.currency
            quote.valid_until = event.valid_until
            quote.lines = [line.model_dump(mode="json") for line in event.lines]
        case OpportunityWon():
            deal.closed_at = recorded.occurred_at
        case OpportunityLost():
            deal.closed_at = recorded.occurred_at
            deal.lost_reason, deal.comment = event.reason, event.comment
        case OpportunityReopened():
            deal.closed_at = deal.lost_reason = deal.comment = None
        case _:
            assert_never(event)
    for fact in facts(recorded):
        _fold(deal, fact)
        rows.add(FACTS, fact)


def _fold(deal: OpportunityRow, fact: DealFact) -> None:
    if fact.stage is not None:
        deal.stage, deal.stage_since = fact.stage, fact.occurred_at
        deal.kind = fact.kind if fact.kind in CLOSED else "open"
    if fact.amount is not None:
        deal.amount, deal.currency = fact.amount, fact.currency


MODEL = ReadModel("opportunities", (OPPORTUNITIES, FACTS, QUOTES, DEALS), OpportunityEvent, apply)

Kind = Literal["open", "won", "lost"]


class AskOpportunities(Counted):
    """What may be asked of deals."""

    ids: Annotated[Ids, Where("o.opportunity_id = ANY (%(ids)s)", each)] = None
    owner: Annotated[Word, Where("o.owner = %(owner)s")] = None
    customer_id: Annotated[UUID | None, Where("o.customer_id = %(customer_id)s")] = None
    pipeline: Annotated[Word, Where("o.pipeline = %(pipeline)s")] = None
    stage: Annotated[Word, Where("o.stage = %(stage)s")] = None
    kind: Annotated[Kind | None, Where("o.kind = %(kind)s")] = None
    product: Annotated[Word, Where("o.product = %(product)s")] = None
    reason: Annotated[Word, Where("o.lost_reason = %(reason)s")] = None
    currency: Annotated[Word, Where("o.currency = %(currency)s")] = None
    amount_from: Annotated[Amount, Where("o.amount >= %(amount_from)s")] = None
    amount_to: Annotated[Amount, Where("o.amount < %(amount_to)s")] = None
    close_from: Annotated[Day, Where("o.expected_close >= %(close_from)s")] = None
    close_to: Annotated[Day, Where("o.expected_close < %(close_to)s")] = None
    idle_days: Annotated[
        Days,
        Where("o.kind = 'open' AND o.changed_at < %(now)s - %(idle_days)s * interval '1 day'"),
        Field(description="Open deals without any event for more than this many days."),
    ] = None
    opened_from: Annotated[Time, Where("o.opened_at >= %(opened_from)s")] = None
    opened_to: Annotated[Time, Where("o.opened_at < %(opened_to)s")] = None
    closed_from: Annotated[Time, Where("o.closed_at >= %(closed_from)s")] = None
    closed_to: Annotated[Time, Where("o.closed_at < %(closed_to)s")] = None
    sort: Annotated[
        Word,
        Sorts(
            *("opened_at", "stage_since", "closed_at", "changed_at", "title", "customer.name"),
            *("owner", "pipeline", "stage_name", "kind", "product", "amount", "probability"),
            *("weighted", "expected_close", "lost_reason"),
        ),
    ] = None


class OpportunityShape(Shape):
    """A deal as it stands."""

    id: UUID
    version: int
    title: str | None
    pipeline: str | None
    stage: str | None
    stage_name: str | None
    kind: Annotated[StageKind, AsWritten()]
    customer: CustomerRef | None
    owner: str | None
    product: str | None
    amount: StoredMoney | None
    probability: Decimal | None
    weighted: StoredMoney | None
    expected_close: date | None
    lost_reason: str | None
    comment: str | None
    opened_at: datetime | None
    stage_since: datetime | None
    closed_at: datetime | None
    changed_at: datetime | None


class StageShape(Shape):
    """When the deal entered a stage, and who moved it."""

    version: int
    stage: str
    kind: Annotated[StageKind, AsWritten()]
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    position: int


class OpportunityDetail(OpportunityShape, HeadAt):
    """A deal with all its stages and quotes."""

    stages: list[StageShape]
    quotes: list[QuoteShape]


SELECT = """
SELECT o.opportunity_id AS id, o.version, o.title, o.pipeline, o.stage,
       coalesce(called.name, o.stage) AS stage_name, o.kind, o.customer_id AS "customer.id",
       {name} AS "customer.name", o.owner, o.product, o.amount, o.currency, called.probability,
       o.amount * called.probability AS weighted, o.expected_close, o.lost_reason, o.comment,
       o.opened_at, o.stage_since, o.closed_at, o.changed_at
  FROM opportunities o LEFT JOIN customers c USING (customer_id) {called}
 WHERE o.opened_at IS NOT NULL
"""
KIND = "CASE WHEN s.kind IN ('won', 'lost') THEN s.kind ELSE 'open' END"
SAID = {
    **last_said(
        *("title", "stage", "customer_id", "owner", "product", "amount", "currency"),
        "expected_close",
    ),
    "kind": latest(KIND, "s.stage IS NOT NULL"),
    "stage_since": latest("s.occurred_at", "s.stage IS NOT NULL"),
    "lost_reason": latest("s.reason", "s.kind IN ('lost', 'reopened')"),
    "comment": latest("s.comment", "s.kind IN ('lost', 'reopened')"),
    "closed_at": latest(
        "CASE WHEN s.kind IN ('won', 'lost') THEN s.occurred_at END",
        "s.kind IN ('won', 'lost', 'reopened')",
    ),
}


def select(when: Moment) -> str:
    """Every deal as it was at a moment, with its customer's name."""
    query = SELECT.format(name=name_at(when, "o"), called=called_at(when))
    if when.is_live:
        return query
    counts, there = when.counts("s"), when.counts("t", "opened_at", "opened_position")
    return f"WITH {stood(when, OPPORTUNITIES, FACTS, SAID, counts=counts, there=there)} {query}"


STAGES_OF = f"""
SELECT version, stage, {KIND} AS kind, occurred_at, recorded_at, actor, position
  FROM deal_facts s WHERE deal_id = %(id)s AND stage IS NOT NULL AND {{facts}} ORDER BY version
"""


def opportunity(view: View, opportunity_id: UUID, _: AskedAt) -> OpportunityDetail | None:
    """One deal with all its stages and quotes, or None."""
    of = {**view.when.values, "id": opportunity_id}
    one = f"{select(view.when)} AND o.opportunity_id = %(id)s"
    for found in fetch(view.conn, OpportunityShape, one, of):
        return OpportunityDetail.of(
            view.head_at,
            found,
            stages=fetch(view.conn, StageShape, STAGES_OF.format(facts=view.when.counts("s")), of),
            quotes=quotes(view.conn, opportunity_id, view.when),
        )
    return None


LIST = Listing(
    path="/opportunities",
    name="list_opportunities",
    tag="opportunities",
    says="Deals, in the order of their opening.",
    asks=AskOpportunities,
    shape=OpportunityShape,
    needs=(MODEL, customers.MODEL, settings.MODEL),
    select=select,
    order=(By("o.opened_at"), By("o.opportunity_id", "id")),
)


QUESTIONS = (
    LIST.question(),
    Question(
        path="/opportunities/{id}",
        name="one_opportunity",
        tag="opportunities",
        says="One deal with its stages and quotes; its ETag is its version.",
        asks=AskedAt,
        shape=OpportunityDetail,
        needs=(MODEL, customers.MODEL, settings.MODEL),
        answer=opportunity,
    ),
)
