"""What was sold of each product, from the lines of orders."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from analytics.facts.asking import Session
from analytics.facts.scope import OfPurchases
from analytics.figure import Chart, Figure
from projections.asking.clocks import Unanswerable
from projections.asking.money import Balance, balance
from projections.asking.shape import Shape

SOLD = """
SELECT line.product, count(DISTINCT order_id) AS orders, count(DISTINCT kept.customer_id) AS
       customers, sum(line.quantity) AS quantity, sum(line.amount) AS amount
  FROM kept JOIN purchase_lines line USING (order_id)
 WHERE kept.in_window AND fits(line.product, asked().product)
 GROUP BY line.product ORDER BY amount DESC, line.product
"""


class AskProducts(OfPurchases):
    """What may be asked of products; amounts of lines are amounts ordered."""

    def check(self) -> None:
        """See ``Asked``."""
        super().check()
        if self.basis != "ordered":
            raise Unanswerable("basis", "must be ordered, for only that is known of a line")


class ProductShape(Shape):
    """What was sold of a product in the window, by the lines of orders that were not cancelled."""

    product: str
    orders: int
    customers: int
    quantity: Decimal
    amount: Balance | None


def products(session: Session[OfPurchases], _: AskProducts) -> list[ProductShape]:
    """Pieces, amounts, orders and customers of each product, the greatest amount first."""
    return [
        ProductShape.of(
            product=row["product"],
            orders=row["orders"],
            customers=row["customers"],
            quantity=row["quantity"],
            amount=balance(row["amount"], session.scope.currency),
        )
        for row in session.rows(SOLD)
    ]


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="products",
        operation="products_sold",
        says="What was sold of each product, from the lines of orders.",
        asks=AskProducts,
        row=ProductShape,
        answer=products,
        chart=Chart("product", ("amount.amount",)),
    ),
)
