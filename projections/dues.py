"""What is due: defined once in SQL, for an order, an account and a rep, now and at any moment.

The definitions stand on five relations. ``o``: orders with what is billed. ``paid``: by order and
payer, what is allocated and refunded. ``credit``: by payer, what came in and what was refunded
without an order. ``plan``: the payment plans in force. ``buyers``: the customers of the orders that
are paid for.
"""

from __future__ import annotations

from datetime import date
from uuid import UUID

from events.values import StoredMoney
from projections.asking.clocks import Moment
from projections.asking.rows import fetch
from projections.asking.shape import Shape
from projections.engine.tables import Connection

BILLED = "CASE {0}.status WHEN 'cancelled' THEN 0 ELSE {0}.amount - {0}.returned END AS billed"
LIVE = f"SELECT o.*, {BILLED.format('o')} FROM orders o WHERE o.placed_position > 0"
PAST = f"""
SELECT o.order_id, stood.version, o.customer_id, stood.owner, o.opportunity_id, o.region, o.number,
       o.title, o.note, stood.status, stood.amount, {BILLED.format("stood")}, o.currency,
       o.placed_at
  FROM orders o CROSS JOIN LATERAL (
       SELECT (array_agg(s.status ORDER BY s.version DESC)
                 FILTER (WHERE s.status IS NOT NULL))[1] AS status,
              (array_agg(s.owner ORDER BY s.version DESC)
                 FILTER (WHERE s.owner IS NOT NULL))[1] AS owner,
              coalesce(sum(s.amount), 0) AS amount, coalesce(sum(s.returned), 0) AS returned,
              max(s.version) AS version
         FROM order_facts s WHERE s.order_id = o.order_id AND {{facts}}
  ) stood
 WHERE o.placed_position > 0 AND {{placed}}
"""
PLAN = """
plan AS MATERIALIZED (
    SELECT order_id, number, due, amount FROM (
        SELECT s.*, max(s.version) OVER (PARTITION BY s.order_id) AS latest
          FROM instalments s WHERE {which}
    ) s WHERE version = latest
)
"""
FOR_ORDERS = """
coalesce(sum(amount) FILTER (WHERE kind = 'allocated' AND NOT is_note), 0) AS received,
coalesce(sum(amount) FILTER (WHERE kind = 'allocated' AND is_note), 0) AS credited,
coalesce(sum(amount) FILTER (WHERE kind = 'refunded'), 0) AS refunded
"""
NOW = f"""
o AS MATERIALIZED ({LIVE} AND o.order_id {{among}}),
paid AS MATERIALIZED (SELECT * FROM allocations WHERE order_id {{among}}),
credit AS (SELECT * FROM payment_credits WHERE payment_id {{among}}),
buyers AS (SELECT order_id, customer_id FROM orders WHERE order_id {{among}}),
{PLAN.format(which="s.order_id {among}")}
"""
"""The relations as they stand, of some orders and payments."""
THEN = f"""
o AS MATERIALIZED ({{orders}}),
f AS MATERIALIZED ({{facts}}),
paid AS MATERIALIZED (
    SELECT order_id, currency, customer_id, {FOR_ORDERS}
      FROM f WHERE order_id IS NOT NULL GROUP BY order_id, currency, customer_id
),
credit AS (
    SELECT customer_id, currency,
           coalesce(sum(amount) FILTER (WHERE kind = 'received'), 0) AS received,
           coalesce(sum(amount) FILTER (WHERE kind = 'credited'), 0) AS credited,
           coalesce(sum(amount) FILTER (WHERE kind = 'refunded'), 0) AS refunded
      FROM f WHERE order_id IS NULL GROUP BY customer_id, currency
),
buyers AS (
    SELECT order_id, customer_id FROM orders WHERE order_id IN (SELECT order_id FROM paid)
),
{PLAN.format(which="s.order_id IN (SELECT order_id FROM o) AND {plans}")}
"""
"""The relations as they stood at a moment, of everything or some orders and payments."""
PAID_NOW = """
SELECT coalesce(sum(received), 0) AS received, coalesce(sum(credited), 0) AS credited,
       coalesce(sum(refunded), 0) AS refunded
  FROM allocations s WHERE s.order_id = o.order_id AND s.currency = o.currency
"""
PAID_THEN = f"""
SELECT {FOR_ORDERS} FROM payment_facts s
 WHERE s.order_id = o.order_id AND s.currency = o.currency AND {{facts}}
"""
ALL_FACTS = "SELECT s.* FROM payment_facts s WHERE {facts}"
FACTS_OF_ONE = """
SELECT s.* FROM (
    SELECT * FROM payment_facts WHERE customer_id = %(customer_id)s
    UNION
    SELECT q.* FROM payment_facts q JOIN orders o USING (order_id)
     WHERE o.customer_id = %(customer_id)s
) s WHERE {facts}
"""
ACCOUNTS = """
SELECT customer_id, currency, count(*) AS count, sum(billed) AS billed, sum(received) AS received,
       sum(refunded) AS refunded, sum(billed) - sum(received) + sum(refunded) AS receivable
  FROM (
    SELECT customer_id, currency, billed, 0 AS received, 0 AS refunded FROM o
    UNION ALL
    SELECT customer_id, currency, -credited, received, refunded FROM credit
    UNION ALL
    SELECT customer_id, currency, credited, -received, 0 FROM paid
    UNION ALL
    SELECT coalesce(b.customer_id, p.customer_id), p.currency, -p.credited, p.received, p.refunded
      FROM paid p LEFT JOIN buyers b USING (order_id)
  ) moved
 WHERE customer_id IS NOT NULL GROUP BY customer_id, currency
"""
"""What is allocated to an order counts for its customer, everything else for whoever paid it."""
REPS = """
SELECT coalesce(owner, '') AS rep, currency, count(*) AS count, sum(orders) AS orders,
       sum(billed) AS billed, sum(received) AS received, sum(refunded) AS refunded
  FROM (
    SELECT owner, currency, 1 AS orders, billed, 0 AS received, 0 AS refunded
      FROM o WHERE status <> 'cancelled'
    UNION ALL
    SELECT o.owner, p.currency, 0, -p.credited, p.received, p.refunded
      FROM paid p LEFT JOIN o USING (order_id)
    UNION ALL
    SELECT NULL, currency, 0, credited, -received, 0 FROM paid
    UNION ALL
    SELECT NULL, currency, 0, -credited, received, refunded FROM credit
  ) moved
 GROUP BY coalesce(owner, ''), currency
"""
PARTS = """
dues AS (
    SELECT order_id, number, due, amount FROM plan
    UNION ALL
    -- What is billed beyond the plan is due with its last part; without a plan, on the day itself.
    SELECT o.order_id, NULL, coalesce(max(plan.due), (o.placed_at AT TIME ZONE {zone})::date),
           o.billed - coalesce(sum(plan.amount), 0)
      FROM o LEFT JOIN plan USING (order_id) GROUP BY o.order_id, o.placed_at, o.billed
    HAVING o.billed > coalesce(sum(plan.amount), 0)
),
settled AS (
    SELECT order_id, currency, sum(received + credited - refunded) AS paid
      FROM paid GROUP BY order_id, currency
),
-- Each part takes the place between two sums; what is paid covers the places from below.
places AS (
    SELECT o.customer_id, o.currency, d.order_id, d.number, d.due, o.billed,
           coalesce(s.paid, 0) AS paid,
           sum(d.amount) OVER of_order AS until, sum(d.amount) OVER of_order - d.amount AS since
      FROM dues d JOIN o USING (order_id) LEFT JOIN settled s USING (order_id, currency)
    WINDOW of_order AS (PARTITION BY d.order_id ORDER BY d.due, d.number)
),
parts AS (
    SELECT customer_id, currency, order_id, number, due,
           least(until, billed) - least(since, billed) AS amount,
           greatest(least(until, billed) - greatest(least(since, billed), paid), 0) AS open
      FROM places
)
"""
DAYS = """
SELECT customer_id, currency, due, count(*) AS count, sum(open) AS open
  FROM parts WHERE open > 0 AND customer_id IS NOT NULL GROUP BY customer_id, currency, due
"""
"""What of an account's orders is open, by day."""
OWED = """
SELECT customer_id, currency, due, greatest(until - greatest(until - open, credit), 0) AS owed
  FROM (
    SELECT d.customer_id, d.currency, d.due, d.open, sum(d.open) OVER of_account AS until,
           sum(d.open) OVER (PARTITION BY d.customer_id, d.currency) - a.receivable AS credit
      FROM {days} d JOIN {accounts} a USING (customer_id, currency)
    WINDOW of_account AS (PARTITION BY d.customer_id, d.currency ORDER BY d.due)
  ) lined
"""
"""What is owed, by day: credit that is for no order settles an account's oldest dues first, in this
view alone."""
BEYOND = """
SELECT a.customer_id, a.currency, %(today)s::date, a.receivable - coalesce(sum(d.open), 0)
  FROM {accounts} a LEFT JOIN {days} d USING (customer_id, currency)
 GROUP BY a.customer_id, a.currency, a.receivable
HAVING a.receivable > coalesce(sum(d.open), 0)
"""
"""As of a day that lies between a refund and what it gave back, more is owed than was billed."""
TOTALS = """
SELECT currency, receivable > 0 AS is_owing, count(*) AS count, sum(billed) AS billed,
       sum(received) AS received, sum(refunded) AS refunded, sum(receivable) AS receivable
  FROM accounts WHERE customer_id {among} GROUP BY currency, receivable > 0
"""
OWED_DAYS = f"""
SELECT currency, due, count(*) AS count, sum(owed) AS owed FROM ({
    OWED.format(
        days="(SELECT * FROM account_days WHERE customer_id {among})",
        accounts="(SELECT * FROM accounts WHERE customer_id {among})",
    )
}) o WHERE owed > 0 GROUP BY currency, due
"""
EVERY = "IS NOT NULL"
AS_KEPT = f"""
accounts AS MATERIALIZED ({ACCOUNTS}),
{PARTS.format(zone="%(zone)s")},
account_days AS MATERIALIZED ({DAYS}),
account_totals AS ({TOTALS.format(among=EVERY)}),
owed_days AS ({OWED_DAYS.format(among=EVERY)}),
rep_sums AS ({REPS})
"""
"""What ``projections.accounts`` keeps, under the same names, from the relations at a moment."""


def orders_at(when: Moment) -> str:
    """A query for every order with its status, amount and billed at a moment."""
    if when.is_live:
        return LIVE
    placed = when.counts("o", "placed_at", "placed_position")
    return PAST.format(facts=when.counts("s"), placed=placed)


def paid_at(when: Moment) -> str:
    """A query for what is allocated to an order ``o`` and refunded of it at a moment."""
    return PAID_NOW if when.is_live else PAID_THEN.format(facts=when.counts("s"))


def kept_at(conn: Connection, when: Moment, of: UUID | None = None) -> str:
    """What a query for accounts begins with: nothing now, as they are kept.

    Args:
        of: the customer that the query's ``%(customer_id)s`` names; by default it is for all.
    """
    if when.is_live:
        return ""
    if of is None:
        # Without row estimates the planner would choose nested loops.
        conn.execute("SET LOCAL enable_nestloop = off")
        relations = _then(when, ALL_FACTS, "true")
    else:
        relations = _then(when, FACTS_OF_ONE, "o.customer_id = %(customer_id)s")
    return f"WITH {relations}, {AS_KEPT}"


def _then(when: Moment, facts: str, chosen: str) -> str:
    """The relations at a moment, of the payments that a query gives and of chosen orders."""
    counts = when.counts("s")
    return THEN.format(
        orders=f"{orders_at(when)} AND {chosen}", facts=facts.format(facts=counts), plans=counts
    )


class InstalmentShape(Shape):
    """A part of what is billed; what is paid covers the earliest parts first.

    Without a number: what is billed beyond the plan in force, or without one.
    """

    number: int | None
    due: date
    amount: StoredMoney
    open: StoredMoney


PARTS_OF = "SELECT number, due, amount, open, currency FROM parts ORDER BY due, number"
FACTS_OF_ORDER = f"{ALL_FACTS} AND s.order_id = %(id)s"


def instalments(conn: Connection, order_id: UUID, when: Moment) -> list[InstalmentShape]:
    """By when which part of an order is to be paid, and what of it is still open."""
    if when.is_live:
        relations = NOW.format(among="= %(id)s")
    else:
        relations = _then(when, FACTS_OF_ORDER, "o.order_id = %(id)s")
    steps = f"{relations}, {PARTS.format(zone='%(zone)s')}"
    values = {**when.values, "id": order_id}
    return fetch(conn, InstalmentShape, f"WITH {steps} {PARTS_OF}", values)
