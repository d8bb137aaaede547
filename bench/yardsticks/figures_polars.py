"""Figures with polars, lazily and with its streaming engine, which needs the least memory."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl

TODAY = date(2027, 1, 1)
N = pl.len()
DAY = pl.col("day")


def rfm(root: str) -> list[Any]:
    each = (
        _bought(root)
        .group_by("customer_id")
        .agg(r=(pl.lit(TODAY) - DAY.max()).dt.total_days(), f=N.cast(int), m=pl.col("cents").sum())
        .collect(engine="streaming")
    )
    r, f, m = (pl.col(name) for name in "rfm")
    found = each.group_by(
        (r * N < r.sum()).over(1).alias("recent"),
        (f * N > f.sum()).over(1).alias("often"),
        (m * N > m.sum()).over(1).alias("much"),
    ).agg(N, f.sum(), m.sum())
    return sorted(map(list, found.rows()))


def repurchase(root: str) -> dict[str, Any]:
    bought = _bought(root)
    days = (DAY.max() - DAY.min()).dt.total_days()
    each = (
        bought.group_by("customer_id")
        .agg(
            days=days,
            gaps=N - 1,
            first=(DAY.bottom_k(2).max() - DAY.min()).dt.total_days(),
        )
        .filter(pl.col("gaps") > 0)
        .select(
            customers=N,
            gaps=pl.col("gaps").sum(),
            mean_gap=pl.col("days").sum() / pl.col("gaps").sum(),
            mean_of_means=(pl.col("days") / pl.col("gaps")).mean(),
            first_gap=pl.col("first").mean(),
        )
        .collect(engine="streaming")
    )
    lines = (
        pl.scan_parquet(f"{root}/purchase_lines/*.parquet").select("order_id", "product").unique()
    )
    products = (
        bought.join(lines, on="order_id")
        .group_by("customer_id", "product")
        .agg(days=days, gaps=N - 1)
        .filter(pl.col("gaps") > 0)
        .group_by("product")
        .agg(N, pl.col("gaps").sum(), mean_gap=pl.col("days").sum() / pl.col("gaps").sum())
        .sort("product")
        .collect(engine="streaming")
    )
    return {**each.row(0, named=True), "products": products.rows()}


def cohorts(root: str) -> list[Any]:
    bought = _bought(root)
    first = (
        bought.group_by("customer_id")
        .agg(cohort=DAY.min().dt.truncate("1mo"))
        .collect(engine="streaming")
    )
    sizes = first.group_by("cohort").agg(size=N)
    cohort = pl.col("cohort")
    months = 12 * (DAY.dt.year() - cohort.dt.year()) + DAY.dt.month() - cohort.dt.month()
    active = (
        bought.join(first.lazy(), on="customer_id")
        .group_by("cohort", months.alias("month"), "customer_id")
        .agg(purchases=N, cents=pl.col("cents").sum())
        .group_by("cohort", "month")
        .agg(customers=N, purchases=pl.col("purchases").sum(), cents=pl.col("cents").sum())
        .collect(engine="streaming")
    )
    found = (
        active.join(sizes, on="cohort")
        .sort("cohort", "month")
        .select(
            cohort.cast(str),
            "size",
            "month",
            "customers",
            retention=pl.col("customers") / pl.col("size"),
            purchases="purchases",
            cents="cents",
        )
    )
    return found.rows()


def _bought(root: str) -> pl.LazyFrame:
    changes = pl.scan_parquet(f"{root}/purchase_changes/*.parquet")
    cancelled = changes.filter(pl.col("kind") == "cancelled").select("order_id")
    added = (
        changes.filter(pl.col("kind") == "line-added")
        .group_by("order_id")
        .agg(more=(pl.col("amount") * 100).sum().cast(pl.Int64))
    )
    return (
        pl.scan_parquet(f"{root}/purchases/*.parquet")
        .select("order_id", "customer_id", "occurred_at", "amount")
        .join(cancelled, on="order_id", how="anti")
        .join(added, on="order_id", how="left")
        .select(
            "order_id",
            "customer_id",
            day=pl.col("occurred_at").dt.date(),
            cents=(pl.col("amount") * 100).cast(pl.Int64) + pl.col("more").fill_null(0),
        )
    )
