"""Read model ``settings``: what the company's pipelines, lists and time zone were at any moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, assert_never
from uuid import UUID

from events.company import (
    DEFAULT_PIPELINES,
    CompanyEvent,
    ListDefined,
    ListName,
    PipelineDefined,
    TimeZoneSet,
)
from events.envelope import Recorded
from events.values import AsWritten, StageKind
from projections.asking.clocks import FOREVER, Moment
from projections.asking.listing import AskedAt, Question
from projections.asking.rows import fetch
from projections.asking.shape import HeadAt, Shape
from projections.asking.view import View
from projections.engine.model import ReadModel
from projections.engine.tables import Connection, Row, Rows, Table
from projections.facts.companies import StageFact, facts


@dataclass(slots=True)
class SettingRow(Row):
    """A fact, never changed: from here on a setting had these values."""

    company_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    name: str | None = None
    values: list[Any] | None = None


STAGES = Table("stages", StageFact, key=("company_id", "version", "place"), facts=True)
SETTINGS = Table("settings", SettingRow, key=("company_id", "version"))
TIME_ZONE = "time-zone"


def apply(rows: Rows, recorded: Recorded) -> None:
    """Add what the event defines."""
    event: CompanyEvent = recorded.event  # type: ignore[assignment]  # the model names its events
    match event:
        case PipelineDefined():
            for fact in facts(recorded):
                rows.add(STAGES, fact)
            return
        case TimeZoneSet():
            name, values = TIME_ZONE, [event.time_zone]
        case ListDefined():
            name, values = str(event.name), list(event.values)
        case _:
            assert_never(event)
    setting = rows.get(SETTINGS, recorded.stream_id, recorded.version)
    setting.position, setting.occurred_at = recorded.position, recorded.occurred_at
    setting.name, setting.values = name, values


MODEL = ReadModel("settings", (STAGES, SETTINGS), CompanyEvent, apply)


class StageShape(Shape):
    """A stage of a pipeline: its key, its name, the chance that a deal in it is won."""

    key: str
    name: str
    kind: Annotated[StageKind, AsWritten()]
    probability: Decimal | None


class PipelineShape(Shape):
    """A pipeline with its stages, in their order."""

    name: str
    stages: list[StageShape]


class Settings(HeadAt):
    """The company's settings at a moment."""

    time_zone: str
    pipelines: list[PipelineShape]
    lists: dict[str, list[str]]


class _Defined(Shape):
    """A stage, as one definition of its pipeline has it."""

    pipeline: str
    position: int
    occurred_at: datetime
    stage: str
    name: str
    kind: Annotated[StageKind, AsWritten()]
    probability: Decimal | None


class _Setting(Shape):
    """A setting, as it was once set."""

    name: str
    values: list[str]


DEFINED = """
SELECT pipeline, position, occurred_at, stage, name, kind, probability
  FROM stages WHERE position <= %(last)s ORDER BY position, place
"""
SET = """
SELECT DISTINCT ON (name) name, values FROM settings WHERE {facts} ORDER BY name, version DESC
"""
_WRITTEN = ", ".join(
    f"('{pipeline}', '{stage.key}', '{stage.name}', {stage.probability})"
    for pipeline, stages in DEFAULT_PIPELINES.items()
    for stage in stages
)
CALLED = f"""
LEFT JOIN LATERAL (
    SELECT name, probability FROM (
        SELECT pipeline, stage, name, probability, position,
               %(in_force)s::timestamptz IS NULL OR occurred_at < %(in_force)s AS is_past
          FROM stages WHERE {{known}}
        UNION ALL
        SELECT *, 0, true FROM (VALUES {_WRITTEN}) AS written (pipeline, stage, name, probability)
    ) every WHERE every.pipeline = o.pipeline AND every.stage = o.stage
     ORDER BY is_past DESC, CASE WHEN is_past THEN -position ELSE position END LIMIT 1
) called ON true
"""


def called_at(when: Moment) -> str:
    """A join that gives the deals ``o`` the name and the probability of their stage at a moment.

    They are of its last definition by then, or else of the first one.
    """
    return CALLED.format(known=replace(when, as_of=None).counts("stages"))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline at a moment.

    Attributes:
        stages: those in force, in their order.
        every: all that it ever had, by key, each as it was defined last by then; what was defined
            later alone, as it was defined first.
    """

    stages: list[StageShape]
    every: Mapping[str, StageShape]


def pipelines(conn: Connection, when: Moment) -> dict[str, Pipeline]:
    """Every pipeline that is known at the moment, by name.

    The definition in force is the last one that occurred before ``as_of``. What is older than
    every definition has the default pipeline, or where that name has none, the first definition:
    deals may be imported that are older than their pipeline.
    """
    values = {"last": FOREVER if when.known_at is None else when.known_at}
    found: dict[str, dict[int, list[_Defined]]] = {}
    for one in fetch(conn, _Defined, DEFINED, values):
        found.setdefault(one.pipeline, {}).setdefault(one.position, []).append(one)
    return {
        name: _pipeline(name, list(found.get(name, {}).values()), when)
        for name in {**DEFAULT_PIPELINES, **found}
    }


def _pipeline(name: str, definitions: list[list[_Defined]], when: Moment) -> Pipeline:
    written = [
        StageShape.of(key=one.key, name=one.name, kind=one.kind, probability=one.probability)
        for one in DEFAULT_PIPELINES.get(name, ())
    ]
    past: list[list[StageShape]] = [written] if written else []
    later: list[list[StageShape]] = []
    for defined in definitions:
        is_past = when.as_of is None or defined[0].occurred_at < when.as_of
        (past if is_past else later).append([_shape(one) for one in defined])
    in_force = past[-1] if past else later[0]
    every: dict[str, StageShape] = {}
    for stages in (*reversed(later), *past):
        every |= {stage.key: stage for stage in stages}
    return Pipeline(in_force, every)


def _shape(one: _Defined) -> StageShape:
    return StageShape.of(key=one.stage, name=one.name, kind=one.kind, probability=one.probability)


def settings(view: View, _: AskedAt) -> Settings:
    """The pipelines, the lists and the time zone that are in force at the moment."""
    when = view.when
    sql = SET.format(facts=when.counts("settings"))
    found = {one.name: one.values for one in fetch(view.conn, _Setting, sql, when.values)}
    return Settings.of(
        view.head_at,
        time_zone=_only(found.get(TIME_ZONE, ["UTC"])),
        pipelines=[
            PipelineShape.of(name=name, stages=pipeline.stages)
            for name, pipeline in pipelines(view.conn, when).items()
        ],
        lists={str(name): found.get(name, []) for name in ListName},
    )


def _only(values: Iterable[str]) -> str:
    [value] = values
    return value


QUESTIONS = (
    Question(
        path="/settings",
        name="settings",
        tag="companies",
        says="The company's pipelines, lists and time zone, as they are in force at a moment.",
        asks=AskedAt,
        shape=Settings,
        needs=(MODEL,),
        answer=settings,
    ),
)
