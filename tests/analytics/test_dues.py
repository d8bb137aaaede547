"""What is due by DuckDB's definition is what is due by PostgreSQL's, whatever happened."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from events.payment import CreditNoteIssued
from tests.projections.conftest import NewWorld
from tests.projections.test_money import HISTORIES, MOMENTS, two_customers
from tests.projections.world import World, instant

Due = dict[tuple[str, str], Decimal]
"""By order and day."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(data=st.data(), history=HISTORIES)
def test_receipts_are_due_as_the_orders_say(
    new_world: NewWorld, data: st.DataObject, history: list[Any]
) -> None:
    with new_world() as world:
        two_customers(world)
        for (command, stream, fields), at in history:
            assert world.try_(command, stream, at, **fields) in (200, 201, 404, 409)
        world.project()
        world.write_facts()
        head = world.head()
        moments = st.lists(st.tuples(MOMENTS, st.integers(2, head)), min_size=2, max_size=3)
        for until, known in [(None, head), *data.draw(moments)]:
            compare(world, until, known)


def compare(world: World, until: str | None, known: int) -> None:
    clocks: dict[str, Any] = {"known_at": known} | ({} if until is None else {"as_of": until})
    before = datetime.now(UTC) + timedelta(days=1) if until is None else instant(until)
    due, months = due_of_orders(world, clocks), defaultdict(lambda: [Decimal(0)] * 3)
    for (_, day), amount in due.items():
        months[day[:7]][0] += amount
    for one in world.recorded():
        is_counted = one.position <= known and one.occurred_at < before
        if is_counted and isinstance(one.event, CreditNoteIssued):
            months[f"{one.occurred_at:%Y-%m}"][0] -= one.event.amount.amount
    for period in world.get("/payments/by-period", **clocks)["items"]:
        for place, name in ((1, "received"), (2, "refunded")):
            months[period["begins"][:7]][place] += Decimal(period[name]["amount"])
    figures = world.get("/analytics/receipts", **clocks)["items"]
    names = ("due", "received", "refunded")
    told = {month["month"]: [amount_of(month[name]) for name in names] for month in figures}
    assert {m: sums for m, sums in told.items() if any(sums)} == {
        m: sums for m, sums in months.items() if any(sums)
    }
    fell: Due = defaultdict(Decimal)
    for month in told:
        for move in world.every("/analytics/receipts/moves", month=month, **clocks):
            if move["kind"] == "due":
                fell[move["order_id"], move["day"]] += amount_of(move["due"])
    assert fell == due
    owed = world.get("/payments/receivables", **clocks)["total"]
    if figures and owed is not None:
        behind = amount_of(owed["receivable"]) - amount_of(owed["credit"])
        assert amount_of(figures[-1]["behind"]) == behind


def due_of_orders(world: World, clocks: dict[str, Any]) -> Due:
    """What the orders themselves say."""
    due: Due = defaultdict(Decimal)
    for order in world.get("/orders", **clocks)["items"]:
        billed = amount_of(order["billed"])
        if billed < 0:
            due[order["id"], order["placed_at"][:10]] += billed
        for part in world.get(f"/orders/{order['id']}", **clocks)["instalments"]:
            if amount_of(part["amount"]):
                due[order["id"], part["due"]] += amount_of(part["amount"])
    return due


def amount_of(shown: dict[str, str] | None) -> Decimal:
    return Decimal(0) if shown is None else Decimal(shown["amount"])
