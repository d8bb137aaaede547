"""The sales funnel: how many deals stand in each stage and what they are worth, at any moment."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Annotated

from events.values import AsWritten, StageKind, StoredMoney
from projections import opportunities, settings
from projections.asking.clocks import Unanswerable
from projections.asking.listing import AskedAt, Question, Where, chosen
from projections.asking.money import money
from projections.asking.parameters import Word
from projections.asking.rows import fetch
from projections.asking.shape import HeadAt, Shape
from projections.asking.view import View
from projections.settings import Pipeline, pipelines


class AskFunnel(AskedAt):
    """Of which deals the funnel is: of all pipelines or one."""

    pipeline: Annotated[Word, Where("o.pipeline = %(pipeline)s")] = None
    owner: Annotated[Word, Where("o.owner = %(owner)s")] = None
    product: Annotated[Word, Where("o.product = %(product)s")] = None


class FunnelStage(Shape):
    """How many deals stand in a stage, and what they are worth in each currency.

    Each pipeline weighs its deals by its own probability of the stage; none is shown where
    pipelines differ. ``weighted`` leaves out deals whose stage has no probability.
    """

    stage: str
    name: str
    kind: Annotated[StageKind, AsWritten()]
    probability: Decimal | None
    count: int
    amount: list[StoredMoney]
    weighted: list[StoredMoney]


class Funnel(HeadAt):
    """The sales funnel at a moment."""

    pipeline: str | None
    stages: list[FunnelStage]


class _Standing(Shape):
    """Deals that stand in a stage, in one currency."""

    pipeline: str
    stage: str
    kind: Annotated[StageKind, AsWritten()]
    currency: str | None
    count: int
    amount: Decimal | None


LIVE_FUNNEL = """
SELECT pipeline, stage, kind, nullif(currency, '') AS currency, sum(count)::int8 AS count,
       sum(amount) AS amount
  FROM deals o WHERE {filters} GROUP BY pipeline, stage, kind, currency
"""
PAST_FUNNEL = """
WITH stood AS (
    SELECT DISTINCT ON (s.deal_id) s.deal_id AS opportunity_id, s.stage,
           CASE WHEN s.kind IN ('won', 'lost') THEN s.kind ELSE 'open' END AS kind
      FROM deal_facts s WHERE s.stage IS NOT NULL AND {facts} ORDER BY s.deal_id, s.version DESC
), owned AS (
    SELECT DISTINCT ON (s.deal_id) s.deal_id AS opportunity_id, s.owner
      FROM deal_facts s WHERE s.owner IS NOT NULL AND {facts} ORDER BY s.deal_id, s.version DESC
), sold AS (
    SELECT DISTINCT ON (s.deal_id) s.deal_id AS opportunity_id, s.product
      FROM deal_facts s WHERE s.product IS NOT NULL AND {facts} ORDER BY s.deal_id, s.version DESC
), worth AS (
    SELECT DISTINCT ON (s.deal_id) s.deal_id AS opportunity_id, s.amount, s.currency
      FROM deal_facts s WHERE s.amount IS NOT NULL AND {facts} ORDER BY s.deal_id, s.version DESC
)
SELECT o.pipeline, stood.stage, stood.kind, worth.currency, count(*) AS count,
       sum(worth.amount) AS amount
  FROM stood JOIN (
       SELECT opportunity_id, pipeline, opened_at, opened_position, owned.owner, sold.product
         FROM opportunities JOIN owned USING (opportunity_id) LEFT JOIN sold USING (opportunity_id)
  ) o USING (opportunity_id) LEFT JOIN worth USING (opportunity_id)
 WHERE o.opened_position > 0 AND {opened} AND {filters}
 GROUP BY o.pipeline, stood.stage, stood.kind, worth.currency
"""


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
    found: list[_Standing], known: dict[str, Pipeline], *, is_all: bool
) -> list[FunnelStage]:
    """The stages in their order: of one pipeline all, else those in which a deal stands."""
    used: defaultdict[tuple[str, str], list[_Standing]] = defaultdict(list)
    for one in found:
        used[one.stage, str(one.kind)].append(one)
    order = [
        (stage.key, str(stage.kind))
        for pipeline in known.values()
        for stage in pipeline.stages
        if not is_all or (stage.key, str(stage.kind)) in used
    ]
    places = dict.fromkeys([*order, *sorted(used)])
    ranks = {"open": 0, "won": 1, "lost": 2}
    return [
        _stage(stage, kind, used[stage, kind], known)
        for stage, kind in sorted(places, key=lambda place: ranks.get(place[1], len(ranks)))
    ]


def _stage(key: str, kind: str, found: list[_Standing], known: dict[str, Pipeline]) -> FunnelStage:
    names = {one.pipeline for one in found} or {*known}
    defined = [
        known[name].every[key]
        for name in sorted(names)
        if name in known and key in known[name].every
    ]
    chances = {stage.probability for stage in defined}
    amounts: defaultdict[str, Decimal] = defaultdict(Decimal)
    weighted: defaultdict[str, Decimal] = defaultdict(Decimal)
    for one in found:
        if one.amount is not None and one.currency is not None:
            amounts[one.currency] += one.amount
            pipeline = known.get(one.pipeline)
            stage = None if pipeline is None else pipeline.every.get(key)
            if stage is not None and stage.probability is not None:
                weighted[one.currency] += one.amount * stage.probability
    return FunnelStage.of(
        stage=key,
        name=defined[0].name if defined else key,
        kind=kind,
        probability=chances.pop() if len(chances) == 1 else None,
        count=sum(one.count for one in found),
        amount=[money(amounts[currency], currency) for currency in sorted(amounts)],
        weighted=[money(weighted[currency], currency) for currency in sorted(weighted)],
    )


QUESTIONS = (
    Question(
        path="/funnel",
        name="funnel",
        tag="opportunities",
        says="How many deals stand in each stage, and what they are worth; of all pipelines or "
        "one.",
        asks=AskFunnel,
        shape=Funnel,
        needs=(opportunities.MODEL, settings.MODEL),
        answer=funnel,
    ),
)
