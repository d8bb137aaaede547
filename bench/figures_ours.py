"""Pledge's own side of figures.py: all that a request does between its parameters and its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from analytics import cohorts as by_month
from analytics import purchases
from analytics import rfm as scored
from analytics.facts import asking
from analytics.facts.scope import OfPurchases
from analytics.facts.store import Store
from projections.asking.clocks import Moment
from projections.asking.money import Balance

NOW = datetime(2027, 1, 1, tzinfo=UTC)
SEGMENTS = {name: better for better, name in scored.VALUE_SEGMENTS.items()}


def rfm(root: str) -> list[Any]:
    with _session(root) as session:
        rows = scored.segments(session, scored.AskScores())
    return sorted(
        [*SEGMENTS[row.segment], row.customers, row.purchases, _cents(row.amount)] for row in rows
    )


def repurchase(root: str) -> dict[str, Any]:
    with _session(root) as session:
        found = purchases.repurchase(session, OfPurchases())
    products = [[one.product, one.customers, one.gaps, one.mean_gap] for one in found.products]
    return {**found.__dict__, "products": products}


def cohorts(root: str) -> list[Any]:
    with _session(root) as session:
        rows = by_month.cohorts(session, OfPurchases())
    return [
        [
            *(str(row.cohort), row.size, row.month, row.customers, row.retention),
            *(row.purchases, _cents(row.amount)),
        ]
        for row in rows
    ]


@contextmanager
def _session(root: str) -> Iterator[asking.Session[OfPurchases]]:
    store = Store(root)
    on = asking.Snapshot(store, store.latest(), Moment(None, None, NOW, NOW.date()))
    with asking.purchases(on, OfPurchases()) as opened:
        yield opened


def _cents(amount: Balance | None) -> int:
    return 0 if amount is None else int(100 * Decimal(amount.amount))
