"""Whatever is asked, it is a value: no text, number or day of a question becomes a part of SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import duckdb
import pytest
from pydantic import ValidationError

from analytics.catalog import FIGURES
from analytics.facts.engine import Engine
from analytics.figure import Figure
from events.company import COMPANY
from tests.projections.world import World, day, eur

HOSTILE = "x' OR '1'='1'); DROP VIEW purchases; -- $after {0} %s \" \\ getvariable('asked')"
HARMLESS = "nobody"
WHO = "O'Hara; --"
ANN = UUID(int=101)
DEAL, LEAD, TICKET, ORDER = (UUID(int=n) for n in (401, 501, 601, 701))
VALUES = (
    *("o'mark", "2026-02-01", "2026-02", "3659", "41,83,167,331", "0.4321"),
    "00000000-0000-0000-0000-00000000abcd",
)
"""For each kind of parameter one that it takes, and that no query holds of itself."""
KNOWN = ("cursor", "stage", "pipeline", "segment", "before", "after", "group")
"""Parameters whose values must be known, or fit another parameter."""
EVERYBODY = {"stage": "intent", "cohort": "2026-01", "month": "2026-01", "since": "2026-01-31"}
every_figure = pytest.mark.parametrize("figure", FIGURES, ids=lambda one: one.name)


@pytest.fixture(scope="module")
def company(new_world: Any) -> Any:
    """One of each, of people whose names are hard to quote."""
    with new_world() as made:
        at = day("2026-01-10")
        made.do("companies/set-time-zone", COMPANY, time_zone="Europe/Berlin")
        of = {"region": WHO, "source": WHO}
        made.do("customers/register", ANN, at, name="Ann", **of)
        made.do("customers/tag", ANN, at, tag=WHO)
        line = {"product": WHO, "quantity": "1", "unit_price": eur("10")}
        for number in range(2):
            order = UUID(int=ORDER.int + number)
            made.do("orders/place", order, at, customer_id=ANN, owner=WHO, lines=[line])
        deal = {"pipeline": "contract", "customer_id": ANN, "owner": WHO, "product": WHO}
        made.do("opportunities/open", DEAL, at, title="Looms", **deal)
        made.do("leads/capture", LEAD, at, name="Lea", **of)
        made.do("leads/claim", LEAD, at, by=WHO)
        ticket = {"customer_id": ANN, "product": WHO, "channel": "call"}
        made.do("tickets/open", TICKET, at, subject="-", text="-", **ticket)
        made.do("tickets/dispatch", TICKET, at, technician=WHO)
        made.write_facts()
        yield made


def needed(figure: Figure[Any, Any]) -> dict[str, Any]:
    """What the figure cannot do without."""
    fields = figure.asks.model_fields
    return {name: EVERYBODY[name] for name, field in fields.items() if field.is_required()}


def taking(figure: Figure[Any, Any], value: str) -> Iterator[str]:
    """The parameters that take this value."""
    for name, field in figure.asks.model_fields.items():
        parameter = field.alias or name
        try:
            figure.asks.model_validate({**needed(figure), parameter: value})
        except ValidationError:
            continue
        yield parameter


@every_figure
def test_a_hostile_text_is_answered_as_any_other(company: World, figure: Figure[Any, Any]) -> None:
    path, of = f"/analytics/{figure.name}", {"as_of": "2026-03-04", **needed(figure)}
    before = company.get(path, **of)
    texts = {*taking(figure, HOSTILE)} - {"as_of", "known_at"}
    assert len(texts) >= 3
    for name in texts:
        status, answer = answered(company, path, {**of, name: HARMLESS})
        assert answered(company, path, {**of, name: HOSTILE}) == (status, answer), name
    assert company.get(path, **of) == before


def answered(company: World, path: str, params: dict[str, Any]) -> tuple[int, Any]:
    """What is answered, but for what it repeats of the question."""
    answer = company.ask(path, **params)
    body = answer.json()
    body.pop("parameters", None)
    return answer.status_code, body if answer.status_code == 200 else None


@every_figure
def test_whoever_has_a_name_that_is_hard_to_quote_is_found(
    company: World, figure: Figure[Any, Any]
) -> None:
    path, of = f"/analytics/{figure.name}", {"as_of": "2026-03-04", **needed(figure)}
    whose = {"owner", "region", "channel", "product", "tag"} & {*taking(figure, WHO)}
    everything = answered(company, path, of)
    assert answered(company, path, {**of, **dict.fromkeys(whose, WHO)}) == everything


class Listening:
    """A session that notes what it is told."""

    def __init__(self, conn: duckdb.DuckDBPyConnection, said: list[str]) -> None:
        self._conn = conn
        self._said = said

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    def execute(self, statement: str, *values: Any) -> Any:
        self._said.append(statement)
        return self._conn.execute(statement, *values)


@every_figure
def test_no_value_is_a_part_of_a_statement(
    company: World, figure: Figure[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    session = Engine.session

    @contextmanager
    def listening(self: Engine) -> Iterator[Listening]:
        with session(self) as conn:
            yield Listening(conn, said)

    monkeypatch.setattr(Engine, "session", listening)
    path, of = f"/analytics/{figure.name}", needed(figure)
    clocks = {"as_of": "2026-03-04", "known_at": company.head() - 1}
    asked = {name: value for value in reversed(VALUES) for name in taking(figure, value)}
    for name in ("min_position", "since"):
        asked.pop(name, None)
    one_by_one = {name: asked.pop(name) for name in KNOWN if name in asked}
    assert len(asked) >= 4
    assert company.ask(path, **{**of, **asked, **clocks}).status_code == 200
    for name, value in one_by_one.items():
        company.ask(path, **{**of, "by": "month", name: value, **clocks})
    assert said
    for mark in (*VALUES, "mark", "2026-", "Berlin", f"<= {clocks['known_at']}"):
        assert not [text for text in said if mark in text], mark
