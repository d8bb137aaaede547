"""Customers by the month of their first purchase, and who of them came back when."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from analytics.facts.asking import Session
from analytics.facts.scope import Month, OfPurchases
from analytics.figure import Chart, Figure
from analytics.purchases import first_day, ratio, shown_in
from projections.asking.listing import Paged
from projections.asking.money import Balance
from projections.asking.shape import Shape

MONTHS = """
CREATE TEMP TABLE months AS
SELECT customer_id::UUID AS customer_id, date_trunc('month', day)::DATE AS month,
       count(*) FILTER (in_window) AS purchases, sum(amount) FILTER (in_window) AS amount
  FROM bought GROUP BY ALL
"""
COHORTS = """
WITH first AS (SELECT customer_id, min(month) AS cohort FROM months GROUP BY customer_id),
     sizes AS (SELECT cohort, count(*) AS size FROM first GROUP BY cohort)
SELECT cohort, size, datediff('month', cohort, month) AS month, count(*) AS customers,
       sum(purchases)::BIGINT AS purchases, sum(amount) AS amount
  FROM months JOIN first USING (customer_id) JOIN sizes USING (cohort)
 WHERE purchases > 0 GROUP BY ALL ORDER BY ALL
"""
COHORT = """
SELECT customer_id::VARCHAR AS customer_id, sum(purchases)::BIGINT AS purchases,
       sum(amount) AS amount
  FROM months JOIN (
       SELECT customer_id, min(month) AS cohort FROM months GROUP BY customer_id
  ) USING (customer_id)
 WHERE cohort = $cohort AND ($month IS NULL OR datediff('month', cohort, month) = $month)
 GROUP BY customer_id HAVING $month IS NULL OR sum(purchases) > 0
"""


class AskCohort(OfPurchases, Paged):
    """What may be asked of a cohort."""

    cohort: Month
    month: Annotated[
        int | None,
        Field(
            ge=0,
            le=12_000,
            description="Only those who bought in this month after their first purchase.",
        ),
    ] = None


class CohortMonth(Shape):
    """What those do who first bought in one month, so many months later."""

    cohort: date
    size: int
    month: int
    customers: int
    retention: float | None
    purchases: int
    amount: Balance | None


class CohortMember(Shape):
    """What a customer of a cohort bought, in the month asked for or in all of them."""

    customer_id: UUID
    purchases: int
    amount: Balance | None


def cohorts(session: Session[OfPurchases], _: OfPurchases) -> list[CohortMonth]:
    """Customers by the month of their first purchase, in each month after it in which any bought.

    ``retention`` is the share of the cohort's ``size`` that bought in that month.
    """
    shown = shown_in(session)
    session.run(MONTHS)
    return [
        CohortMonth.of(
            cohort=row["cohort"],
            size=row["size"],
            month=row["month"],
            customers=row["customers"],
            retention=ratio(row["customers"], row["size"]),
            purchases=row["purchases"],
            amount=shown(row["amount"]),
        )
        for row in session.rows(COHORTS)
    ]


def cohort(
    session: Session[OfPurchases], asked: AskCohort
) -> tuple[list[CohortMember], str | None]:
    """The customers of a cohort, by id: all, or those who bought in its so many-th month."""
    shown = shown_in(session)
    session.run(MONTHS)
    values = {"cohort": first_day(asked.cohort), "month": asked.month}
    rows, more = session.page(COHORT, "customer_id", asked, values)
    return [
        CohortMember.of(
            customer_id=UUID(row["customer_id"]),
            purchases=row["purchases"],
            amount=shown(row["amount"] or Decimal(0)),
        )
        for row in rows
    ], more


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="cohorts",
        operation="cohorts",
        says="Customers by the month of their first purchase, and who of them bought again when.",
        asks=OfPurchases,
        row=CohortMonth,
        answer=cohorts,
        chart=Chart("month", ("retention",), by="cohort"),
    ),
    Figure(
        name="cohorts/customers",
        operation="cohort_members",
        says="The customers of a cohort, or those of them who bought in one of its months.",
        asks=AskCohort,
        row=CohortMember,
        answer=cohort,
    ),
)
