"""Who stays and who is lost."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from analytics.asking import Session
from analytics.purchases import ratio

BEGAN = "SELECT min(day) AS first FROM bought"
MONTHS = """
WITH boundary AS (
    SELECT unnest(generate_series(date_trunc('month', $first::DATE)::DATE, $last::DATE,
                                  INTERVAL 1 MONTH))::DATE AS point
), period AS (
    SELECT greatest(point, $first::DATE) AS begins,
           least(point + INTERVAL 1 MONTH, $last::DATE)::DATE AS ends
      FROM boundary WHERE point < $last::DATE
), moment AS (
    SELECT begins AS point FROM period UNION SELECT ends FROM period
), customer AS (
    SELECT point, customer_id
      FROM bought JOIN moment ON day < point AND day >= point - $lost_after::INTEGER
     GROUP BY ALL
), first AS (
    SELECT customer_id, min(day) AS day FROM bought GROUP BY 1
), kept AS (
    SELECT begins, count(*) AS customers, count(*) FILTER (later.customer_id IS NULL) AS lost
      FROM period JOIN customer ON customer.point = begins
      LEFT JOIN customer later ON later.point = ends AND later.customer_id = customer.customer_id
     GROUP BY begins
), came AS (
    SELECT begins, count(*) FILTER (first.day >= begins) AS new,
           count(*) FILTER (first.day < begins) AS regained
      FROM period JOIN customer ON customer.point = ends JOIN first USING (customer_id)
      LEFT JOIN customer before
        ON before.point = begins AND before.customer_id = customer.customer_id
     WHERE before.customer_id IS NULL GROUP BY begins
)
SELECT begins AS "from", ends AS "to", coalesce(customers, 0) AS customers,
       coalesce(lost, 0) AS lost, coalesce(new, 0) AS new, coalesce(regained, 0) AS regained
  FROM period LEFT JOIN kept USING (begins) LEFT JOIN came USING (begins) ORDER BY begins
"""


def retention(session: Session, lost_after_days: int) -> list[dict[str, Any]]:
    """Month by month: customers at its start, those lost by its end, new and regained ones.

    A customer is one for ``lost_after_days`` after each purchase. Without a window, from the month
    of the first purchase up to today.
    """
    scope = session.scope
    first = scope.start or session.row(BEGAN)["first"]
    last = scope.end or scope.when.today + timedelta(days=1)
    if first is None or first >= last:
        return []
    return [_shown(row) for row in _months(session, first, last, lost_after_days)]


def _months(session: Session, first: date, last: date, lost_after: int) -> list[dict[str, Any]]:
    return session.rows(MONTHS, {"first": first, "last": last, "lost_after": lost_after})


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    start, lost = row["customers"], row["lost"]
    return {
        **row,
        "retention": ratio(start - lost, start),
        "churn": ratio(lost, start),
    }
