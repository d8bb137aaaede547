"""Amounts as answers show them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from events.values import COINS


def money(amount: Decimal | None, currency: str | None) -> dict[str, Any] | None:
    """An amount as the API shows it, in whole coins of its currency."""
    if amount is None or currency is None:
        return None
    return {"amount": str(amount.quantize(COINS[currency])), "currency": currency}
