"""Who owes what, since when: questions to ``orders`` and ``payments`` together, at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from projections.asking.clocks import Moment, time_zone
from projections.asking.money import money
from projections.asking.pages import LIMIT, fetch, page
from projections.engine.tables import Connection
from projections.orders import name_at, orders_at

ACCOUNTS = """
WITH o AS MATERIALIZED ({orders}),
f AS MATERIALIZED ({facts}),
moved AS (
    SELECT customer_id, currency, billed, 0 AS received, 0 AS refunded FROM o
    UNION ALL SELECT customer_id, currency, 0, amount, 0 FROM f WHERE kind = 'received'
    UNION ALL SELECT customer_id, currency, -amount, 0, 0 FROM f WHERE kind = 'credited'
    UNION ALL SELECT customer_id, currency, {notes}, -{money}, 0 FROM f WHERE kind = 'allocated'
    UNION ALL SELECT whose, currency, -{notes}, {money}, 0 FROM f WHERE kind = 'allocated'
    UNION ALL SELECT whose, currency, 0, 0, amount FROM f WHERE kind = 'refunded'
),
accounts AS (
    SELECT customer_id, currency, sum(billed) AS billed, sum(received) AS received,
           sum(refunded) AS refunded, sum(billed) - sum(received) + sum(refunded) AS receivable
      FROM moved WHERE {whose} GROUP BY customer_id, currency
),
paid AS (
    SELECT order_id, currency,
           sum(CASE kind WHEN 'allocated' THEN amount ELSE -amount END) AS paid
      FROM f WHERE order_id IS NOT NULL GROUP BY order_id, currency
),
plan AS (
    SELECT s.order_id, s.number, s.due, s.amount FROM o JOIN instalments s USING (order_id)
     WHERE {plans} AND s.version = (
           SELECT max(t.version) FROM instalments t WHERE t.order_id = s.order_id AND {versions})
),
dues AS (
    SELECT order_id, number, due, amount FROM plan
    UNION ALL
    -- What is billed beyond the plan is due with its last part; without a plan, on the day itself.
    SELECT o.order_id, 1000000, coalesce(max(plan.due), (o.placed_at AT TIME ZONE %s)::date),
           o.billed - coalesce(sum(plan.amount), 0)
      FROM o LEFT JOIN plan USING (order_id) GROUP BY o.order_id, o.placed_at, o.billed
    HAVING o.billed > coalesce(sum(plan.amount), 0)
),
-- Each part takes the place between two sums; what is paid covers the places from below.
parts AS (
    SELECT o.customer_id, o.currency, d.due, d.order_id, d.number, o.billed,
           coalesce(paid.paid, 0) AS paid,
           sum(d.amount) OVER of_order AS until, sum(d.amount) OVER of_order - d.amount AS since
      FROM dues d JOIN o USING (order_id) LEFT JOIN paid USING (order_id, currency)
    WINDOW of_order AS (PARTITION BY d.order_id ORDER BY d.due, d.number)
),
opens AS (
    SELECT customer_id, currency, due, order_id, number,
           greatest(least(until, billed) - greatest(least(since, billed), paid), 0) AS open
      FROM parts
),
-- Money that is for no order yet settles a customer's oldest dues first, in this view alone.
lined AS (
    SELECT p.*, sum(p.open) OVER of_customer AS until,
           sum(p.open) OVER (PARTITION BY p.customer_id, p.currency) - a.receivable AS credit
      FROM opens p JOIN accounts a USING (customer_id, currency)
    WINDOW of_customer AS (
        PARTITION BY p.customer_id, p.currency ORDER BY p.due, p.order_id, p.number)
),
owed AS (
    SELECT customer_id, currency, due, greatest(until - greatest(until - open, credit), 0) AS owed
      FROM lined WHERE open > 0
    UNION ALL
    -- As of a day that lies between a refund and what it gave back, more is owed than was billed.
    SELECT a.customer_id, a.currency, %s, a.receivable - coalesce(sum(p.open), 0)
      FROM accounts a LEFT JOIN opens p USING (customer_id, currency)
     GROUP BY a.customer_id, a.currency, a.receivable
    HAVING a.receivable > coalesce(sum(p.open), 0)
)
"""
ALL_FACTS = """
SELECT s.*, coalesce(r.customer_id, s.customer_id) AS whose
  FROM payment_facts s LEFT JOIN orders r USING (order_id) WHERE {facts}
"""
FACTS_OF_ONE = """
SELECT s.*, coalesce(r.customer_id, s.customer_id) AS whose
  FROM (SELECT * FROM payment_facts WHERE customer_id = %s
        UNION
        SELECT q.* FROM payment_facts q JOIN orders USING (order_id) WHERE orders.customer_id = %s
       ) s LEFT JOIN orders r USING (order_id) WHERE {facts}
"""
RECEIVABLES = """
SELECT a.customer_id, {name} AS customer_name, a.currency, a.billed, a.received, a.refunded,
       a.receivable, coalesce(sum(w.owed) FILTER (WHERE w.due < %s), 0) AS overdue,
       a.customer_id::text || a.currency AS account
  FROM accounts a LEFT JOIN owed w USING (customer_id, currency)
  LEFT JOIN customers c USING (customer_id)
 GROUP BY a.customer_id, customer_name, a.currency, a.billed, a.received, a.refunded, a.receivable
"""
NOTES = "(CASE WHEN f.is_note THEN f.amount ELSE 0 END)"
MONEY = "(CASE WHEN f.is_note THEN 0 ELSE f.amount END)"
SUMS = ("billed", "received", "refunded", "receivable", "overdue")


def receivables(
    conn: Connection,
    when: Moment,
    *,
    customer_id: UUID | None = None,
    currency: str | None = None,
    owing: bool | None = None,
    cursor: str | None = None,
    limit: int = LIMIT,
) -> tuple[list[dict[str, Any]], str | None, dict[str, Any] | None]:
    """What each customer owes in each currency, the largest first; and the total, if of one.

    receivable = billed - received + refunded. A credit note makes what is billed less. What is
    allocated to an order counts for that order's customer, everything else for whoever paid it.
    Overdue is what was due before today.
    """
    accounts, values = _accounts(conn, when, customer_id)
    name, bounds = name_at(when, "a")
    sums = ", ".join(f"sum({name}) AS {name}" for name in SUMS)
    select = f"""
        WITH x AS MATERIALIZED (
            SELECT * FROM ({accounts}{RECEIVABLES.format(name=name)}) y
             WHERE (%s::text IS NULL OR currency = %s)
               AND (%s::bool IS NULL OR (receivable > 0) = %s)
        )
        SELECT x.*, t.totals FROM x CROSS JOIN (
            SELECT array_agg(ARRAY[{", ".join(f"{name}::text" for name in SUMS)}]) AS totals
              FROM (SELECT currency, {sums} FROM x GROUP BY currency) z
        ) t
    """
    totals: list[list[str]] = []

    def shape(row: dict[str, Any]) -> dict[str, Any]:
        totals[:] = row.pop("totals")
        return _account(row)

    items, more = page(
        conn,
        select,
        [],
        ("receivable", "account"),
        cursor,
        limit,
        values=[*values, *bounds, when.today, currency, currency, owing, owing],
        descending=True,
        kinds=(Decimal, str),
        shape=shape,
    )
    total = None
    if len(totals) == 1:
        code = items[0]["receivable"]["currency"]
        total = {
            name: money(Decimal(text), code) for name, text in zip(SUMS, totals[0], strict=True)
        }
    return items, more, total


def _accounts(conn: Connection, when: Moment, customer_id: UUID | None) -> tuple[str, list[Any]]:
    if customer_id is None:
        # Of all these steps the planner knows no sizes and would loop through each within each.
        conn.execute("SET LOCAL enable_nestloop = off")
    orders, values = orders_at(when)
    facts, bounds = when.bounds("s")
    whose = "true"
    source, chosen, ends = ALL_FACTS, [], []
    if customer_id is not None:
        orders += " AND o.customer_id = %s"
        values = [*values, customer_id]
        source, chosen = FACTS_OF_ONE, [customer_id, customer_id]
        whose, ends = "customer_id = %s", [customer_id]
    sql = ACCOUNTS.format(
        orders=orders,
        facts=source.format(facts=facts),
        whose=whose,
        notes=NOTES,
        money=MONEY,
        plans=facts,
        versions=facts.replace("s.", "t."),
    )
    zone = str(time_zone(conn, when.known_at))
    return sql, [*values, *chosen, *bounds, *ends, *bounds, *bounds, zone, when.today]


def _account(row: dict[str, Any]) -> dict[str, Any]:
    del row["account"]
    currency = row.pop("currency")
    customer = {"id": row.pop("customer_id"), "name": row.pop("customer_name")}
    return {"customer": customer, **{name: money(row[name], currency) for name in SUMS}}


AGEING = """
SELECT w.customer_id, {name} AS customer_name, w.currency, w.late,
       sum(w.owed) AS owed, a.receivable, a.customer_id::text || a.currency AS account
  FROM (SELECT *, width_bucket((%s - due)::int, %s::int[]) AS late FROM owed WHERE owed > 0) w
  JOIN accounts a USING (customer_id, currency) LEFT JOIN customers c USING (customer_id)
 GROUP BY w.customer_id, a.customer_id, customer_name, w.currency, a.currency, w.late, a.receivable
"""
BUCKETS = (30, 60, 90)


def bucket_names(buckets: Sequence[int]) -> list[str]:
    """current, 1-30, 31-60, 61-90, >90 for (30, 60, 90)."""
    starts = [1, *(days + 1 for days in buckets)]
    between = [f"{since}-{until}" for since, until in zip(starts, buckets, strict=False)]
    return ["current", *between, f">{buckets[-1]}"]


def ageing(
    conn: Connection,
    when: Moment,
    *,
    buckets: Sequence[int] = BUCKETS,
    customer_id: UUID | None = None,
    currency: str | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What is owed by days past due: by customer and currency, the largest first; and in all.

    Args:
        buckets: the last day of each bucket but the last one, rising.
    """
    accounts, values = _accounts(conn, when, customer_id)
    name, bounds = name_at(when, "w")
    edges = [1, *(days + 1 for days in buckets)]
    rows = fetch(
        conn,
        f"SELECT * FROM ({accounts}{AGEING.format(name=name)}) x "
        "WHERE %s::text IS NULL OR currency = %s ORDER BY receivable DESC, account, late",
        [*values, *bounds, when.today, edges, currency, currency],
    )
    names = bucket_names(buckets)
    items: dict[str, dict[str, Any]] = {}
    totals: dict[str, dict[str, Decimal]] = {}
    for row in rows:
        item = items.setdefault(
            row["account"],
            {
                "customer": {"id": row["customer_id"], "name": row["customer_name"]},
                "receivable": money(row["receivable"], row["currency"]),
                "buckets": _nothing(names, row["currency"]),
            },
        )
        item["buckets"][row["late"]]["amount"] = money(row["owed"], row["currency"])
        total = totals.setdefault(row["currency"], dict.fromkeys(names, Decimal(0)))
        total[names[row["late"]]] += row["owed"]
    sums = [
        {
            "currency": code,
            "receivable": money(Decimal(sum(total.values())), code),
            "buckets": [{"bucket": n, "amount": money(total[n], code)} for n in names],
        }
        for code, total in sorted(totals.items())
    ]
    return list(items.values()), sums


def _nothing(names: Sequence[str], currency: str) -> list[dict[str, Any]]:
    return [{"bucket": name, "amount": money(Decimal(0), currency)} for name in names]


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
SELECT date_trunc(%s, at AT TIME ZONE %s)::date AS begins, currency, sum(orders) AS orders,
       sum(billed) AS billed, sum(received) AS received, sum(refunded) AS refunded
  FROM moved GROUP BY begins, currency ORDER BY begins, currency
"""


def by_rep(conn: Connection, when: Moment) -> list[dict[str, Any]]:
    """Orders, billed, received and receivable of each rep and currency, the largest first.

    Money counts for the rep of the order that it is allocated to, and so does what a credit note
    takes from what is billed; what is for no order yet stands in a row without a rep.
    """
    orders, values = orders_at(when)
    facts, bounds = when.bounds("s")
    rows = fetch(
        conn,
        BY_REP.format(orders=orders, facts=facts, notes=NOTES, money=MONEY),
        [*values, *bounds],
    )
    return [_in_money(row, "billed", "received", "refunded", "receivable") for row in rows]


def by_period(conn: Connection, when: Moment, period: str) -> list[dict[str, Any]]:
    """What was billed, received and refunded in each day, month, quarter or year.

    An order counts in the period of its placing, with what is billed for it at the moment; a credit
    note takes from what is billed in its own.
    """
    orders, values = orders_at(when)
    facts, bounds = when.bounds("s")
    zone = str(time_zone(conn, when.known_at))
    rows = fetch(
        conn,
        BY_PERIOD.format(orders=orders, facts=facts),
        [*values, *bounds, period, zone],
    )
    return [_in_money(row, "billed", "received", "refunded") for row in rows]


def _in_money(row: dict[str, Any], *names: str) -> dict[str, Any]:
    currency = row.pop("currency")
    return row | {name: money(row[name], currency) for name in names}
