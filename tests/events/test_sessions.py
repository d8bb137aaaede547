"""Sessions on a server that hangs, on a network that is gone, and on one that is merely busy."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from events.ledger import ledger, sessions
from events.ledger.sessions import Silent, watchful
from tests.commands.proxy import Proxy

BUSY = "SELECT count(*) FROM pg_stat_activity WHERE query = %s AND state = 'active'"
LONG = "SELECT pg_sleep(600)"
PATIENCE_SECONDS = 60


@pytest.fixture(autouse=True)
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SILENCE_SECONDS", 0.2)


@pytest.fixture
def proxy(ledger_url: str) -> Iterator[Proxy]:
    with Proxy(ledger_url) as made:
        yield made


def test_a_statement_may_take_its_time_while_the_server_answers(proxy: Proxy) -> None:
    with ledger.connect(proxy.url) as conn:
        assert conn.execute("SELECT pg_sleep(1), 7").fetchone() == ("", 7)
        with conn.transaction():
            rows = conn.execute("SELECT n, pg_sleep(0.1) FROM generate_series(1, 6) n").fetchall()
        assert [row[0] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_a_statement_of_a_session_with_a_limit_ends_on_a_living_server_too(proxy: Proxy) -> None:
    with ledger.connect(proxy.url, limit=0.5) as conn:
        assert conn.execute("SELECT pg_sleep(0.3), 7").fetchone() == ("", 7)
        with pytest.raises(Silent):
            conn.execute(LONG.encode())
        assert conn.closed


def test_a_statement_on_a_hung_server_ends_and_its_session_with_it(proxy: Proxy) -> None:
    with ledger.connect(proxy.url) as conn:
        conn.execute("SELECT 1")
        proxy.freeze()
        with pytest.raises(Silent, match="does not answer any more"), conn.transaction():
            conn.execute("SELECT 1")
        assert conn.closed
    proxy.thaw()
    with ledger.connect(proxy.url) as conn:
        assert conn.execute("SELECT 7").fetchone() == (7,)


def test_a_cursor_on_a_hung_server_ends_too(proxy: Proxy) -> None:
    with pytest.raises(Silent):
        read_until_frozen(proxy)


def read_until_frozen(proxy: Proxy) -> None:
    with (
        ledger.connect(proxy.url) as conn,
        conn.transaction(),
        conn.cursor(name="rows") as cursor,
    ):
        cursor.execute("SELECT * FROM generate_series(1, 100000)")
        assert len(cursor.fetchmany(10)) == 10
        proxy.freeze()
        cursor.fetchmany(10)


def test_a_query_ends_on_the_server_when_its_client_is_gone(ledger_url: str) -> None:
    gone = ledger.connect(ledger_url)
    gone.pgconn.send_query(LONG.encode())
    gone.pgconn.flush()
    with psycopg.connect(ledger_url, autocommit=True) as conn:

        def running() -> int:
            row = conn.execute(BUSY, (LONG,)).fetchone()
            assert row is not None
            return int(row[0])

        deadline = time.monotonic() + PATIENCE_SECONDS
        while not running():
            assert time.monotonic() < deadline
        gone.close()
        while running():
            assert time.monotonic() < deadline, "it goes on for nobody"
            time.sleep(0.05)


def test_what_a_connection_string_says_itself_has_precedence() -> None:
    found = conninfo_to_dict(watchful("host=db connect_timeout=30", "-c role=x", "pledge"))
    assert found["connect_timeout"] == "30"
    assert found["tcp_user_timeout"] == "10000"
    assert str(found["options"]).startswith("-c role=x -c client_connection_check_interval")
