"""Figures with pandas on Arrow's types; customers and days as numbers, which is the fastest."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pandas as pd

TODAY = pd.Timestamp("2027-01-01", tz="UTC")
DAY_US = 86_400_000_000


def rfm(root: str) -> list[Any]:
    each = (
        _bought(root)
        .groupby("customer")
        .agg(last=("day", "max"), f=("day", "size"), m=("cents", "sum"))
    )
    each["r"] = TODAY.value // 1000 // DAY_US - each["last"]
    n = len(each)
    better = [
        each["r"] * n < each["r"].sum(),
        each["f"] * n > each["f"].sum(),
        each["m"] * n > each["m"].sum(),
    ]
    found = each.groupby(better).agg(n=("f", "size"), f=("f", "sum"), m=("m", "sum"))
    return [[*key, *map(int, row)] for key, row in zip(found.index, found.to_numpy(), strict=True)]


def repurchase(root: str) -> dict[str, Any]:
    bought = _bought(root)
    sorted_ = bought[["customer", "day"]].sort_values(["customer", "day"])
    by = sorted_.groupby("customer")["day"]
    gap = by.diff().dropna()
    each = gap.groupby(sorted_["customer"]).agg(["sum", "size", "first"])
    lines = pd.read_parquet(
        f"{root}/purchase_lines", columns=["order_id", "product"], dtype_backend="pyarrow"
    )
    lines["product"] = lines["product"].astype("category")
    of_product = bought[["order_id", "customer", "day"]].merge(lines, on="order_id")
    del lines, bought
    of_product = of_product.drop_duplicates(["order_id", "product"])
    cycles = of_product.groupby(["product", "customer"], observed=True)["day"].agg(
        ["min", "max", "size"]
    )
    cycles = cycles[cycles["size"] > 1]
    cycles["days"], cycles["gaps"] = cycles["max"] - cycles["min"], cycles["size"] - 1
    products = cycles.groupby("product", observed=True).agg(
        n=("gaps", "size"), gaps=("gaps", "sum"), days=("days", "sum")
    )
    return {
        "customers": len(each),
        "gaps": int(each["size"].sum()),
        "mean_gap": each["sum"].sum() / each["size"].sum(),
        "mean_of_means": (each["sum"] / each["size"]).mean(),
        "first_gap": each["first"].mean(),
        "products": [
            [name, int(row.n), int(row.gaps), row.days / row.gaps]
            for name, row in products.sort_index().iterrows()
        ],
    }


def cohorts(root: str) -> list[Any]:
    bought = _bought(root)[["customer", "day", "cents"]]
    at = pd.to_datetime(bought["day"].astype("int64"), unit="D")
    bought["bought_in"] = 12 * at.dt.year + at.dt.month - 1
    bought["cohort"] = bought.groupby("customer")["bought_in"].transform("min")
    bought["month"] = bought["bought_in"] - bought["cohort"]
    sizes = bought.drop_duplicates("customer").groupby("cohort").size()
    found = bought.groupby(["cohort", "month"]).agg(
        customers=("customer", "nunique"), purchases=("customer", "size"), cents=("cents", "sum")
    )
    return [
        [
            f"{cohort // 12}-{cohort % 12 + 1:02}-01",
            int(sizes[cohort]),
            month,
            int(row.customers),
            row.customers / sizes[cohort],
            int(row.purchases),
            int(row.cents),
        ]
        for (cohort, month), row in found.iterrows()
    ]


def _bought(root: str) -> pd.DataFrame:
    changes = pd.read_parquet(
        f"{root}/purchase_changes",
        columns=["order_id", "kind", "amount"],
        dtype_backend="pyarrow",
    )
    bought = pd.read_parquet(
        f"{root}/purchases",
        columns=["order_id", "customer_id", "occurred_at", "amount"],
        dtype_backend="pyarrow",
    )
    cancelled = changes.loc[changes["kind"] == "cancelled", "order_id"]
    added = changes[changes["kind"] == "line-added"]
    more = _cents(added["amount"]).groupby(added["order_id"]).sum()
    bought = bought[~bought["order_id"].isin(cancelled)]
    bought["customer"] = pd.factorize(bought.pop("customer_id"))[0]
    bought["day"] = bought.pop("occurred_at").astype("int64[pyarrow]").astype("int64") // DAY_US
    bought["cents"] = _cents(bought.pop("amount"))
    bought["cents"] += bought["order_id"].map(more).fillna(0).astype("int64")
    return bought


def _cents(amounts: pd.Series[Any]) -> pd.Series[int]:
    """Exact whole numbers, with which pandas is far faster than with decimals."""
    return (amounts * Decimal(100)).astype("int64[pyarrow]").astype("int64")
