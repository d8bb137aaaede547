"""What figures by group share: windows, calendar groups, lengths of time."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from analytics.facts.asking import Session, day_of, text
from analytics.facts.scope import Scope
from analytics.purchases import ratio

DAY_MICROS = 86_400_000_000


def in_window(session: Session[Any], at: str) -> str:
    """Whether a moment's business day lies in the scope's window."""
    return days_in_window(session.scope, day_of(session.zone, at))


def days_in_window(scope: Scope, day: str) -> str:
    """Whether a day lies in the scope's window."""
    bounds = []
    if scope.start is not None:
        bounds.append(f"{day} >= DATE '{scope.start}'")
    if scope.end is not None:
        bounds.append(f"{day} < DATE '{scope.end}'")
    return f"({' AND '.join(bounds)})" if bounds else "true"


def wanted(equal: Mapping[str, str | None], *conditions: str) -> str:
    """That columns have the values given, where one is given, and all else that is asked."""
    given = [f"{name} = {text(value)}" for name, value in equal.items() if value is not None]
    return " AND ".join(["true", *given, *conditions])


def of_group(by: str, group: str | None) -> str:
    """Whether a row is of this group; None is the group without a name."""
    return f"{by} IS NOT DISTINCT FROM {'NULL' if group is None else text(group)}"


def month(day: str) -> str:
    """A day's month, like 2026-03."""
    return f"strftime({day}, '%Y-%m')"


def quarter(day: str) -> str:
    """A day's quarter, like 2026-Q1."""
    return f"(year({day}) || '-Q' || quarter({day}))"


def mean(micros: int | None, number: int) -> float | None:
    """The mean of so many lengths of time, in days; None of none."""
    return ratio(micros, number * DAY_MICROS) if micros is not None else None


def spell(micros: Any) -> float | None:
    """A length of time in days."""
    return None if micros is None else ratio(Decimal(micros), DAY_MICROS)
