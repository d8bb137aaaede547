"""Models of customers' lives: published figures of a public data set, and what cannot be known."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import numpy as np
import orjson
import pytest

from analytics.fitting import (
    Floats,
    Histories,
    expected_purchases,
    fit_purchases,
    fit_spending,
    p_alive,
)
from commands.handling.outcome import Appended
from commands.http.wire import from_line
from events.envelope import Actor
from tests.end_to_end.running import CHECKED_OUT
from tests.projections.conftest import NewWorld
from tests.projections.world import World, day, eur

AS_PUBLISHED = Path(os.environ.get("PLEDGE_DATA") or CHECKED_OUT.parent / "shared" / "data")
CHUNK = 1_000
CALIBRATED = {"as_of": "1998-06-30", "calibrate_to": "1997-09-30"}
FIRST_CUSTOMER = UUID(int=10**6 + 1)


@pytest.fixture(scope="module")
def rows() -> list[tuple[int, date, Decimal]]:
    """The sample's purchases: customer, day, dollars."""
    sample = AS_PUBLISHED / "cdnow" / "CDNOW_sample.txt"
    if not sample.is_file():
        pytest.skip("the data set cdnow is not here; PLEDGE_DATA names the folder that has it")
    found = [line.split() for line in sample.read_text().splitlines()]
    return [(int(row[1]), date.fromisoformat(row[2]), Decimal(row[4])) for row in found]


@pytest.fixture(scope="module")
def shop(new_world: NewWorld, rows: list[tuple[int, date, Decimal]]) -> Iterator[World]:
    """A company with these purchases; its business days are UTC's."""

    def lines() -> Iterator[bytes]:
        known = set()
        for number, (customer, bought, amount) in enumerate(rows):
            at = f"{bought}T00:00:00Z"
            stream = UUID(int=10**6 + customer)
            if customer not in known:
                known.add(customer)
                data = {"name": f"Customer {customer}"}
                yield line("customers/register", stream, f"c{customer}", at, data)
            worth = {"amount": str(amount), "currency": "USD"}
            data = {"customer_id": stream, "amount": worth}
            yield line("orders/place", UUID(int=10**7 + number), f"o{number}", at, data)

    with new_world() as company:
        every = [*lines()]
        for start in range(0, len(every), CHUNK):
            asked = [from_line(raw, Actor("ada")) for raw in every[start : start + CHUNK]]
            assert all(isinstance(told, Appended) for told in company.writer.handle(asked))
        company.write_facts()
        yield company


def line(command: str, stream: UUID, key: str, at: str, data: object) -> bytes:
    return orjson.dumps(
        {"command": command, "id": stream, "key": key, "occurred_at": at, "data": data}
    )


@pytest.mark.slow
def test_the_models_are_those_that_were_published(shop: World) -> None:
    found = shop.get("/analytics/lifetime", **CALIBRATED)
    assert (found["customers"], found["repeat_customers"]) == (2_357, 946)
    buying, spending = found["purchases"], found["spending"]
    assert buying["identified"]
    assert {name: round(value, 4) for name, value in buying["parameters"].items()} == {
        "r": 0.2426,
        "alpha": 4.4136,
        "a": 0.7929,
        "b": 2.4259,
    }
    assert buying["log_likelihood"] == -9582.4292
    assert spending["identified"]
    assert {name: round(value, 4) for name, value in spending["parameters"].items()} == {
        "p": 6.2496,
        "q": 3.7442,
        "v": 15.4435,
    }
    assert spending["log_likelihood"] == -4055.9177
    assert found["holdout"] == {
        "days": 273,
        "purchases": 1_882,
        "customers": 684,
        "expected": 1653.409,
    }
    counts = [row["customers"] for row in buying["frequencies"]]
    assert counts[:3] == [1_411, 439, 214]
    assert sum(row["expected"] for row in buying["frequencies"]) == pytest.approx(2_357, abs=0.01)


@pytest.mark.slow
def test_a_customer_is_expected_to_do_what_was_published(shop: World) -> None:
    page = shop.get(
        "/analytics/lifetime/customers",
        **CALIBRATED,
        horizon_days=273,
        customer_id=str(FIRST_CUSTOMER),
    )
    [customer] = page["items"]
    assert customer["repeats"] == 2
    assert (customer["recency_weeks"], customer["age_weeks"]) == (30.4286, 38.8571)
    assert round(customer["expected_purchases"], 4) == 1.226
    assert round(customer["p_alive"], 4) == 0.7266
    # Of the value, purchases times amount is the bound: later ones are worth less.
    bound = customer["expected_purchases"] * float(customer["expected_amount"]["amount"])
    assert 0.9 * bound < float(customer["lifetime_value"]["amount"]) < bound


@pytest.mark.slow
def test_who_repeats_and_who_comes_back_is_what_the_rows_say(
    shop: World, rows: list[tuple[int, date, Decimal]]
) -> None:
    days: dict[int, set[date]] = defaultdict(set)
    for customer, bought, _ in rows:
        days[customer].add(bought)
    asked = {"as_of": "1998-06-30", "merge_by_day": "true"}
    window = {"from": "1997-07-01", "to": "1997-10-01"}
    found = shop.get("/analytics/customers", **asked, **window)
    inside = {
        customer: sum(date(1997, 7, 1) <= at < date(1997, 10, 1) for at in each)
        for customer, each in days.items()
    }
    old = [customer for customer, each in days.items() if min(each) < date(1997, 7, 1)]
    assert found["returning"] == sum(len(each) > 1 for each in days.values())
    assert found["purchasing"] == sum(number > 0 for number in inside.values())
    assert found["repeat"] == sum(number > 1 for number in inside.values())
    assert (found["old"], found["repurchasing"]) == (len(old), sum(inside[c] > 0 for c in old))
    kept = shop.get("/analytics/retention", **asked, **window, lost_after_days=90)["items"]
    for month in kept:
        starts, ends = date.fromisoformat(month["from"]), date.fromisoformat(month["to"])
        before = {c for c, each in days.items() if active(each, starts)}
        after = {c for c, each in days.items() if active(each, ends)}
        new = {c for c, each in days.items() if min(each) >= starts}
        assert (month["customers"], month["lost"]) == (len(before), len(before - after))
        assert month["new"] == len((after - before) & new)
        assert month["regained"] == len(after - before - new)


def active(days: set[date], at: date) -> bool:
    return any(at - timedelta(days=90) <= bought < at for bought in days)


@pytest.mark.slow
def test_the_same_moment_gives_the_same_bytes(shop: World) -> None:
    asked = {**CALIBRATED, "known_at": str(shop.head())}
    first = shop.ask("/analytics/lifetime/customers", **asked).content
    assert shop.ask("/analytics/lifetime/customers", **asked).content == first


def test_where_nobody_came_back_nothing_is_made_up(company: World) -> None:
    for number in range(3):
        customer = UUID(int=900 + number)
        company.do("customers/register", customer, day("2025-12-01"), name="Ann")
        company.do(
            "orders/place",
            UUID(int=950 + number),
            day("2026-01-10"),
            customer_id=customer,
            amount=eur("5"),
        )
    company.write_facts()
    found = company.get("/analytics/lifetime", as_of="2026-03-01")
    for model in (found["purchases"], found["spending"]):
        assert not model["identified"]
        assert model["statement"].startswith("No customer")
        assert set(model["parameters"].values()) == {None}
    outlooks = company.get("/analytics/lifetime/customers", as_of="2026-03-01")["items"]
    assert [item["p_alive"] for item in outlooks] == [None] * 3
    assert [item["lifetime_value"] for item in outlooks] == [None] * 3
    late = company.ask("/analytics/lifetime", as_of="2026-03-01", calibrate_to="2026-03-02")
    assert late.status_code == 422
    assert company.ask("/analytics/lifetime", **{"from": "2026-01-01"}).status_code == 422


@pytest.mark.parametrize(
    "mean",
    [np.ones(40), 1 + np.arange(40) / 1e4, np.where(np.arange(40) % 2, 5.0, 5.01)],
    ids=["equal", "nearly equal", "of two prices"],
)
def test_amounts_that_hardly_differ_do_not_tell_how_much_they_differ(mean: Floats) -> None:
    x = np.arange(40) % 5 + 1.0
    fit = fit_spending(x, mean, np.ones(40))
    assert fit.missing is not None
    rng = np.random.default_rng(7)
    each = 1 / rng.gamma(4.0, 1 / 15.0, 400)
    spread = np.array([rng.gamma(6.0, one / 6, 3).mean() for one in each])
    assert fit_spending(np.full(400, 3.0), spread * 6, np.ones(400)).missing is None


def simulated(customers: int, r: float, alpha: float, a: float, b: float) -> Histories:
    """Customers who buy at a rate of their own and, where a is above 0, drop out."""
    rng = np.random.default_rng(7)
    x, t_x, t = np.zeros(customers), np.zeros(customers), rng.uniform(40, 80, customers)
    for n in range(customers):
        rate = rng.gamma(r, 1 / alpha)
        leaves = rng.beta(a, b) if a > 0 else 0.0
        at = rng.exponential(1 / rate)
        while at < t[n]:
            x[n], t_x[n] = x[n] + 1, at
            if rng.random() < leaves:
                break
            at += rng.exponential(1 / rate)
    return Histories(x, t_x, t, np.ones(customers))


def test_what_made_the_purchases_is_found_again() -> None:
    made = (0.8, 6.0, 0.7, 2.0)
    fit = fit_purchases(simulated(8_000, *made))
    assert fit.missing is None
    for true, found, error in zip(made, fit.parameters, fit.errors, strict=True):
        assert abs(found - true) < 3 * error


def test_what_customers_spend_is_the_same_model_in_any_unit_of_money() -> None:
    rng = np.random.default_rng(7)
    x = rng.integers(1, 8, 3_000).astype(float)
    mean = rng.gamma(6 * x, 1 / (rng.gamma(4, 1 / 15, 3_000) * x))
    euros = fit_spending(x, mean, np.ones(3_000))
    yen = fit_spending(x, mean * 1e6, np.ones(3_000))
    assert euros.missing is None
    assert yen.missing is None
    assert yen.parameters == pytest.approx(
        (*euros.parameters[:2], euros.parameters[2] * 1e6), rel=1e-6
    )
    assert euros.parameters == pytest.approx((6, 4, 15), rel=0.2)
    assert yen.log_likelihood == pytest.approx(euros.log_likelihood - 3_000 * np.log(1e6))


def test_customers_who_never_leave_do_not_tell_who_left() -> None:
    fit = fit_purchases(simulated(4_000, 0.8, 6.0, 0.0, 1.0))
    assert fit.missing is not None
    assert "never drop out" in fit.missing


def test_many_purchases_are_no_trouble() -> None:
    parameters = (0.24, 4.4, 0.79, 2.4)
    many = Histories(np.array([400.0]), np.array([51.9]), np.array([52.0]), np.ones(1))
    alive = p_alive(parameters, many)[0]
    assert 0.99 < alive < 1
    r, alpha, a, b = parameters
    rng = np.random.default_rng(7)
    bought = rng.poisson(rng.gamma(r + 400, 1 / (alpha + 52), 20_000) * 52)
    until = rng.geometric(np.maximum(rng.beta(a, b + 400, 20_000), 1e-12))
    drawn = alive * np.minimum(bought, until).mean()
    assert expected_purchases(parameters, many, 52.0)[0] == pytest.approx(drawn, rel=0.02)
    assert np.isfinite(expected_purchases((0.24, 4.4, 1.0, 2.4), many, 52.0)).all()
