"""Pledge's own side of figures.py: all that a request does between its parameters and its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from analytics import purchases
from analytics import rfm as scored
from analytics.facts import asking
from analytics.facts.store import Store
from projections.asking.clocks import Moment

NOW = datetime(2027, 1, 1, tzinfo=UTC)
SEGMENTS = {name: better for better, name in scored.VALUE_SEGMENTS.items()}


def rfm(root: str) -> list[Any]:
    with _session(root) as session:
        rows = scored.segments(session, scored.Scoring())
    return sorted(
        [*SEGMENTS[row["segment"]], row["customers"], row["purchases"], _cents(row)] for row in rows
    )


def repurchase(root: str) -> dict[str, Any]:
    with _session(root) as session:
        found = purchases.repurchase(session)
    names = ("product", "customers", "gaps", "mean_gap")
    return {**found, "products": [[row[name] for name in names] for row in found["products"]]}


def cohorts(root: str) -> list[Any]:
    with _session(root) as session:
        rows = purchases.cohorts(session)
    names = ("size", "month", "customers", "retention", "purchases")
    return [[str(row["cohort"]), *(row[name] for name in names), _cents(row)] for row in rows]


@contextmanager
def _session(root: str) -> Iterator[asking.Session]:
    store = Store(root)
    scope = asking.Scope(Moment(None, None, NOW, NOW.date()))
    with asking.session(store, store.latest(), scope) as opened:
        yield opened


def _cents(row: dict[str, Any]) -> int:
    return int(100 * Decimal(row["amount"]["amount"]))
