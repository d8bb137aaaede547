"""Who stays and who is lost, and in which month."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from analytics.facts.asking import Session
from analytics.facts.scope import Month, OfPurchases
from analytics.figure import Chart, Figure
from analytics.purchases import first_day, ratio
from projections.asking.listing import Paged
from projections.asking.shape import Shape

BEGAN = "SELECT min(day) AS first FROM bought"
SPANS = """
WITH begun AS (
    SELECT customer_id, day,
           coalesce(day > lag(day) OVER turns + $lost_after::INTEGER, true) AS is_begun
      FROM (SELECT DISTINCT customer_id, day FROM bought)
    WINDOW turns AS (PARTITION BY customer_id ORDER BY day)
), numbered AS (
    SELECT customer_id, day,
           count(*) FILTER (is_begun) OVER (PARTITION BY customer_id ORDER BY day) AS span
      FROM begun
), spans AS (
    SELECT customer_id, min(day) AS day, max(day) + $lost_after::INTEGER AS until,
           span = 1 AS is_first
      FROM numbered GROUP BY customer_id, span
)
"""
MONTHS = """
, month AS (
    SELECT unnest(generate_series(date_trunc('month', $first::DATE)::DATE, $last::DATE,
                                  INTERVAL 1 MONTH))::DATE AS month
), period AS (
    SELECT month, greatest(month, $first::DATE) AS begins,
           least(month + INTERVAL 1 MONTH, $last::DATE)::DATE AS ends
      FROM month WHERE month < $last::DATE
), changed AS (
    SELECT DISTINCT customer_id, date_trunc('month', turn)::DATE AS month
      FROM (SELECT customer_id, day AS turn FROM spans
            UNION ALL SELECT customer_id, until FROM spans)
), each AS (
    SELECT begins, customer_id,
           bool_or(day < begins AND begins <= until) AS at_start,
           bool_or(day < ends AND ends <= until) AS at_end,
           bool_or(is_first AND day >= begins) AS is_new
      FROM changed JOIN period USING (month)
      JOIN spans USING (customer_id) WHERE day < ends AND until >= begins
     GROUP BY begins, customer_id
), counted AS (
    SELECT begins,
           count(*) FILTER (at_start AND NOT at_end) AS lost,
           count(*) FILTER (at_end AND NOT at_start AND is_new) AS new,
           count(*) FILTER (at_end AND NOT at_start AND NOT is_new) AS regained
      FROM each GROUP BY begins
)
SELECT begins AS "from", ends AS "to",
       (SELECT count(*) FROM spans WHERE day < $first AND $first <= until)
           + coalesce(sum(new + regained - lost) OVER before, 0)::BIGINT AS customers,
       coalesce(lost, 0) AS lost, coalesce(new, 0) AS new, coalesce(regained, 0) AS regained
  FROM period LEFT JOIN counted USING (begins)
WINDOW before AS (ORDER BY begins ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
 ORDER BY begins
"""
"""A customer is one from the day after a purchase on; spans without a loss are one row each.

Only in the months in which a span begins or ends can a customer be lost or won; all others have the
customers of the month before.
"""


ONE_MONTH = """
SELECT customer_id, CASE WHEN at_start AND at_end THEN 'kept' WHEN at_start THEN 'lost'
                         WHEN is_new THEN 'new' ELSE 'regained' END AS change
  FROM (SELECT customer_id,
               bool_or(day < $begins AND $begins <= until) AS at_start,
               bool_or(day < $ends AND $ends <= until) AS at_end,
               bool_or(is_first AND day >= $begins) AS is_new
          FROM spans WHERE day < $ends AND until >= $begins GROUP BY customer_id)
 WHERE at_start OR at_end
"""
Change = Literal["kept", "lost", "new", "regained"]
LostAfter = Annotated[
    int, Field(ge=1, le=3660, description="Days without a purchase after which one is lost.")
]


class AskRetention(OfPurchases):
    """What may be asked of retention."""

    lost_after_days: LostAfter = 180


class AskChanges(OfPurchases, Paged):
    """What may be asked of the customers behind a month's retention."""

    month: Month
    change: Change | None = None
    lost_after_days: LostAfter = 180


class LostAfterShape(Shape):
    """After how many days without a purchase a customer is lost."""

    lost_after_days: int


class RetentionMonth(Shape):
    """Who stayed in a month, who was lost, who came."""

    from_: date = Field(alias="from")
    to: date
    customers: int
    kept: int
    lost: int
    new: int
    regained: int
    retention: float | None
    churn: float | None


class ChangeShape(Shape):
    """What became of a customer in a month: kept, lost, new or regained."""

    customer_id: UUID
    change: str


def retention(session: Session[OfPurchases], asked: AskRetention) -> list[RetentionMonth]:
    """Month by month: customers at its start, those lost by its end, new and regained ones.

    A customer is one for ``lost_after_days`` after each purchase. Without a window, from the first
    purchase on; never beyond today, for nobody is lost in time that has not come.
    """
    bounds = _bounds(session)
    if bounds is None:
        return []
    values = {"first": bounds[0], "last": bounds[1], "lost_after": asked.lost_after_days}
    return [
        RetentionMonth.of(
            from_=row.pop("from"),
            **row,
            kept=row["customers"] - row["lost"],
            retention=ratio(row["customers"] - row["lost"], row["customers"]),
            churn=ratio(row["lost"], row["customers"]),
        )
        for row in session.rows(SPANS + MONTHS, values)
    ]


def customers(
    session: Session[OfPurchases], asked: AskChanges
) -> tuple[list[ChangeShape], str | None]:
    """Who was a customer in a month, by id, and what became of each in it."""
    bounds = _bounds(session)
    month = first_day(asked.month)
    following = (month + timedelta(days=32)).replace(day=1)
    if bounds is None or month >= bounds[1] or following <= bounds[0]:
        return [], None
    rows, more = session.page(
        f"{SPANS} SELECT * FROM ({ONE_MONTH}) WHERE $change IS NULL OR change = $change",
        "customer_id",
        asked,
        {
            "begins": max(month, bounds[0]),
            "ends": min(following, bounds[1]),
            "lost_after": asked.lost_after_days,
            "change": asked.change,
        },
    )
    return [
        ChangeShape.of(customer_id=UUID(row["customer_id"]), change=row["change"]) for row in rows
    ], more


def _bounds(session: Session[OfPurchases]) -> tuple[date, date] | None:
    """The first day that counts and the one after the last; None where there is none."""
    scope = session.scope
    tomorrow = session.when.today + timedelta(days=1)
    first = scope.start or session.row(BEGAN)["first"]
    last = min(scope.end or tomorrow, tomorrow)
    return None if first is None or first >= last else (first, last)


def _heads(_: Session[OfPurchases], asked: AskRetention | AskChanges) -> LostAfterShape:
    return LostAfterShape(lost_after_days=asked.lost_after_days)


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="retention",
        operation="kept",
        says="Month by month: customers kept, lost, new and regained.",
        asks=AskRetention,
        row=RetentionMonth,
        answer=retention,
        head=LostAfterShape,
        heads=_heads,
        chart=Chart("from", ("retention", "churn")),
    ),
    Figure(
        name="retention/customers",
        operation="changes",
        says="The customers of a month: kept, lost, new or regained.",
        asks=AskChanges,
        row=ChangeShape,
        answer=customers,
        head=LostAfterShape,
        heads=_heads,
    ),
)
