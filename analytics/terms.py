"""How orders are paid: after how many days, how many late, and days of sales outstanding."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from analytics.facts.asking import Session
from analytics.facts.scope import OfOrders
from analytics.figure import Figure
from analytics.purchases import ratio
from analytics.receipts import MONEY_OF_ORDERS, TABLES, moved
from projections.asking.listing import Paged
from projections.asking.money import Balance, balance
from projections.asking.shape import Shape

ORDERS = f"""
, paid AS (
    SELECT order_id, business_day(occurred_at) AS day, position,
           sum(CASE kind WHEN 'refunded' THEN -amount ELSE amount END)
               OVER (PARTITION BY order_id ORDER BY business_day(occurred_at), position) AS so_far
      FROM ({MONEY_OF_ORDERS})
), met AS (
    SELECT paid.order_id, arg_max(so_far, (paid.day, paid.position)) AS paid,
           max(paid.day) FILTER (so_far >= amount AND before < amount) AS day
      FROM (SELECT *, lag(so_far, 1, 0) OVER turns AS before FROM paid
            WINDOW turns AS (PARTITION BY order_id ORDER BY day, position)) paid
      JOIN billed USING (order_id)
     GROUP BY paid.order_id
), each AS (
    SELECT billed.order_id, billed.position, billed.day AS placed, billed.amount, last.due,
           coalesce(met.paid, 0) AS paid,
           CASE WHEN met.paid >= billed.amount THEN met.day END AS settled,
           coalesce(settled, $today) > last.due AS is_late
      FROM billed LEFT JOIN met USING (order_id)
      JOIN (SELECT order_id, max(due) AS due FROM parts GROUP BY order_id) last USING (order_id)
     WHERE billed.amount > 0
)
"""
"""An order is settled on the day from which on it was paid what is billed for it, credit notes
included; late when that is after the day on which its last part is due."""
ALL = """
SELECT count(*) FILTER (in_window(settled)) AS settled,
       sum(settled - placed) FILTER (in_window(settled))::BIGINT AS days,
       median(settled - placed) FILTER (in_window(settled)) AS middle,
       count(*) FILTER (in_window(due)) AS due,
       count(*) FILTER (in_window(due) AND is_late) AS late,
       coalesce(sum(amount) FILTER (in_window(placed)), 0) AS billed,
       coalesce(sum(amount - paid), 0) AS receivable, min(placed) AS first
  FROM each
"""
LATE = "SELECT *, coalesce(settled, $today) - due AS days_late FROM each WHERE is_late"


class AskLateOrders(OfOrders, Paged):
    """What may be asked of late orders; the window is of the days on which they were due."""


class TermsShape(Shape):
    """How orders are paid: those settled in the window, and those that were due in it."""

    settled: int
    days_to_pay_mean: float | None
    days_to_pay_median: float | None
    due: int
    late: int
    late_rate: float | None
    billed: Balance | None
    receivable: Balance | None
    days: int
    days_outstanding: float | None


class LateOrder(Shape):
    """An order that was not paid in full by the day on which its last part was due."""

    id: UUID
    position: int
    placed: date
    due: date
    settled: date | None
    days_late: int
    billed: Balance | None
    paid: Balance | None


def terms(session: Session[OfOrders], _: OfOrders) -> TermsShape:
    """After how many days orders are paid, how many are late, and days of sales outstanding.

    ``days_outstanding`` is what orders still owe at the moment, over what was billed in the window,
    times the days of the window, which ends at the moment at the latest.

    Raises:
        Unanswerable: when amounts would be of several currencies.
    """
    today, scope = session.when.today, session.scope
    row = session.row(moved(session) + ORDERS + ALL, {"today": today})
    start, end = scope.start or row["first"] or today, scope.end or today + timedelta(days=1)
    days = max((min(end, today + timedelta(days=1)) - start).days, 0)
    currency = session.scope.currency
    return TermsShape.of(
        settled=row["settled"],
        days_to_pay_mean=ratio(row["days"], row["settled"]),
        days_to_pay_median=None if row["middle"] is None else float(row["middle"]),
        due=row["due"],
        late=row["late"],
        late_rate=ratio(row["late"], row["due"]),
        billed=balance(row["billed"], currency),
        receivable=balance(row["receivable"], currency),
        days=days,
        days_outstanding=(
            ratio(Decimal(row["receivable"]) * days, row["billed"]) if row["billed"] else None
        ),
    )


def late(session: Session[OfOrders], asked: AskLateOrders) -> tuple[list[LateOrder], str | None]:
    """The orders behind the late ones, by the position of their placing.

    Raises:
        Unanswerable: when amounts would be of several currencies.
    """
    query = f"{moved(session)}{ORDERS}{LATE} AND in_window(due)"
    rows, more = session.page(query, "position", asked, {"today": session.when.today})
    currency = session.scope.currency
    return [
        LateOrder.of(
            id=UUID(row["order_id"]),
            position=row["position"],
            placed=row["placed"],
            due=row["due"],
            settled=row["settled"],
            days_late=row["days_late"],
            billed=balance(row["amount"], currency),
            paid=balance(row["paid"], currency),
        )
        for row in rows
    ], more


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="receipts/terms",
        operation="payment_terms",
        says="How orders are paid: days to pay, late orders, days of sales outstanding.",
        asks=OfOrders,
        row=TermsShape,
        answer=terms,
        tables=TABLES,
        is_one=True,
    ),
    Figure(
        name="receipts/terms/late",
        operation="late_orders",
        says="Orders that were not paid in full by the day on which their last part was due.",
        asks=AskLateOrders,
        row=LateOrder,
        answer=late,
        tables=TABLES,
    ),
)
