"""What came in beside what was to come in, month by month."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from analytics.facts.asking import OF_ORDERS, Session, conditions, of_customers, settle_currency
from analytics.facts.scope import Month, OfOrders
from analytics.figure import Chart, Figure
from analytics.grouping import month
from projections.asking.clocks import Unanswerable
from projections.asking.listing import Paged
from projections.asking.money import Balance, balance
from projections.asking.shape import Shape

TABLES = (
    *("purchases", "purchase_changes", "purchase_lines"),
    *("instalments", "credits", "receipts", "accounts", "tags"),
)

MOVED = """
WITH billed AS (
    SELECT order_id, any_value(p.position) AS position,
           business_day(p.occurred_at) AS day,
           CASE WHEN coalesce(bool_or(c.kind = 'cancelled'), false) THEN 0
                ELSE any_value(p.amount) + coalesce(sum(CASE c.kind
                    WHEN 'line-added' THEN c.amount WHEN 'returned' THEN -c.amount END), 0)
           END AS amount
      FROM purchases p LEFT JOIN purchase_changes c USING (order_id)
     WHERE fits(p.currency, asked().currency) AND {orders} GROUP BY order_id, p.occurred_at
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
    SELECT parts.order_id, number, billed.position, due, billed.amount AS most, parts.amount,
           sum(parts.amount) OVER (PARTITION BY parts.order_id ORDER BY due, number) AS until
      FROM parts JOIN billed USING (order_id)
), moved AS (
    SELECT due AS day, position, order_id, NULL AS payment_id, number, 'due' AS kind,
           greatest(least(until, most) - least(until - amount, most), 0) AS due,
           0 AS received, 0 AS refunded
      FROM places
    UNION ALL
    -- As of a day that lies between a return and the line that came back, less than nothing.
    SELECT day, position, order_id, NULL, 1000001, 'due', amount, 0, 0 FROM billed WHERE amount < 0
    UNION ALL
    SELECT business_day(occurred_at), position, NULL, payment_id, 0, 'credited', -amount, 0, 0
      FROM credits
     WHERE fits(currency, asked().currency) AND happened(occurred_at) AND {credits}
    UNION ALL
    SELECT business_day(occurred_at), position, order_id, payment_id, 0, kind,
           CASE WHEN is_note AND kind <> 'refunded' THEN -amount ELSE 0 END,
           CASE WHEN is_note OR kind = 'refunded' THEN 0 ELSE amount END,
           CASE kind WHEN 'refunded' THEN amount ELSE 0 END
      FROM ({money})
)
"""
MONTHS = """
SELECT {month} AS month, sum(due) AS due, sum(received) AS received, sum(refunded) AS refunded
  FROM moved GROUP BY 1 ORDER BY 1
"""
EACH = """
SELECT *, row_number() OVER (ORDER BY day, position, number, kind) AS place
  FROM moved WHERE {month} = $month AND (due <> 0 OR received <> 0 OR refunded <> 0)
"""
ALL_MONEY = """
SELECT position, occurred_at, NULL AS order_id, payment_id, kind, amount, false AS is_note
  FROM receipts WHERE fits(currency, asked().currency)
"""
MONEY_OF_ORDERS = """
SELECT c.position, c.occurred_at, c.order_id, c.payment_id, c.kind,
       CASE kind WHEN 'released' THEN -c.amount ELSE c.amount END AS amount,
       c.payment_id IN (SELECT payment_id FROM credits) AS is_note
  FROM purchase_changes c JOIN billed USING (order_id)
 WHERE c.kind IN ('allocated', 'released', 'refunded') AND fits(c.currency, asked().currency)
"""
WITHOUT_NOTES = f"SELECT * FROM ({MONEY_OF_ORDERS}) WHERE kind = 'refunded' OR NOT is_note"
ZERO = Decimal(0)


class AskMoves(OfOrders, Paged):
    """What may be asked of what a month's receipts are made of."""

    month: Month


class ReceiptsMonth(Shape):
    """What was due in a month, and what came in."""

    month: str
    due: Balance | None
    received: Balance | None
    refunded: Balance | None
    behind: Balance | None


class MoneyMove(Shape):
    """An amount that fell due, came in or went back; its position leads into the audit."""

    day: date
    kind: str
    order_id: UUID | None
    payment_id: UUID | None
    position: int
    due: Balance | None
    received: Balance | None
    refunded: Balance | None


def receipts(session: Session[OfOrders], _: OfOrders) -> list[ReceiptsMonth]:
    """By month: what payment plans say is due, and what came in.

    What is billed beyond a plan is due with its last part, without a plan on the order's own day; a
    cancelled order is due no more, what was returned shortens a plan from its end, and a credit
    note takes from what is due in its month. ``behind`` is all that was due up to the month's end
    less all that came in. Money that came in is that of all payments; where orders are chosen, what
    was allocated to these, and where they are chosen by rep or product, credit notes likewise.

    Raises:
        Unanswerable: when amounts would be of several currencies, or the window cuts a month.
    """
    query = moved(session) + MONTHS.format(month=month("day"))
    scope = session.scope
    for field, at in (("from", scope.start), ("to", scope.end)):
        if at is not None and at.day != 1:
            raise Unanswerable(field, "must be the first day of a month")
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
                ReceiptsMonth.of(
                    month=name,
                    due=balance(due, scope.currency),
                    received=balance(received, scope.currency),
                    refunded=balance(refunded, scope.currency),
                    behind=balance(behind, scope.currency),
                )
            )
    return shown


def moves(session: Session[OfOrders], asked: AskMoves) -> tuple[list[MoneyMove], str | None]:
    """What was due, came in or went back in a month, by day.

    Raises:
        Unanswerable: when amounts would be of several currencies.
    """
    query = moved(session) + EACH.format(month=month("day"))
    rows, more = session.page(query, "place", asked, {"month": asked.month[:7]})
    currency = session.scope.currency
    return [
        MoneyMove.of(
            day=row["day"],
            kind=row["kind"],
            order_id=row["order_id"] and UUID(row["order_id"]),
            payment_id=row["payment_id"] and UUID(row["payment_id"]),
            position=row["position"],
            **{name: balance(row[name], currency) for name in ("due", "received", "refunded")},
        )
        for row in rows
    ], more


def moved(session: Session[OfOrders]) -> str:
    """What a query begins with: every amount that was due, came in or went back, with its day.

    Raises:
        Unanswerable: when amounts would be of several currencies.
    """
    settle_currency(session, "purchases", "receipts", "credits")
    customers, orders = of_customers(session.scope), conditions(OF_ORDERS, session.scope)
    # A credit note is its customer's, of one rep or product only as far as an order got it.
    money = MONEY_OF_ORDERS if orders else WITHOUT_NOTES if customers else ALL_MONEY
    return MOVED.format(
        orders=" AND ".join(["true", *customers, *orders]),
        credits="false" if orders else " AND ".join(["true", *customers]),
        money=money,
    )


def _months(known: list[str], scope: OfOrders) -> Iterator[str]:
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


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="receipts",
        operation="receipt_months",
        says="Month by month: what was due, what came in, and how far behind that is.",
        asks=OfOrders,
        row=ReceiptsMonth,
        answer=receipts,
        tables=TABLES,
        chart=Chart("month", ("due.amount", "received.amount")),
    ),
    Figure(
        name="receipts/moves",
        operation="moves",
        says="What a month's receipts are made of: what fell due, came in, went back.",
        asks=AskMoves,
        row=MoneyMove,
        answer=moves,
        tables=TABLES,
        is_ranked=True,
    ),
)
