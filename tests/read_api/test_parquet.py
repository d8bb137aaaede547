"""Every list and every figure as Parquet: a number is a number there, never a text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from events.values import Probability, Quantity
from projections.asking.shape import Shape
from read_api.files import write_parquet
from tests.projections.world import World, application, day, eur

PARQUET = {"accept": "application/vnd.apache.parquet"}
NUMBER = re.compile(r"-?[0-9]+\.[0-9]+")
ANN, LEAD, DEAL, ORDER, PAYMENT, TICKET = (UUID(int=n) for n in range(11, 17))
NEEDED = {
    "id": ANN,
    "stage": "intent",
    "cohort": "2026-03",
    "month": "2026-03",
    "since": "2026-03-31",
}
GETS = {path: item["get"] for path, item in application().openapi()["paths"].items()}
PARAMETERS = {
    path: {one["name"]: one["required"] for one in get.get("parameters", ())}
    for path, get in GETS.items()
}
TABLES = [p for p in sorted(GETS) if "cursor" in PARAMETERS[p] or p.startswith("/analytics/")]
"""Every list, and every figure."""


@pytest.fixture(scope="module")
def company(new_world: Any) -> Iterator[World]:
    """One of each, with an amount wherever there can be one."""
    with new_world() as made:
        at, later = day("2026-03-02"), day("2026-03-03")
        worth = {"annual_revenue": eur("1000.50")}
        made.do("customers/register", ANN, at, name="Ann", owner="ada", **worth)
        promise = {"promise_id": UUID(int=21), "what": "a price", "amount": eur("7.25")}
        made.do("customers/make-promise", ANN, at, **promise)
        made.do("leads/capture", LEAD, at, name="Grace", source="fair")
        made.do("leads/claim", LEAD, at)
        made.do("leads/qualify", LEAD, later, budget=eur("9.75"))
        deal = {"customer_id": ANN, "owner": "ada", "amount": eur("70.50"), "pipeline": "contract"}
        made.do("opportunities/open", DEAL, at, title="Pumps", **deal)
        line = {"product": "Pump", "quantity": "1.5", "unit_price": eur("10")}
        for number, moment in enumerate((at, later)):
            order = UUID(int=ORDER.int + 100 * number)
            made.do("orders/place", order, moment, customer_id=ANN, owner="ada", lines=[line])
        made.do("payments/receive", PAYMENT, later, customer_id=ANN, amount=eur("4.25"))
        ticket = {"customer_id": ANN, "channel": "call", "subject": "-", "text": "-"}
        made.do("tickets/open", TICKET, at, **ticket)
        made.do("tickets/log-work", TICKET, later, minutes=15)
        made.project()
        made.write_facts()
        yield made


@pytest.mark.parametrize("path", TABLES)
def test_no_number_is_a_text(company: World, path: str) -> None:
    asked = {name: NEEDED[name] for name, is_needed in PARAMETERS[path].items() if is_needed}
    asked.pop("id", None)
    answer = company.ask(path.format(id=ANN), headers=PARQUET, **asked)
    assert answer.status_code == 200
    table = pq.read_table(io.BytesIO(answer.content))
    assert table.num_columns > 1
    for name in table.column_names:
        if pa.types.is_string(table.schema.field(name).type):
            texts = [text for text in table[name].to_pylist() if text is not None]
            assert not [text for text in texts if NUMBER.fullmatch(text)], name


def test_there_are_lists_and_figures() -> None:
    assert len(TABLES) > 40


class Measured(Shape):
    quantity: Quantity
    chance: Probability | None
    rate: Decimal | None


def test_decimals_keep_their_digits() -> None:
    row = Measured(quantity=Decimal("1.125"), chance=None, rate=Decimal("-0.000001"))
    file = io.BytesIO()
    write_parquet(file, [[row]], Measured)
    table = pq.read_table(io.BytesIO(file.getvalue()))
    assert table.to_pylist() == [row.model_dump()]
    assert {str(field.type) for field in table.schema} == {"decimal128(38, 6)"}


def test_the_discount_rate_of_an_answer_is_a_number(company: World) -> None:
    answer = company.ask("/analytics/lifetime", headers=PARQUET, discount_rate="0.25")
    [row] = pq.read_table(io.BytesIO(answer.content)).to_pylist()
    assert row["outlook.discount_rate"] == Decimal("0.25")
    assert company.get("/analytics/lifetime")["outlook"]["discount_rate"] == "0.1"
