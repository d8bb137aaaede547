"""Money that was withdrawn is history: it comes in with a time at which it was money."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import pytest

from commands.http.wire import check_line
from events.currencies import ACTIVE, MINOR_DIGITS, WITHDRAWN

ID, OTHER = str(UUID(int=1)), str(UUID(int=2))


def money(currency: str) -> dict[str, str]:
    return {"amount": "100", "currency": currency}


def line(currency: str) -> dict[str, Any]:
    return {"product": "x", "quantity": "1", "unit_price": money(currency)}


def placed(currency: str) -> tuple[str, dict[str, Any]]:
    return "orders/place", {"customer_id": OTHER, "amount": money(currency)}


def received(currency: str) -> tuple[str, dict[str, Any]]:
    return "payments/receive", {"customer_id": OTHER, "amount": money(currency)}


def promised(currency: str) -> tuple[str, dict[str, Any]]:
    return "customers/make-promise", {"what": "a discount", "amount": money(currency)}


def registered(currency: str) -> tuple[str, dict[str, Any]]:
    return "customers/register", {"name": "Ann", "annual_revenue": money(currency)}


def said_of(asked: tuple[str, dict[str, Any]], occurred_at: str | None = None) -> list[str]:
    command, data = asked
    when = {"occurred_at": occurred_at} if occurred_at else {}
    return check_line(
        orjson.dumps({"command": command, "id": ID, "key": "k", "data": data, **when})
    )


@pytest.mark.parametrize("make", [placed, received, promised, registered])
@pytest.mark.parametrize(
    ("currency", "last"), [("BGN", "2026-01-31"), ("HRK", "2023-01-14"), ("DEM", "2002-05-15")]
)
def test_withdrawn_money_comes_in_as_history_only(make: Any, currency: str, last: str) -> None:
    [said] = said_of(make(currency))
    assert said.endswith(
        f"currency: was withdrawn on {last}; history has an occurred_at of its time"
    )
    [_] = said_of(make(currency), "2026-02-01T12:00:00Z")
    assert said_of(make(currency), f"{last}T12:00:00Z") == []
    assert said_of(make("EUR")) == []


def test_the_line_at_fault_is_named() -> None:
    asked = "orders/place", {"customer_id": OTHER, "lines": [line("DEM"), line("DEM")]}
    [said] = said_of(asked)
    assert said.startswith("data.lines.0.unit_price.currency: was withdrawn")


@pytest.mark.parametrize(
    ("command", "data"),
    [
        ("payments/release", {"order_id": OTHER, "amount": money("DEM")}),
        ("payments/refund", {"amount": money("DEM")}),
        ("payments/allocate", {"allocations": [{"order_id": OTHER, "amount": money("DEM")}]}),
        ("orders/return", {"amount": money("DEM"), "reason": "r"}),
        ("orders/plan-payments", {"instalments": [{"due": "2026-12-01", "amount": money("DEM")}]}),
    ],
)
def test_what_is_there_in_withdrawn_money_can_still_be_settled(
    command: str, data: dict[str, Any]
) -> None:
    assert said_of((command, data)) == []


def test_every_currency_that_ever_was_has_digits() -> None:
    assert {"EUR", "JPY", "USD"} <= ACTIVE.keys()
    assert ACTIVE.keys().isdisjoint(WITHDRAWN)
    assert MINOR_DIGITS.keys() == ACTIVE.keys() | WITHDRAWN.keys()
