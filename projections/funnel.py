"""The sales funnel: how many deals stand in each stage and what they are worth, at any moment."""

from __future__ import annotations

from typing import Annotated

from events.company import DEFAULT_PIPELINES, Stage
from events.values import AsWritten, StageKind, StoredMoney
from projections import opportunities
from projections.asking.clocks import FOREVER, Moment, Unanswerable
from projections.asking.listing import AskedAt, Question, Where, Word, chosen
from projections.asking.rows import fetch
from projections.asking.shape import HeadAt, Shape
from projections.asking.view import View
from projections.engine.tables import Connection


class AskFunnel(AskedAt):
    """Of which deals the funnel is: of all pipelines or one."""

    pipeline: Annotated[Word, Where("o.pipeline = %(pipeline)s")] = None
    owner: Annotated[Word, Where("o.owner = %(owner)s")] = None
    product: Annotated[Word, Where("o.product = %(product)s")] = None


class FunnelStage(Shape):
    """How many deals stand in a stage, and what they are worth in each currency."""

    stage: str
    kind: Annotated[StageKind, AsWritten()]
    count: int
    amount: list[StoredMoney]


class Funnel(HeadAt):
    """The sales funnel at a moment."""

    pipeline: str | None
    stages: list[FunnelStage]


class _Standing(Shape):
    """Deals that stand in a stage, in one currency."""

    stage: str
    kind: Annotated[StageKind, AsWritten()]
    count: int
    amount: StoredMoney | None


DEFINED = """
SELECT DISTINCT ON (name) name, stages FROM pipelines WHERE position <= %(last)s
 ORDER BY name, version DESC
"""
LIVE_FUNNEL = """
SELECT stage, kind, nullif(currency, '') AS currency, sum(count)::int8 AS count,
       sum(amount) AS amount
  FROM deals o WHERE {filters} GROUP BY stage, kind, currency
"""
PAST_FUNNEL = """
WITH stood AS (
    SELECT DISTINCT ON (s.deal_id) s.deal_id AS opportunity_id, s.stage,
           CASE WHEN s.kind IN ('won', 'lost') THEN s.kind ELSE 'open' END AS kind
      FROM deal_facts s WHERE s.stage IS NOT NULL AND {facts} ORDER BY s.deal_id, s.version DESC
), worth AS (
    SELECT DISTINCT ON (s.deal_id) s.deal_id AS opportunity_id, s.amount, s.currency
      FROM deal_facts s WHERE s.amount IS NOT NULL AND {facts} ORDER BY s.deal_id, s.version DESC
)
SELECT stood.stage, stood.kind, worth.currency, count(*) AS count, sum(worth.amount) AS amount
  FROM stood JOIN opportunities o USING (opportunity_id) LEFT JOIN worth USING (opportunity_id)
 WHERE o.opened_position > 0 AND {opened} AND {filters}
 GROUP BY stood.stage, stood.kind, worth.currency
"""


def pipelines(conn: Connection, when: Moment) -> dict[str, list[Stage]]:
    """The stages of every pipeline, in order, as known at a moment.

    Business time does not count here: deals may be imported whose pipeline was defined after them.
    """
    last = FOREVER if when.known_at is None else when.known_at
    defined = conn.execute(DEFINED, {"last": last}, prepare=conn.prepare_threshold is not None)
    stored = {name: [Stage.model_validate(one) for one in stages] for name, stages in defined}
    return {name: list(stages) for name, stages in DEFAULT_PIPELINES.items()} | stored


def funnel(view: View, asked: AskFunnel) -> Funnel:
    """How many deals stand in each stage and what they are worth, by currency.

    Raises:
        Unanswerable: when the company has no such pipeline.
    """
    when, pipeline = view.when, asked.pipeline
    known = pipelines(view.conn, when)
    if pipeline is not None and pipeline not in known:
        raise Unanswerable("pipeline", f"must be one of {', '.join(known)}")
    conditions, given = chosen(asked)
    filters = " AND ".join(["true", *conditions])
    if when.is_live:
        sql = LIVE_FUNNEL.format(filters=filters)
    else:
        opened = when.counts("o", "opened_at", "opened_position")
        sql = PAST_FUNNEL.format(facts=when.counts("s"), opened=opened, filters=filters)
    found = fetch(view.conn, _Standing, sql, {**when.values, **given})
    shown = known if pipeline is None else {pipeline: known[pipeline]}
    return Funnel.of(
        view.head_at, pipeline=pipeline, stages=_by_stage(found, shown, is_all=pipeline is None)
    )


def _by_stage(
    found: list[_Standing], known: dict[str, list[Stage]], *, is_all: bool
) -> list[FunnelStage]:
    """The stages in their order: of one pipeline all, else those in which a deal stands."""
    stages: dict[tuple[str, str], FunnelStage] = {}
    used = {(one.stage, one.kind) for one in found}
    for defined in known.values():
        for stage in defined:
            name = (stage.name, str(stage.kind))
            if not is_all or name in used:
                stages[name] = _empty(*name)
    for one in sorted(found, key=_place):
        stage_of = stages.setdefault((one.stage, one.kind), _empty(one.stage, one.kind))
        stage_of.count += one.count
        if one.amount is not None:
            stage_of.amount.append(one.amount)
    order = {"open": 0, "won": 1, "lost": 2}
    return sorted(stages.values(), key=lambda stage: order.get(stage.kind, len(order)))


def _place(one: _Standing) -> tuple[str, str, str]:
    return one.stage, one.kind, one.amount.currency if one.amount else ""


def _empty(stage: str, kind: str) -> FunnelStage:
    return FunnelStage.of(stage=stage, kind=kind, count=0, amount=[])


QUESTIONS = (
    Question(
        path="/funnel",
        name="funnel",
        tag="opportunities",
        says="How many deals stand in each stage, and what they are worth; of all pipelines or "
        "one.",
        asks=AskFunnel,
        shape=Funnel,
        needs=(opportunities.MODEL,),
        answer=funnel,
    ),
)
