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
KEYS = """
WITH called AS (
    SELECT stage, max(is_in_force) AS is_now FROM (
        SELECT d.stage, d.name, d.pipeline, coalesce(f.is_in_force AND f.name = d.name, false)
               AS is_in_force
          FROM definition d LEFT JOIN defined f USING (pipeline, stage)
    ) WHERE name = $stage AND fits(pipeline, $pipeline) GROUP BY stage
), known AS (
    SELECT stage FROM definition WHERE stage = $stage AND fits(pipeline, $pipeline)
     UNION SELECT stage FROM deals WHERE stage = $stage
)
SELECT stage FROM called WHERE is_now OR NOT EXISTS (FROM called WHERE is_now)
 UNION ALL
SELECT stage FROM known WHERE NOT EXISTS (FROM called)
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


def keys_of(session: Session[Any], stage: str, pipeline: str | None) -> list[str]:
    """The keys of the stages that are called so: of the pipeline, or of each that has such a one.

    Where none is called so now, those that once were; where none ever was, the key itself.

    Raises:
        Unanswerable: when there never was such a stage.
    """
    values = {"stage": stage, "pipeline": pipeline}
    found = sorted({row["stage"] for row in session.rows(KEYS, values)})
    if not found:
        names = ", ".join(row["name"] for row in session.rows(NAMES))
        raise Unanswerable("stage", f"must be one of {names}")
    return found
