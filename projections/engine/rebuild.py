"""Building a read model anew beside the live one, swapping them, and comparing them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from psycopg import DataError, IntegrityError, IsolationLevel
from psycopg.errors import LockNotAvailable

from events.ledger import checkpoints, ledger
from events.ledger.keys import Keyring
from events.ledger.locks import Lock
from projections.engine import progress
from projections.engine.building import (
    CHUNK,
    Aside,
    Build,
    CannotBuild,
    Progress,
    build,
    build_on_all_cores,
    finish,
    fold_on,
)
from projections.engine.model import ReadModel
from projections.engine.sums import keep
from projections.engine.tables import Connection, Rows

SWAP_SECONDS = 1
"""How long a swap waits for who reads the old tables, before it lets others by and tries again."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that stands in only one of the live read model and its replay."""

    model: str
    table: str
    side: str
    row: dict[str, Any]


def create(conn: Connection, model: ReadModel) -> None:
    """Make a read model's empty tables, with its checkpoint at the beginning, if it has none."""
    if checkpoints.fetch(conn, model.name) is not None:
        return
    with conn.transaction():
        conn.execute(f"SELECT pg_advisory_xact_lock({Lock.CREATE})")
        if checkpoints.fetch(conn, model.name) is None:
            _make_schema(conn, model, model.schema)
            for table in model.tables:
                for statement in table.index_ddl(f"{model.schema}."):
                    conn.execute(statement.encode())
            checkpoints.begin(conn, model.name, model.shape, 0, None)


def rebuild_if_changed(conn: Connection, keyring: Keyring, model: ReadModel) -> bool:
    """Rebuild a read model whose shape is not the code's; of several processes one does.

    One that cannot be built halts where its old rows stand.

    Returns:
        Whether its shape is the code's now.
    """
    if not is_changed(conn, model):
        return True
    with _alone(conn, model):
        if is_changed(conn, model):
            log.info("a read model changed its shape and is rebuilt", model=model.name)
            try:
                _rebuild(conn, keyring, model, None)
            except CannotBuild as error:
                log.error("a read model cannot be built", model=model.name, why=str(error))  # noqa: TRY400 - told whole
                checkpoints.halt_all(conn, model.name, f"cannot be built: {error}", error.position)
                return False
    return True


def is_changed(conn: Connection, model: ReadModel) -> bool:
    """Whether the rows of a read model have another shape than the code's."""
    return any(found.shape != model.shape for found in checkpoints.fetch_all(conn, model.name))


def rebuild(
    conn: Connection, keyring: Keyring, model: ReadModel, report: Progress | None = None
) -> int:
    """Build aside from the first event, then swap in one transaction; the position reached.

    The live tables go on being read and written until the swap. Streams come one after another,
    so each row is folded whole in memory and written once.

    Raises:
        CannotBuild: when a critical model meets a poison event, any model an unknown type, or the
            database does not take the rows.
    """
    with _alone(conn, model):
        return _rebuild(conn, keyring, model, report)


def _rebuild(conn: Connection, keyring: Keyring, model: ReadModel, report: Progress | None) -> int:
    try:
        return _built(conn, keyring, model, report)
    except (DataError, IntegrityError) as error:
        why = f"its rows cannot be written: {error.__class__.__name__}: {error}"
        raise CannotBuild(why) from error


def _built(conn: Connection, keyring: Keyring, model: ReadModel, report: Progress | None) -> int:
    keyring.forget()
    with conn.transaction():
        _make_schema(conn, model, model.next_schema)
    head = ledger.head(conn)
    skipped = progress.skipped(conn, model.name)
    asked = Build(keyring, model, f"{model.next_schema}.", head, skipped)
    aside = build_on_all_cores(conn, asked, report)
    finish(conn, asked)
    while ledger.head(conn) - head > CHUNK:
        with conn.transaction():
            head = _follow(conn, asked, head, aside)
    while True:
        try:
            return _swapped(conn, asked, head, dict(aside))
        except LockNotAvailable:  # a long answer reads the old tables; others must not wait for it
            time.sleep(SWAP_SECONDS)


def _swapped(conn: Connection, asked: Build, head: int, aside: Aside) -> int:
    """Fold the last events and put the new tables in the place of the old; the position reached.

    Raises:
        LockNotAvailable: when the old tables are read for longer than a moment; all is undone.
    """
    model = asked.model
    with conn.transaction():
        conn.execute(f"SET LOCAL lock_timeout = '{SWAP_SECONDS}s'".encode())
        conn.execute("SELECT FROM progress.checkpoints WHERE name = %s FOR UPDATE", (model.name,))
        target = ledger.head(conn)
        while head < target:
            head = _follow(conn, asked, head, aside)
        conn.execute(f"DROP SCHEMA IF EXISTS {model.schema} CASCADE".encode())
        conn.execute(f"ALTER SCHEMA {model.next_schema} RENAME TO {model.schema}".encode())
        checkpoints.begin(conn, model.name, model.shape, head, ledger.event_at(conn, head))
        conn.execute("DELETE FROM progress.parked WHERE name = %s", (model.name,))
        for stream_id, stopped in aside.items():
            progress.park(conn, model.name, stream_id, stopped.position, stopped.why)
    return head


def differences(
    conn: Connection,
    keyring: Keyring,
    model: ReadModel,
    *,
    shuffle: str | None = None,
    limit: int = 20,
    report: Progress | None = None,
) -> tuple[int, list[Difference]]:
    """Replay the ledger up to where the live read model stands and compare row for row.

    Args:
        shuffle: a seed; streams are then replayed in an order that it decides.
        limit: the most differences returned a table and side.

    Returns:
        The position up to which everything was compared, and the rows that differ; everything
        made is undone.
    """
    before = conn.isolation_level
    conn.isolation_level = IsolationLevel.REPEATABLE_READ
    found: list[Difference] = []
    try:
        with conn.transaction(force_rollback=True):
            # A lock takes no snapshot: the one after it sees the tables that the names stand for.
            live_names = ", ".join(f"{model.schema}.{table.name}" for table in model.tables)
            conn.execute(f"LOCK TABLE {live_names} IN ACCESS SHARE MODE".encode())
            taken = {c.partition: c.taken for c in checkpoints.fetch_all(conn, model.name)}
            if not taken:
                raise CannotBuild(f"read model {model.name} was never built")
            schema = f"{model.schema}_replay"
            _make_schema(conn, model, schema)
            skipped = progress.skipped(conn, model.name)
            asked = Build(keyring, model, f"{schema}.", max(taken.values()), skipped, shuffle)
            build(conn, asked if len(taken) == 1 else asked._replace(heads=taken), report)
            for table in model.tables:
                live, replay = f"{model.schema}.{table.name}", f"{schema}.{table.name}"
                for side, one, other in (("live", live, replay), ("replay", replay, live)):
                    rows = conn.execute(
                        f"SELECT to_jsonb(t) FROM (SELECT * FROM {one} EXCEPT ALL "
                        f"SELECT * FROM {other} LIMIT {limit}) t".encode()
                    )
                    found += [Difference(model.name, table.name, side, row[0]) for row in rows]
            return min(taken.values()), found
    finally:
        conn.isolation_level = before


@contextmanager
def _alone(conn: Connection, model: ReadModel) -> Iterator[None]:
    """Let one rebuild of a read model run at a time; another waits its turn."""
    conn.execute(f"SELECT pg_advisory_lock({Lock.REBUILD}, hashtext(%s))", (model.name,))
    try:
        yield
    finally:
        conn.execute(f"SELECT pg_advisory_unlock({Lock.REBUILD}, hashtext(%s))", (model.name,))


def _make_schema(conn: Connection, model: ReadModel, schema: str) -> None:
    conn.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())
    conn.execute(f"CREATE SCHEMA {schema}".encode())
    for table in model.tables:
        conn.execute(table.ddl(f"{schema}.").encode())


def _follow(conn: Connection, asked: Build, after: int, aside: Aside) -> int:
    """Fold the next events above a position into the tables being built; the position reached."""
    batch = ledger.read(conn, after, CHUNK)
    if not batch:
        return after
    stored = Rows(asked.model.tables, asked.prefix)
    stored.load(conn, {row.stream_id for row in batch})
    rows, more = fold_on(conn, asked, stored, batch, aside)
    keep(conn, asked.model, asked.schema, rows)
    aside.update(more)
    return batch[-1].position
