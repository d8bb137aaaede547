"""Amounts as answers show them: in whole coins of their currency."""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field

from events.values import COINS, Money
from projections.asking.shape import Shape, made


class Balance(Shape):
    """An amount that may be below 0: then it is owed the other way round."""

    amount: str = Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$", examples=["-12.50"])
    currency: str = Field(pattern="^[A-Z]{3}$")


def money(amount: Decimal | None, currency: str | None) -> Money | None:
    """An amount that is never below 0; None of nothing."""
    if amount is None or currency is None:
        return None
    return made(Money, {"amount": amount.quantize(COINS[currency]), "currency": currency})


def balance(amount: Decimal | None, currency: str | None) -> Balance | None:
    """An amount that may be below 0; None of nothing."""
    if amount is None or currency is None:
        return None
    return made(Balance, {"amount": str(amount.quantize(COINS[currency])), "currency": currency})
