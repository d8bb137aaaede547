"""What is quoted and sold, line by line."""

from __future__ import annotations

from functools import reduce

from pydantic import BaseModel, ConfigDict

from events.values import Money, Percent, Quantity


class PricedLine(BaseModel):
    """So many of a product at a price each, less a discount in per cent."""

    model_config = ConfigDict(frozen=True)

    product: str
    quantity: Quantity
    unit_price: Money
    discount: Percent | None = None
    total: Money


def total_of(lines: tuple[PricedLine, ...]) -> Money:
    """The sum of some lines, which share one currency."""
    return reduce(Money.plus, (line.total for line in lines))
