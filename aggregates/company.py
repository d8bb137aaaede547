from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from aggregates.base import Refused, Unknown
from events.company import (
    DEFAULT_PIPELINES,
    CompanyEvent,
    ListDefined,
    ListName,
    PipelineDefined,
    Stage,
    TimeZoneSet,
)
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


class StageKeyTaken(Refused):
    """Two stages of the pipeline would have one key: give a new stage a key of its own."""

    fields = ("stages",)


class StageKindFixed(Refused):
    """A stage keeps its kind; give another key to a new one."""

    fields = ("stages",)


class LossReasonNotListed(Refused):
    """The company's list of loss reasons does not have this one."""

    fields = ("reason",)


class DisqualificationReasonNotListed(Refused):
    """The company's list of reasons to disqualify a lead does not have this one."""

    fields = ("reason",)


class TagNotListed(Refused):
    """The company's list of tags does not have this one."""

    fields = ("tag",)


class SourceNotListed(Refused):
    """The company's list of sources does not have this one."""

    fields = ("source",)


class RegionNotListed(Refused):
    """The company's list of regions does not have this one."""

    fields = ("region",)


NOT_LISTED: dict[str, type[Refused]] = {
    ListName.LOSS_REASONS: LossReasonNotListed,
    ListName.DISQUALIFICATION_REASONS: DisqualificationReasonNotListed,
    ListName.TAGS: TagNotListed,
    ListName.SOURCES: SourceNotListed,
    ListName.REGIONS: RegionNotListed,
}
OTHER = "other"
"""Always among the reasons: what it is stands in the comment, which is personal."""
WITH_OTHER = frozenset({ListName.LOSS_REASONS, ListName.DISQUALIFICATION_REASONS})


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages that a deal goes through, in order, with one that wins and one that loses."""

    name: str
    stages: tuple[Stage, ...]

    def first(self) -> str:
        """The stage in which a new deal begins."""
        return next(stage.key for stage in self.stages if stage.kind is StageKind.OPEN)

    def open_stage(self, asked: str) -> str:
        """The key of an open stage, found by its name or, where none is called so, by its key.

        Raises:
            StageUnknown: when there is no such stage.
            StageCloses: when the stage is one of won or lost.
        """
        called = {stage.name: stage.key for stage in self.stages}
        return self.open_key(called.get(asked, asked))

    def open_key(self, key: str) -> str:
        """The key itself, when it is that of an open stage.

        Raises:
            StageUnknown: when there is no such stage.
            StageCloses: when the stage is one of won or lost.
        """
        kinds = {stage.key: stage.kind for stage in self.stages}
        if key not in kinds:
            raise StageUnknown
        if kinds[key] is not StageKind.OPEN:
            raise StageCloses
        return key

    def closing(self, kind: StageKind) -> str:
        """The key of the stage in which a deal is won, or lost."""
        return next(stage.key for stage in self.stages if stage.kind is kind)


@dataclass(frozen=True, slots=True)
class Company:
    """The company's own settings, in force for every decision.

    Attributes:
        kinds: by pipeline and key, of every stage that there ever was.
    """

    time_zone: str = "UTC"
    pipelines: Mapping[str, Pipeline] = field(
        default_factory=lambda: {n: Pipeline(n, s) for n, s in DEFAULT_PIPELINES.items()}
    )
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: Mapping[tuple[str, str], StageKind] = field(
        default_factory=lambda: {
            (name, stage.key): stage.kind
            for name, stages in DEFAULT_PIPELINES.items()
            for stage in stages
        }
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

    def check_listed(self, name: ListName, value: str | None) -> None:
        """Refuse a value that the company's list does not have; a list without values is open.

        Raises:
            Refused: the rule of that list.
        """
        values = self.lists.get(name)
        if not values or value is None or value in values:
            return
        if not (value == OTHER and name in WITH_OTHER):
            raise NOT_LISTED[name]

    def define_list(self, name: ListName, values: tuple[str, ...]) -> list[CompanyEvent]:
        """Define the values of a list."""
        if self.lists.get(name, ()) == values:
            return []
        return [ListDefined(name=name, values=values)]

    def define_pipeline(self, name: str, stages: tuple[Stage, ...]) -> list[CompanyEvent]:
        """Define a pipeline.

        A stage without a key is the one that is called so now, or else a new one with its name as
        its key.

        Raises:
            StageKeyTaken: when two stages would have one key.
            StageKindFixed: when one would be of another kind than it was last.
        """
        known = self.pipelines.get(name)
        called = {stage.name: stage.key for stage in known.stages} if known else {}
        keyed = tuple(
            stage.model_copy(update={"key": stage.key or called.get(stage.name, stage.name)})
            for stage in stages
        )
        if len({stage.key for stage in keyed}) < len(keyed):
            raise StageKeyTaken
        if any(self.kinds.get((name, one.key), one.kind) is not one.kind for one in keyed):
            raise StageKindFixed
        if known is not None and known.stages == keyed:
            return []
        return [PipelineDefined(name=name, stages=keyed)]

    def set_time_zone(self, time_zone: str) -> list[CompanyEvent]:
        """Set the time zone of business days."""
        return [] if time_zone == self.time_zone else [TimeZoneSet(time_zone=time_zone)]

    def evolve(self, event: CompanyEvent) -> Company:
        """The settings after the event."""
        match event:
            case PipelineDefined():
                pipeline = Pipeline(event.name, event.stages)
                kinds = {(event.name, stage.key): stage.kind for stage in event.stages}
                return replace(
                    self,
                    pipelines={**self.pipelines, event.name: pipeline},
                    kinds={**self.kinds, **kinds},
                )
            case TimeZoneSet():
                return replace(self, time_zone=event.time_zone)
            case ListDefined():
                return replace(self, lists={**self.lists, event.name: event.values})
            case _:
                assert_never(event)
