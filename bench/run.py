"""Measures Pledge beside its yardsticks: ``python bench/run.py [NAME …] [--seconds 2]``.

A NAME is a benchmark or the beginning of several, like ``write`` or ``write.create``. Each pair is
measured in one run, in turn, on one embedded PostgreSQL; figures are medians. Writes results.json
beside this file. What is measured against what stands at the head of each family's file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from pathlib import Path

import figures
import importing
import latency
import over_http
import project
import read
import relay
import write
from databases import server
from measuring import ROUNDS, Result, console
from rich.table import Table

FAMILIES = (write, over_http, importing, project, read, relay, latency, figures)
RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    names = [name for family in FAMILIES for name in family.NAMES]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", help=", ".join(names))
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one round")
    asked = parser.parse_args()
    wanted = [n for n in names if not asked.name or any(_within(n, a) for a in asked.name)]
    if not wanted:
        parser.error(f"choose from {', '.join(names)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    results: list[Result] = []
    with server() as postgres:
        about = (
            f"Python {platform.python_version()}, PostgreSQL {postgres.version()}, "
            f"{os.cpu_count()} cores, {ROUNDS} rounds of {asked.seconds:g} s a side"
        )
        for family in FAMILIES:
            chosen = [name for name in family.NAMES if name in wanted]
            if chosen:
                results += family.measure(postgres, chosen, asked.seconds)
    show(results, f"{about}; {time.monotonic() - began:.0f} s in all")
    keep(results, names)


def keep(results: list[Result], names: list[str]) -> None:
    """Write the figures down; those of benchmarks left out this time stay as they were."""
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    known = {row["name"]: row for row in [*old, *(result.as_json() for result in results)]}
    rows = [known[name] for name in names if name in known]
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n")


def show(results: list[Result], about: str) -> None:
    table = Table(title="Pledge beside its yardsticks", caption=about)
    for heading in ("benchmark", "ours", "", "yardstick", "", "ratio", "unit"):
        table.add_column(heading, justify="left" if heading in ("benchmark", "unit") else "right")
    for result in results:
        ours, yardstick = result.as_json()["ours"], result.as_json()["yardstick"]
        table.add_row(
            result.name,
            f"{ours:,.0f}",
            f"[dim]{min(result.ours):,.0f}-{max(result.ours):,.0f}",
            f"{yardstick:,.0f}",
            f"[dim]{min(result.yardstick):,.0f}-{max(result.yardstick):,.0f}",
            f"[bold]{result.ratio:.2f}",
            result.unit,
        )
    console.print(table)
    for result in results:
        if result.note:
            console.print(f"{result.name}: {result.note}")


def _within(name: str, asked: str) -> bool:
    return name == asked or name.startswith(asked + ".")


if __name__ == "__main__":
    main()
