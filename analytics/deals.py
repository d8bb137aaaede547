"""Figures over the sales pipeline: open deals, closings, and each deal.

A deal stands where its last stage put it, in the order of its own events. Lengths of time are days,
with their fractions.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from analytics.facts.asking import Session, of_customers, settle_currency
from analytics.facts.scope import OfSales
from analytics.figure import Chart, Figure
from analytics.grouping import DAY_MICROS, mean, micros, month, quarter, spell
from analytics.pipelines import choose, define
from analytics.purchases import ratio
from events.values import StoredMoney
from projections.asking.listing import Paged
from projections.asking.money import money
from projections.asking.parameters import Word
from projections.asking.shape import Shape

TABLES = ("deals", "pipelines", "accounts", "tags")
ClosingsBy = Literal[
    "owner", "product", "pipeline", "stage", "reason", "region", "channel", "month", "quarter"
]
OpenBy = Literal["stage", "owner", "product", "region", "channel", "quarter"]

STANDING = """
CREATE TEMP TABLE deal AS
SELECT * FROM (
    SELECT deal_id,
           min(position) AS position,
           arg_max(pipeline, position) AS pipeline,
           arg_max(stage, position) AS stage,
           arg_max(CASE WHEN stage IS NULL THEN NULL WHEN kind IN ('won', 'lost') THEN kind
                        ELSE 'open' END, position) AS kind,
           arg_max(customer_id, position) AS customer_id,
           arg_max(owner, position) AS owner,
           arg_max(product, position) AS product,
           arg_max_null(CASE WHEN kind = 'lost' THEN reason END, position)
               FILTER (stage IS NOT NULL) AS reason,
           arg_max(amount, position) AS amount,
           arg_max(currency, position) AS currency,
           arg_max(expected_close, position) AS expected_close,
           min(occurred_at) FILTER (kind = 'opened') AS opened_at,
           arg_max(CASE WHEN stage IS NOT NULL THEN occurred_at END, position) AS since,
           max(occurred_at) AS last_at
      FROM deals GROUP BY deal_id
) WHERE opened_at IS NOT NULL AND fits(owner, asked().owner) AND fits(product, asked().product)
   AND fits(pipeline, $pipeline) AND (currency IS NULL OR fits(currency, asked().currency))
   {of_customers}
"""
CLOSINGS = """
SELECT {by} AS "group", count(*) FILTER (kind = 'won') AS won,
       count(*) FILTER (kind = 'lost') AS lost,
       coalesce(sum(amount) FILTER (kind = 'won'), 0) AS amount,
       coalesce(sum(amount) FILTER (kind = 'lost'), 0) AS lost_amount,
       sum(took) FILTER (kind = 'won')::HUGEINT AS won_took,
       median(took) FILTER (kind = 'won') AS won_middle,
       sum(took) FILTER (kind = 'lost')::HUGEINT AS lost_took,
       median(took) FILTER (kind = 'lost') AS lost_middle
  FROM (SELECT *, epoch_us(since) - epoch_us(opened_at) AS took FROM deal) deal {join}
 WHERE kind <> 'open' AND in_window(business_day(since))
 GROUP BY 1 ORDER BY {order}
"""
OPEN = """
SELECT {by} AS "group", count(*) AS deals, count(amount) AS with_amount,
       coalesce(sum(amount), 0) AS amount,
       coalesce(sum(amount * probability), 0) AS weighted,
       count(*) FILTER (probability IS NULL) AS without_probability,
       count(*) FILTER (expected_close < $today) AS overdue
  FROM deal LEFT JOIN defined USING (pipeline, stage) {join}
 WHERE deal.kind = 'open' AND in_window(expected_close) GROUP BY ALL ORDER BY {order}
"""
EACH = """
SELECT * FROM (
    SELECT deal.*, $now::BIGINT - epoch_us(since) AS standing,
           $now::BIGINT - epoch_us(last_at) AS idle, coalesce(name, stage) AS stage_name,
           probability, amount * probability AS weighted
      FROM deal LEFT JOIN (SELECT pipeline, stage, name, probability FROM defined)
           USING (pipeline, stage)
) WHERE fits(kind, $kind) AND fits(reason, $reason)
   AND ($stage IS NULL OR (pipeline, stage) IN (FROM asked_stage))
   AND ($idle IS NULL OR idle > $idle::BIGINT) AND in_window({day})
"""


class AskDeals(OfSales):
    """What may be asked of every figure over deals."""

    pipeline: Word = None


class AskClosings(AskDeals):
    """What may be asked of closed deals."""

    by: ClosingsBy = "owner"


class AskOpen(AskDeals):
    """What may be asked of the pipeline."""

    by: OpenBy = "stage"


class AskEach(AskDeals, Paged):
    """What may be asked of the deals behind figures."""

    kind: Literal["open", "won", "lost"] | None = None
    stage: Word = None
    reason: Word = None
    idle_days: Annotated[
        int | None,
        Field(
            ge=0, le=36600, description="Only deals without any event for more than this many days."
        ),
    ] = None


class ClosedGroup(Shape):
    """Closed deals of one group."""

    group: str | None
    won: int
    lost: int
    win_rate: float | None
    loss_rate: float | None
    amount: StoredMoney | None = Field(description="What was won.")
    lost_amount: StoredMoney | None = Field(
        description="What was lost: the amounts at which lost deals last stood."
    )
    won_days_mean: float | None
    won_days_median: float | None
    lost_days_mean: float | None
    lost_days_median: float | None


class OpenGroup(Shape):
    """Open deals of one group, their amount weighted by the chance of their stages."""

    group: str | None
    deals: int
    with_amount: int
    amount: StoredMoney | None
    weighted: StoredMoney | None
    without_probability: int
    overdue: int


class DealShape(Shape):
    """A deal as it stood at the moment."""

    id: UUID
    position: int
    pipeline: str
    stage: str
    stage_name: str
    kind: str
    customer_id: UUID | None
    owner: str | None
    product: str | None
    reason: str | None
    amount: StoredMoney | None
    probability: Decimal | None
    weighted: StoredMoney | None
    expected_close: date | None
    opened_at: datetime
    stage_since: datetime
    days_in_stage: float | None
    idle_days: float | None


def prepare(session: Session[OfSales], pipeline: str | None, stage: str | None = None) -> None:
    """Make ``definition``, ``defined``, ``asked_stage`` and, for the wanted deals, ``deal``.

    Raises:
        Unanswerable: when the pipeline or the stage is unknown.
    """
    define(session, pipeline)
    choose(session, stage, pipeline)
    customers = "".join(f"AND {condition}" for condition in of_customers(session.scope))
    session.run(STANDING.format(of_customers=customers), {"pipeline": pipeline})


def closings(session: Session[OfSales], asked: AskClosings) -> list[ClosedGroup]:
    """Deals that are closed, by closing day: won and lost, rates, amounts, days from the opening.

    The league of reps is ``by="owner"``: the greatest amount won comes first.

    Raises:
        Unanswerable: when amounts would be of several currencies, or the pipeline is unknown.
    """
    settle_currency(session, "deals")
    prepare(session, asked.pipeline)
    by, day = asked.by, "business_day(since)"
    groups = {"month": month(day), "quarter": quarter(day), **_groups(by)}
    is_time = by in {"month", "quarter"}
    query = CLOSINGS.format(
        by=groups.get(by, by),
        join=_joined(by),
        order="1" if is_time else "amount DESC, won DESC, 1 NULLS LAST",
    )
    currency = session.scope.currency
    return [
        ClosedGroup.of(
            group=row["group"],
            won=row["won"],
            lost=row["lost"],
            win_rate=ratio(row["won"], row["won"] + row["lost"]),
            loss_rate=ratio(row["lost"], row["won"] + row["lost"]),
            amount=money(row["amount"], currency),
            lost_amount=money(row["lost_amount"], currency),
            won_days_mean=mean(row["won_took"], row["won"]),
            won_days_median=spell(row["won_middle"]),
            lost_days_mean=mean(row["lost_took"], row["lost"]),
            lost_days_median=spell(row["lost_middle"]),
        )
        for row in session.rows(query)
    ]


def open_deals(session: Session[OfSales], asked: AskOpen) -> list[OpenGroup]:
    """Deals that are open at the moment: how many, worth what, weighted by their stage's chance.

    With a window those that are expected to close in it.

    Raises:
        Unanswerable: when amounts would be of several currencies, or the pipeline is unknown.
    """
    settle_currency(session, "deals")
    prepare(session, asked.pipeline)
    by = asked.by
    groups = {"quarter": quarter("expected_close"), **_groups(by)}
    query = OPEN.format(
        by=groups.get(by, f"deal.{by}"),
        join=_joined(by),
        order="min(defined.place), 1" if by == "stage" else "1 NULLS LAST",
    )
    currency = session.scope.currency
    return [
        OpenGroup.of(
            group=row["group"],
            deals=row["deals"],
            with_amount=row["with_amount"],
            amount=money(row["amount"], currency),
            weighted=money(row["weighted"], currency),
            without_probability=row["without_probability"],
            overdue=row["overdue"],
        )
        for row in session.rows(query, {"today": session.when.today})
    ]


def deals(session: Session[OfSales], asked: AskEach) -> tuple[list[DealShape], str | None]:
    """The deals behind figures, by the position of their opening.

    With a window those whose last stage was entered in it, or, where only open ones are asked for,
    that are expected to close in it; with ``idle_days`` those that nothing happened to for longer:
    open ones of them are stuck.
    """
    prepare(session, asked.pipeline, asked.stage)
    day = "expected_close" if asked.kind == "open" else "business_day(since)"
    values = {
        "now": micros(session),
        "kind": asked.kind,
        "stage": asked.stage,
        "reason": asked.reason,
        "idle": None if asked.idle_days is None else asked.idle_days * DAY_MICROS,
    }
    rows, more = session.page(EACH.format(day=day), "position", asked, values)
    return [
        DealShape.of(
            id=UUID(row["deal_id"]),
            position=row["position"],
            pipeline=row["pipeline"],
            stage=row["stage"],
            stage_name=row["stage_name"],
            kind=row["kind"],
            customer_id=row["customer_id"] and UUID(row["customer_id"]),
            owner=row["owner"],
            product=row["product"],
            reason=row["reason"],
            amount=money(row["amount"], row["currency"]),
            probability=row["probability"],
            weighted=money(row["weighted"], row["currency"]),
            expected_close=row["expected_close"],
            opened_at=row["opened_at"],
            stage_since=row["since"],
            days_in_stage=spell(row["standing"]) if row["kind"] == "open" else None,
            idle_days=spell(row["idle"]),
        )
        for row in rows
    ], more


def _groups(by: str) -> dict[str, str]:
    return {"region": "account.region", "channel": "account.source"} if _joined(by) else {}


def _joined(by: str) -> str:
    if by not in {"region", "channel"}:
        return ""
    return (
        "LEFT JOIN (SELECT customer_id, arg_max(region, position) AS region, "
        "arg_max(source, position) AS source FROM accounts GROUP BY 1) account USING (customer_id)"
    )


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="deals",
        operation="deals_behind",
        says="The deals behind figures; open ones with idle_days are those that got stuck.",
        asks=AskEach,
        row=DealShape,
        answer=deals,
        tables=TABLES,
    ),
    Figure(
        name="deals/closings",
        operation="closings",
        says="Deals won and lost by closing day: rates, amounts, sales cycles; by owner the "
        "league.",
        asks=AskClosings,
        row=ClosedGroup,
        answer=closings,
        tables=TABLES,
        chart=Chart("group", ("won", "lost")),
    ),
    Figure(
        name="deals/open",
        operation="open_deals",
        says="The pipeline: open deals, their amounts, weighted by the chance of their stages.",
        asks=AskOpen,
        row=OpenGroup,
        answer=open_deals,
        tables=TABLES,
        chart=Chart("group", ("amount.amount", "weighted.amount")),
    ),
)
