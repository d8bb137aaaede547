"""Who buys, who comes back, and when: figures over purchases.

An empty denominator gives None, never 0. Rates are fractions of 1; times are in days, between the
business days of purchases; both are rounded to six digits after the point.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from typing import Any
from uuid import UUID

from analytics.asking import Session
from projections.asking import money

SIX = Decimal("0.000001")

CUSTOMERS = """
WITH each AS (
    SELECT customer_id,
           count(*) AS ever,
           count(*) FILTER (in_window) AS inside,
           coalesce(sum(amount) FILTER (in_window), 0) AS spent,
           sum(amount) AS spent_ever,
           coalesce(min(day) = min(day) FILTER (in_window), false) AS is_recruited,
           coalesce(bool_or(day < $start), false) AS is_old
      FROM bought GROUP BY customer_id
)
SELECT count(*) AS customers_ever,
       count(*) FILTER (ever = 1) AS new,
       count(*) FILTER (ever > 1) AS returning,
       count(*) FILTER (inside > 0) AS purchasing,
       count(*) FILTER (inside > 1) AS repeat,
       count(*) FILTER (is_recruited) AS recruited,
       count(*) FILTER (is_old) AS old,
       count(*) FILTER (is_old AND inside > 0) AS repurchasing,
       coalesce(sum(inside), 0)::BIGINT AS purchases,
       coalesce(sum(spent), 0) AS amount,
       coalesce(sum(ever), 0)::BIGINT AS purchases_ever,
       coalesce(sum(spent_ever), 0) AS amount_ever
  FROM each
"""
ALL = "SELECT customer_id, NULL AS product, day, position FROM bought WHERE in_window"
BY_PRODUCT = """
SELECT customer_id, product, day, min(kept.position) AS position
  FROM kept JOIN purchase_lines USING (order_id)
 WHERE in_window GROUP BY customer_id, product, day{apart}
"""
GAPS = """
WITH ranked AS (
    SELECT *, day - lag(day) OVER turns AS gap, row_number() OVER turns AS turn
      FROM ({of}) WINDOW turns AS (PARTITION BY customer_id, product ORDER BY day, position)
), each AS (
    SELECT product, sum(gap) AS days, count(gap) AS gaps, sum(gap) FILTER (turn = 2) AS first
      FROM ranked GROUP BY customer_id, product HAVING count(gap) > 0
)
SELECT {product}count(*) AS customers,
       coalesce(sum(gaps), 0)::BIGINT AS gaps,
       sum(days)::BIGINT AS days,
       sum(first)::BIGINT AS first_days,
       sum((days / gaps)::DECIMAL(18, 9)) AS means
  FROM each
"""
COHORTS = """
WITH first AS (
    SELECT customer_id, date_trunc('month', min(day))::DATE AS cohort FROM bought GROUP BY 1
), active AS (
    SELECT cohort, datediff('month', cohort, day) AS month, customer_id, amount
      FROM bought JOIN first USING (customer_id)
     WHERE in_window
)
SELECT cohort, month, count(DISTINCT customer_id) AS customers, count(*) AS purchases,
       sum(amount) AS amount
  FROM active GROUP BY cohort, month ORDER BY cohort, month
"""
SIZES = """
SELECT cohort, count(*) AS size FROM (
    SELECT date_trunc('month', min(day))::DATE AS cohort FROM bought GROUP BY customer_id
) GROUP BY cohort ORDER BY cohort
"""
EVIDENCE = """
SELECT customer_id, day, amount, n AS orders, position, in_window
  FROM bought
 WHERE ($customer IS NULL OR customer_id = $customer) AND position > $after
 ORDER BY position LIMIT $limit
"""


def customers(session: Session) -> dict[str, Any]:
    """New, returning, repeat, recruited and repurchasing customers, both average order values.

    ``*_ever`` counts everything up to the moment, the rest the window; without a first day there is
    nobody who bought before the window.
    """
    found = session.row(CUSTOMERS, {"start": session.scope.start})
    shown = _money(session)
    amount = found.pop("amount")
    ever = found.pop("amount_ever")
    return {
        **found,
        "repeat_rate": ratio(found["repeat"], found["purchasing"]),
        "repurchase_rate": ratio(found["repurchasing"], found["old"]),
        "amount": shown(amount),
        "amount_ever": shown(ever),
        "amount_per_purchase": shown(_share(amount, found["purchases"])),
        "amount_per_customer": shown(_share(amount, found["purchasing"])),
    }


def repurchase(session: Session) -> dict[str, Any]:
    """The cycles of those who bought several times inside the window.

    ``mean_gap`` is over all gaps, ``mean_of_means`` over customers, each of whom counts once;
    ``first_gap`` is the mean from the first to the second purchase. A product's gaps are between
    purchases of the same product by the same customer.
    """
    found = session.row(GAPS.format(of=ALL, product=""))
    apart = "" if session.scope.merge_by_day else ", order_id"
    lines = BY_PRODUCT.format(apart=apart)
    products = session.rows(f"{GAPS.format(of=lines, product='product, ')} GROUP BY 1 ORDER BY 1")
    buyers = found["customers"]
    return {
        "customers": buyers,
        "gaps": found["gaps"],
        "mean_gap": ratio(found["days"], found["gaps"]),
        "mean_of_means": ratio(found["means"], buyers),
        "first_gap": ratio(found["first_days"], buyers),
        "products": [
            {
                "product": row["product"],
                "customers": row["customers"],
                "gaps": row["gaps"],
                "mean_gap": ratio(row["days"], row["gaps"]),
            }
            for row in products
        ],
    }


def cohorts(session: Session) -> list[dict[str, Any]]:
    """Customers by the month of their first purchase, in each month after it in which any bought.

    ``retention`` is the share of the cohort's ``size`` that bought in that month.
    """
    shown = _money(session)
    sizes = {row["cohort"]: row["size"] for row in session.rows(SIZES)}
    return [
        {
            "cohort": row["cohort"],
            "size": sizes[row["cohort"]],
            "month": row["month"],
            "customers": row["customers"],
            "retention": ratio(row["customers"], sizes[row["cohort"]]),
            "purchases": row["purchases"],
            "amount": shown(row["amount"]),
        }
        for row in session.rows(COHORTS)
    ]


def evidence(
    session: Session, customer: UUID | None, after: int, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """The purchases that figures rest on, by position; and where the list goes on."""
    shown = _money(session)
    values = {"customer": customer and str(customer), "after": after, "limit": limit + 1}
    rows = session.rows(EVIDENCE, values)
    for row in rows:
        row["amount"] = shown(row["amount"])
        row["customer_id"] = UUID(row["customer_id"])
    more = rows[limit - 1]["position"] if len(rows) > limit else None
    return rows[:limit], more


def ratio(part: Decimal | int | None, whole: int | None) -> float | None:
    """A share or a mean; None of nothing."""
    if part is None or not whole:
        return None
    return float((Decimal(part) / whole).quantize(SIX, ROUND_HALF_UP))


def _share(amount: Decimal, number: int) -> Decimal | None:
    return amount / number if number else None


def _money(session: Session) -> Callable[[Decimal | None], dict[str, Any] | None]:
    return partial(money, currency=session.scope.currency)
