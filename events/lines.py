"""The lines of quotes and orders."""

from __future__ import annotations

from functools import reduce
from typing import Annotated

from pydantic import BaseModel, ConfigDict

from events.values import AsWritten, Money, Percent, Quantity, StoredMoney


class PricedLine(BaseModel):
    """A quantity of a product at a unit price, less a discount in per cent."""

    model_config = ConfigDict(frozen=True)

    product: str
    quantity: Annotated[Quantity, AsWritten()]
    unit_price: StoredMoney
    discount: Annotated[Percent, AsWritten()] | None = None
    total: StoredMoney


def total_of(lines: tuple[PricedLine, ...]) -> Money:
    """The sum of lines of one currency."""
    return reduce(Money.plus, (line.total for line in lines))
