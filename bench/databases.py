"""The databases that both sides write to: one server, one database a side, durable commits."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from events.ledger.migrate import migrate
from pledge.embedded import create_database, postgres
from pledge.wiring import Parts

MASTER = bytes(range(32))


class Server:
    """An embedded PostgreSQL of this run's own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._made = 0

    def database(self, name: str) -> str:
        """The URL of a new database; both sides' commits wait for the disk."""
        self._made += 1
        url = create_database(self._url, f"{name}_{self._made}")
        with psycopg.connect(url) as conn:
            assert_durable(conn)
        return url

    def version(self) -> str:
        with psycopg.connect(self._url) as conn:
            return str(conn.info.server_version // 10_000)


@contextmanager
def server() -> Iterator[Server]:
    home = Path(tempfile.mkdtemp(prefix="pledge-bench-"))
    try:
        home.chmod(0o755)
        with postgres(home) as url:
            yield Server(url)
    finally:
        shutil.rmtree(home)


def ledger_in(url: str) -> Parts:
    """A migrated database with its master key; the writer's own session is durable too."""
    migrate(url)
    found = Parts(url, MASTER)
    with found.connect() as conn:
        found.keyring().verify(conn)
    with found.connect_writer() as conn:
        assert_durable(conn)
    return found


def assert_durable(conn: psycopg.Connection[Any]) -> None:
    for setting in ("fsync", "synchronous_commit"):
        assert conn.execute(f"SHOW {setting}".encode()).fetchone() == ("on",), setting


def analyze(url: str) -> None:
    """Plans made on empty tables are bad ones."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("ANALYZE")


def count(url: str, rows: str) -> int:
    """How many rows ``FROM …`` gives."""
    with psycopg.connect(url) as conn:
        found = conn.execute(f"SELECT count(*) FROM {rows}".encode()).fetchone()
    assert found is not None
    return int(found[0])
