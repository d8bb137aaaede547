"""The database's own history: numbered SQL files, applied in order, once, under one lock."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import psycopg

from events.ledger.locks import Lock
from events.ledger.sessions import Session, watchful
from events.ledger.steps import steps

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
BREAKS = re.compile(r"^-- Breaks processes that know no step after (\d{4})\.$", re.MULTILINE)
"""What a step says of itself when older processes could not go on beside it."""
OLDER = r"""
SELECT format('%%s (%%s, %%s)', pid, application_name, coalesce(host(client_addr), 'local'))
  FROM pg_stat_activity
 WHERE datname = current_database() AND application_name ~ '^pledge'
   AND application_name !~ '^pledge (migrate|probe)'
   AND coalesce(substring(application_name FROM ' (\d{4})$'), '0000') <= %s
 ORDER BY pid
"""


class OtherVersion(RuntimeError):
    """The database was made by another, incompatible version of Pledge."""


class StillConnected(OtherVersion):
    """Processes of an older version are connected, which a step would break."""


def migrate(conninfo: str) -> list[str]:
    """Bring the database to this version; the names of what was applied, often none.

    All in one transaction behind one lock, so processes that start together do not collide.

    Raises:
        OtherVersion: when an applied file is unknown here or was changed since.
        StillConnected: when one to apply would break processes that are connected.
    """
    ours = steps()
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
            _refuse_beside_older(conn, name, ours[name])
            conn.execute(ours[name].encode())
            conn.execute(
                "INSERT INTO ledger.migrations (name, sha256) VALUES (%s, %s)",
                (name, hashlib.sha256(ours[name].encode()).hexdigest()),
            )
        # Rights on the database itself are not part of a dump of it.
        conn.execute(RIGHTS)
    return fresh


def _refuse_beside_older(conn: psycopg.Connection[Any], name: str, text: str) -> None:
    broken = BREAKS.search(text)
    if broken is None:
        return
    older = [row[0] for row in conn.execute(OLDER, (broken[1],))]
    if older:
        raise StillConnected(
            f"The step {name} would break processes of an older version of Pledge, which are "
            f"connected: {', '.join(older)}. Stop them, then migrate again. Nothing was changed."
        )


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
