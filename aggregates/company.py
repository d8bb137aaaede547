from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from aggregates.base import Refused, Unknown
from events.company import DEFAULT_PIPELINES, CompanyEvent, PipelineDefined, Stage, TimeZoneSet
from events.values import StageKind


class CompanyUnknown(Unknown):
    """There is one company; its id is 00000000-0000-0000-0000-000000000001."""


class PipelineUnknown(Refused):
    """The company has no pipeline of this name."""

    fields = ("pipeline",)


class StageUnknown(Refused):
    """The pipeline has no stage of this name."""

    fields = ("stage",)


class StageCloses(Refused):
    """A deal is closed with win or lose, not by moving it to a won or lost stage."""

    fields = ("stage",)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages that a deal goes through, in order, with one that wins and one that loses."""

    name: str
    stages: tuple[Stage, ...]

    def first(self) -> str:
        """The stage in which a new deal begins."""
        return next(stage.name for stage in self.stages if stage.kind is StageKind.OPEN)

    def open_stage(self, name: str) -> str:
        """The name itself, when it is that of an open stage.

        Raises:
            StageUnknown: when there is no such stage.
            StageCloses: when the stage is one of won or lost.
        """
        for stage in self.stages:
            if stage.name == name:
                if stage.kind is not StageKind.OPEN:
                    raise StageCloses
                return name
        raise StageUnknown

    def closing(self, kind: StageKind) -> str:
        """The stage in which a deal is won, or lost."""
        return next(stage.name for stage in self.stages if stage.kind is kind)


@dataclass(frozen=True, slots=True)
class Company:
    """The company's own settings, in force for every decision."""

    time_zone: str = "UTC"
    pipelines: Mapping[str, Pipeline] = field(
        default_factory=lambda: {n: Pipeline(n, s) for n, s in DEFAULT_PIPELINES.items()}
    )

    def pipeline(self, name: str) -> Pipeline:
        """The pipeline of this name.

        Raises:
            PipelineUnknown: when the company has none.
        """
        try:
            return self.pipelines[name]
        except KeyError:
            raise PipelineUnknown from None

    def define_pipeline(self, name: str, stages: tuple[Stage, ...]) -> list[CompanyEvent]:
        """Define a pipeline."""
        known = self.pipelines.get(name)
        if known is not None and known.stages == stages:
            return []
        return [PipelineDefined(name=name, stages=stages)]

    def set_time_zone(self, time_zone: str) -> list[CompanyEvent]:
        """Set the time zone of business days."""
        return [] if time_zone == self.time_zone else [TimeZoneSet(time_zone=time_zone)]

    def evolve(self, event: CompanyEvent) -> Company:
        """The settings after the event."""
        match event:
            case PipelineDefined():
                pipeline = Pipeline(event.name, event.stages)
                return replace(self, pipelines={**self.pipelines, event.name: pipeline})
            case TimeZoneSet():
                return replace(self, time_zone=event.time_zone)
            case _:
                assert_never(event)
