"""The lines of quotes and orders."""

from __future__ import annotations

from functools import reduce

from pydantic import BaseModel, ConfigDict

from events.values import Money, Percent, Quantity


class PricedLine(BaseModel):
    """A quantity of a product at a unit price, less a discount in per cent."""

    model_config = ConfigDict(frozen=True)

    product: str
    quantity: Quantity
    unit_price: Money
    discount: Percent | None = None
    total: Money


def total_of(lines: tuple[PricedLine, ...]) -> Money:
    """The sum of lines of one currency."""
    return reduce(Money.plus, (line.total for line in lines))
