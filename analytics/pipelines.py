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
NAMED_STAGES = """
SELECT stage AS named, stage, 0 AS rank FROM pipelines
UNION SELECT stage, stage, 0 FROM deals WHERE stage IS NOT NULL
UNION SELECT stage, stage, 0 FROM definition
UNION SELECT name, stage, 1 FROM definition
ORDER BY rank DESC
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


def key_of(session: Session[Any], stage: str) -> str:
    """The key of a stage that a pipeline once had, or a deal stood in, by its key or a name."""
    known: dict[str, str] = {row["named"]: row["stage"] for row in session.rows(NAMED_STAGES)}
    if stage not in known:
        raise Unanswerable("stage", f"must be one of {', '.join(sorted(known))}")
    return known[stage]
