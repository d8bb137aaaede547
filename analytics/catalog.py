"""Every figure, and the lists behind them."""

from __future__ import annotations

from typing import Any

from analytics import (
    cohorts,
    deals,
    leads,
    lifetime,
    movement,
    purchases,
    receipts,
    retention,
    rfm,
    stages,
    tickets,
    tiers,
)
from analytics.figure import Figure

FIGURES: tuple[Figure[Any, Any], ...] = (
    *purchases.FIGURES,
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
    *tickets.FIGURES,
)
BY_NAME = {figure.name: figure for figure in FIGURES}
