"""Figures as DuckDB gives them to whoever writes their SQL by hand, straight over the files."""

from __future__ import annotations

from typing import Any

import duckdb

BOUGHT = """
cancelled AS (SELECT order_id FROM '{root}/purchase_changes/*.parquet' WHERE kind = 'cancelled'),
added AS (
    SELECT order_id, sum(amount) AS more FROM '{root}/purchase_changes/*.parquet'
     WHERE kind = 'line-added' GROUP BY order_id
),
bought AS (
    SELECT order_id, customer_id, occurred_at::DATE AS day, amount + coalesce(more, 0) AS amount
      FROM '{root}/purchases/*.parquet'
      ANTI JOIN cancelled USING (order_id) LEFT JOIN added USING (order_id)
)
"""
RFM = """
WITH {bought}, each AS (
    SELECT DATE '2027-01-01' - max(day) AS r, count(*) AS f, sum(amount) AS m
      FROM bought GROUP BY customer_id
), overall AS (SELECT count(*) AS n, sum(r) AS r, sum(f) AS f, sum(m) AS m FROM each)
SELECT each.r * n < overall.r, each.f * n > overall.f, each.m * n > overall.m,
       count(*), sum(each.f)::BIGINT, (100 * sum(each.m))::BIGINT
  FROM each, overall GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
REPURCHASE = """
WITH {bought}, each AS (
    SELECT max(day) - min(day) AS days, count(*) - 1 AS gaps,
           min(day, 2)[2] - min(day) AS first
      FROM bought GROUP BY customer_id HAVING count(*) > 1
)
SELECT count(*), sum(gaps)::BIGINT, sum(days) / sum(gaps), sum(days / gaps) / count(*),
       sum(first) / count(*)
  FROM each
"""
PRODUCTS = """
WITH {bought}, of_product AS (
    SELECT DISTINCT customer_id, product, order_id, day
      FROM bought JOIN '{root}/purchase_lines/*.parquet' USING (order_id)
), each AS (
    SELECT product, max(day) - min(day) AS days, count(*) - 1 AS gaps
      FROM of_product GROUP BY customer_id, product HAVING count(*) > 1
)
SELECT product, count(*), sum(gaps)::BIGINT, sum(days) / sum(gaps)
  FROM each GROUP BY product ORDER BY product
"""
COHORTS = """
WITH {bought}, first AS (
    SELECT customer_id, date_trunc('month', min(day)) AS cohort FROM bought GROUP BY customer_id
), sizes AS (SELECT cohort, count(*) AS size FROM first GROUP BY cohort), active AS (
    SELECT cohort, datediff('month', cohort, day) AS month,
           count(DISTINCT customer_id) AS customers, count(*) AS purchases, sum(amount) AS amount
      FROM bought JOIN first USING (customer_id) GROUP BY ALL
)
SELECT cohort::DATE::TEXT, size, month, customers, customers / size, purchases,
       (100 * amount)::BIGINT
  FROM active JOIN sizes USING (cohort) ORDER BY cohort, month
"""


def rfm(root: str) -> list[Any]:
    return _rows(root, RFM)


def repurchase(root: str) -> dict[str, Any]:
    names = ("customers", "gaps", "mean_gap", "mean_of_means", "first_gap")
    [overall] = _rows(root, REPURCHASE)
    return {**dict(zip(names, overall, strict=True)), "products": _rows(root, PRODUCTS)}


def cohorts(root: str) -> list[Any]:
    return _rows(root, COHORTS)


def _rows(root: str, query: str) -> list[Any]:
    with duckdb.connect(config={"threads": 2}) as conn:
        conn.execute("SET TimeZone = 'UTC'")
        bought = BOUGHT.format(root=root)
        return conn.execute(query.format(bought=bought, root=root)).fetchall()
