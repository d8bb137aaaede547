"""What figures by group share: calendar groups and lengths of time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from analytics.facts.asking import Session
from analytics.purchases import ratio

DAY_MICROS = 86_400_000_000


def month(day: str) -> str:
    """A day's month, like 2026-03."""
    return f"strftime({day}, '%Y-%m')"


def quarter(day: str) -> str:
    """A day's quarter, like 2026-Q1."""
    return f"(year({day}) || '-Q' || quarter({day}))"


def micros(session: Session[Any]) -> int:
    """The moment, in microseconds since 1970."""
    return round(session.when.now.timestamp() * 1_000_000)


def mean(micros: int | None, number: int) -> float | None:
    """The mean of so many lengths of time, in days; None of none."""
    return ratio(micros, number * DAY_MICROS) if micros is not None else None


def spell(micros: Any) -> float | None:
    """A length of time in days."""
    return None if micros is None else ratio(Decimal(micros), DAY_MICROS)
