"""Figures over purchases, beside others that read the same Parquet files; less is better.

analytics.rfm         customers by segment, by value
analytics.cohorts     who comes back in which month
analytics.repurchase  days between purchases, of customers and of products
.duckdb               beside DuckDB with bare SQL written for this very question
.pandas, .polars      beside the same computation in these libraries
.scan                 beside reading the columns that the question needs, and no more
(none), .memory       in milliseconds; the most memory that the process held, in MiB

Ten million purchases of a million customers, or as many as PLEDGE_BENCH_PURCHASES says, from a
tenth as many. Each answer is given by a new process on two threads, and timed from when everything
is imported; all sides take turns, and whatever they answer must be the same.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from databases import Server
from measuring import Result, console

QUESTIONS = ("rfm", "cohorts", "repurchase")
YARDSTICKS = ("duckdb", "pandas", "polars", "scan")
NAMES = tuple(
    f"analytics.{question}.{yardstick}{of}"
    for question in QUESTIONS
    for yardstick in YARDSTICKS
    for of in ("", ".memory")
)
PURCHASES = int(os.environ.get("PLEDGE_BENCH_PURCHASES", "10_000_000"))
ROUNDS = 3
HERE = Path(__file__).parent
THREADS = {"POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "2"}
"""DuckDB is told by its own settings."""


def measure(server: Server, names: list[str], seconds: float) -> Iterator[Result]:  # noqa: ARG001 - files, and whole answers
    root = tempfile.mkdtemp(prefix="pledge-bench-facts-")
    try:
        console.print(f"[dim]{PURCHASES:,} purchases being written")
        _run("purchases.py", root, str(PURCHASES))
        for question in QUESTIONS:
            wanted = [name for name in names if name.startswith(f"analytics.{question}.")]
            if wanted:
                yield from _compare(question, root, wanted)
    finally:
        shutil.rmtree(root)


def _compare(question: str, root: str, names: list[str]) -> Iterator[Result]:
    yardsticks = [y for y in YARDSTICKS if any(y in name.split(".") for name in names)]
    took: dict[str, dict[str, list[float]]] = {
        side: {"seconds": [], "peak": []} for side in ("ours", *yardsticks)
    }
    for turn in range(1, ROUNDS + 1):
        ours = _answer("figures_ours", question, root, took["ours"])
        for yardstick in yardsticks:
            side = f"yardsticks.figures_{yardstick}"
            other = _answer(side, question, root, took[yardstick])
            assert other is None or _agree(ours, other), f"{yardstick} answers something else"
        told = (
            f"{side} {of['seconds'][-1]:.1f} s, {of['peak'][-1]:,.0f} MiB"
            for side, of in took.items()
        )
        console.print(f"  [dim]{turn}/{ROUNDS}[/]  {question}: {'; '.join(told)}")
    for name in names:
        beside = took[name.split(".")[2]]
        if name.endswith(".memory"):
            yield Result(name, "MiB", took["ours"]["peak"], beside["peak"])
        else:
            ours, theirs = ([s * 1e3 for s in of["seconds"]] for of in (took["ours"], beside))
            yield Result(name, "ms", ours, theirs)


def _answer(side: str, question: str, root: str, took: dict[str, list[float]]) -> Any:
    told = json.loads(_run("alone.py", side, question, root))
    for name, figures in took.items():
        figures.append(told[name])
    return told["answer"]


def _run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(HERE / script), *arguments]
    environment = {**os.environ, **THREADS}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def _agree(one: Any, other: Any) -> bool:
    """The same but for the last of six digits, which ours rounds from exact fractions."""
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(one, other, abs_tol=1.5e-6)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_agree(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_agree, one, other))
    return bool(one == other)
