"""How deals move from stage to stage, and how long they stand in each."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from analytics.deals import TABLES, AskDeals, prepare
from analytics.facts.asking import Session
from analytics.facts.scope import OfSales
from analytics.figure import Chart, Figure
from analytics.grouping import mean, micros, spell
from analytics.purchases import ratio
from projections.asking.listing import Paged
from projections.asking.shape import Shape

StageName = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$", examples=["proposal"])
]
ENTRIES = """
CREATE TEMP TABLE entry AS
SELECT deals.deal_id, deal.pipeline, deals.stage, deals.position, deals.occurred_at,
       lead(deals.occurred_at) OVER (PARTITION BY deals.deal_id ORDER BY deals.position) AS left_at
  FROM deals JOIN deal USING (deal_id) WHERE deals.stage IS NOT NULL
"""
ENTERED = """
WITH entered AS (
    SELECT deal_id, pipeline, stage, min(position) AS position, arg_min(occurred_at, position) AS at
      FROM entry WHERE in_window(business_day(occurred_at)) GROUP BY ALL
), ruled AS (
    SELECT entered.*, rule.position AS rule
      FROM entered ASOF JOIN (SELECT DISTINCT pipeline, position FROM definition) rule
           ON entered.pipeline = rule.pipeline AND entered.position > rule.position
), later AS (
    SELECT ruled.deal_id, ruled.pipeline, ruled.stage, ruled.position, ruled.at AS entered_at,
           d.next_stage, arg_min(epoch_us(entry.occurred_at), entry.position)
               FILTER (entry.stage = d.next_stage) - any_value(epoch_us(ruled.at)) AS took,
           coalesce(bool_or(d2.place > d.place), false) AS is_ahead
      FROM ruled JOIN definition d
           ON d.pipeline = ruled.pipeline AND d.position = rule AND d.stage = ruled.stage
      LEFT JOIN entry ON entry.deal_id = ruled.deal_id AND entry.position > ruled.position
      LEFT JOIN definition d2
           ON d2.pipeline = ruled.pipeline AND d2.position = rule AND d2.stage = entry.stage
          AND d2.kind <> 'lost'
     GROUP BY ALL
)
"""
"""What is the next stage says the definition under which the deal entered: no later one changes it.
A default pipeline is at position 0, and the first definition of another is before its deals."""
CONVERSION = """
SELECT d.pipeline, d.stage, d.name,
       coalesce(arg_max(later.next_stage, later.position), any_value(d.next_stage)) AS onward,
       count(later.deal_id) AS entered, count(later.took) AS converted,
       count(*) FILTER (later.is_ahead) AS advanced,
       sum(later.took)::HUGEINT AS took, median(later.took) AS middle
  FROM defined d LEFT JOIN later ON later.pipeline = d.pipeline AND later.stage = d.stage
 WHERE fits(d.pipeline, $pipeline)
 GROUP BY d.pipeline, d.place, d.stage, d.name
HAVING onward IS NOT NULL AND (bool_or(d.is_in_force) OR count(later.deal_id) > 0)
 ORDER BY d.pipeline, d.place, d.stage
"""
ENTRANTS = """
SELECT deal_id, pipeline, entered_at, took, is_ahead FROM later
 WHERE (pipeline, stage) IN (FROM asked_stage)
"""
STAYS = """
SELECT d.pipeline, d.stage, d.name,
       count(entry.left_at) FILTER (is_inside) AS stays,
       sum(epoch_us(left_at) - epoch_us(occurred_at)) FILTER (is_inside)::HUGEINT AS took,
       median(epoch_us(left_at) - epoch_us(occurred_at)) FILTER (is_inside) AS middle,
       count(*) FILTER (entry.deal_id IS NOT NULL AND left_at IS NULL) AS standing,
       sum($now::BIGINT - epoch_us(occurred_at)) FILTER (left_at IS NULL)::HUGEINT AS age
  FROM defined d LEFT JOIN (
       SELECT *, in_window(business_day(left_at)) AS is_inside FROM entry
  ) entry USING (pipeline, stage)
 WHERE d.kind = 'open' AND fits(d.pipeline, $pipeline)
 GROUP BY d.pipeline, d.place, d.stage, d.name
HAVING bool_or(d.is_in_force) OR stays > 0 OR standing > 0
 ORDER BY d.pipeline, d.place, d.stage
"""
SITTERS = """
SELECT position, deal_id, pipeline, occurred_at AS entered_at, left_at,
       coalesce(epoch_us(left_at), $now::BIGINT) - epoch_us(occurred_at) AS stay
  FROM entry
 WHERE (pipeline, stage) IN (FROM asked_stage)
   AND (left_at IS NULL OR in_window(business_day(left_at)))
"""


class AskStage(AskDeals, Paged):
    """What may be asked of the deals behind a stage's figures."""

    stage: StageName


class StageConversion(Shape):
    """Deals that entered a stage in the window, and what they did later."""

    pipeline: str
    stage: str
    stage_name: str
    next_stage: str
    entered: int
    converted: int
    conversion: float | None
    advanced: int
    days_mean: float | None
    days_median: float | None


class Entrant(Shape):
    """A deal that entered the stage; days until it entered the next one, if it did."""

    id: UUID
    pipeline: str
    entered_at: datetime
    converted: bool
    advanced: bool
    days: float | None


class StageTime(Shape):
    """How long deals stand in a stage."""

    pipeline: str
    stage: str
    stage_name: str
    stays: int
    days_mean: float | None
    days_median: float | None
    standing: int
    standing_days_mean: float | None


class Stay(Shape):
    """A deal's stay in the stage, up to now where it has not ended."""

    id: UUID
    position: int
    pipeline: str
    entered_at: datetime
    left_at: datetime | None
    days: float


def _prepare(session: Session[OfSales], pipeline: str | None, stage: str | None = None) -> None:
    """Make ``deal``, ``entry`` and what ``prepare`` makes, for the deals that the scope wants.

    Raises:
        Unanswerable: when the pipeline or the stage is unknown.
    """
    prepare(session, pipeline, stage)
    session.run(ENTRIES)


def conversion(session: Session[OfSales], asked: AskDeals) -> list[StageConversion]:
    """For each stage: deals that entered it in the window, and those that later entered the next.

    ``advanced`` counts those that entered any later stage, so also who passed one over. What
    happens to a deal afterwards changes nothing here: a loss does not take a conversion back.
    """
    _prepare(session, asked.pipeline)
    return [
        StageConversion.of(
            pipeline=row["pipeline"],
            stage=row["stage"],
            stage_name=row["name"],
            next_stage=row["onward"],
            entered=row["entered"],
            converted=row["converted"],
            conversion=ratio(row["converted"], row["entered"]),
            advanced=row["advanced"],
            days_mean=mean(row["took"], row["converted"]),
            days_median=spell(row["middle"]),
        )
        for row in session.rows(ENTERED + CONVERSION, {"pipeline": asked.pipeline})
    ]


def entrants(session: Session[OfSales], asked: AskStage) -> tuple[list[Entrant], str | None]:
    """The deals behind the conversion of a stage, by id.

    ``days`` to the next stage is None for those that did not enter it.
    """
    _prepare(session, asked.pipeline, asked.stage)
    rows, more = session.page(ENTERED + ENTRANTS, "deal_id", asked)
    return [
        Entrant.of(
            id=UUID(row["deal_id"]),
            pipeline=row["pipeline"],
            entered_at=row["entered_at"],
            converted=row["took"] is not None,
            advanced=row["is_ahead"],
            days=spell(row["took"]),
        )
        for row in rows
    ], more


def stays(session: Session[OfSales], asked: AskStage) -> tuple[list[Stay], str | None]:
    """The stays behind the times in a stage, by their positions.

    Those that ended in the window, and those that have not ended, with the days up to now.
    """
    _prepare(session, asked.pipeline, asked.stage)
    values = {"now": micros(session)}
    rows, more = session.page(SITTERS, "position", asked, values)
    return [
        Stay.of(
            id=UUID(row["deal_id"]),
            position=row["position"],
            pipeline=row["pipeline"],
            entered_at=row["entered_at"],
            left_at=row["left_at"],
            days=spell(row["stay"]),
        )
        for row in rows
    ], more


def stage_times(session: Session[OfSales], asked: AskDeals) -> list[StageTime]:
    """For each open stage: how long deals stood in it that left it in the window, and who stands.

    ``standing`` and their mean age are of the moment, whatever the window.
    """
    _prepare(session, asked.pipeline)
    values = {"pipeline": asked.pipeline, "now": micros(session)}
    return [
        StageTime.of(
            pipeline=row["pipeline"],
            stage=row["stage"],
            stage_name=row["name"],
            stays=row["stays"],
            days_mean=mean(row["took"], row["stays"]),
            days_median=spell(row["middle"]),
            standing=row["standing"],
            standing_days_mean=mean(row["age"], row["standing"]),
        )
        for row in session.rows(STAYS, values)
    ]


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="deals/conversion",
        operation="conversion",
        says="Of the deals that entered a stage in the window, those that later entered the next.",
        asks=AskDeals,
        row=StageConversion,
        answer=conversion,
        tables=TABLES,
        chart=Chart("stage", ("conversion",)),
    ),
    Figure(
        name="deals/conversion/deals",
        operation="entrants",
        says="The deals that entered a stage in the window, and whether they went on.",
        asks=AskStage,
        row=Entrant,
        answer=entrants,
        tables=TABLES,
    ),
    Figure(
        name="deals/stages",
        operation="stages",
        says="How long deals stand in each stage.",
        asks=AskDeals,
        row=StageTime,
        answer=stage_times,
        tables=TABLES,
        chart=Chart("stage", ("days_mean", "days_median")),
    ),
    Figure(
        name="deals/stages/deals",
        operation="stays",
        says="The stays in a stage that ended in the window, and those that have not ended.",
        asks=AskStage,
        row=Stay,
        answer=stays,
        tables=TABLES,
    ),
)
