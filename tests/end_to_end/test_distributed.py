"""The whole deployment around Kafka, while any part of it dies at any moment.

The long form is ``make test-faults``: PLEDGE_TEST_FAULT_SECONDS and PLEDGE_TEST_KAFKA_NODES say how
long, and on how many nodes, like ``1,3``.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx2
import psutil
import psycopg
import pytest

from tests.end_to_end.running import Deployment, stopped
from tests.end_to_end.test_killed_at_any_moment import (
    Story,
    answered,
    at_random,
    begin,
    check,
    go_on,
)
from tests.events.test_relay import assert_whole
from tests.outside import records_of

__all__ = ["at_random"]
pytestmark = pytest.mark.slow(120)

SECONDS = int(os.environ.get("PLEDGE_TEST_FAULT_SECONDS", "25"))
NODES = [int(n) for n in os.environ.get("PLEDGE_TEST_KAFKA_NODES", "3").split(",")]
CHUNK = 100
RETRY_SECONDS = 180
LONGER_SECONDS = 240
"""At most so much longer, until every kind of death came, one of them amid commands."""
EVERY_NODE = "all-of-kafka"
DEATHS = {"commands", "relay", "projections", "kafka", EVERY_NODE, "postgres", "hung"}
IS_LONG = SECONDS > 60
PAUSES = (1.0, 5.0) if IS_LONG else (0.5, 2.5)
LONGEST_HANG_SECONDS = 15 if IS_LONG else 6

LEADS = """
WITH told AS (
    SELECT DISTINCT ON (stream_id) stream_id, payload->>'owner' AS owner
      FROM ledger.readable_events WHERE type = 'lead.claimed' ORDER BY stream_id, version DESC
), known AS (
    SELECT e.stream_id, told.owner FROM ledger.events e LEFT JOIN told USING (stream_id)
     WHERE e.type = 'lead.captured'
)
SELECT count(*) FROM known FULL JOIN view_leads.leads l ON l.lead_id = known.stream_id
 WHERE l.lead_id IS NULL OR known.stream_id IS NULL OR known.owner IS DISTINCT FROM l.owner
"""
DEALS = """
WITH told AS (
    SELECT stream_id, max(version) AS version, bool_or(type = 'opportunity.won') AS won,
           count(*) FILTER (WHERE type = 'opportunity.stage-moved') AS moves
      FROM ledger.events WHERE stream_type = 'opportunity' GROUP BY stream_id
)
SELECT count(*) FROM told FULL JOIN view_opportunities.opportunities o
    ON o.opportunity_id = told.stream_id
 WHERE told.version IS DISTINCT FROM o.version OR told.won IS DISTINCT FROM (o.kind = 'won')
    OR (SELECT count(*) FROM view_opportunities.deal_facts f
         WHERE f.deal_id = told.stream_id AND f.stage IS NOT NULL)
       <> told.moves + 1 + told.won::int
"""
PROMISES = """
WITH told AS (
    SELECT payload->>'promise_id' AS id, bool_or(type = 'customer.promise-kept') AS kept
      FROM ledger.readable_events WHERE type LIKE 'customer.promise-%%' GROUP BY 1
)
SELECT count(*) FROM told FULL JOIN view_promises.promises p ON p.promise_id::text = told.id
 WHERE CASE WHEN told.kept THEN 'kept' ELSE 'open' END IS DISTINCT FROM p.status
"""
ENTRIES = """
SELECT count(*) FROM ledger.events e FULL JOIN view_timeline.timeline_entries t
    ON t.stream_id = e.stream_id AND t.version = e.version
 WHERE e.position IS DISTINCT FROM t.position
"""


class Breaking:
    """Kills one process after another, at random moments, until it is told to stop.

    PostgreSQL is also stopped for a while, with all its processes: it hangs, and goes on.
    """

    def __init__(self, deployment: Deployment, chance: random.Random) -> None:
        self._deployment = deployment
        self._chance = chance
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.killed: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        victims: list[str] = []
        while not self._stop.wait(self._chance.uniform(*PAUSES)):
            if not victims:
                victims = [*self._deployment.pids(), "postgres", EVERY_NODE, "hung"]
                self._chance.shuffle(victims)
            self._kill(victims.pop())

    def _kill(self, victim: str) -> None:
        with suppress(ProcessLookupError, FileNotFoundError, psutil.NoSuchProcess):
            if victim == "postgres":
                how = self._chance.choice([signal.SIGINT, signal.SIGKILL])
                os.kill(self._deployment.postmaster(), how)
            elif victim == "hung":
                seconds = self._chance.uniform(1, LONGEST_HANG_SECONDS)
                with stopped(self._deployment.postmaster()):
                    self._stop.wait(seconds)
            else:
                pids = self._deployment.pids()
                found = (
                    [pid for name, pid in pids.items() if name.startswith("kafka")]
                    if victim == EVERY_NODE
                    else [pids[victim]]
                )
                if None in found:
                    return  # dead already
                for pid in found:
                    os.kill(pid or 0, signal.SIGKILL)
            self.killed[victim.partition(" ")[0]] += 1


def send_until_answered(deployment: Deployment, lines: list[bytes]) -> tuple[list[Any], int]:
    """The answers, and how often they did not come."""
    deadline, lost = time.monotonic() + RETRY_SECONDS, 0
    while (answers := answered(deployment, lines)) is None:
        assert time.monotonic() < deadline, deployment.said()
        lost += 1
        time.sleep(0.2)
    return answers, lost


class Reading:
    """Asks questions all the while; none is answered with less than one before it."""

    def __init__(self) -> None:
        self.answered = self.fulfilled = 0
        self._seen = 0

    def ask(self, deployment: Deployment, position: int) -> None:
        """For what is there, and for what was just written; neither has to be answered now."""
        for least in (None, position):
            found = self._asked(deployment, {"min_position": least} if least else {})
            if found is not None:
                assert found >= max(self._seen, least or 0)
                self._seen = found
                self.answered += least is None
                self.fulfilled += least is not None

    def _asked(self, deployment: Deployment, params: dict[str, int]) -> int | None:
        try:
            answer = deployment.client.get("/leads", params={**params, "limit": 1})
        except httpx2.TransportError:
            return None
        if answer.status_code == 503:
            return None
        assert answer.status_code == 200, answer.text
        return int(answer.json()["position"])


@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize("nodes", NODES)
def test_nothing_is_lost_and_nothing_is_there_twice_whatever_dies(
    folder: Path, at_random: random.Random, nodes: int
) -> None:
    told = Story(at_random)
    begin(told)
    sent = lost = 0
    reading = Reading()
    with Deployment(folder / "home", nodes=nodes) as deployment:
        with Breaking(deployment, at_random) as breaking:
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline or (
                time.monotonic() < deadline + LONGER_SECONDS
                and not (lost and reading.answered and breaking.killed.keys() >= DEATHS)
            ):
                go_on(told, CHUNK)
                lines = told.lines[sent:]
                answers, missed = send_until_answered(deployment, lines)
                lost += missed
                for n, answer in enumerate(answers, sent):
                    expected = told.expected[f"line {n}"]
                    assert answer["status"] == expected.status, (n, answer, expected)
                sent += len(lines)
                reading.ask(deployment, answers[-1]["position"])
        assert breaking.killed.keys() >= DEATHS
        assert lost > 0, "no death came while commands were under way"
        assert reading.answered > 0, "no question was answered"
        deployment.wait_until_ready()
        head = deployment.wait_until_shown(RETRY_SECONDS)
        with psycopg.connect(deployment.database()) as conn:
            check(conn, told, head)
            for oracle in (LEADS, DEALS, PROMISES, ENTRIES):
                assert conn.execute(oracle.replace("%%", "%").encode()).fetchone() == (0,), oracle
            bootstrap = deployment.bootstrap()
            assert_whole(deployment.database(), records_of(bootstrap, "pledge.events.2"))
        for how in ((), ("--shuffle", "seven")):
            done = deployment.run("audit", "replay", *how)
            assert done.returncode == 0, done.stdout + done.stderr
    print(  # noqa: T201 - what an hour of faults did is its result
        f"{sent} commands, {head} events; killed {dict(breaking.killed)}; {lost} answers lost; "
        f"{reading.answered} questions answered, {reading.fulfilled} with what was just written"
    )
