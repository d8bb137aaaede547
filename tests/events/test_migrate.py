import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from events.ledger import ledger, sessions
from events.ledger import migrate as migrating
from events.ledger.ledger import Connection, append
from events.ledger.migrate import BREAKS, OtherVersion, StillConnected, migrate
from events.ledger.steps import newest, steps
from tests.events.proposals import propose

MIGRATE = "import sys; from events.ledger.migrate import migrate; print(migrate(sys.argv[1]))"


def test_two_processes_that_migrate_at_once_do_not_collide(database_url: str) -> None:
    commands = [[sys.executable, "-c", MIGRATE, database_url]] * 4
    processes = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in commands]
    answers = [process.communicate(timeout=180)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sorted(answers)[1:] == ["[]"] * 3 or sorted(answers)[:-1] == ["[]"] * 3
    with ledger.connect(database_url) as conn:
        assert append(conn, [propose(uuid4())])[0].status == "appended"


def test_processes_that_migrate_several_databases_at_once_do_not_collide(
    new_database: Callable[[], str],
) -> None:
    urls = [new_database() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate, urls))
    assert len({tuple(names) for names in applied}) == 1


def test_migrating_again_changes_nothing(ledger_url: str, service: Connection) -> None:
    before = ledger.ledger_id(service)
    assert migrate(ledger_url) == []
    assert ledger.ledger_id(service) == before


def test_a_database_of_another_version_is_left_alone(
    ledger_url: str, superuser: Connection
) -> None:
    superuser.execute("INSERT INTO ledger.migrations VALUES ('9999_later.sql', 'x')")
    with pytest.raises(OtherVersion, match=r"9999_later\.sql"):
        migrate(ledger_url)


def test_a_migration_that_was_changed_since_is_noticed(
    ledger_url: str, superuser: Connection
) -> None:
    superuser.execute("UPDATE ledger.migrations SET sha256 = 'x'")
    with pytest.raises(OtherVersion, match="0001_ledger"):
        migrate(ledger_url)


def test_a_failed_migration_leaves_nothing_behind(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hashlib.sha256", lambda _data: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        migrate(database_url)
    with psycopg.connect(database_url) as conn:
        found = conn.execute("SELECT nspname FROM pg_namespace WHERE nspname = 'ledger'").fetchall()
    assert found == []


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """This version has a step more, beside which no process of the version before can go on."""
    breaks = f"-- Breaks processes that know no step after {newest()}.\n"
    more = {"9001_later.sql": f"{breaks}CREATE TABLE ledger.later ()"}
    monkeypatch.setattr(migrating, "steps", lambda: steps() | more)


@pytest.mark.usefixtures("later")
def test_a_step_that_would_break_older_processes_is_refused_while_they_are_connected(
    ledger_url: str, superuser: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger.connect(ledger_url, "pledge writer") as older:
        pid = older.info.backend_pid
        with pytest.raises(
            StillConnected, match=rf"9001_later\.sql.*{pid} \(pledge writer {newest()}, local\)"
        ):
            migrate(ledger_url)
        monkeypatch.setattr(sessions, "newest", lambda: "9001")
        with (
            ledger.connect(ledger_url, "pledge read"),
            pytest.raises(StillConnected, match=rf"connected: {pid} \([^)]*\)\. Stop them"),
        ):
            migrate(ledger_url)
        assert superuser.execute("SELECT to_regclass('ledger.later')").fetchone() == (None,)
    deadline = time.monotonic() + 60
    while superuser.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone():
        assert time.monotonic() < deadline
    assert migrate(ledger_url) == ["9001_later.sql"]


@pytest.mark.usefixtures("later")
def test_processes_from_before_sessions_bore_a_number_are_older_too(
    ledger_url: str,
) -> None:
    with (
        psycopg.connect(ledger_url, application_name="pledge"),
        pytest.raises(StillConnected, match=r"\(pledge, local\)"),
    ):
        migrate(ledger_url)


def test_an_append_stays_for_the_processes_that_call_it() -> None:
    """Versions of it differ by their parameters; one is dropped only by a step that says so."""
    for name, text in steps().items():
        drops = "DROP FUNCTION" in text and "ledger.append" in text
        assert not drops or name == "0002_append.sql" or BREAKS.search(text), name


def test_every_ledger_has_an_id_of_its_own(
    ledger_url: str, new_database: Callable[[], str]
) -> None:
    other = new_database()
    migrate(other)
    with ledger.connect(ledger_url) as one, ledger.connect(other) as two:
        assert ledger.ledger_id(one) != ledger.ledger_id(two)
