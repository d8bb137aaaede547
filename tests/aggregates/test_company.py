from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from aggregates.company import Company, CompanyUnknown
from commands.base import Command
from commands.catalog import CATALOG
from commands.company import DefinePipeline, SetTimeZone
from events.company import DEFAULT_PIPELINES, PipelineDefined, Stage, TimeZoneSet
from events.values import StageKind
from tests.aggregates.scenario import fold, given

TALKS = {"name": "talks", "kind": "open", "probability": "0.25"}
YES = {"name": "yes", "kind": "won"}
NO = {"name": "no", "kind": "lost"}

defined = PipelineDefined(
    name="direct",
    stages=tuple(Stage.model_validate({"key": one["name"], **one}) for one in (TALKS, YES, NO)),
)
in_paris = TimeZoneSet(time_zone="Europe/Paris")


def test_the_company_sells_through_the_stages_it_defines() -> None:
    given().when(DefinePipeline(name="direct", stages=[TALKS, YES, NO])).then(defined)


def test_a_pipeline_can_be_defined_anew() -> None:
    command = DefinePipeline(name="direct", stages=[YES, TALKS, NO])
    given(defined).when(command).then(
        PipelineDefined(name="direct", stages=[defined.stages[at] for at in (1, 0, 2)])
    )


def test_defining_a_pipeline_as_it_is_changes_nothing() -> None:
    given(defined).when(DefinePipeline(name="direct", stages=[TALKS, YES, NO])).nothing()


@pytest.mark.parametrize("name", DEFAULT_PIPELINES)
def test_defining_a_default_pipeline_as_it_is_changes_nothing(name: str) -> None:
    stages = [stage.model_dump(mode="json") for stage in DEFAULT_PIPELINES[name]]
    given().when(DefinePipeline(name=name, stages=stages)).nothing()


def test_a_definition_leaves_the_other_pipelines_alone() -> None:
    company: Company = fold(CATALOG["companies"], [defined])
    assert set(company.pipelines) == {"sales", "contract", "direct"}


def test_a_definition_never_leaks_into_the_defaults() -> None:
    fold(CATALOG["companies"], [defined.model_copy(update={"name": "sales"})])
    assert Company().pipeline("sales").first() == "discovery"


@pytest.mark.parametrize(
    "stages",
    [
        [TALKS, YES],
        [TALKS, YES, YES | {"name": "jackpot"}, NO],
        [TALKS, YES, NO, NO | {"name": "never"}],
        [YES, NO, TALKS | {"name": "yes"}],
        [YES, NO, NO | {"name": "never"}],
        [TALKS | {"probability": "1.01"}, YES, NO],
        [TALKS | {"name": "  "}, YES, NO],
        [TALKS | {"colour": "red"}, YES, NO],
    ],
    ids=[
        "no lost stage",
        "won twice",
        "lost twice",
        "a name twice",
        "no open stage",
        "more than certain",
        "a nameless stage",
        "an unknown field",
    ],
)
def test_a_pipeline_that_is_not_whole_is_malformed(stages: list[dict[str, str]]) -> None:
    with pytest.raises(ValidationError):
        DefinePipeline(name="direct", stages=stages)


def test_business_days_follow_the_zone_that_is_set() -> None:
    given().when(SetTimeZone(time_zone="Europe/Paris")).then(in_paris)


def test_setting_the_zone_in_force_changes_nothing() -> None:
    given(in_paris).when(SetTimeZone(time_zone="Europe/Paris")).nothing()
    given().when(SetTimeZone(time_zone="UTC")).nothing()


@pytest.mark.parametrize("name", ["Europe/Atlantis", "../etc/passwd", "localtime", ""])
def test_a_zone_that_does_not_exist_is_malformed(name: str) -> None:
    with pytest.raises(ValidationError):
        SetTimeZone(time_zone=name)


@pytest.mark.parametrize(
    "command",
    [DefinePipeline(name="direct", stages=[TALKS, YES, NO]), SetTimeZone(time_zone="UTC")],
    ids=lambda command: type(command).__name__,
)
def test_there_is_no_second_company(command: Command[Any, Any]) -> None:
    given().when(command, on=UUID(int=2)).refused(CompanyUnknown)


def test_a_deals_first_stage_is_the_first_open_one() -> None:
    company: Company = fold(CATALOG["companies"], [defined])
    pipeline = company.pipeline("direct")
    assert pipeline.first() == "talks"
    assert pipeline.closing(StageKind.WON) == "yes"
    assert pipeline.closing(StageKind.LOST) == "no"
