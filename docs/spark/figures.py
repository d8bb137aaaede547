"""RFM, repurchase cycles and cohorts, made by Spark from the files of facts.

    spark-submit docs/spark/figures.py s3a://bucket/facts s3a://bucket/figures --as-of 2026-03-31

The first place is what PLEDGE_FACTS names, as Spark writes it: s3a:// where Pledge says s3://. Into
the second go three tables in Parquet, whose rows name the position of the ledger that they reflect.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pyspark.sql import SparkSession
from pyspark.sql.functions import lit

HERE = Path(__file__).parent
FACTS = {
    "purchases": "position BIGINT, occurred_at TIMESTAMP, order_id STRING, customer_id STRING, "
    "amount DECIMAL(24, 4), currency STRING",
    "purchase_changes": "position BIGINT, occurred_at TIMESTAMP, order_id STRING, kind STRING, "
    "amount DECIMAL(24, 4), currency STRING, payment_id STRING",
    "credits": "position BIGINT, occurred_at TIMESTAMP, payment_id STRING, customer_id STRING, "
    "amount DECIMAL(24, 4), currency STRING",
}
"""The columns that are asked for; a file has more."""
FIGURES = ("rfm", "repurchase", "cohorts")


def newest(spark: SparkSession, facts: str) -> dict[str, Any]:
    """The manifest that holds: the one with the highest number.

    While facts are written anew, it names those before them, which hold until then.
    """
    manifests = f"{facts}/manifests"
    found = spark.read.option("pathGlobFilter", "*.json").text(manifests).inputFiles()
    name = max(file.rpartition("/")[2] for file in found)
    [[text]] = spark.read.text(f"{manifests}/{name}", wholetext=True).collect()
    told: dict[str, Any] = json.loads(text)
    found: dict[str, Any] = told.get("before") or told
    if found["position"] < found.get("goal", 0):
        raise SystemExit(f"the facts are being written; {found['position']} events are read")
    return found


def name_facts(spark: SparkSession, asked: Namespace) -> int:
    """Let each table be the files that count, up to both clocks; the position they reflect."""
    manifest = newest(spark, asked.facts)
    position = manifest["position"] if asked.known_at is None else asked.known_at
    if position > manifest["position"]:
        raise SystemExit(f"the facts are at position {manifest['position']} only")
    for table, columns in FACTS.items():
        files = [f"{asked.facts}/{name}" for name, _ in manifest["files"].get(table, ())]
        rows = (
            spark.read.schema(columns).parquet(*files)
            if files
            else spark.createDataFrame([], columns)
        ).where(f"position <= {position}")
        if asked.as_of is not None and table != "credits":
            rows = rows.where(f"occurred_at < CAST(date_add(DATE '{asked.as_of}', 1) AS TIMESTAMP)")
        rows.createOrReplaceTempView(table)
    return int(position)


def only_currency(spark: SparkSession) -> str:
    """Amounts of two currencies are never added."""
    found = [row[0] for row in spark.sql("SELECT DISTINCT currency FROM purchases").collect()]
    if len(found) > 1:
        raise SystemExit(f"there are purchases in {', '.join(sorted(found))}; name a --currency")
    return str(found[0]) if found else ""


def write(spark: SparkSession, asked: Namespace) -> None:
    """Make the figures."""
    position = name_facts(spark, asked)
    values = {
        "basis": asked.basis,
        "currency": asked.currency or only_currency(spark),
        "start": asked.start,
        "end": asked.end,
        "as_of": asked.as_of,
        "today": asked.as_of or datetime.now(ZoneInfo(asked.time_zone)).date(),
    }
    bought = spark.sql((HERE / "bought.sql").read_text(encoding="utf-8"), values)
    bought.createOrReplaceTempView("bought")
    for figure in FIGURES:
        rows = spark.sql((HERE / f"{figure}.sql").read_text(encoding="utf-8"), values)
        whole = rows.withColumn("position", lit(position))
        whole.write.mode("overwrite").parquet(f"{asked.into}/{figure}")


def main() -> None:
    """Read what is asked for, and make it."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("facts", help="where the facts are")
    parser.add_argument("into", help="where the figures go")
    parser.add_argument("--time-zone", default="UTC", help="the company's")
    parser.add_argument("--basis", default="ordered", choices=("ordered", "received", "net"))
    parser.add_argument("--currency", help="needed where there are several")
    day = date.fromisoformat
    parser.add_argument("--from", dest="start", type=day, help="the window's first day")
    parser.add_argument("--to", dest="end", type=day, help="the day after its last one")
    parser.add_argument("--as-of", type=day, help="what happened up to that day's end")
    parser.add_argument("--known-at", type=int, help="what was known at that position")
    asked = parser.parse_args()
    builder = SparkSession.builder.appName("pledge figures")
    spark = builder.config("spark.sql.session.timeZone", asked.time_zone).getOrCreate()
    try:
        write(spark, asked)
    finally:
        spark.stop()


if __name__ == "__main__":
    main()
