"""The DuckDB of a process: bounds for all questions together, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from analytics.facts.engine import Bounds, Engine, SpillFull, TooLarge
from tests.projections.world import World

SMALL = Bounds(threads=1, memory="40MB", spill_size="20MB")
SORTED = "CREATE TEMP TABLE t AS SELECT md5(i::VARCHAR) AS a FROM range({}) r(i) ORDER BY a"
IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from analytics.facts.engine import Bounds, Engine
engine = Engine(Bounds(spill=Path(sys.argv[1])))
with engine.session():
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(Bounds(SMALL.threads, SMALL.memory, tmp_path, SMALL.spill_size))
    yield made
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_a_question_that_passes_the_bounds_is_refused_and_the_next_one_answered(
    engine: Engine,
) -> None:
    with (
        pytest.raises(TooLarge, match="40MB of memory and 20MB on the disk"),
        engine.session() as s,
    ):
        s.execute(SORTED.format(5_000_000))
    with engine.session() as session:
        assert session.execute("SELECT 1").fetchone() == (1,)


def test_what_does_not_fit_into_memory_lies_on_the_disk_meanwhile(tmp_path: Path) -> None:
    engine = Engine(Bounds(1, "40MB", tmp_path, "1GB"))
    with engine.session() as session:
        session.execute(SORTED.format(1_500_000))
        assert any(path.stat().st_size for path in tmp_path.rglob("duckdb_temp*"))
        assert session.execute("SELECT count(*) FROM t").fetchone() == (1_500_000,)
    engine.close()
    assert list(tmp_path.iterdir()) == []


def test_sessions_know_nothing_of_each_other(engine: Engine) -> None:
    with engine.session() as one, engine.session() as other:
        for session, value in ((one, 1), (other, 2)):
            session.execute("SET VARIABLE asked = $value", {"value": value})
            session.execute("CREATE TEMP VIEW mine AS SELECT asked() AS value")
        assert one.execute("SELECT value FROM mine").fetchone() == (1,)
        assert other.execute("SELECT value FROM mine").fetchone() == (2,)
    with engine.session() as later, pytest.raises(duckdb.CatalogException):
        later.execute("FROM mine")


def test_after_a_fault_of_its_own_duckdb_is_started_again(engine: Engine) -> None:
    with engine.session() as session:
        session.execute("SELECT 1")
    with pytest.raises(duckdb.InternalException), engine.session():
        raise duckdb.InternalException("a fault")
    with engine.session() as session:
        assert session.execute("SELECT fits(1, NULL)").fetchone() == (True,)


def test_a_full_disk_is_said_to_be_one(engine: Engine) -> None:
    with pytest.raises(SpillFull, match="PLEDGE_FIGURES_SPILL"), engine.session():
        raise duckdb.IOException("Could not write all bytes: No space left on device")


@pytest.mark.usefixtures("processes")
def test_what_a_killed_process_spilled_is_removed_and_that_of_a_living_one_stays(
    tmp_path: Path,
) -> None:
    def begin() -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child

    living, killed = begin(), begin()
    assert len(list(tmp_path.iterdir())) == 2
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    engine = Engine(Bounds(spill=tmp_path))
    with engine.session():
        assert len(list(tmp_path.iterdir())) == 2
    engine.close()
    living.communicate()


def test_a_figure_that_passes_the_bounds_is_refused_with_what_to_do(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.write_facts()

    def too_much(*_: object) -> None:
        raise duckdb.OutOfMemoryException("could not allocate block")

    assert company.ask("/analytics/customers").status_code == 200
    monkeypatch.setattr("analytics.facts.asking.Session.row", too_much)
    answer = company.ask("/analytics/customers")
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/question-too-large"
    assert "PLEDGE_FIGURES_MEMORY" in answer.json()["detail"]
    monkeypatch.undo()
    assert company.ask("/analytics/customers").status_code == 200
