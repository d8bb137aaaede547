"""Backups: what cannot be derived again, as one folder of files, and the way back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
import pyarrow as pa
from psycopg import IsolationLevel, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import BaseModel, ValidationError

from analytics.facts.store import Damaged, Store, WrittenByOthers, manifest_of
from analytics.facts.writing import begin_anew
from events.ledger import ledger
from events.ledger.arrays import register
from events.ledger.keys import Keyring
from events.ledger.migrate import migrate
from pledge.console import Failed
from projections.catalog import BY_NAME, MODELS
from projections.engine.building import CannotBuild
from projections.engine.rebuild import create, differences, rebuild

CONTENTS = "contents.json"
FORMAT = 1
BLOCK = 1 << 20
TABLES = """
SELECT n.nspname, c.relname,
       (SELECT array_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
           AND a.attgenerated = '')::text[],
       c.reltuples::bigint
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND n.nspname IN ('ledger', 'vault', 'progress')
   AND (n.nspname, c.relname) <> ('ledger', 'migrations')
 ORDER BY 1, 2
"""
DERIVED = {"progress.checkpoints", "progress.parked"}
"""Their rows about read models are derived again; those about policies and the relay are not."""
ORDERED = {"ledger.events": "position", "ledger.outcomes": "after_position"}
MIGRATIONS = "SELECT name FROM ledger.migrations ORDER BY name"
HELD = "SELECT (SELECT count(*) FROM ledger.events), (SELECT count(*) FROM vault.keys)"
FITS = "SELECT count(*), coalesce(max(position), 0) FROM ledger.events"

Report = Callable[[str, int], None]
"""Is told of a table and how many bytes of it are done."""


class Part(BaseModel):
    """One table."""

    table: str
    columns: list[str]
    rows: int
    sha256: str


class Contents(BaseModel):
    """What a backup holds.

    Attributes:
        migrations: the steps of the database that it was taken of.
        facts: the manifest of the facts behind figures, whose files are not part of it.
    """

    format: int
    ledger_id: UUID
    position: int
    taken_at: datetime
    migrations: list[str]
    parts: list[Part]
    facts: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored."""

    position: int
    taken_at: datetime
    facts_answer: bool


def write(conninfo: str, to: Path, store: Store, report: Report) -> Contents:
    """Write a backup while commands go on: the ledger, the vault, the progress of what acted.

    It is of one moment. The folder appears when it is whole; the master key is not in it.

    Raises:
        Failed: when the folder is there already, or cannot be written.
    """
    if to.exists():
        raise Failed(f"{to} is there already. Name a folder that is not: a backup is never mixed.")
    fresh = to.with_name(f".{to.name}.{uuid4().hex[:8]}")
    try:
        fresh.mkdir(parents=True, mode=0o700)
        contents = _write(conninfo, fresh, _manifest(store), report)
        _durably(fresh / CONTENTS, orjson.dumps(contents.model_dump(mode="json")))
        fresh.rename(to)
        _sync(to.parent)
    except OSError as error:
        raise Failed(f"{error.filename or to} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return contents


def _write(conninfo: str, folder: Path, facts: dict[str, Any] | None, report: Report) -> Contents:
    with psycopg.connect(conninfo, application_name="pledge backup") as conn:
        conn.isolation_level, conn.read_only = IsolationLevel.REPEATABLE_READ, True
        position = ledger.head(conn)
        parts = [
            _copied(conn, folder, f"{schema}.{table}", columns, report)
            for schema, table, columns, _ in conn.execute(TABLES).fetchall()
        ]
        return Contents(
            format=FORMAT,
            ledger_id=ledger.ledger_id(conn),
            position=position,
            taken_at=datetime.now(UTC),
            migrations=[name for (name,) in conn.execute(MIGRATIONS)],
            parts=parts,
            facts=facts,
        )


def _copied(
    conn: psycopg.Connection[Any], folder: Path, table: str, columns: list[str], report: Report
) -> Part:
    query = sql.SQL("SELECT {} FROM {}").format(_names(columns), sql.Identifier(*table.split(".")))
    if table in DERIVED:
        query += sql.SQL(" WHERE name <> ALL ({})").format(sql.Literal([*BY_NAME]))
    if table in ORDERED:
        query += sql.SQL(" ORDER BY {}").format(sql.Identifier(ORDERED[table]))
    digest, done = sha256(), 0
    path = folder / f"{table}.zst"
    with conn.cursor() as cursor, pa.CompressedOutputStream(str(path), "zstd") as file:
        with cursor.copy(sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)) as copy:
            for block in copy:
                digest.update(block)
                file.write(block)
                done += len(block)
                report(table, done)
        rows = cursor.rowcount
    path.chmod(0o600)
    _sync(path)
    return Part(table=table, columns=columns, rows=rows, sha256=digest.hexdigest())


def restore(
    conninfo: str, source: Path, key: bytes, store: Store | None, report: Report
) -> Restored:
    """Fill an empty database from a backup, all of it or nothing.

    Read models are derived again when Pledge starts.

    Args:
        key: the master key that the ledger was begun with.
        store: of the facts, which are begun anew where they do not fit; None leaves them alone.

    Raises:
        Failed: when the backup is damaged or of a newer version, or the database holds something.
        WrongMasterKey: when the ledger was begun with another key.
    """
    contents = opened(source)
    for part in contents.parts:
        _check(source, part)
    migrate(conninfo)
    with psycopg.connect(conninfo, application_name="pledge restore") as conn:
        _refuse_what_does_not_fit(conn, contents)
        for part in contents.parts:
            _load(conn, source, part, report)
        if conn.execute(FITS).fetchone() != (contents.position, contents.position):
            raise Failed(f"The backup {source} lacks events, so nothing was restored.")
        Keyring(key).verify(conn)
        conn.commit()
        conn.execute("ANALYZE")
        answer = store is not None and _facts_fit(conn, contents, store)
    return Restored(contents.position, contents.taken_at, answer)


def opened(source: Path) -> Contents:
    """What a backup holds.

    Raises:
        Failed: when it is none that this version can read.
    """
    try:
        contents = Contents.model_validate_json((source / CONTENTS).read_bytes())
    except OSError as error:
        why = f"{CONTENTS} cannot be read: {error.strerror}"
        raise Failed(f"{source} is no backup ({why}).") from error
    except ValidationError as error:
        raise Failed(f"{source} is no backup of this version, or {CONTENTS} is damaged.") from error
    if contents.format != FORMAT:
        raise Failed(f"{source} was made by a newer version of Pledge. Restore it with that one.")
    return contents


def _refuse_what_does_not_fit(conn: psycopg.Connection[Any], contents: Contents) -> None:
    events, keys = conn.execute(HELD).fetchone() or (0, 0)
    if events or keys:
        raise Failed(
            f"The database holds {events} events and {keys} keys. Restore into an empty one: name "
            "it with PLEDGE_DATABASE_URL, or an empty folder with PLEDGE_HOME."
        )
    ours = {name for (name,) in conn.execute(MIGRATIONS)}
    if newer := [name for name in contents.migrations if name not in ours]:
        why = f"its step {newer[0]} is not ours"
        raise Failed(f"The backup is of a newer version of Pledge ({why}).")


def _check(source: Path, part: Part) -> None:
    digest = sha256()
    try:
        for block in _blocks(source, part):
            digest.update(block)
    except (OSError, pa.ArrowException) as error:
        raise Failed(f"{part.table} of the backup {source} cannot be read: {error}.") from error
    if digest.hexdigest() != part.sha256:
        raise Failed(f"{part.table} of the backup {source} is damaged, so nothing was restored.")


def _blocks(source: Path, part: Part) -> Iterator[bytes]:
    with pa.CompressedInputStream(str(source / f"{part.table}.zst"), "zstd") as file:
        while block := file.read(BLOCK):
            yield block


def _load(conn: psycopg.Connection[Any], source: Path, part: Part, report: Report) -> None:
    name = sql.Identifier(*part.table.split("."))
    if part.table == "ledger.identity":  # the migrations gave the new database one of its own
        for statement in ("ALTER TABLE {} DISABLE TRIGGER USER", "DELETE FROM {}"):
            conn.execute(sql.SQL(statement).format(name))
    with conn.cursor() as cursor:
        load = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(name, _names(part.columns))
        done = 0
        with cursor.copy(load) as copy:
            for block in _blocks(source, part):
                copy.write(block)
                done += len(block)
                report(part.table, done)
    if part.table == "ledger.identity":
        conn.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(name))


def _facts_fit(conn: psycopg.Connection[Any], contents: Contents, store: Store) -> bool:
    """Let the facts of the backup answer where their files are still there, or begin them anew."""
    with suppress(Damaged, WrittenByOthers):
        if contents.facts is not None:
            found = replace(manifest_of(contents.facts), number=store.number())
            store.check(found)
            store.commit(found)
            return True
    for _ in range(20):
        with suppress(WrittenByOthers):
            if store.number():
                begin_anew(conn, store)
            return False
    return False


def _manifest(store: Store) -> dict[str, Any] | None:
    try:
        found = store.latest().answering
    except Damaged:
        return None
    return None if found is None or found.number == 0 else orjson.loads(orjson.dumps(asdict(found)))


def verify(conninfo: str, source: Path, key: bytes, report: Report) -> int:
    """Restore into another database of the server, derive every read model, replay, compare.

    Returns:
        The ledger's position.

    Raises:
        Failed: as ``restore`` does, or when a read model cannot be built or differs from a replay.
    """
    keyring = Keyring(key)
    with another_database(conninfo) as aside:
        position = restore(aside, source, key, None, report).position
        with ledger.connect(aside) as conn:
            register(conn.adapters)
            for model in MODELS:
                try:
                    create(conn, model)
                    rebuild(conn, keyring, model)
                    _, differing = differences(conn, keyring, model, shuffle="restored")
                except CannotBuild as error:
                    raise Failed(f"The read model {model.name} cannot be built: {error}") from error
                if differing:
                    raise Failed(f"The read model {model.name} differs from a replay.")
    return position


@contextmanager
def another_database(conninfo: str) -> Iterator[str]:
    """An empty database on the same server, which vanishes again.

    Raises:
        Failed: when the user may not make one.
    """
    name = f"pledge_verify_{uuid4().hex[:8]}"
    known = conninfo_to_dict(conninfo)
    with psycopg.connect(conninfo, autocommit=True) as conn:
        try:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg.errors.InsufficientPrivilege as error:
            raise Failed(
                f"The user {known.get('user')} may not create a database to restore aside. Give it "
                "CREATEDB, or name another server: PLEDGE_DATABASE_URL."
            ) from error
        try:
            yield make_conninfo(conninfo, dbname=name)
        finally:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _names(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _durably(path: Path, body: bytes) -> None:
    path.write_bytes(body)
    path.chmod(0o600)
    _sync(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
