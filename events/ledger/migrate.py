"""The database's own history: numbered SQL files, applied in order, once, under one lock."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any

import psycopg

from events.ledger.locks import Lock
from events.ledger.sessions import Session, watchful

BOOK = """
CREATE SCHEMA IF NOT EXISTS ledger;
CREATE SCHEMA IF NOT EXISTS vault;
CREATE TABLE IF NOT EXISTS ledger.migrations (
    name       text PRIMARY KEY,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""
HAS_RIGHTS = """
SELECT has_database_privilege('pledge_service', current_database(), 'CREATE')
   AND has_database_privilege('pledge_service', current_database(), 'TEMPORARY')
"""
RIGHTS = """
DO $$ BEGIN
    IF NOT has_database_privilege('pledge_service', current_database(), 'CREATE')
       OR NOT has_database_privilege('pledge_service', current_database(), 'TEMPORARY') THEN
        EXECUTE format(
            'GRANT CREATE, TEMPORARY ON DATABASE %I TO pledge_service', current_database()
        );
    END IF;
END $$
"""


class OtherVersion(RuntimeError):
    """The database was made by another, incompatible version of Pledge."""


def migrate(conninfo: str) -> list[str]:
    """Bring the database to this version; the names of what was applied, often none.

    All in one transaction behind one lock, so processes that start together do not collide.

    Raises:
        OtherVersion: when an applied file is unknown here or was changed since.
    """
    ours = {
        entry.name: entry.read_text()
        for entry in sorted(
            files("events.ledger").joinpath("migrations").iterdir(), key=lambda e: e.name
        )
        if entry.name.endswith(".sql")
    }
    with Session.connect(watchful(conninfo, "", "pledge migrate")) as conn:
        if _is_up_to_date(conn, ours):
            return []
        conn.execute(f"SELECT pg_advisory_xact_lock({Lock.MIGRATE})")
        conn.execute(BOOK)
        applied: dict[str, str] = dict(
            conn.execute("SELECT name, sha256 FROM ledger.migrations").fetchall()
        )
        for name, digest in applied.items():
            if name not in ours or hashlib.sha256(ours[name].encode()).hexdigest() != digest:
                raise OtherVersion(
                    f"This database was made by another version of Pledge (its step {name} is not "
                    "ours). Start the version that made it, or give Pledge another database."
                )
        fresh = [name for name in ours if name not in applied]
        for name in fresh:
            conn.execute(ours[name].encode())
            conn.execute(
                "INSERT INTO ledger.migrations (name, sha256) VALUES (%s, %s)",
                (name, hashlib.sha256(ours[name].encode()).hexdigest()),
            )
        # Rights on the database itself are not part of a dump of it.
        conn.execute(RIGHTS)
    return fresh


def _is_up_to_date(conn: psycopg.Connection[Any], ours: dict[str, str]) -> bool:
    """Whether nothing is to be done; a user who could do nothing may look at least."""
    row = conn.execute("SELECT to_regclass('ledger.migrations') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return False
    readable = conn.execute("SELECT has_table_privilege('ledger.migrations', 'SELECT')").fetchone()
    if readable is None or not readable[0]:
        return False
    applied = conn.execute("SELECT name, sha256 FROM ledger.migrations").fetchall()
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in ours.items()}
    rights = conn.execute(HAS_RIGHTS).fetchone()
    return dict(applied) == digests and bool(rights and rights[0])
