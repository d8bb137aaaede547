"""Cursors: what one holds comes back as it was, and only to its own list."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from projections.asking.clocks import Unanswerable
from projections.asking.pages import closed, opened

KEYS: list[Any] = [
    datetime(2026, 3, 1, 12, tzinfo=UTC),
    date(2026, 3, 1),
    UUID(int=7),
    True,
    -3,
    2**62,
    Decimal("-12.50"),
    "Çelik",
]


@pytest.mark.parametrize("value", KEYS, ids=repr)
def test_a_cursor_holds_a_key_of_any_kind(value: Any) -> None:
    cursor = closed("a list", [value, UUID(int=1)])
    assert opened("a list", cursor, [type(value), UUID]) == [value, UUID(int=1)]
    with pytest.raises(Unanswerable, match="not one that this list gave"):
        opened("another list", cursor, [type(value), UUID])


@pytest.mark.parametrize(
    ("kind", "value"),
    [(date, "soon"), (date, 3), (bool, 1), (int, True), (int, 2**63), (UUID, "x"), (datetime, "x")],
)
def test_a_key_of_another_kind_is_refused(kind: type, value: Any) -> None:
    with pytest.raises(Unanswerable):
        opened("a list", closed("a list", [value]), [kind])
