"""Which stages a pipeline had at the moment of a question, and under which definition."""

from __future__ import annotations

from typing import Any

from analytics.facts.asking import Session
from events.company import DEFAULT_PIPELINES
from projections.asking.clocks import Unanswerable

DEFINITIONS = """
CREATE TEMP TABLE definition AS
SELECT *, CASE WHEN kind <> 'lost' THEN
              lead(CASE WHEN kind <> 'lost' THEN stage END IGNORE NULLS)
                  OVER (PARTITION BY pipeline, position ORDER BY place) END AS next_stage
  FROM (SELECT pipeline, position, place, stage, name, kind, probability,
               happened(occurred_at) AS is_past
          FROM pipelines
         UNION ALL
        SELECT unnest($pipelines), 0, unnest($places), unnest($stages), unnest($stages),
               unnest($kinds), unnest($probabilities), true)
"""
"""Every definition of every pipeline; the default ones are the first, at position 0."""
DEFINED = """
CREATE TEMP TABLE defined AS
WITH in_force AS (
    SELECT pipeline, coalesce(max(position) FILTER (is_past), min(position)) AS position
      FROM definition GROUP BY pipeline
)
SELECT d.*, d.position = in_force.position AS is_in_force
  FROM definition d JOIN in_force USING (pipeline)
QUALIFY row_number() OVER (
    PARTITION BY pipeline, stage
    ORDER BY is_past DESC, CASE WHEN is_past THEN -d.position ELSE d.position END
) = 1
"""
"""Each stage that there ever was, as it was defined last by the moment; what was defined later
alone, as it was defined first."""
ASKED = """
CREATE TEMP TABLE asked_stage AS
WITH every AS (
    SELECT d.pipeline, d.stage, d.name, coalesce(f.is_in_force AND f.name = d.name, false) AS is_now
      FROM definition d LEFT JOIN defined f USING (pipeline, stage) WHERE fits(pipeline, $pipeline)
), called AS (
    SELECT pipeline, stage, bool_or(is_now) AS is_now
      FROM every WHERE name = $stage GROUP BY ALL
), known AS (
    SELECT pipeline, stage FROM every WHERE stage = $stage
     UNION
    SELECT deal_of.pipeline, stage FROM deals JOIN (
           SELECT deal_id, arg_max(pipeline, position) AS pipeline FROM deals GROUP BY deal_id
    ) deal_of USING (deal_id) WHERE stage = $stage AND fits(deal_of.pipeline, $pipeline)
)
SELECT pipeline, stage FROM called WHERE is_now OR NOT EXISTS (FROM called WHERE is_now)
 UNION
SELECT pipeline, stage FROM known WHERE NOT EXISTS (FROM called)
"""
NAMES = """
SELECT name FROM definition UNION SELECT stage FROM definition
 UNION SELECT stage FROM deals WHERE stage IS NOT NULL ORDER BY 1
"""


def define(session: Session[Any], pipeline: str | None) -> None:
    """Make ``definition`` and ``defined``.

    Raises:
        Unanswerable: when there is no such pipeline.
    """
    stages = [
        (name, place, one.key, str(one.kind), one.probability)
        for name, stages in DEFAULT_PIPELINES.items()
        for place, one in enumerate(stages)
    ]
    names = ("pipelines", "places", "stages", "kinds", "probabilities")
    columns = zip(*stages, strict=True)
    written = {name: list(column) for name, column in zip(names, columns, strict=True)}
    session.run(DEFINITIONS, written)
    session.run(DEFINED)
    known = [row["pipeline"] for row in session.rows("SELECT DISTINCT pipeline FROM defined")]
    if pipeline is not None and pipeline not in known:
        raise Unanswerable("pipeline", f"must be one of {', '.join(sorted(known))}")


def choose(session: Session[Any], stage: str | None, pipeline: str | None) -> None:
    """Make ``asked_stage``: of each pipeline, or the one asked for, the stage that is called so.

    Where none is called so now, those that once were; where none ever was, those with that key.

    Raises:
        Unanswerable: when there never was such a stage.
    """
    session.run(ASKED, {"stage": stage, "pipeline": pipeline})
    if stage is not None and session.row("SELECT count(*) AS n FROM asked_stage")["n"] == 0:
        names = ", ".join(row["name"] for row in session.rows(NAMES))
        raise Unanswerable("stage", f"must be one of {names}")
