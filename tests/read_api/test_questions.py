"""The catalog of questions: what is declared is what is asked, read and answered."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
from pydantic import TypeAdapter

from projections.asking.listing import AskedAt, Listed, Question
from projections.asking.rows import maker
from projections.asking.shape import Shape
from projections.catalog import MODELS, QUESTIONS
from tests.projections.world import World
from tests.read_api.things import ANN, fill_in, place_of

TABLES = {table.name: model for model in MODELS for table in model.tables}
READ = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)", re.IGNORECASE)
every_question = pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.name)


@pytest.fixture(scope="module")
def company(new_world: Any) -> Any:
    """Two of each."""
    with new_world() as made:
        for more in (0, 100):
            fill_in(made, more)
        made.project()
        yield made


@every_question
def test_a_question_needs_every_read_model_that_its_query_reads(
    company: World, question: Question[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    execute = psycopg.Cursor.execute

    def listening(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        said.append(query.decode() if isinstance(query, bytes) else str(query))
        return execute(self, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.Cursor, "execute", listening)
    company.get(place_of(question.path))
    if issubclass(question.asks, AskedAt):
        company.get(place_of(question.path), as_of="2026-03-31")
    read = {name: TABLES[name] for text in said for name in READ.findall(text) if name in TABLES}
    assert read
    for table, model in read.items():
        assert model in question.needs, (
            f"{question.name} reads the table {table} of the read model {model.name}: "
            f"add that model to its `needs` in {question.answer.__module__.replace('.', '/')}.py"
        )


@every_question
def test_an_answer_is_what_its_shape_says(company: World, question: Question[Any, Any]) -> None:
    answer = company.ask(place_of(question.path))
    assert answer.status_code == 200
    TypeAdapter(question.shape).validate_json(answer.content)
    page = answer.json()
    assert page.get("items", True), "an empty list proves nothing"


every_list = pytest.mark.parametrize(
    "question",
    [question for question in QUESTIONS if issubclass(question.asks, Listed)],
    ids=lambda one: one.name,
)


@every_list
def test_a_list_goes_on_where_its_page_ended(company: World, question: Question[Any, Any]) -> None:
    whole = company.get(place_of(question.path))
    assert len(whole["items"]) >= 2, "make what this list shows in tests/read_api/things.py"
    assert whole["next"] is None
    pages = list(company.pages(place_of(question.path), limit=1))
    assert [item for page in pages for item in page] == whole["items"]


@every_list
def test_every_parameter_of_a_list_is_taken(company: World, question: Question[Any, Any]) -> None:
    schema = question.asks.model_json_schema()
    for name, field in schema["properties"].items():
        if name != "cursor":
            value = "1" if name == "known_at" else example(field, schema)
            asked = company.ask(place_of(question.path), **{name: value})
            assert asked.status_code == 200, f"{name} of {question.name}: {asked.text}"


def example(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """A value that a parameter may take."""
    if {"type": "number"}.items() <= field.get("anyOf", [{}])[0].items():
        return "1"
    for one in field.get("anyOf", ()):
        if one.get("type") != "null":
            field = {**field, **one}
    if "$ref" in field:
        field = schema["$defs"][field["$ref"].rpartition("/")[2]]
    match field:
        case {"examples": [value, *_]} | {"enum": [value, *_]} | {"const": value}:
            return str(value)
        case {"format": "date"}:
            return "2026-03-02"
        case {"format": "date-time"}:
            return "2026-03-02T12:00:00Z"
        case {"type": "boolean"}:
            return "true"
        case {"type": "integer"}:
            return str(field.get("minimum", 1))
    return str(ANN)


@every_question
def test_a_question_is_a_sentence_and_has_a_name_of_its_own(question: Question[Any, Any]) -> None:
    assert question.says[0].isupper()
    assert question.says.endswith(".")
    assert [one.name for one in QUESTIONS].count(question.name) == 1


class Coin(Shape):
    name: str
    worth: int = 1


def test_a_column_without_a_field_and_a_field_without_a_column_are_errors() -> None:
    assert maker(Coin, ("name", "worth"))(("cent", 2)) == Coin(name="cent", worth=2)
    assert maker(Coin, ("name", "place"), ("place",))(("cent", 2)).name == "cent"
    with pytest.raises(TypeError, match="no fields for the columns"):
        maker(Coin, ("name", "colour"))
    with pytest.raises(TypeError, match="has no column name"):
        maker(Coin, ("worth",))


def test_a_shape_made_of_parts_lacks_nothing_and_has_nothing_more() -> None:
    class Named(Shape):
        name: str
        other: str

    assert Coin.of(Named(name="cent", other="x"), worth=3) == Coin(name="cent", worth=3)
    with pytest.raises(TypeError, match="lacks"):
        Coin.of(worth=3)
    with pytest.raises(TypeError, match="has no"):
        Coin.of(name="cent", colour="red")
