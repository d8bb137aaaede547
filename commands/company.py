from __future__ import annotations

from functools import cache
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, ConfigDict, Field

from aggregates.company import Company, CompanyUnknown, StageKeyTaken, StageKindFixed
from commands.base import Command, Context
from events.company import COMPANY, CompanyEvent, ListName, Stage
from events.values import Line, Probability, StageKind


def _one_company(context: Context) -> None:
    if context.stream_id != COMPANY:
        raise CompanyUnknown


def _a_whole_pipeline(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    names = [stage.name for stage in stages]
    if len(set(names)) != len(names):
        raise ValueError("must not name a stage twice")
    kinds = [stage.kind for stage in stages]
    if kinds.count(StageKind.WON) != 1 or kinds.count(StageKind.LOST) != 1:
        raise ValueError("must hold exactly one stage of kind won and one of kind lost")
    if StageKind.OPEN not in kinds:
        raise ValueError("must hold at least one stage of kind open")
    return stages


@cache
def _zones() -> set[str]:
    return available_timezones() - {"localtime"}


def _known_zone(name: str) -> str:
    if name not in _zones():
        raise ValueError("must be a time zone of the IANA database, like Europe/Paris")
    return name


class StageAsked(Stage):
    """A stage of a pipeline."""

    model_config = ConfigDict(extra="forbid")

    key: Line = Field(
        "",
        description="What deals know the stage by. Give it to rename a stage; by default the stage "
        "of this name keeps its own, and a new one gets its name as its key.",
    )
    name: Line
    kind: StageKind
    probability: Probability | None = None


class DefinePipeline(Command[Company, CompanyEvent]):
    """Define a sales pipeline: its stages, in order."""

    rules = (StageKeyTaken, StageKindFixed)

    name: Line
    stages: Annotated[
        tuple[StageAsked, ...],
        Field(min_length=3, max_length=50),
        AfterValidator(_a_whole_pipeline),
    ]

    def decide(self, company: Company, context: Context, /) -> list[CompanyEvent]:
        _one_company(context)
        return company.define_pipeline(
            self.name, tuple(Stage.model_construct(**dict(stage)) for stage in self.stages)
        )


def _each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise ValueError("must not name a value twice")
    return values


class DefineList(Command[Company, CompanyEvent]):
    """Define what is chosen from a list: loss reasons, tags, sources, regions.

    Until a list has values, any value is accepted.
    """

    name: ListName
    values: Annotated[tuple[Line, ...], Field(max_length=500), AfterValidator(_each_once)]

    def decide(self, company: Company, context: Context, /) -> list[CompanyEvent]:
        _one_company(context)
        return company.define_list(self.name, self.values)


class SetTimeZone(Command[Company, CompanyEvent]):
    """Set the time zone in which business days begin and end."""

    time_zone: Annotated[Line, AfterValidator(_known_zone)]

    def decide(self, company: Company, context: Context, /) -> list[CompanyEvent]:
        _one_company(context)
        return company.set_time_zone(self.time_zone)
