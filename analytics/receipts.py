"""What came in beside what was to come in, month by month."""

from __future__ import annotations

from decimal import Decimal
from itertools import accumulate
from typing import Any

from analytics.asking import Session, customers_of, day_of, settle_currency, text
from analytics.grouping import month
from projections.asking import money

TABLES = ("purchases", "purchase_changes", "instalments", "receipts", "accounts")

MONTHS = """
WITH billed AS (
    SELECT order_id, {placed} AS day,
           CASE WHEN coalesce(bool_or(c.kind = 'cancelled'), false) THEN 0
                ELSE any_value(p.amount) + coalesce(sum(CASE c.kind
                    WHEN 'line-added' THEN c.amount WHEN 'returned' THEN -c.amount END), 0)
           END AS amount
      FROM purchases p LEFT JOIN purchase_changes c USING (order_id)
     WHERE {orders} GROUP BY order_id, p.occurred_at
), plan AS (
    SELECT order_id, number, due, amount FROM instalments
    QUALIFY position = max(position) OVER (PARTITION BY order_id)
), parts AS (
    SELECT order_id, number, due, plan.amount FROM plan JOIN billed USING (order_id)
    UNION ALL
    SELECT order_id, 1000000, coalesce(max(due), any_value(day)),
           any_value(billed.amount) - coalesce(sum(plan.amount), 0)
      FROM billed LEFT JOIN plan USING (order_id) GROUP BY order_id
    HAVING any_value(billed.amount) > coalesce(sum(plan.amount), 0)
), places AS (
    SELECT parts.order_id, due, billed.amount AS most, parts.amount,
           sum(parts.amount) OVER (PARTITION BY parts.order_id ORDER BY due, number) AS until
      FROM parts JOIN billed USING (order_id)
), moved AS (
    SELECT {due_month} AS month,
           greatest(least(until, most) - least(until - amount, most), 0) AS due,
           0 AS received, 0 AS refunded
      FROM places
    UNION ALL
    SELECT {received_month}, 0, CASE kind WHEN 'received' THEN amount ELSE 0 END,
           CASE kind WHEN 'refunded' THEN amount ELSE 0 END
      FROM receipts WHERE {receipts}
)
SELECT month, sum(due) AS due, sum(received) AS received, sum(refunded) AS refunded
  FROM moved GROUP BY month HAVING sum(due) <> 0 OR sum(received) <> 0 OR sum(refunded) <> 0
 ORDER BY month
"""


def receipts(session: Session) -> list[dict[str, Any]]:
    """By month: what payment plans say is due, and what came in.

    What is billed beyond a plan is due with its last part, without a plan on the order's own day; a
    cancelled order is due no more, and what was returned shortens a plan from its end. ``behind``
    is all that was due up to the month's end less all that came in. The months of the window are
    shown; sums begin with the first month there is.
    """
    settle_currency(session, "receipts")
    settle_currency(session, "purchases")
    scope = session.scope
    same = "true" if scope.currency is None else f"currency = {text(scope.currency)}"
    orders = [same.replace("currency", "p.currency")]
    if scope.owner is not None:
        orders.append(f"owner = {text(scope.owner)}")
    orders += [f"customer_id IN ({customers})" for customers in customers_of(scope)]
    query = MONTHS.format(
        placed=day_of(scope.zone, "p.occurred_at"),
        orders=" AND ".join(orders),
        due_month=month("due"),
        received_month=month(day_of(scope.zone)),
        receipts=same,
    )
    rows = session.rows(query)
    behind = accumulate(
        Decimal(row["due"]) - Decimal(row["received"]) + Decimal(row["refunded"]) for row in rows
    )
    first = scope.start and f"{scope.start:%Y-%m}"
    last = scope.end and f"{scope.end:%Y-%m}"
    return [
        {
            "month": row["month"],
            "due": money(Decimal(row["due"]), scope.currency),
            "received": money(Decimal(row["received"]), scope.currency),
            "refunded": money(Decimal(row["refunded"]), scope.currency),
            "behind": money(sum_, scope.currency),
        }
        for row, sum_ in zip(rows, behind, strict=True)
        if (first is None or row["month"] >= first) and (last is None or row["month"] < last)
    ]
