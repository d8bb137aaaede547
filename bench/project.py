"""Events a second into one read model, deals: opened, moved, quoted, won; rows of four tables.

project.live     the runner keeps the model up to the ledger from its first event, default batch
project.rebuild  the model is built anew beside the live one, indexed and swapped in

The yardstick of both is the library's ProjectionRunner over an application that holds the same
facts: its Projection writes the same rows to the same tables, one transaction an event. Its clock
runs from its first event's arrival to its last one's commit, so its start-up costs it nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import orjson
import psycopg
from bodies import STEPS, deals
from databases import Server, count, ledger_in
from eventsourcing.projection import ProjectionRunner
from measuring import Contender, Measure, Result, compare, process_of
from yardsticks.customers import environment
from yardsticks.deals import DealApplication, fill
from yardsticks.deals_view import Deals, DealsView

from commands.handling.outcome import Appended
from commands.handling.writer import GROUP
from commands.http.wire import from_line
from events.envelope import Actor
from pledge.wiring import Parts
from projections.engine.rebuild import create, rebuild
from projections.engine.runner import Runner
from projections.opportunities import MODEL

NAMES = ("project.live", "project.rebuild")
OUR_DEALS_PER_SECOND = 5_000
STOCK_DEALS_PER_SECOND = 300
TABLES = {"opportunities": 1, "deal_facts": 4, "quotes": 1}
"""Rows of each deal."""


def measure(server: Server, names: list[str], seconds: float) -> Iterator[Result]:
    our_url, stock_url = server.database("project_ours"), server.database("project_stock")
    with (
        process_of(ours, our_url, int(OUR_DEALS_PER_SECOND * seconds)) as our_side,
        process_of(stock, stock_url, int(STOCK_DEALS_PER_SECOND * seconds)) as stock_side,
    ):
        for name in names:
            yield compare(
                name,
                "events/s",
                Contender(partial(_named, our_side, name), our_url),
                Contender(lambda _: stock_side(), stock_url),
                seconds,
            )


def _named(side: Measure, name: str, _seconds: float) -> tuple[int, float]:
    return side(name)


@contextmanager
def ours(url: str, number: int) -> Iterator[Measure]:
    found = ledger_in(url)
    fill_with_deals(found, number)
    events = STEPS * number

    def measure(name: str) -> tuple[int, float]:
        with found.connect() as conn:
            if name == "project.live":
                took = _live(found, conn, events)
            else:
                create(conn, MODEL)
                began = time.perf_counter()
                assert rebuild(conn, found.keyring(), MODEL) == events
                took = time.perf_counter() - began
        _assert_rows(url, f"{MODEL.schema}.", number)
        return events, took

    yield measure


def _live(found: Parts, conn: psycopg.Connection[Any], events: int) -> float:
    conn.execute(f"DROP SCHEMA IF EXISTS {MODEL.schema} CASCADE".encode())
    conn.execute("DELETE FROM progress.checkpoints")
    runner = Runner(found.connect, found.keyring(), [MODEL])
    runner.prepare(conn)
    began = time.perf_counter()
    assert runner.catch_up(conn) == events
    return time.perf_counter() - began


def fill_with_deals(found: Parts, number: int) -> None:
    """Through our own commands."""
    writer = found.writer()
    try:
        story = list(deals(number))
        for start in range(0, len(story), GROUP):
            requests = [
                from_line(
                    orjson.dumps(
                        {
                            "command": f"opportunities/{verb}",
                            "id": deal_id,
                            "key": f"{deal_id} {verb}",
                            "data": data,
                        }
                    ),
                    Actor("bench"),
                )
                for deal_id, verb, data in story[start : start + GROUP]
            ]
            for outcome in writer.handle(requests):
                assert isinstance(outcome, Appended), outcome
    finally:
        writer.stop()


@contextmanager
def stock(url: str, number: int) -> Iterator[Measure]:
    env = environment(url)
    with DealApplication(env) as app:
        events = fill(app, number)
    assert events == STEPS * number

    def measure() -> tuple[int, float]:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("DROP TABLE IF EXISTS deals_tracking")
            for table in MODEL.tables:
                conn.execute(f"DROP TABLE IF EXISTS {table.name}".encode())
                conn.execute(table.ddl().encode())
                for statement in table.index_ddl():
                    conn.execute(statement.encode())
        with ProjectionRunner(
            application_class=DealApplication,
            projection_class=Deals,
            view_class=DealsView,
            env=env,
        ) as runner:
            projection = cast("Deals", runner.projection)
            projection.expect(events)
            while not projection.done.wait(0.1):
                assert not runner.is_interrupted.is_set(), "the projection failed"
            runner.wait(events)
        _assert_rows(url, "", number)
        return events, projection.ended - projection.began

    yield measure


def _assert_rows(url: str, prefix: str, number: int) -> None:
    for table, rows in TABLES.items():
        assert count(url, prefix + table) == rows * number, table
    done = "kind = 'won' AND stage = 'won' AND amount > 0 AND version = 4 AND closed_at IS NOT NULL"
    assert count(url, f"{prefix}opportunities WHERE {done}") == number
