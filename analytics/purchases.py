"""Who buys, who comes back, and when: figures over purchases.

An empty denominator gives None, never 0. Rates are fractions of 1; times are in days, between the
business days of purchases; both are rounded to six digits after the point.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from typing import Any, Literal
from uuid import UUID

from analytics.facts.asking import Session
from projections.asking.money import money

SIX = Decimal("0.000001")

EACH = """
SELECT customer_id,
       count(*) AS ever,
       count(*) FILTER (in_window) AS inside,
       coalesce(sum(amount) FILTER (in_window), 0) AS spent,
       sum(amount) AS spent_ever,
       min(day) AS first_day,
       max(day) AS last_day,
       coalesce(min(day) = min(day) FILTER (in_window), false) AS is_recruited,
       coalesce(bool_or(day < $start), false) AS is_old
  FROM bought GROUP BY customer_id
"""
Kind = Literal["new", "returning", "purchasing", "repeat", "recruited", "old", "repurchasing"]
KINDS: dict[Kind, str] = {
    "new": "ever = 1",
    "returning": "ever > 1",
    "purchasing": "inside > 0",
    "repeat": "inside > 1",
    "recruited": "is_recruited",
    "old": "is_old",
    "repurchasing": "is_old AND inside > 0",
}
CUSTOMERS = f"""
SELECT count(*) AS customers_ever,
       {", ".join(f"count(*) FILTER ({which}) AS {kind}" for kind, which in KINDS.items())},
       coalesce(sum(inside), 0)::BIGINT AS purchases,
       coalesce(sum(spent), 0) AS amount,
       coalesce(sum(ever), 0)::BIGINT AS purchases_ever,
       coalesce(sum(spent_ever), 0) AS amount_ever
  FROM ({EACH})
"""
INSIDE = """
CREATE TEMP TABLE inside AS
SELECT customer_id::UUID AS customer_id, day, position FROM kept WHERE in_window
"""
"""Read once, asked twice; a UUID takes less than half the memory of its text."""
CYCLES = """
WITH each AS (
    SELECT count({turns}) AS turns, max(day) - min(day) AS days,
           min({turns}, 2)[2] - min(day) AS first
      FROM inside GROUP BY customer_id HAVING count({turns}) > 1
)
SELECT count(*) AS customers,
       coalesce(sum(turns - 1), 0)::BIGINT AS gaps,
       sum(days)::BIGINT AS days,
       sum(first)::BIGINT AS first_days,
       sum((days / (turns - 1))::DECIMAL(18, 9)) AS means
  FROM each
"""
"""Gaps from one purchase to the next add up to the time from the first to the last."""
PRODUCT_CYCLES = """
WITH of_order AS (
    SELECT position, product FROM purchase_lines
     UNION
    SELECT purchases.position, product
      FROM purchase_lines JOIN purchases USING (order_id)
     WHERE purchase_lines.position IN (
           SELECT position FROM purchase_changes WHERE kind = 'line-added')
), each AS (
    SELECT product, count({turns}) AS turns, max(day) - min(day) AS days
      FROM of_order JOIN inside USING (position)
     GROUP BY customer_id, product HAVING count({turns}) > 1
)
SELECT product, count(*) AS customers, sum(turns - 1)::BIGINT AS gaps, sum(days)::BIGINT AS days
  FROM each GROUP BY product ORDER BY product
"""
"""A line is of the order with its position, for an order comes with its lines, unless added."""
GAPS = """
SELECT customer_id::VARCHAR AS customer_id, count({turns}) AS purchases,
       max(day) - min(day) AS days, min({turns}, 2)[2] - min(day) AS first_gap
  FROM inside GROUP BY customer_id HAVING count({turns}) > 1
"""
MONTHS = """
CREATE TEMP TABLE months AS
SELECT customer_id::UUID AS customer_id, date_trunc('month', day)::DATE AS month,
       count(*) FILTER (in_window) AS purchases, sum(amount) FILTER (in_window) AS amount
  FROM bought GROUP BY ALL
"""
COHORTS = """
WITH first AS (SELECT customer_id, min(month) AS cohort FROM months GROUP BY customer_id),
     sizes AS (SELECT cohort, count(*) AS size FROM first GROUP BY cohort)
SELECT cohort, size, datediff('month', cohort, month) AS month, count(*) AS customers,
       sum(purchases)::BIGINT AS purchases, sum(amount) AS amount
  FROM months JOIN first USING (customer_id) JOIN sizes USING (cohort)
 WHERE purchases > 0 GROUP BY ALL ORDER BY ALL
"""
COHORT = """
SELECT customer_id::VARCHAR AS customer_id, sum(purchases)::BIGINT AS purchases,
       sum(amount) AS amount
  FROM months JOIN (
       SELECT customer_id, min(month) AS cohort FROM months GROUP BY customer_id
  ) USING (customer_id)
 WHERE cohort = $cohort AND ($month IS NULL OR datediff('month', cohort, month) = $month)
 GROUP BY customer_id HAVING $month IS NULL OR sum(purchases) > 0
"""
EVIDENCE = """
SELECT customer_id, day, amount, n AS orders, position, in_window
  FROM bought WHERE $customer IS NULL OR customer_id = $customer
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
    turns = "DISTINCT day" if session.scope.merge_by_day else "day"
    session.run(INSIDE)
    found = session.row(CYCLES.format(turns=turns))
    products = session.rows(PRODUCT_CYCLES.format(turns=turns))
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
    session.run(MONTHS)
    return [
        {
            "cohort": row["cohort"],
            "size": row["size"],
            "month": row["month"],
            "customers": row["customers"],
            "retention": ratio(row["customers"], row["size"]),
            "purchases": row["purchases"],
            "amount": shown(row["amount"]),
        }
        for row in session.rows(COHORTS)
    ]


def buyers(
    session: Session, kind: Kind | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """The customers of one kind, by id, with their purchases in the window and ever."""
    shown = _money(session)
    which = "true" if kind is None else KINDS[kind]
    rows, more = session.page(
        f"SELECT * FROM ({EACH}) WHERE {which}",
        "customer_id",
        after,
        limit,
        {"start": session.scope.start},
    )
    return [
        {
            "customer_id": UUID(row["customer_id"]),
            "purchases": row["inside"],
            "amount": shown(row["spent"]),
            "purchases_ever": row["ever"],
            "amount_ever": shown(row["spent_ever"]),
            "first_day": row["first_day"],
            "last_day": row["last_day"],
        }
        for row in rows
    ], more


def repeaters(
    session: Session, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """The customers behind the cycles, by id, each with its own gaps."""
    session.run(INSIDE)
    turns = "DISTINCT day" if session.scope.merge_by_day else "day"
    rows, more = session.page(GAPS.format(turns=turns), "customer_id", after, limit)
    return [
        {
            "customer_id": UUID(row["customer_id"]),
            "purchases": row["purchases"],
            "gaps": row["purchases"] - 1,
            "mean_gap": ratio(row["days"], row["purchases"] - 1),
            "first_gap": row["first_gap"],
        }
        for row in rows
    ], more


def cohort(
    session: Session, first: date, month: int | None, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """The customers of a cohort, by id: all of them, or those who bought in its so many-th month.

    Args:
        first: the first day of the month of their first purchase.
    """
    shown = _money(session)
    session.run(MONTHS)
    rows, more = session.page(
        COHORT, "customer_id", after, limit, {"cohort": first, "month": month}
    )
    return [
        {
            "customer_id": UUID(row["customer_id"]),
            "purchases": row["purchases"],
            "amount": shown(row["amount"] or Decimal(0)),
        }
        for row in rows
    ], more


def evidence(
    session: Session, customer: UUID | None, after: int, limit: int
) -> tuple[list[dict[str, Any]], int | None]:
    """The purchases that figures rest on, by position; and where the list goes on."""
    shown = _money(session)
    rows, more = session.page(
        EVIDENCE, "position", after, limit, {"customer": customer and str(customer)}
    )
    for row in rows:
        row["amount"] = shown(row["amount"])
        row["customer_id"] = UUID(row["customer_id"])
    return rows, more


def ratio(part: Decimal | int | None, whole: int | None) -> float | None:
    """A share or a mean; None of nothing."""
    if part is None or not whole:
        return None
    return float((Decimal(part) / whole).quantize(SIX, ROUND_HALF_UP))


def _share(amount: Decimal, number: int) -> Decimal | None:
    return amount / number if number else None


def _money(session: Session) -> Callable[[Decimal | None], dict[str, Any] | None]:
    return partial(money, currency=session.scope.currency)
