"""No figures: DuckDB reads the columns that they need, each value once, and that is all."""

from __future__ import annotations

import duckdb

PURCHASES = """
SELECT sum(strlen(order_id)), sum(strlen(customer_id)), sum(epoch_us(occurred_at)){amount}
  FROM '{root}/purchases/*.parquet'
"""
CHANGES = """
SELECT sum(strlen(order_id)), sum(strlen(kind)), sum(amount)
  FROM '{root}/purchase_changes/*.parquet'
"""
LINES = "SELECT sum(strlen(order_id)), sum(strlen(product)) FROM '{root}/purchase_lines/*.parquet'"


def rfm(root: str) -> None:
    _read(root, PURCHASES.format(root=root, amount=", sum(amount)"), CHANGES)


def repurchase(root: str) -> None:
    _read(root, PURCHASES.format(root=root, amount=""), CHANGES, LINES)


cohorts = rfm


def _read(root: str, *queries: str) -> None:
    with duckdb.connect(config={"threads": 2}) as conn:
        for query in queries:
            conn.execute(query.format(root=root)).fetchall()
