"""Who brings how much: tiers of customers by amount, and the key accounts among them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from analytics.facts.asking import Session
from analytics.purchases import ratio
from projections.asking.money import money

TIERS = ("premium", "ordinary", "potential")

EACH = """
CREATE TEMP TABLE tiered AS
WITH each AS (
    SELECT customer_id, count(*) AS purchases, sum(amount) AS amount
      FROM bought WHERE in_window GROUP BY customer_id
), placed AS (
    SELECT *, sum(greatest(amount, 0)) OVER () AS total,
           coalesce(sum(amount) OVER (ORDER BY amount DESC RANGE BETWEEN UNBOUNDED PRECEDING
                                      AND CURRENT ROW EXCLUDE GROUP), 0) AS before,
           row_number() OVER places AS rank, sum(greatest(amount, 0)) OVER places AS reached
      FROM each WINDOW places AS (ORDER BY amount DESC, customer_id ROWS UNBOUNDED PRECEDING)
), owner AS (
    SELECT customer_id, arg_max_null(owner, position) AS owner FROM accounts
     WHERE kind <> 'details-changed' GROUP BY 1
)
SELECT placed.*, owner,
       CASE WHEN amount > 0 AND before < total * $premium THEN 'premium'
            WHEN amount > 0 AND before < total * $ordinary THEN 'ordinary'
            ELSE 'potential' END AS tier
  FROM placed LEFT JOIN owner USING (customer_id)
"""
SUMS = """
SELECT tier, count(*) AS customers, sum(purchases)::BIGINT AS purchases, sum(amount) AS amount,
       any_value(total) AS total, count(*) FILTER (owner IS NULL) AS without_owner
  FROM tiered GROUP BY tier
"""
PAGE = """
SELECT * FROM tiered
 WHERE ($tier IS NULL OR tier = $tier) AND ($customer IS NULL OR customer_id = $customer)
"""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of all that was bought in the window: what premium customers make up, then with ordinary."""

    premium: Decimal = Decimal("0.8")
    ordinary: Decimal = Decimal("0.95")

    def told(self) -> dict[str, Any]:
        """The parameters as an answer names them."""
        return {"premium_share": str(self.premium), "ordinary_share": str(self.ordinary)}


def tiers(session: Session, shares: Shares) -> list[dict[str, Any]]:
    """Customers by tier: the greatest who make up a share of the amount, the next, the rest.

    Customers of equal amounts are of one tier.
    """
    _prepare(session, shares)
    found = {row["tier"]: row for row in session.rows(SUMS)}
    everybody = sum(row["customers"] for row in found.values())
    return [
        {
            "tier": tier,
            "customers": row["customers"],
            "share_of_customers": ratio(row["customers"], everybody),
            "purchases": row["purchases"],
            "amount": money(row["amount"], session.scope.currency),
            "share_of_amount": _share(row["amount"], row["total"]),
            "without_owner": row["without_owner"],
        }
        for tier in TIERS
        if (row := found.get(tier)) is not None
    ]


def customers(
    session: Session,
    shares: Shares,
    *,
    tier: str | None = None,
    customer: UUID | None = None,
    after: int = 0,
    limit: int = 50,
) -> tuple[list[dict[str, Any]], int | None]:
    """Customers with their tier and their rep, the greatest first; and where the list goes on."""
    _prepare(session, shares)
    wanted = {"tier": tier, "customer": customer and str(customer)}
    rows, more = session.page(PAGE, "rank", after, limit, wanted)
    return [
        {
            "customer_id": UUID(row["customer_id"]),
            "rank": row["rank"],
            "tier": row["tier"],
            "owner": row["owner"],
            "purchases": row["purchases"],
            "amount": money(row["amount"], session.scope.currency),
            "share": _share(row["amount"], row["total"]),
            "cumulative_share": _share(row["reached"], row["total"]),
        }
        for row in rows
    ], more


def _prepare(session: Session, shares: Shares) -> None:
    session.run(EACH, {"premium": shares.premium, "ordinary": shares.ordinary})


def _share(part: Decimal, whole: Decimal) -> float | None:
    return None if whole <= 0 else float((part / whole).quantize(Decimal("0.000001")))
