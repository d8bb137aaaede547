"""What was billed and received: by rep, and period by period, at any moment."""

from __future__ import annotations

from datetime import date
from typing import Literal

from events.values import Money
from projections.asking.clocks import time_zone
from projections.asking.listing import AskedAt, Question
from projections.asking.money import Balance
from projections.asking.rows import fetch
from projections.asking.shape import HeadAt, Shape
from projections.asking.view import View
from projections.dues import orders_at
from projections.orders import NEEDS
from projections.receivables import MONEY, NOTES


class AskByPeriod(AskedAt):
    """What may be asked of money by period."""

    period: Literal["day", "week", "month", "quarter", "year"] = "month"


class RepMoney(Shape):
    """Of a rep in a currency; without a rep: money and credit notes that are for no order yet."""

    rep: str | None
    orders: int
    billed: Balance
    received: Balance
    refunded: Money
    receivable: Balance


class ByRep(HeadAt):
    """Orders and money by rep at a moment."""

    items: list[RepMoney]


class PeriodMoney(Shape):
    """Orders and money of a period in a currency."""

    begins: date
    orders: int
    billed: Balance
    received: Money
    refunded: Money


class ByPeriod(HeadAt):
    """Orders and money by period at a moment."""

    period: str
    items: list[PeriodMoney]


BY_REP = """
WITH o AS ({orders}), f AS (
    SELECT s.* FROM payment_facts s WHERE {facts}
), moved AS (
    SELECT owner, currency, 1 AS orders, billed, 0 AS received, 0 AS refunded
      FROM o WHERE status <> 'cancelled'
    UNION ALL
    SELECT o.owner, f.currency, 0, -{notes}, {money}, 0 FROM f LEFT JOIN o USING (order_id)
     WHERE f.kind = 'allocated'
    UNION ALL
    SELECT NULL, currency, 0, {notes}, -{money}, 0 FROM f WHERE kind = 'allocated'
    UNION ALL
    SELECT NULL, currency, 0, 0, amount, 0 FROM f WHERE kind = 'received'
    UNION ALL
    SELECT NULL, currency, 0, -amount, 0, 0 FROM f WHERE kind = 'credited'
    UNION ALL
    SELECT o.owner, f.currency, 0, 0, 0, f.amount FROM f LEFT JOIN o USING (order_id)
     WHERE f.kind = 'refunded'
)
SELECT owner AS rep, currency, sum(orders) AS orders, sum(billed) AS billed,
       sum(received) AS received, sum(refunded) AS refunded,
       sum(billed) - sum(received) + sum(refunded) AS receivable
  FROM moved GROUP BY owner, currency
HAVING sum(orders) > 0 OR sum(billed) <> 0 OR sum(received) <> 0 OR sum(refunded) <> 0
 ORDER BY billed DESC, owner NULLS LAST, currency
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
    orders, facts = orders_at(view.when), view.when.counts("s")
    sql = BY_REP.format(orders=orders, facts=facts, notes=NOTES, money=MONEY)
    return ByRep.of(view.head_at, items=fetch(view.conn, RepMoney, sql, view.when.values))


def by_period(view: View, asked: AskByPeriod) -> ByPeriod:
    """What was billed, received and refunded in each day, month, quarter or year.

    An order counts in the period of its placing, with what is billed for it at the moment; a credit
    note takes from what is billed in its own.
    """
    sql = BY_PERIOD.format(orders=orders_at(view.when), facts=view.when.counts("s"))
    zone = str(time_zone(view.conn, view.when.known_at))
    values = {**view.when.values, "zone": zone, "period": asked.period}
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
