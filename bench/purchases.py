"""Purchases made up for the benchmarks of figures, written as facts.

Two years of orders in one currency, an order for every customer at least and many for a few, with
one line or two, 3 % of which are cancelled, get goods back, or a line more. The files are those
that the writer of facts leaves after its compactions: as large, in the order of positions.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analytics.facts.fact import AMOUNT, MOMENT, FactTable
from analytics.facts.store import LARGE, Manifest, Store
from analytics.facts.tables import CHANGES, LINES, PURCHASES, SHAPE

Numbers = np.ndarray[Any, np.dtype[Any]]

CUSTOMER_OF_PURCHASES = 10
SHARE_OF_CHANGES = 0.03
KINDS = np.array(["cancelled", "returned", "line-added"])
CANCELLED, RETURNED, LINE_ADDED = range(3)
PRODUCTS = np.array([f"Sensor {number}" for number in range(100)])
OWNERS = np.array([f"rep-{number}" for number in range(40)])
FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)
LAST_DAY = datetime(2027, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
ROWS_OF_A_FILE = LARGE + 100_000
HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
DIGITS = [place for place in range(36) if place not in (8, 13, 18, 23)]


class Ledger(NamedTuple):
    """What happened, by event: an order placed, or a change of one placed before.

    Attributes:
        order: the order's number, counted from 0.
        kind: of the change; -1 where the order is placed.
        lines: how many lines it brings.
    """

    order: Numbers
    kind: Numbers
    lines: Numbers
    occurred_at: Numbers
    recorded_at: Numbers


def fill(root: str, purchases: int) -> None:
    """A store of facts with that many purchases by a tenth as many customers."""
    random = np.random.default_rng(1)
    happened = _ledger(random, purchases)
    orders = _ids(random, purchases)
    customers = _ids(random, purchases // CUSTOMER_OF_PURCHASES)
    buyer = _buyers(random, purchases, len(customers))
    owner = random.integers(len(OWNERS), size=purchases)
    of_event = np.repeat(np.arange(len(happened.order)), happened.lines)
    first = np.repeat(np.cumsum(happened.lines) - happened.lines, happened.lines)
    number = np.arange(len(of_event)) - first + 1
    product = (len(PRODUCTS) * random.random(len(of_event)) ** 2).astype(int)
    cents = random.lognormal(9, 1, len(of_event)).astype(int) + 100
    worth = np.bincount(of_event, cents, len(happened.order)).astype(int)
    placed = np.flatnonzero(happened.kind < 0)
    changed = np.flatnonzero(happened.kind >= 0)
    worth[happened.kind == RETURNED] = 1_000

    store = Store(root)
    files: dict[str, list[tuple[str, int]]] = {}

    def add(table: FactTable, events: Numbers, columns: Any) -> None:
        for start in range(0, len(events), ROWS_OF_A_FILE):
            rows = slice(start, start + ROWS_OF_A_FILE)
            at = events[rows]
            clocks = [
                pa.array(at + 1),
                pa.array(happened.occurred_at[at], MOMENT),
                pa.array(happened.recorded_at[at], MOMENT),
            ]
            order = _texts(orders[happened.order[at]])
            made = pa.table([*clocks, order, *columns(at, rows)], schema=table.schema)
            files.setdefault(table.name, []).append(store.write(table.name, made))

    add(
        PURCHASES,
        placed,
        lambda at, rows: [
            _texts(customers[buyer[rows]]),
            pa.array(OWNERS[owner[rows]]),
            _amounts(worth[at]),
            _euros(len(at)),
        ],
    )
    add(
        CHANGES,
        changed,
        lambda at, _: [
            pa.array(KINDS[happened.kind[at]]),
            _amounts(worth[at], happened.kind[at] == CANCELLED),
            _euros(len(at), happened.kind[at] == CANCELLED),
            pa.nulls(len(at), pa.string()),
        ],
    )
    add(
        LINES,
        of_event,
        lambda at, rows: [
            pa.array(number[rows], pa.int32()),
            pa.array(PRODUCTS[product[rows]]),
            pa.array(np.ones(len(at), np.int32)).cast(pa.decimal128(18, 3)),
            _amounts(cents[rows]),
            _euros(len(at)),
        ],
    )
    store.commit(Manifest(0, SHAPE, position=len(happened.order), files=files))


def _ledger(random: np.random.Generator, purchases: int) -> Ledger:
    changes = int(purchases * SHARE_OF_CHANGES)
    events = purchases + changes
    kind = np.full(events, -1)
    changed = 1 + random.choice(events - 1, changes, replace=False)
    kind[changed] = random.integers(len(KINDS), size=changes)
    before = np.cumsum(kind < 0)
    order = np.where(kind < 0, before - 1, (random.random(events) * before).astype(int))
    lines = np.select([kind < 0, kind == LINE_ADDED], [random.integers(1, 3, events), 1], 0)
    first, last = (int(day.timestamp()) * 1_000_000 for day in (FIRST_DAY, LAST_DAY))
    recorded_at = np.linspace(first, last - 1, events).astype(int)
    is_late = random.random(events) < 0.02
    late = np.where(is_late, random.integers(10 * DAY_US, size=events), 0)
    return Ledger(order, kind, lines, np.maximum(recorded_at - late, first), recorded_at)


def _buyers(random: np.random.Generator, purchases: int, customers: int) -> Numbers:
    reach = np.cumsum(random.gamma(1, size=customers))
    drawn = np.searchsorted(reach, random.random(purchases - customers) * reach[-1])
    return random.permutation(np.concatenate([np.arange(customers), drawn]))


def _ids(random: np.random.Generator, number: int) -> Numbers:
    """Random UUIDs, 16 bytes each."""
    found = random.integers(256, size=(number, 16), dtype=np.uint8)
    found[:, 6] = found[:, 6] & 0x0F | 0x40
    found[:, 8] = found[:, 8] & 0x3F | 0x80
    return found


def _texts(ids: Numbers) -> pa.Array:
    letters = np.full((len(ids), 36), ord("-"), np.uint8)
    halves = np.stack([ids >> 4, ids & 0x0F], axis=2).reshape(len(ids), 32)
    letters[:, DIGITS] = HEX[halves]
    ends = np.arange(0, 36 * len(ids) + 1, 36, dtype=np.int32)
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(ends), pa.py_buffer(letters))


def _amounts(cents: Numbers, is_none: Numbers | None = None) -> pa.Array:
    whole = pa.array(cents, mask=is_none).cast(pa.decimal128(19, 0))
    return pc.multiply(whole, pa.scalar(Decimal("0.01"))).cast(AMOUNT)


def _euros(number: int, is_none: Numbers | None = None) -> pa.Array:
    return pa.array(np.full(number, "EUR"), mask=is_none)


if __name__ == "__main__":
    fill(sys.argv[1], int(sys.argv[2]))
