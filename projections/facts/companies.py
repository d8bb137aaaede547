"""What the events of the company say of its pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from events.company import PipelineDefined
from events.envelope import Recorded
from projections.engine.tables import Row
from projections.facts.fact import Digits, head


@dataclass(slots=True)
class StageFact(Row):
    """A fact, never changed: from here on the pipeline had this stage at this place, from 0.

    ``stage`` is its key, ``name`` what it was called.
    """

    company_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    pipeline: str | None = None
    place: int = 0
    stage: str | None = None
    kind: str | None = None
    probability: Annotated[Decimal | None, Digits(5, 4)] = None
    name: str | None = None


def facts(recorded: Recorded) -> list[StageFact]:
    """The stages of a pipeline that an event defines."""
    event = recorded.event
    if not isinstance(event, PipelineDefined):
        return []
    return [
        StageFact(
            *(*head(recorded), event.name, place),
            *(stage.key, str(stage.kind), stage.probability, stage.name),
        )
        for place, stage in enumerate(event.stages)
    ]
