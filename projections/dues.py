"""What of an order is billed at a moment, and what is to be paid by when."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from uuid import UUID

from events.values import Money
from projections.asking.clocks import Moment
from projections.asking.money import money
from projections.asking.rows import fetch
from projections.asking.shape import Shape
from projections.engine.tables import Connection


class InstalmentShape(Shape):
    """A part of what is billed; what is paid covers the earliest parts first.

    Without a number: what is billed beyond the plan in force, or without one.
    """

    number: int | None
    due: date
    amount: Money
    open: Money


PLAN_OF = """
SELECT number, due, amount FROM instalments s
 WHERE order_id = %(id)s AND {facts} AND version = (
       SELECT max(t.version) FROM instalments t WHERE t.order_id = s.order_id AND {versions})
 ORDER BY due, number
"""


class Part(Shape):
    """A part of a payment plan."""

    number: int | None
    due: date
    amount: Decimal


def plan_of(conn: Connection, order_id: UUID, when: Moment) -> list[Part]:
    """The payment plan in force at a moment."""
    sql = PLAN_OF.format(facts=when.counts("s"), versions=when.counts("t"))
    return fetch(conn, Part, sql, {**when.values, "id": order_id})


def instalments(
    plan: list[Part], placed: date, billed: Decimal, paid: Decimal, currency: str
) -> list[InstalmentShape]:
    """By when which part of what is billed is to be paid, and what of it is still open.

    What is billed beyond the plan is due with its last part; without a plan, on the order's day.
    """
    left = billed
    last = plan[-1].due if plan else placed
    parts = []
    for part in [*plan, Part(number=None, due=last, amount=left)]:
        share = max(min(part.amount, left), Decimal(0))
        left -= share
        covered = max(min(paid, share), Decimal(0))
        paid -= covered
        if part.number is not None or share > 0:
            amount, left_open = money(share, currency), money(share - covered, currency)
            parts.append(InstalmentShape.of(part, amount=amount, open=left_open))
    return parts


BILLED = "CASE {0}.status WHEN 'cancelled' THEN 0 ELSE {0}.amount - {0}.returned END AS billed"
LIVE = f"SELECT o.*, {BILLED.format('o')} FROM orders o WHERE o.placed_position > 0"
PAST = f"""
SELECT o.order_id, stood.version, o.customer_id, o.owner, o.opportunity_id, o.number, o.title,
       o.note, stood.status, stood.amount, {BILLED.format("stood")}, o.currency, o.placed_at
  FROM orders o CROSS JOIN LATERAL (
       SELECT (array_agg(s.status ORDER BY s.version DESC)
                 FILTER (WHERE s.status IS NOT NULL))[1] AS status,
              coalesce(sum(s.amount), 0) AS amount, coalesce(sum(s.returned), 0) AS returned,
              max(s.version) AS version
         FROM order_facts s WHERE s.order_id = o.order_id AND {{facts}}
  ) stood
 WHERE o.placed_position > 0 AND {{placed}}
"""


def orders_at(when: Moment) -> str:
    """A query for every order with its status, amount and billed at a moment."""
    if when.is_live:
        return LIVE
    placed = when.counts("o", "placed_at", "placed_position")
    return PAST.format(facts=when.counts("s"), placed=placed)
