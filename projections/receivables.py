"""Who owes what, since when: questions to ``orders`` and ``payments`` together, at any moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import Field

from events.values import StoredMoney
from projections.asking.clocks import Moment, Unanswerable
from projections.asking.listing import AskedAt, By, ListedAt, Question, Where, chosen
from projections.asking.money import Balance, money
from projections.asking.pages import Pages
from projections.asking.rows import fetch, maker
from projections.asking.shape import HeadAt, PageAt, Shape
from projections.asking.view import View
from projections.customers import CustomerRef, name_at
from projections.dues import BEYOND, OWED, kept_at
from projections.engine.tables import Connection
from projections.orders import NEEDS

OfCustomer = Annotated[UUID | None, Where("a.customer_id = %(customer_id)s")]
InCurrency = Annotated[
    str | None,
    Field(pattern="^[A-Z]{3}$", examples=["EUR"]),
    Where("a.currency = %(currency)s"),
]
ACCOUNT = "a.customer_id::text || a.currency"


class AskReceivables(ListedAt):
    """What may be asked of receivables."""

    customer_id: OfCustomer = None
    currency: InCurrency = None
    owing: Annotated[bool | None, Where("(a.receivable > 0) = %(owing)s")] = None


class AskAgeing(AskedAt):
    """What may be asked of the ageing."""

    customer_id: OfCustomer = None
    currency: InCurrency = None
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
    refunded: StoredMoney
    receivable: Balance
    overdue: StoredMoney


class Receivable(Sums):
    """What a customer owes in a currency."""

    customer: CustomerRef


class Total(Sums):
    """All accounts: receivable - credit = billed - received + refunded."""

    receivable: Balance = Field(description="What is owed, by those who owe something.")
    credit: Balance = Field(description="What the others have to their credit.")


class Receivables(PageAt[Receivable]):
    """Who owes what at a moment."""

    total: Total | None = Field(description="Null unless everything is in one currency.")


class Bucket(Shape):
    """What is owed and past due by so many days."""

    bucket: str = Field(examples=["current", "1-30", ">90"])
    amount: StoredMoney
    count: int = Field(description="Instalments and orders that are not paid in full.")


class AgeingItem(Shape):
    """What a customer owes in a currency, by days past due."""

    customer: CustomerRef
    receivable: StoredMoney
    buckets: list[Bucket]


class AgeingTotal(Shape):
    """What all owe in a currency, by days past due."""

    currency: str
    receivable: StoredMoney
    buckets: list[Bucket]


class Ageing(HeadAt):
    """What is owed at a moment, by days past due."""

    items: list[AgeingItem]
    total: list[AgeingTotal]


SUMS = tuple(Total.model_fields)
LATE = f"""
(SELECT customer_id, currency, sum(owed) FILTER (WHERE due < %(today)s) AS overdue
   FROM ({OWED}) l GROUP BY customer_id, currency)
"""
LATE_OF_ALL = LATE.format(days="account_days", accounts="accounts")
LATE_OF_EACH = "LATERAL " + LATE.format(
    days="(SELECT * FROM account_days d WHERE d.customer_id = a.customer_id)",
    accounts="(SELECT a.customer_id, a.currency, a.receivable)",
)
TOTALS_OF_ALL = """
SELECT sum(billed) AS billed, sum(received) AS received, sum(refunded) AS refunded,
       coalesce(sum(receivable) FILTER (WHERE is_owing), 0) AS receivable,
       coalesce(-sum(receivable) FILTER (WHERE NOT is_owing), 0) AS credit,
       coalesce(sum(overdue) FILTER (WHERE is_owing), 0) AS overdue
  FROM account_totals a LEFT JOIN (
       SELECT currency, sum(owed) AS overdue FROM owed_days WHERE due < %(today)s GROUP BY currency
  ) w USING (currency) WHERE {conditions} GROUP BY a.currency
"""
TOTALS_OF_ONE = f"""
SELECT a.billed, a.received, a.refunded, greatest(a.receivable, 0) AS receivable,
       greatest(-a.receivable, 0) AS credit, coalesce(w.overdue, 0) AS overdue
  FROM accounts a LEFT JOIN {LATE_OF_EACH} w USING (customer_id, currency) WHERE {{conditions}}
"""
RECEIVABLES = f"""
SELECT a.customer_id AS "customer.id", {{name}} AS "customer.name", a.currency, a.billed,
       a.received, a.refunded, a.receivable, coalesce(w.overdue, 0) AS overdue,
       {ACCOUNT} AS account, totals
  FROM accounts a LEFT JOIN customers c USING (customer_id)
  LEFT JOIN {{late}} w USING (customer_id, currency)
 CROSS JOIN (
       SELECT array_agg(ARRAY[{", ".join(f"{name}::text" for name in SUMS)}]) AS totals
         FROM ({{totals}}) z
 ) t WHERE {{conditions}}
"""


class _Account(Receivable):
    """A receivable, with the sums over all accounts of each currency."""

    totals: list[list[str]]


PAGES = Pages(
    "receivables",
    _Account,
    (By("a.receivable", kind=Decimal), By(ACCOUNT, "account", kind=str)),
    is_descending=True,
)


def receivables(view: View, asked: AskReceivables) -> Receivables:
    """What each customer owes in each currency, the largest first; and the total, if of one.

    receivable = billed - received + refunded. A credit note makes what is billed less. What is
    allocated to an order counts for that order's customer, everything else for whoever paid it.
    Overdue is what was due before today.
    """
    found, more = _send(view.conn, view.when, asked)()
    total = None
    if found and len(found[0].totals) == 1:
        code = found[0].receivable.currency
        total = maker(Total, (*SUMS, "currency"))([*map(Decimal, found[0].totals[0]), code])
    items = [Receivable.of(one) for one in found]
    return Receivables.of(view.head_at, items=items, next=more, total=total)


def send_of_customer(conn: Connection, when: Moment, customer_id: UUID) -> Callable[[], list[Sums]]:
    """Ask what one customer owes, by currency, the largest first."""
    accounts = _send(conn, when, AskReceivables(customer_id=customer_id))
    return lambda: [Sums.of(one) for one in accounts()[0]]


def _send(
    conn: Connection, when: Moment, asked: AskReceivables
) -> Callable[[], tuple[list[_Account], str | None]]:
    kept = kept_at(conn, when, asked.customer_id)
    filters, given = chosen(asked)
    conditions = " AND ".join(["true", *filters])
    totals = TOTALS_OF_ALL if asked.customer_id is None else TOTALS_OF_ONE
    every = asked.customer_id is None and not when.is_live
    select = RECEIVABLES.format(
        name=name_at(when, "a"),
        late=LATE_OF_ALL if every else LATE_OF_EACH,
        totals=totals.format(conditions=conditions),
        conditions=conditions,
    )
    return PAGES.send(conn, f"{kept}{select}", {**when.values, **given}, asked, when.pin)


NOTHING = (Decimal(0), 0)
OWING = "(SELECT * FROM accounts a WHERE a.receivable > 0 AND {conditions})"
AGEING = f"""
SELECT w.customer_id AS "customer.id", {{name}} AS "customer.name", w.currency, w.late,
       sum(w.owed) AS owed, coalesce(sum(w.count), 0)::int8 AS count, a.receivable,
       {ACCOUNT} AS account
  FROM (SELECT o.*, d.count, width_bucket((%(today)s - o.due)::int, %(edges)s::int[]) AS late
          FROM (SELECT *, true AS is_due FROM (
                    {OWED.format(days="account_days", accounts=OWING)}) due
                UNION ALL SELECT *, false FROM (
                    {BEYOND.format(days="account_days", accounts=OWING)}) beyond
          ) o LEFT JOIN account_days d
            ON o.is_due AND (d.customer_id, d.currency, d.due) = (o.customer_id, o.currency, o.due)
         WHERE o.owed > 0) w
  JOIN accounts a USING (customer_id, currency) LEFT JOIN customers c USING (customer_id)
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
    count: int
    receivable: StoredMoney
    account: str


def ageing(view: View, asked: AskAgeing) -> Ageing:
    """What is owed by days past due: by customer and currency, the largest first; and in all."""
    conn, when = view.conn, view.when
    buckets = asked.edges()
    kept = kept_at(conn, when, asked.customer_id)
    filters, given = chosen(asked)
    select = AGEING.format(name=name_at(when, "w"), conditions=" AND ".join(["true", *filters]))
    edges = [1, *(days + 1 for days in buckets)]
    values = {**when.values, **given, "edges": edges}
    names = bucket_names(buckets)
    items: dict[str, AgeingItem] = {}
    totals: dict[str, list[tuple[Decimal, int]]] = {}
    for row in fetch(conn, _Late, f"{kept}{select}", values):
        item = items.get(row.account)
        if item is None:
            none = _in_buckets(names, [NOTHING] * len(names), row.currency)
            item = items[row.account] = AgeingItem.of(
                customer=row.customer, receivable=row.receivable, buckets=none
            )
        owed = money(row.owed, row.currency)
        item.buckets[row.late] = Bucket.of(bucket=names[row.late], amount=owed, count=row.count)
        total = totals.setdefault(row.currency, [NOTHING] * len(names))
        total[row.late] = (total[row.late][0] + row.owed, total[row.late][1] + row.count)
    sums = [
        AgeingTotal.of(
            currency=code,
            receivable=money(Decimal(sum(owed for owed, _ in total)), code),
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


def _in_buckets(
    names: Sequence[str], owed: Sequence[tuple[Decimal, int]], currency: str
) -> list[Bucket]:
    return [
        Bucket.of(bucket=name, amount=money(amount, currency), count=count)
        for name, (amount, count) in zip(names, owed, strict=True)
    ]


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
