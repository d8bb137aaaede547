"""What came in beside what was to come in, month by month."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

from analytics.asking import Scope, Session, customers_of, day_of, settle_currency, text
from analytics.grouping import month
from projections.asking import Unanswerable, money

TABLES = (
    *("purchases", "purchase_changes", "purchase_lines"),
    *("instalments", "credits", "receipts", "accounts", "tags"),
)

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
    SELECT {received_month}, -amount, 0, 0 FROM credits WHERE {credits}
    UNION ALL
    SELECT {received_month}, 0,
           CASE kind WHEN 'received' THEN amount WHEN 'allocated' THEN amount
                     WHEN 'released' THEN -amount ELSE 0 END,
           CASE kind WHEN 'refunded' THEN amount ELSE 0 END
      FROM {money}
)
SELECT month, sum(due) AS due, sum(received) AS received, sum(refunded) AS refunded
  FROM moved GROUP BY month ORDER BY month
"""
ALL_MONEY = "receipts WHERE {same}"
OF_ORDERS = """
(SELECT c.* FROM purchase_changes c JOIN billed USING (order_id)
  WHERE c.kind IN ('allocated', 'released', 'refunded'))
"""
ZERO = Decimal(0)


def receipts(session: Session) -> list[dict[str, Any]]:
    """By month: what payment plans say is due, and what came in.

    What is billed beyond a plan is due with its last part, without a plan on the order's own day; a
    cancelled order is due no more, what was returned shortens a plan from its end, and a credit
    note takes from what is due in its month. ``behind`` is all that was due up to the month's end
    less all that came in. Money that came in is that of all payments; where orders are chosen, what
    was allocated to these.

    Raises:
        Unanswerable: when amounts would be of several currencies, or the window cuts a month.
    """
    settle_currency(session, "purchases", "receipts", "credits")
    scope = session.scope
    for field, at in (("from", scope.start), ("to", scope.end)):
        if at is not None and at.day != 1:
            raise Unanswerable(field, "must be the first day of a month")
    query = _query(scope)
    found = {row["month"]: row for row in session.rows(query)}
    behind, shown = ZERO, []
    for name in _months(list(found), scope):
        row = found.get(name, {})
        due, received, refunded = (
            Decimal(row.get(column, 0)) for column in ("due", "received", "refunded")
        )
        behind += due - received + refunded
        if scope.start is None or name >= f"{scope.start:%Y-%m}":
            shown.append(
                {
                    "month": name,
                    "due": money(due, scope.currency),
                    "received": money(received, scope.currency),
                    "refunded": money(refunded, scope.currency),
                    "behind": money(behind, scope.currency),
                }
            )
    return shown


def _query(scope: Scope) -> str:
    chosen = [f"customer_id IN ({customers})" for customers in customers_of(scope)]
    if scope.owner is not None:
        chosen.append(f"owner = {text(scope.owner)}")
    if scope.product is not None:
        lines = f"SELECT order_id FROM purchase_lines WHERE product = {text(scope.product)}"
        chosen.append(f"order_id IN ({lines})")
    is_all = not chosen
    currency = None if scope.currency is None else text(scope.currency)
    orders = [*chosen, "true" if currency is None else f"p.currency = {currency}"]
    same = "true" if currency is None else f"currency = {currency}"
    return MONTHS.format(
        placed=day_of(scope.zone, "p.occurred_at"),
        orders=" AND ".join(orders),
        due_month=month("due"),
        received_month=month(day_of(scope.zone)),
        credits=same if is_all else "false",
        money=ALL_MONEY.format(same=same) if is_all else OF_ORDERS,
    )


def _months(known: list[str], scope: Scope) -> Iterator[str]:
    """Every month from the first one that is known, or asked for, up to the last."""
    if not known:
        return
    first, last = date.fromisoformat(f"{known[0]}-01"), date.fromisoformat(f"{known[-1]}-01")
    number = first.year * 12 + first.month - 1
    until = last.year * 12 + last.month
    if scope.end is not None:
        until = scope.end.year * 12 + scope.end.month - 1
    for at in range(number, until):
        yield f"{at // 12:04}-{at % 12 + 1:02}"
