"""Building a read model anew beside the live one, swapping them, and comparing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import IsolationLevel

from events import ledger
from events.base import REGISTRY
from events.keys import Keyring
from projections import progress
from projections.folding import Poison, fold, readable, without_cycle_collection
from projections.model import ReadModel
from projections.tables import Connection, Rows

CHUNK = 20_000
"""Events read and folded at once in a build."""

IN_STREAM_ORDER = f"""
SELECT {ledger.COLUMNS} FROM ledger.events
 WHERE position <= %s AND type = ANY (%s) ORDER BY stream_id, version
"""
SHUFFLED = f"""
SELECT {ledger.COLUMNS} FROM ledger.events
 WHERE position <= %s AND type = ANY (%s) ORDER BY md5(stream_id::text || %s), stream_id, version
"""
UNKNOWN = """
SELECT DISTINCT type FROM ledger.events
 WHERE position <= %s AND position <> ALL (%s) AND stream_type <> 'library'
"""

Progress = Callable[[int, int], None]


class CannotBuild(RuntimeError):
    """The ledger holds something that the read model cannot take."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that stands in only one of the live read model and its replay."""

    model: str
    table: str
    side: str
    row: dict[str, Any]


def create(conn: Connection, model: ReadModel) -> None:
    """Make a read model's empty tables, with its checkpoint at the beginning of the ledger."""
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(7201, 3)")
        if progress.fetch(conn, model.name) is None:
            _make_schema(conn, model, model.schema)
            _index(conn, model, model.schema)
            progress.begin(conn, model.name, model.shape, 0, None)


def rebuild(
    conn: Connection, keyring: Keyring, model: ReadModel, report: Progress | None = None
) -> int:
    """Build aside from the first event, then swap in one transaction; the position reached.

    The live tables go on being read and written until the swap. Streams come one after another,
    so each row is folded whole in memory and written once.

    Raises:
        CannotBuild: when a critical model meets a poison event, or any model an unknown type.
    """
    with _alone(conn, model):
        return _rebuild(conn, keyring, model, report)


def _rebuild(conn: Connection, keyring: Keyring, model: ReadModel, report: Progress | None) -> int:
    keyring.forget()
    skipped = progress.skipped(conn, model.name)
    with conn.transaction():
        _make_schema(conn, model, model.next_schema)
    head = ledger.head(conn)
    with conn.transaction():
        parked = _build(conn, keyring, model, f"{model.next_schema}.", head, skipped, None, report)
        _index(conn, model, model.next_schema)
    while ledger.head(conn) - head > CHUNK:
        with conn.transaction():
            head = _follow(conn, keyring, model, head, skipped, parked)
    with conn.transaction():
        conn.execute("SELECT FROM progress.checkpoints WHERE name = %s FOR UPDATE", (model.name,))
        target = ledger.head(conn)
        while head < target:
            head = _follow(conn, keyring, model, head, skipped, parked)
        conn.execute(f"DROP SCHEMA IF EXISTS {model.schema} CASCADE".encode())
        conn.execute(f"ALTER SCHEMA {model.next_schema} RENAME TO {model.schema}".encode())
        row = conn.execute(
            "SELECT event_id FROM ledger.events WHERE position = %s", (head,)
        ).fetchone()
        progress.begin(conn, model.name, model.shape, head, row[0] if row else None)
        conn.execute("DELETE FROM progress.parked WHERE name = %s", (model.name,))
        for stream_id, poison in parked.items():
            progress.park(conn, model.name, stream_id, poison.position, str(poison))
    for table in model.tables:
        conn.execute(f"ANALYZE {model.schema}.{table.name}".encode())
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
        The position compared at, and the rows that differ; everything made is undone.
    """
    before = conn.isolation_level
    conn.isolation_level = IsolationLevel.REPEATABLE_READ
    found: list[Difference] = []
    try:
        with conn.transaction(force_rollback=True):
            # A lock takes no snapshot: the one after it sees the tables that the names stand for.
            live_names = ", ".join(f"{model.schema}.{table.name}" for table in model.tables)
            conn.execute(f"LOCK TABLE {live_names} IN ACCESS SHARE MODE".encode())
            checkpoint = progress.fetch(conn, model.name)
            if checkpoint is None:
                raise CannotBuild(f"read model {model.name} was never built")
            schema = f"{model.schema}_replay"
            _make_schema(conn, model, schema)
            _build(
                conn,
                keyring,
                model,
                f"{schema}.",
                checkpoint.position,
                progress.skipped(conn, model.name),
                shuffle,
                report,
            )
            for table in model.tables:
                live, replay = f"{model.schema}.{table.name}", f"{schema}.{table.name}"
                for side, one, other in (("live", live, replay), ("replay", replay, live)):
                    rows = conn.execute(
                        f"SELECT to_jsonb(t) FROM (SELECT * FROM {one} EXCEPT ALL "
                        f"SELECT * FROM {other} LIMIT {limit}) t".encode()
                    )
                    found += [Difference(model.name, table.name, side, row[0]) for row in rows]
            return checkpoint.position, found
    finally:
        conn.isolation_level = before


@contextmanager
def _alone(conn: Connection, model: ReadModel) -> Iterator[None]:
    """Let one rebuild of a read model run at a time; another waits its turn."""
    conn.execute("SELECT pg_advisory_lock(7202, hashtext(%s))", (model.name,))
    try:
        yield
    finally:
        conn.execute("SELECT pg_advisory_unlock(7202, hashtext(%s))", (model.name,))


def _make_schema(conn: Connection, model: ReadModel, schema: str) -> None:
    conn.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())
    conn.execute(f"CREATE SCHEMA {schema}".encode())
    for table in model.tables:
        conn.execute(table.ddl(f"{schema}.").encode())


def _index(conn: Connection, model: ReadModel, schema: str) -> None:
    for table in model.tables:
        for statement in table.index_ddl(f"{schema}."):
            conn.execute(statement.encode())


def _build(
    conn: Connection,
    keyring: Keyring,
    model: ReadModel,
    prefix: str,
    head: int,
    skipped: set[int],
    shuffle: str | None,
    report: Progress | None,
) -> dict[UUID, Poison]:
    """Fold all streams up to a position into empty tables; the streams that had to be parked."""
    strange = {row[0] for row in conn.execute(UNKNOWN, (head, list(skipped)))} - REGISTRY.keys()
    if strange:
        raise CannotBuild(f"the ledger holds events of unknown type: {', '.join(sorted(strange))}")
    parked: dict[UUID, Poison] = {}
    done = 0
    with without_cycle_collection():
        for chunk in _streams(conn, model, head, shuffle):
            _fold(conn, keyring, model, Rows(model.tables, prefix), chunk, skipped, parked)
            done += len(chunk)
            if report is not None:
                report(done, head)
    return parked


def _fold(
    conn: Connection,
    keyring: Keyring,
    model: ReadModel,
    stored: Rows,
    chunk: list[tuple[Any, ...]],
    skipped: set[int],
    parked: dict[UUID, Poison],
) -> None:
    batch = readable(conn, keyring, chunk)
    aside = {stream: poison.position for stream, poison in parked.items()}
    try:
        rows, parking = fold(model, stored.copy, batch, aside, skipped)
    except Poison as poison:
        raise CannotBuild(str(poison)) from poison
    parked.update(parking)
    rows.flush(conn)


def _streams(
    conn: Connection, model: ReadModel, head: int, shuffle: str | None
) -> Iterator[list[tuple[Any, ...]]]:
    """Ledger rows in chunks that end between two streams."""
    query = IN_STREAM_ORDER if shuffle is None else SHUFFLED
    params: list[Any] = [head, list(model.types)]
    if shuffle is not None:
        params.append(shuffle)
    with conn.cursor(name=f"build_{model.name}", binary=True) as cursor:
        cursor.execute(query.encode(), params)
        kept: list[tuple[Any, ...]] = []
        while rows := cursor.fetchmany(CHUNK):
            rows = kept + rows
            cut = len(rows)
            while cut and rows[cut - 1][3] == rows[-1][3]:
                cut -= 1
            if cut:
                yield rows[:cut]
            kept = rows[cut:]
        if kept:
            yield kept


def _follow(
    conn: Connection,
    keyring: Keyring,
    model: ReadModel,
    after: int,
    skipped: set[int],
    parked: dict[UUID, Poison],
) -> int:
    """Fold the next events above a position into the tables being built; the position reached."""
    batch = ledger.read(conn, after, CHUNK)
    if not batch:
        return after
    rows = Rows(model.tables, f"{model.next_schema}.")
    rows.load(conn, {row[3] for row in batch})
    _fold(conn, keyring, model, rows, batch, skipped, parked)
    return int(batch[-1][0])
