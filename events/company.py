from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict

from events.base import Event
from events.values import AsWritten, Probability, StageKind

COMPANY = UUID("00000000-0000-0000-0000-000000000001")
"""The one stream of the company's own settings."""


class Stage(BaseModel):
    """A stage of a pipeline, with the probability that a deal in it is won.

    Attributes:
        key: what deals and figures know it by; it never changes.
        name: what it is called, until it is renamed.
    """

    model_config = ConfigDict(frozen=True)

    key: str = ""
    name: str
    kind: Annotated[StageKind, AsWritten()]
    probability: Annotated[Probability, AsWritten()] | None = None


def _stages(*stages: tuple[str, StageKind, str]) -> tuple[Stage, ...]:
    return tuple(
        Stage(key=name, name=name, kind=kind, probability=Decimal(share))
        for name, kind, share in stages
    )


DEFAULT_PIPELINES: dict[str, tuple[Stage, ...]] = {
    "sales": _stages(
        ("discovery", StageKind.OPEN, "0.2"),
        ("proposal", StageKind.OPEN, "0.5"),
        ("won", StageKind.WON, "1"),
        ("lost", StageKind.LOST, "0"),
    ),
    "contract": _stages(
        ("intent", StageKind.OPEN, "0.1"),
        ("negotiation", StageKind.OPEN, "0.4"),
        ("purchase", StageKind.OPEN, "0.7"),
        ("signed", StageKind.WON, "1"),
        ("lost", StageKind.LOST, "0"),
    ),
}
"""The pipelines that every company has until it defines them otherwise."""


class PipelineDefined(Event, type="company.pipeline-defined", version=2):
    """The stages of a pipeline were defined, in their order."""

    name: str
    stages: tuple[Stage, ...]


class TimeZoneSet(Event, type="company.time-zone-set"):
    """The time zone of the company's business days was set."""

    time_zone: str


class ListName(StrEnum):
    """A list of values that the company chooses from."""

    LOSS_REASONS = "loss-reasons"
    DISQUALIFICATION_REASONS = "disqualification-reasons"
    TAGS = "tags"
    SOURCES = "sources"
    REGIONS = "regions"


class ListDefined(Event, type="company.list-defined"):
    """The values of a list were defined; an empty one is open to any value again."""

    name: Annotated[ListName, AsWritten()]
    values: tuple[str, ...]


def business_zone(name: str) -> ZoneInfo:
    """The zone that was set; UTC where the time zone database at hand does not have it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


CompanyEvent = PipelineDefined | TimeZoneSet | ListDefined
