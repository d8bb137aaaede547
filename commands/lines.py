"""Lines as callers give them: checked, then priced."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from pydantic import BaseModel, ConfigDict

from events.lines import PricedLine, total_of
from events.values import Line, Money, Percent, Quantity


class AskedLine(BaseModel):
    """A line: a product, its quantity, its unit price, and a discount in per cent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: Line
    quantity: Quantity
    unit_price: Money
    discount: Percent | None = None

    def priced(self) -> PricedLine:
        """The line with its total, rounded half up to the currency's smallest coin."""
        share = 1 - (self.discount or Decimal(0)) / 100
        total = self.unit_price.times(self.quantity * share)
        return PricedLine.model_construct(**self.__dict__, total=total)


def priced(lines: Sequence[AskedLine]) -> tuple[tuple[PricedLine, ...], Money]:
    """The lines with their totals, and the sum of these.

    Raises:
        ValueError: when they are not of one currency, or the sum is no amount of money.
    """
    if len({line.unit_price.currency for line in lines}) > 1:
        raise ValueError("must hold lines of one currency only")
    found = tuple(line.priced() for line in lines)
    return found, total_of(found)
