"""What was bought by region: of the order, or of its customer."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from analytics.facts.asking import Session
from analytics.facts.scope import Group, OfPurchases
from analytics.figure import Chart, Figure
from analytics.purchases import PurchaseShape, shown_in
from projections.asking.listing import Paged
from projections.asking.money import Balance
from projections.asking.shape import Shape

By = Literal["order", "customer"]

REGION: dict[By, str] = {
    "order": "JOIN (SELECT order_id, region FROM purchases) r USING (order_id)",
    "customer": "LEFT JOIN (SELECT customer_id, arg_max(region, position) AS region "
    "FROM accounts GROUP BY 1) r USING (customer_id)",
}
"""By whose it is, what joins the region to ``kept``."""
REGIONS = """
SELECT region AS "group", count(DISTINCT customer_id) AS customers, {purchases} AS purchases,
       sum(amount) AS amount
  FROM kept {join} WHERE in_window GROUP BY 1 ORDER BY amount DESC, 1 NULLS LAST
"""
BEHIND = "SELECT * FROM kept {join} WHERE in_window AND region IS NOT DISTINCT FROM $group"


class AskRegions(OfPurchases):
    """What may be asked of purchases by region."""

    by: By = "order"


class AskRegionsPurchases(OfPurchases, Paged):
    """What may be asked of the purchases of a region."""

    by: By = "order"
    group: Group = None


class RegionShape(Shape):
    """What was bought in a region; without a name: where none is known."""

    group: str | None
    customers: int
    purchases: int
    amount: Balance | None


def regions(session: Session[OfPurchases], asked: AskRegions) -> list[RegionShape]:
    """Customers, purchases and amounts of each region in the window, the greatest amount first."""
    days = "count(DISTINCT (customer_id, day))" if asked.merge_by_day else "count(*)"
    shown = shown_in(session)
    query = REGIONS.format(purchases=days, join=REGION[asked.by])
    return [
        RegionShape.of(
            group=row["group"],
            customers=row["customers"],
            purchases=row["purchases"],
            amount=shown(row["amount"]),
        )
        for row in session.rows(query)
    ]


def behind(
    session: Session[OfPurchases], asked: AskRegionsPurchases
) -> tuple[list[PurchaseShape], str | None]:
    """The orders behind a region's figures, or behind those of none, by position."""
    shown = shown_in(session)
    query = BEHIND.format(join=REGION[asked.by])
    rows, more = session.page(query, "position", asked, {"group": asked.group})
    return [
        PurchaseShape.of(
            customer_id=UUID(row["customer_id"]),
            day=row["day"],
            amount=shown(row["amount"]),
            orders=1,
            position=row["position"],
            in_window=row["in_window"],
        )
        for row in rows
    ], more


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="regions",
        operation="regions",
        says="Customers, purchases and amounts by region, of the order or of its customer.",
        asks=AskRegions,
        row=RegionShape,
        answer=regions,
        chart=Chart("group", ("amount.amount",)),
    ),
    Figure(
        name="regions/list",
        operation="regions_purchases",
        says="The orders of a region, or of none.",
        asks=AskRegionsPurchases,
        row=PurchaseShape,
        answer=behind,
    ),
)
