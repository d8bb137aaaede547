"""How deals move, close and stand still: figures over the sales pipeline.

A deal stands where its last stage put it, in the order of its own events. Lengths of time are days,
with their fractions.
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from analytics.facts.asking import Session, customers_of, day_of, settle_currency, text
from analytics.grouping import days_in_window, in_window, mean, month, quarter, spell, wanted
from analytics.purchases import ratio
from events.company import DEFAULT_PIPELINES
from projections.asking.clocks import Unanswerable
from projections.asking.money import money

TABLES = ("deals", "pipelines", "accounts", "tags")
ClosingsBy = Literal[
    "owner", "product", "pipeline", "stage", "reason", "region", "channel", "month", "quarter"
]
OpenBy = Literal["stage", "owner", "product", "region", "channel", "quarter"]

DEFINED = """
CREATE TEMP TABLE defined AS
WITH latest AS (
    SELECT * FROM pipelines
    QUALIFY position = max(position) OVER (PARTITION BY pipeline)
), every AS (
    SELECT pipeline, place, stage, kind, probability FROM latest
    UNION ALL
    SELECT * FROM (VALUES {defaults}) AS d (pipeline, place, stage, kind, probability)
     WHERE pipeline NOT IN (SELECT pipeline FROM latest)
)
SELECT *, lead(stage) OVER (PARTITION BY pipeline ORDER BY place) AS next_stage
  FROM every WHERE kind <> 'lost'
"""
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
) WHERE opened_at IS NOT NULL AND {wanted}
"""
ENTRIES = """
CREATE TEMP TABLE entry AS
SELECT deals.deal_id, deal.pipeline, deals.stage, deals.position, deals.occurred_at,
       lead(deals.occurred_at) OVER (PARTITION BY deals.deal_id ORDER BY deals.position) AS left_at
  FROM deals JOIN deal USING (deal_id) WHERE deals.stage IS NOT NULL
"""
ENTERED = """
WITH entered AS (
    SELECT deal_id, pipeline, stage, min(position) AS position, arg_min(occurred_at, position) AS at
      FROM entry WHERE {in_window} GROUP BY ALL
), later AS (
    SELECT entered.deal_id, entered.pipeline, entered.stage, entered.at AS entered_at,
           arg_min(epoch_us(entry.occurred_at), entry.position)
               FILTER (entry.stage = d.next_stage) - any_value(epoch_us(entered.at)) AS took,
           coalesce(bool_or(d2.place > d.place), false) AS is_ahead
      FROM entered JOIN defined d USING (pipeline, stage)
      LEFT JOIN entry ON entry.deal_id = entered.deal_id AND entry.position > entered.position
      LEFT JOIN defined d2 ON d2.pipeline = entered.pipeline AND d2.stage = entry.stage
     GROUP BY ALL
)
"""
CONVERSION = """
SELECT d.pipeline, d.stage, d.next_stage, count(later.deal_id) AS entered,
       count(later.took) AS converted, count(*) FILTER (later.is_ahead) AS advanced,
       sum(later.took)::HUGEINT AS took, median(later.took) AS middle
  FROM defined d LEFT JOIN later ON later.pipeline = d.pipeline AND later.stage = d.stage
 WHERE d.next_stage IS NOT NULL AND {pipeline}
 GROUP BY d.pipeline, d.place, d.stage, d.next_stage ORDER BY d.pipeline, d.place
"""
ENTRANTS = """
SELECT deal_id, pipeline, entered_at, took, is_ahead FROM later WHERE {chosen}
"""
STAYS = """
SELECT d.pipeline, d.stage,
       count(entry.left_at) FILTER ({in_window}) AS stays,
       sum(epoch_us(left_at) - epoch_us(occurred_at)) FILTER ({in_window})::HUGEINT AS took,
       median(epoch_us(left_at) - epoch_us(occurred_at)) FILTER ({in_window}) AS middle,
       count(*) FILTER (entry.deal_id IS NOT NULL AND left_at IS NULL) AS standing,
       sum($now::BIGINT - epoch_us(occurred_at)) FILTER (left_at IS NULL)::HUGEINT AS age
  FROM defined d LEFT JOIN entry USING (pipeline, stage)
 WHERE d.kind = 'open' AND {pipeline}
 GROUP BY d.pipeline, d.place, d.stage ORDER BY d.pipeline, d.place
"""
SITTERS = """
SELECT position, deal_id, pipeline, occurred_at AS entered_at, left_at,
       coalesce(epoch_us(left_at), $now::BIGINT) - epoch_us(occurred_at) AS stay
  FROM entry WHERE {chosen} AND (left_at IS NULL OR {in_window})
"""
CLOSINGS = """
SELECT {by} AS "group", count(*) FILTER (kind = 'won') AS won,
       count(*) FILTER (kind = 'lost') AS lost,
       coalesce(sum(amount) FILTER (kind = 'won'), 0) AS amount,
       sum(took) FILTER (kind = 'won')::HUGEINT AS won_took,
       median(took) FILTER (kind = 'won') AS won_middle,
       sum(took) FILTER (kind = 'lost')::HUGEINT AS lost_took,
       median(took) FILTER (kind = 'lost') AS lost_middle
  FROM (SELECT *, epoch_us(since) - epoch_us(opened_at) AS took FROM deal) deal {join}
 WHERE kind <> 'open' AND {in_window}
 GROUP BY 1 ORDER BY {order}
"""
OPEN = """
SELECT {by} AS "group", count(*) AS deals, count(amount) AS with_amount,
       coalesce(sum(amount), 0) AS amount,
       coalesce(sum(amount * probability), 0) AS weighted,
       count(*) FILTER (probability IS NULL) AS without_probability,
       count(*) FILTER (expected_close < $today) AS overdue
  FROM deal LEFT JOIN defined USING (pipeline, stage) {join}
 WHERE deal.kind = 'open' AND {in_window} GROUP BY ALL ORDER BY {order}
"""
EACH = """
SELECT * FROM (
    SELECT *, $now::BIGINT - epoch_us(since) AS standing, $now::BIGINT - epoch_us(last_at) AS idle
      FROM deal
) WHERE {chosen}
"""


def _prepare(session: Session, pipeline: str | None) -> None:
    """Make ``deal``, ``entry`` and ``defined``, for the deals that the scope wants.

    Raises:
        Unanswerable: when the pipeline is unknown.
    """
    scope = session.scope
    defaults = ", ".join(
        f"({text(name)}, {place}, {text(stage.name)}, {text(stage.kind)}, {stage.probability})"
        for name, stages in DEFAULT_PIPELINES.items()
        for place, stage in enumerate(stages)
    )
    session.run(DEFINED.format(defaults=defaults))
    known = [row["pipeline"] for row in session.rows("SELECT DISTINCT pipeline FROM defined")]
    if pipeline is not None and pipeline not in known:
        raise Unanswerable("pipeline", f"must be one of {', '.join(sorted(known))}")
    of_customers = [f"customer_id IN ({customers})" for customers in customers_of(scope)]
    if scope.currency is not None:
        of_customers.append(f"(currency = {text(scope.currency)} OR currency IS NULL)")
    equal = {"owner": scope.owner, "product": scope.product, "pipeline": pipeline}
    session.run(STANDING.format(wanted=wanted(equal, *of_customers)))
    session.run(ENTRIES)


def conversion(session: Session, pipeline: str | None) -> list[dict[str, Any]]:
    """For each stage: deals that entered it in the window, and those that later entered the next.

    ``advanced`` counts those that entered any later stage, so also who passed one over. What
    happens to a deal afterwards changes nothing here: a loss does not take a conversion back.
    """
    _prepare(session, pipeline)
    query = (ENTERED + CONVERSION).format(
        in_window=in_window(session.scope, "occurred_at"), pipeline=_only(pipeline)
    )
    return [
        {
            "pipeline": row["pipeline"],
            "stage": row["stage"],
            "next_stage": row["next_stage"],
            "entered": row["entered"],
            "converted": row["converted"],
            "conversion": ratio(row["converted"], row["entered"]),
            "advanced": row["advanced"],
            "days_mean": mean(row["took"], row["converted"]),
            "days_median": spell(row["middle"]),
        }
        for row in session.rows(query)
    ]


def entrants(
    session: Session, stage: str, pipeline: str | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """The deals behind the conversion of a stage, by id; and where the list goes on.

    ``days`` to the next stage is None for those that did not enter it.
    """
    _prepare(session, pipeline)
    query = (ENTERED + ENTRANTS).format(
        in_window=in_window(session.scope, "occurred_at"), chosen=wanted({"stage": stage})
    )
    rows, more = session.page(query, "deal_id", after, limit)
    return [
        {
            "id": UUID(row["deal_id"]),
            "pipeline": row["pipeline"],
            "entered_at": row["entered_at"],
            "converted": row["took"] is not None,
            "advanced": row["is_ahead"],
            "days": spell(row["took"]),
        }
        for row in rows
    ], more


def stays(
    session: Session, stage: str, pipeline: str | None, after: int | None, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """The stays behind the times in a stage, by their positions; and where the list goes on.

    Those that ended in the window, and those that have not ended, with the days up to now.
    """
    _prepare(session, pipeline)
    query = SITTERS.format(
        chosen=wanted({"stage": stage}), in_window=in_window(session.scope, "left_at")
    )
    rows, more = session.page(query, "position", after, limit, {"now": _micros(session)})
    return [
        {
            "id": UUID(row["deal_id"]),
            "position": row["position"],
            "pipeline": row["pipeline"],
            "entered_at": row["entered_at"],
            "left_at": row["left_at"],
            "days": spell(row["stay"]),
        }
        for row in rows
    ], more


def stage_times(session: Session, pipeline: str | None) -> list[dict[str, Any]]:
    """For each open stage: how long deals stood in it that left it in the window, and who stands.

    ``standing`` and their mean age are of the moment, whatever the window.
    """
    _prepare(session, pipeline)
    query = STAYS.format(in_window=in_window(session.scope, "left_at"), pipeline=_only(pipeline))
    return [
        {
            "pipeline": row["pipeline"],
            "stage": row["stage"],
            "stays": row["stays"],
            "days_mean": mean(row["took"], row["stays"]),
            "days_median": spell(row["middle"]),
            "standing": row["standing"],
            "standing_days_mean": mean(row["age"], row["standing"]),
        }
        for row in session.rows(query, {"now": _micros(session)})
    ]


def closings(session: Session, by: ClosingsBy, pipeline: str | None) -> list[dict[str, Any]]:
    """Deals that are closed, by closing day: won and lost, rates, amounts, days from the opening.

    The league of reps is ``by="owner"``: the greatest amount won comes first.

    Raises:
        Unanswerable: when amounts would be of several currencies, or the pipeline is unknown.
    """
    settle_currency(session, "deals")
    _prepare(session, pipeline)
    day = day_of(session.scope.zone, "since")
    groups = {"month": month(day), "quarter": quarter(day), **_groups(by)}
    is_time = by in {"month", "quarter"}
    query = CLOSINGS.format(
        by=groups.get(by, by),
        join=_joined(by),
        in_window=in_window(session.scope, "since"),
        order="1" if is_time else "amount DESC, won DESC, 1 NULLS LAST",
    )
    currency = session.scope.currency
    return [
        {
            "group": row["group"],
            "won": row["won"],
            "lost": row["lost"],
            "win_rate": ratio(row["won"], row["won"] + row["lost"]),
            "loss_rate": ratio(row["lost"], row["won"] + row["lost"]),
            "amount": money(row["amount"], currency),
            "won_days_mean": mean(row["won_took"], row["won"]),
            "won_days_median": spell(row["won_middle"]),
            "lost_days_mean": mean(row["lost_took"], row["lost"]),
            "lost_days_median": spell(row["lost_middle"]),
        }
        for row in session.rows(query)
    ]


def open_deals(session: Session, by: OpenBy, pipeline: str | None) -> list[dict[str, Any]]:
    """Deals that are open at the moment: how many, worth what, weighted by their stage's chance.

    With a window those that are expected to close in it.

    Raises:
        Unanswerable: when amounts would be of several currencies, or the pipeline is unknown.
    """
    settle_currency(session, "deals")
    _prepare(session, pipeline)
    groups = {"quarter": quarter("expected_close"), **_groups(by)}
    query = OPEN.format(
        by=groups.get(by, f"deal.{by}"),
        join=_joined(by),
        in_window=days_in_window(session.scope, "expected_close"),
        order="min(defined.place), 1" if by == "stage" else "1 NULLS LAST",
    )
    currency = session.scope.currency
    return [
        {
            "group": row["group"],
            "deals": row["deals"],
            "with_amount": row["with_amount"],
            "amount": money(row["amount"], currency),
            "weighted": money(row["weighted"], currency),
            "without_probability": row["without_probability"],
            "overdue": row["overdue"],
        }
        for row in session.rows(query, {"today": session.scope.when.today})
    ]


def deals(
    session: Session,
    pipeline: str | None,
    *,
    kind: str | None = None,
    stage: str | None = None,
    reason: str | None = None,
    idle_days: int | None = None,
    after: int = 0,
    limit: int = 50,
) -> tuple[list[dict[str, Any]], int | None]:
    """The deals behind figures, by the position of their opening; and where the list goes on.

    With a window those whose last stage was entered in it, or, where only open ones are asked for,
    that are expected to close in it; with ``idle_days`` those that nothing happened to for longer:
    open ones of them are stuck.
    """
    _prepare(session, pipeline)
    equal = {"kind": kind, "stage": stage, "reason": reason}
    window = in_window(session.scope, "since")
    if kind == "open":
        window = days_in_window(session.scope, "expected_close")
    conditions = [window]
    if idle_days is not None:
        conditions.append(f"idle > {idle_days} * 86400000000")
    query = EACH.format(chosen=wanted(equal, *conditions))
    rows, more = session.page(query, "position", after, limit, {"now": _micros(session)})
    return [
        {
            "id": UUID(row["deal_id"]),
            "position": row["position"],
            "pipeline": row["pipeline"],
            "stage": row["stage"],
            "kind": row["kind"],
            "customer_id": row["customer_id"] and UUID(row["customer_id"]),
            "owner": row["owner"],
            "product": row["product"],
            "reason": row["reason"],
            "amount": money(row["amount"], row["currency"]),
            "expected_close": row["expected_close"],
            "opened_at": row["opened_at"],
            "stage_since": row["since"],
            "days_in_stage": spell(row["standing"]) if row["kind"] == "open" else None,
            "idle_days": spell(row["idle"]),
        }
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


def _only(pipeline: str | None) -> str:
    return "true" if pipeline is None else f"d.pipeline = {text(pipeline)}"


def _micros(session: Session) -> int:
    return round(session.scope.when.now.timestamp() * 1_000_000)
