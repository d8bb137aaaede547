"""What was billed and received: by rep, and period by period, at any moment."""

from __future__ import annotations

from datetime import date
from typing import Literal

from events.values import StoredMoney
from projections.asking.listing import AskedAt, Question
from projections.asking.money import Balance
from projections.asking.rows import fetch
from projections.asking.shape import HeadAt, Shape
from projections.asking.view import View
from projections.dues import kept_at, orders_at
from projections.orders import NEEDS


class AskByPeriod(AskedAt):
    """What may be asked of money by period."""

    period: Literal["day", "week", "month", "quarter", "year"] = "month"


class RepMoney(Shape):
    """Of a rep in a currency; without a rep: money and credit notes that are for no order yet."""

    rep: str | None
    orders: int
    billed: Balance
    received: Balance
    refunded: StoredMoney
    receivable: Balance


class ByRep(HeadAt):
    """Orders and money by rep at a moment."""

    items: list[RepMoney]


class PeriodMoney(Shape):
    """Orders and money of a period in a currency."""

    begins: date
    orders: int
    billed: Balance
    received: StoredMoney
    refunded: StoredMoney


class ByPeriod(HeadAt):
    """Orders and money by period at a moment."""

    period: str
    items: list[PeriodMoney]


BY_REP = """
SELECT nullif(rep, '') AS rep, currency, orders, billed, received, refunded,
       billed - received + refunded AS receivable
  FROM rep_sums WHERE orders > 0 OR billed <> 0 OR received <> 0 OR refunded <> 0
 ORDER BY billed DESC, nullif(rep, '') NULLS LAST, currency
"""
BY_PERIOD = """
WITH o AS ({orders}), moved AS (
    SELECT placed_at AS at, currency, 1 AS orders, billed, 0 AS received, 0 AS refunded
      FROM o WHERE status <> 'cancelled'
    UNION ALL
    SELECT s.occurred_at, s.currency, 0, CASE s.kind WHEN 'credited' THEN -s.amount ELSE 0 END,
           CASE s.kind WHEN 'received' THEN s.amount ELSE 0 END,
           CASE s.kind WHEN 'refunded' THEN s.amount ELSE 0 END
      FROM payment_facts s WHERE s.kind IN ('received', 'credited', 'refunded') AND {facts}
)
SELECT date_trunc(%(period)s, at AT TIME ZONE %(zone)s)::date AS begins, currency,
       sum(orders) AS orders,
       sum(billed) AS billed, sum(received) AS received, sum(refunded) AS refunded
  FROM moved GROUP BY begins, currency ORDER BY begins, currency
"""


def by_rep(view: View, _: AskedAt) -> ByRep:
    """Orders, billed, received and receivable of each rep and currency, the largest first.

    Money counts for the rep of the order that it is allocated to, and so does what a credit note
    takes from what is billed; what is for no order yet stands in a row without a rep.
    """
    sql = f"{kept_at(view.conn, view.when)}{BY_REP}"
    return ByRep.of(view.head_at, items=fetch(view.conn, RepMoney, sql, view.when.values))


def by_period(view: View, asked: AskByPeriod) -> ByPeriod:
    """What was billed, received and refunded in each day, month, quarter or year.

    An order counts in the period of its placing, with what is billed for it at the moment; a credit
    note takes from what is billed in its own.
    """
    sql = BY_PERIOD.format(orders=orders_at(view.when), facts=view.when.counts("s"))
    values = {**view.when.values, "period": asked.period}
    items = fetch(view.conn, PeriodMoney, sql, values)
    return ByPeriod.of(view.head_at, period=asked.period, items=items)


QUESTIONS = (
    Question(
        path="/payments/by-rep",
        name="by_rep",
        tag="payments",
        says="Orders, billed, received and receivable of each rep, the largest first.",
        asks=AskedAt,
        shape=ByRep,
        needs=NEEDS,
        answer=by_rep,
    ),
    Question(
        path="/payments/by-period",
        name="by_period",
        tag="payments",
        says="What was billed, received and refunded, period by period.",
        asks=AskByPeriod,
        shape=ByPeriod,
        needs=NEEDS,
        answer=by_period,
    ),
)
