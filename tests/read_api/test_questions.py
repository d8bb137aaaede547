"""The catalog of questions: what is declared is what is asked, read and answered."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import psycopg
import pytest
from pydantic import TypeAdapter

from projections.asking.listing import AskedAt, Question
from projections.asking.rows import maker
from projections.asking.shape import Shape
from projections.catalog import MODELS, QUESTIONS
from tests.projections.world import World, day, eur

TABLES = {table.name: model for model in MODELS for table in model.tables}
READ = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)", re.IGNORECASE)
ANN, LEAD, DEAL, ORDER, PAYMENT, TICKET = (UUID(int=n) for n in range(11, 17))
THINGS = {
    "/customers/{id}/timeline": ANN,
    "/leads/{id}": LEAD,
    "/opportunities/{id}": DEAL,
    "/orders/{id}": ORDER,
    "/payments/{id}": PAYMENT,
    "/tickets/{id}": TICKET,
}
every_question = pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.name)


@pytest.fixture(scope="module")
def company(new_world: Any) -> Any:
    """One of each."""
    with new_world() as made:
        at = day("2026-03-02")
        made.do("customers/register", ANN, at, name="Ann")
        made.do("customers/make-promise", ANN, at, promise_id=UUID(int=21), what="a reply")
        made.do("leads/capture", LEAD, at, name="Grace")
        made.do("opportunities/open", DEAL, at, title="Pumps", customer_id=ANN, owner="ada")
        line = {"product": "Pump", "quantity": "1", "unit_price": eur("10")}
        made.do("orders/place", ORDER, at, customer_id=ANN, owner="ada", lines=[line])
        made.do("payments/receive", PAYMENT, at, customer_id=ANN, amount=eur("4"))
        to_order = {"order_id": ORDER, "amount": eur("4")}
        made.do("payments/allocate", PAYMENT, at, allocations=[to_order])
        made.do("tickets/open", TICKET, at, customer_id=ANN, channel="call", subject="-", text="-")
        made.project()
        yield made


def path_of(question: Question[Any, Any]) -> str:
    return question.path.format(id=THINGS.get(question.path))


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
    company.get(path_of(question))
    if issubclass(question.asks, AskedAt):
        company.get(path_of(question), as_of="2026-03-31")
    read = {name: TABLES[name] for text in said for name in READ.findall(text) if name in TABLES}
    assert read
    for table, model in read.items():
        assert model in question.needs, (
            f"{question.name} reads the table {table} of the read model {model.name}: "
            f"add that model to its `needs` in {question.answer.__module__.replace('.', '/')}.py"
        )


@every_question
def test_an_answer_is_what_its_shape_says(company: World, question: Question[Any, Any]) -> None:
    answer = company.ask(path_of(question))
    assert answer.status_code == 200
    TypeAdapter(question.shape).validate_json(answer.content)
    page = answer.json()
    assert page.get("items", True), "an empty list proves nothing"


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
