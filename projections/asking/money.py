"""Amounts as answers show them: in whole coins of their currency."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal, localcontext

from pydantic import Field

from events.currencies import COINS
from events.values import Money
from projections.asking.shape import Shape, made


class Balance(Shape):
    """An amount that may be below 0: then it is owed the other way round."""

    amount: str = Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$", examples=["-12.50"])
    currency: str = Field(pattern="^[A-Z]{3}$")


def money(amount: Decimal | None, currency: str | None) -> Money | None:
    """An amount that is never below 0; None of nothing."""
    if amount is None or currency is None:
        return None
    return made(Money, {"amount": in_coins(amount, currency), "currency": currency})


def balance(amount: Decimal | None, currency: str | None) -> Balance | None:
    """An amount that may be below 0; None of nothing."""
    if amount is None or currency is None:
        return None
    return made(Balance, {"amount": str(in_coins(amount, currency)), "currency": currency})


def in_coins(amount: Decimal, currency: str) -> Decimal:
    """An amount rounded half up to the currency's smallest coin; as it is where nobody knows it."""
    coin = COINS.get(currency)
    if coin is None:
        return amount
    with localcontext(prec=60):
        return amount.quantize(coin, ROUND_HALF_UP)
