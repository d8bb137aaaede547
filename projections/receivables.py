"""Who owes what, since when: questions to ``orders`` and ``payments`` together, at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import Field

from events.values import Money
from projections.asking.clocks import Moment, Unanswerable, time_zone
from projections.asking.listing import AskedAt, By, ListedAt, Pages, Question
from projections.asking.money import Balance, money
from projections.asking.rows import fetch, maker
from projections.asking.shape import HeadAt, PageAt, Shape
from projections.asking.view import View
from projections.customers import CustomerRef, name_at
from projections.dues import orders_at
from projections.engine.tables import Connection
from projections.orders import NEEDS

Currency = Annotated[str | None, Field(pattern="^[A-Z]{3}$", examples=["EUR"])]


class AskReceivables(ListedAt):
    """What may be asked of receivables."""

    customer_id: UUID | None = None
    currency: Currency = None
    owing: bool | None = None


class AskAgeing(AskedAt):
    """What may be asked of the ageing."""

    customer_id: UUID | None = None
    currency: Currency = None
    buckets: Annotated[
        str,
        Field(
            pattern=r"^[0-9]{1,4}(,[0-9]{1,4}){0,9}$",
            description="The last day of each bucket but the last one, rising.",
        ),
    ] = "30,60,90"

    def edges(self) -> list[int]:
        """The last day of each bucket but the last one."""
        return [int(part) for part in self.buckets.split(",")]

    def check(self) -> None:
        """See ``Asked``."""
        edges = self.edges()
        if edges != sorted(set(edges)) or edges[0] == 0:
            raise Unanswerable("buckets", "must rise, like 30,60,90")


class Sums(Shape):
    """receivable = billed - received + refunded; overdue: what was due before today."""

    billed: Balance
    received: Balance
    refunded: Money
    receivable: Balance
    overdue: Money


class Receivable(Sums):
    """What a customer owes in a currency."""

    customer: CustomerRef


class Receivables(PageAt[Receivable]):
    """Who owes what at a moment."""

    total: Sums | None = Field(description="Null unless everything is in one currency.")


class Bucket(Shape):
    """What is owed and past due by so many days."""

    bucket: str = Field(examples=["current", "1-30", ">90"])
    amount: Money


class AgeingItem(Shape):
    """What a customer owes in a currency, by days past due."""

    customer: CustomerRef
    receivable: Money
    buckets: list[Bucket]


class AgeingTotal(Shape):
    """What all owe in a currency, by days past due."""

    currency: str
    receivable: Money
    buckets: list[Bucket]


class Ageing(HeadAt):
    """What is owed at a moment, by days past due."""

    items: list[AgeingItem]
    total: list[AgeingTotal]


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
    SELECT o.order_id, 1000000, coalesce(max(plan.due), (o.placed_at AT TIME ZONE %(zone)s)::date),
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
    SELECT a.customer_id, a.currency, %(today)s, a.receivable - coalesce(sum(p.open), 0)
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
  FROM (SELECT * FROM payment_facts WHERE customer_id = %(customer_id)s
        UNION
        SELECT q.* FROM payment_facts q JOIN orders o USING (order_id)
         WHERE o.customer_id = %(customer_id)s
       ) s LEFT JOIN orders r USING (order_id) WHERE {facts}
"""
NOTES = "(CASE WHEN f.is_note THEN f.amount ELSE 0 END)"
MONEY = "(CASE WHEN f.is_note THEN 0 ELSE f.amount END)"
SUMS = tuple(Sums.model_fields)
RECEIVABLES = f"""
x AS MATERIALIZED (
    SELECT * FROM (
        SELECT a.customer_id, {{name}} AS customer_name, a.currency, a.billed, a.received,
               a.refunded, a.receivable,
               coalesce(sum(w.owed) FILTER (WHERE w.due < %(today)s), 0) AS overdue,
               a.customer_id::text || a.currency AS account
          FROM accounts a LEFT JOIN owed w USING (customer_id, currency)
          LEFT JOIN customers c USING (customer_id)
         GROUP BY a.customer_id, customer_name, a.currency, a.billed, a.received, a.refunded,
                  a.receivable
    ) y
     WHERE (%(currency)s::text IS NULL OR currency = %(currency)s)
       AND (%(owing)s::bool IS NULL OR (receivable > 0) = %(owing)s)
)
SELECT customer_id AS "customer.id", customer_name AS "customer.name", currency,
       {", ".join(SUMS)}, account, totals
  FROM x CROSS JOIN (
       SELECT array_agg(ARRAY[{", ".join(f"{name}::text" for name in SUMS)}]) AS totals
         FROM (SELECT {", ".join(f"sum({name}) AS {name}" for name in SUMS)}
                 FROM x GROUP BY currency) z
  ) t WHERE true
"""


class _Account(Receivable):
    """A receivable, with the sums over all accounts of each currency."""

    totals: list[list[str]]


def accounts(conn: Connection, when: Moment, of: UUID | None) -> tuple[str, dict[str, str]]:
    """The steps before a question about accounts, of everybody or one customer, and more values."""
    if of is None:
        # Of all these steps the planner knows no sizes and would loop through each within each.
        conn.execute("SET LOCAL enable_nestloop = off")
    facts = when.counts("s")
    source = ALL_FACTS if of is None else FACTS_OF_ONE
    one = "" if of is None else " AND o.customer_id = %(customer_id)s"
    sql = ACCOUNTS.format(
        orders=orders_at(when) + one,
        facts=source.format(facts=facts),
        whose="true" if of is None else "customer_id = %(customer_id)s",
        notes=NOTES,
        money=MONEY,
        plans=facts,
        versions=when.counts("t"),
    )
    return sql, {"zone": str(time_zone(conn, when.known_at))}


PAGES = Pages(
    "receivables",
    _Account,
    (By("receivable", kind=Decimal), By("account", kind=str)),
    is_descending=True,
)


def receivables(view: View, asked: AskReceivables) -> Receivables:
    """What each customer owes in each currency, the largest first; and the total, if of one.

    receivable = billed - received + refunded. A credit note makes what is billed less. What is
    allocated to an order counts for that order's customer, everything else for whoever paid it.
    Overdue is what was due before today.
    """
    found, more = _accounts(view.conn, view.when, asked)
    total = None
    if found and len(found[0].totals) == 1:
        code = found[0].receivable.currency
        total = maker(Sums, (*SUMS, "currency"))([*map(Decimal, found[0].totals[0]), code])
    items = [Receivable.of(one) for one in found]
    return Receivables.of(view.head_at, items=items, next=more, total=total)


def of_customer(conn: Connection, when: Moment, customer_id: UUID) -> list[Sums]:
    """What one customer owes, by currency, the largest first."""
    found, _ = _accounts(conn, when, AskReceivables(customer_id=customer_id))
    return [Sums.of(one) for one in found]


def _accounts(
    conn: Connection, when: Moment, asked: AskReceivables
) -> tuple[list[_Account], str | None]:
    steps, more_values = accounts(conn, when, asked.customer_id)
    select = f"{steps}, {RECEIVABLES.format(name=name_at(when, 'a'))}"
    return PAGES.one(conn, select, {**asked.__dict__, **when.values, **more_values}, asked)


AGEING = """
SELECT w.customer_id AS "customer.id", {name} AS "customer.name", w.currency, w.late,
       sum(w.owed) AS owed, a.receivable, a.customer_id::text || a.currency AS account
  FROM (SELECT *, width_bucket((%(today)s - due)::int, %(edges)s::int[]) AS late
          FROM owed WHERE owed > 0) w
  JOIN accounts a USING (customer_id, currency) LEFT JOIN customers c USING (customer_id)
 WHERE %(currency)s::text IS NULL OR w.currency = %(currency)s
 GROUP BY w.customer_id, a.customer_id, "customer.name", w.currency, a.currency, w.late,
          a.receivable
 ORDER BY a.receivable DESC, account, w.late
"""


class _Late(Shape):
    """What a customer owes in a currency that is late by so much.

    Attributes:
        late: the place of the bucket.
    """

    customer: CustomerRef
    currency: str
    late: int
    owed: Decimal
    receivable: Money
    account: str


def ageing(view: View, asked: AskAgeing) -> Ageing:
    """What is owed by days past due: by customer and currency, the largest first; and in all."""
    conn, when = view.conn, view.when
    buckets = asked.edges()
    steps, more_values = accounts(conn, when, asked.customer_id)
    select = f"{steps}{AGEING.format(name=name_at(when, 'w'))}"
    edges = [1, *(days + 1 for days in buckets)]
    values = {**asked.__dict__, **when.values, **more_values, "edges": edges}
    names = bucket_names(buckets)
    items: dict[str, AgeingItem] = {}
    totals: dict[str, list[Decimal]] = {}
    for row in fetch(conn, _Late, select, values):
        item = items.get(row.account)
        if item is None:
            none = _in_buckets(names, [Decimal(0)] * len(names), row.currency)
            item = items[row.account] = AgeingItem.of(
                customer=row.customer, receivable=row.receivable, buckets=none
            )
        owed = money(row.owed, row.currency)
        item.buckets[row.late] = Bucket.of(bucket=names[row.late], amount=owed)
        totals.setdefault(row.currency, [Decimal(0)] * len(names))[row.late] += row.owed
    sums = [
        AgeingTotal.of(
            currency=code,
            receivable=money(Decimal(sum(total)), code),
            buckets=_in_buckets(names, total, code),
        )
        for code, total in sorted(totals.items())
    ]
    return Ageing.of(view.head_at, items=list(items.values()), total=sums)


def bucket_names(buckets: Sequence[int]) -> list[str]:
    """current, 1-30, 31-60, 61-90, >90 for (30, 60, 90)."""
    starts = [1, *(days + 1 for days in buckets)]
    between = [f"{since}-{until}" for since, until in zip(starts, buckets, strict=False)]
    return ["current", *between, f">{buckets[-1]}"]


def _in_buckets(names: Sequence[str], owed: Sequence[Decimal], currency: str) -> list[Bucket]:
    pairs = zip(names, owed, strict=True)
    return [Bucket.of(bucket=name, amount=money(amount, currency)) for name, amount in pairs]


QUESTIONS = (
    Question(
        path="/payments/receivables",
        name="receivables",
        tag="payments",
        says="What each customer owes in each currency, the largest first.",
        asks=AskReceivables,
        shape=Receivables,
        needs=NEEDS,
        answer=receivables,
    ),
    Question(
        path="/payments/ageing",
        name="ageing",
        tag="payments",
        says="What is owed by days past due, by customer and in all.",
        asks=AskAgeing,
        shape=Ageing,
        needs=NEEDS,
        answer=ageing,
    ),
)
