"""Every figure, and the lists behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from analytics import (
    cohorts,
    deals,
    leads,
    lifetime,
    movement,
    products,
    purchases,
    receipts,
    regions,
    retention,
    rfm,
    stages,
    terms,
    tickets,
    tiers,
)
from analytics.figure import Figure

FIGURES: tuple[Figure[Any, Any], ...] = (
    *purchases.FIGURES,
    *products.FIGURES,
    *regions.FIGURES,
    *cohorts.FIGURES,
    *retention.FIGURES,
    *rfm.FIGURES,
    *movement.FIGURES,
    *tiers.FIGURES,
    *lifetime.FIGURES,
    *deals.FIGURES,
    *stages.FIGURES,
    *leads.FIGURES,
    *receipts.FIGURES,
    *terms.FIGURES,
    *tickets.FIGURES,
)


def check(figures: Sequence[Figure[Any, Any]]) -> None:
    """See that no two figures have a name in common.

    Raises:
        TypeError: saying which do.
    """
    names = Counter(f"name {figure.name}" for figure in figures)
    operations = Counter(f"operation {figure.operation}" for figure in figures)
    faults = [
        f"{number} figures have the {what}: change one of them."
        for what, number in (names + operations).items()
        if number > 1
    ]
    if faults:
        raise TypeError("\n".join(faults))


check(FIGURES)
BY_NAME = {figure.name: figure for figure in FIGURES}
