from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, ConfigDict

from events.base import Event
from events.values import Probability, StageKind

COMPANY = UUID("00000000-0000-0000-0000-000000000001")
"""The one stream of the company's own settings."""


class Stage(BaseModel):
    """One step of a pipeline, with the share of deals that are won from there."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: StageKind
    probability: Probability | None = None


class PipelineDefined(Event, type="company.pipeline-defined"):
    """The company sells through these stages, in this order."""

    name: str
    stages: tuple[Stage, ...]


class TimeZoneSet(Event, type="company.time-zone-set"):
    """Business days begin and end in this zone."""

    time_zone: str


CompanyEvent = PipelineDefined | TimeZoneSet
