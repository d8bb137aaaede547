"""Folding the whole ledger into the empty tables of one read model, on several cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection as Pipe
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.conninfo import make_conninfo

from events.base import REGISTRY
from events.kafka.records import partition_of
from events.ledger import ledger
from events.ledger.collection import without_cycle_collection
from events.ledger.keys import Keyring
from events.ledger.ledger import Stored, stored
from events.ledger.sessions import Session
from projections.engine.folding import Parked, Poison, fold, readable
from projections.engine.model import ReadModel
from projections.engine.sums import fill
from projections.engine.tables import Connection, Rows, Table, ready

CHUNK = 20_000
"""Events read and folded at once."""
SHARE = 10_000
"""Events below which a process more is not worth its start."""
PROCESSES = 8

UNKNOWN = """
SELECT position, type, stream_id FROM ledger.events
 WHERE position <= %s AND position <> ALL (%s) AND stream_type <> 'library' AND type <> ALL (%s)
"""
STREAMS = f"""
SELECT {ledger.COLUMNS} FROM ledger.events
 WHERE position <= %s AND type = ANY (%s) AND {{share}} ORDER BY {{order}} stream_id, version
"""
MEMORY = "128MB"
"""For each sort: of the ledger by stream, and of each index."""

Progress = Callable[[int, int], None]


class CannotBuild(RuntimeError):
    """The ledger holds something that the read model cannot take.

    Attributes:
        position: of the event, where it is one event's fault.
    """

    def __init__(self, why: str, position: int | None = None) -> None:
        super().__init__(why, position)
        self.position = position

    def __str__(self) -> str:
        return str(self.args[0])


class SetAside(NamedTuple):
    """From which position on a stream is left out, and why."""

    position: int
    why: str


Aside = dict[UUID, SetAside]


class Build(NamedTuple):
    """What is to be built, where, and from which part of the ledger.

    Attributes:
        prefix: the schema of the empty tables, with its dot.
        head: the last position that counts.
        skipped: positions that an operator told the read model to pass over.
        shuffle: a seed that decides the order of the streams; None for the order of their ids.
        heads: for each partition of a topic the last position that counts; None of the ledger.
    """

    keyring: Keyring
    model: ReadModel
    prefix: str
    head: int
    skipped: set[int]
    shuffle: str | None = None
    heads: dict[int, int] | None = None

    @property
    def schema(self) -> str:
        """The schema of the tables."""
        return self.prefix.removesuffix(".")

    def has_taken(self, position: int, stream_id: UUID) -> bool:
        """Whether the read model is past this event."""
        return self.heads is None or position <= self.heads[partition_of(stream_id)]


def build(conn: Connection, asked: Build, report: Progress | None = None) -> Aside:
    """Fold all streams, in the transaction at hand; those that had to be set aside.

    Streams come one after another, so each row is folded whole in memory and written once.

    Raises:
        CannotBuild: when a critical model meets a poison event, or any model an unknown type.
    """
    _refuse_unknown(conn, asked)
    aside = _build_share(conn, asked, report, 0, 1)
    fill(conn, asked.model, asked.schema)
    return aside


def build_on_all_cores(conn: Connection, asked: Build, report: Progress | None = None) -> Aside:
    """Fold all streams into committed empty tables, in a transaction for each core's share.

    The shares are processes forked off this one, if no other thread of it could be caught in the
    middle of something. A row follows from one stream alone, so the shares do not meet; sums are
    filled after them.

    Raises:
        CannotBuild: as ``build`` says; the other shares are stopped.
    """
    _refuse_unknown(conn, asked)
    shares = 1
    if _may_fork():
        shares = max(1, min(os.cpu_count() or 1, PROCESSES, asked.head // SHARE))
    context = multiprocessing.get_context("fork" if shares > 1 else None)
    conninfo = _conninfo(conn)
    children = []
    try:
        for share in range(1, shares):
            here, there = context.Pipe(duplex=False)
            arguments = (there, os.getpid(), conninfo, asked, share, shares)
            child = context.Process(target=_work, args=arguments, daemon=True)
            child.start()
            there.close()
            children.append((child, here))
        with conn.transaction():
            aside = _build_share(conn, asked, report, 0, shares)
        for _, pipe in children:
            aside.update(_received(pipe))
        with conn.transaction():
            conn.execute(f"SET LOCAL work_mem = '{MEMORY}'".encode())
            fill(conn, asked.model, asked.schema)
        return aside
    finally:
        for child, pipe in children:
            child.terminate()
            child.join()
            pipe.close()


def finish(conn: Connection, asked: Build) -> None:
    """Make the keys and indexes of committed tables and look at what is in them, side by side."""
    conninfo = _conninfo(conn)

    def finish_table(table: Table[Any]) -> None:
        scalars = ", ".join(name for name, kind in table.columns.items() if kind != "jsonb")
        with Session.connect(conninfo, autocommit=True) as own:
            own.execute(f"SET maintenance_work_mem = '{MEMORY}'".encode())
            for statement in table.index_ddl(asked.prefix):
                own.execute(statement.encode())
            own.execute(f"ANALYZE {asked.prefix}{table.name} ({scalars})".encode())

    with ThreadPoolExecutor(min(os.cpu_count() or 1, PROCESSES)) as pool:
        list(pool.map(finish_table, asked.model.tables))


def _conninfo(conn: Connection) -> str:
    return make_conninfo(conn.info.dsn, password=conn.info.password or None)


def _may_fork() -> bool:
    daemon = multiprocessing.current_process().daemon
    return hasattr(os, "fork") and threading.active_count() == 1 and not daemon


def _work(there: Pipe, parent: int, conninfo: str, asked: Build, share: int, shares: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whatever the parent makes of it
    try:
        with Session.connect(conninfo) as conn:
            # From here on a later build's DROP SCHEMA waits for this one's end; if there is none
            # to report to any more, the tables may already be that build's.
            for table in asked.model.tables:
                name = f"{asked.prefix}{table.name}"
                conn.execute(f"LOCK TABLE {name} IN ROW EXCLUSIVE MODE".encode())
            if os.getppid() != parent:
                return
            aside = _build_share(ready(conn), asked, None, share, shares)
        there.send((aside, None))
    except CannotBuild as error:
        there.send((None, error))
    except psycopg.OperationalError as error:
        there.send((None, psycopg.OperationalError(str(error))))
    except Exception as error:
        there.send((None, CannotBuild(f"{type(error).__name__}: {error}")))


def _received(pipe: Pipe) -> Aside:
    aside: Aside
    try:
        aside, failure = pipe.recv()
    except EOFError:
        raise CannotBuild("a process that built a share of it died") from None
    if failure is not None:
        raise failure
    return aside


def _refuse_unknown(conn: Connection, asked: Build) -> None:
    known = list(REGISTRY)
    rows = conn.execute(UNKNOWN, (asked.head, list(asked.skipped), known))
    strange = {row[0]: row[1] for row in rows if asked.has_taken(row[0], row[2])}
    if strange:
        types = ", ".join(sorted(set(strange.values())))
        raise CannotBuild(f"the ledger holds events of unknown type: {types}", min(strange))


def _build_share(
    conn: Connection, asked: Build, report: Progress | None, share: int, shares: int
) -> Aside:
    conn.execute(f"SET LOCAL work_mem = '{MEMORY}'".encode())
    aside: Aside = {}
    done = 0
    with without_cycle_collection():
        for chunk in _streams(conn, asked, share, shares):
            blank = Rows(asked.model.tables, asked.prefix)
            rows, more = fold_on(conn, asked, blank, chunk, aside)
            rows.flush(conn)
            aside |= more
            done += len(chunk)
            if report is not None:
                report(min(done * shares, asked.head), asked.head)
    return aside


def fold_on(
    conn: Connection, asked: Build, stored: Rows, chunk: list[Stored], aside: Aside
) -> tuple[Rows, Aside]:
    """Fold ledger rows on what is stored; the rows to write, and the streams newly set aside.

    Raises:
        CannotBuild: when a critical model meets a poison event.
    """
    batch = readable(conn, asked.keyring, chunk)
    parked: Parked = {stream: one.position for stream, one in aside.items()}
    try:
        rows, parking = fold(asked.model, stored.copy, batch, parked, asked.skipped)
    except Poison as poison:
        raise CannotBuild(str(poison), poison.position) from poison
    return rows, {s: SetAside(poison.position, str(poison)) for s, poison in parking.items()}


def _streams(conn: Connection, asked: Build, share: int, shares: int) -> Iterator[list[Stored]]:
    """Ledger rows of a share's streams, in chunks that end between two streams."""
    params: list[Any] = [asked.head, list(asked.model.types)]
    chosen, order = "true", ""
    if shares > 1:
        chosen = "abs(uuid_hash(stream_id)::bigint) %% %s = %s"
        params += [shares, share]
    if asked.shuffle is not None:
        order = "md5(stream_id::text || %s),"
        params.append(asked.shuffle)
    query = STREAMS.format(share=chosen, order=order)
    with conn.cursor(name=f"build_{asked.model.name}", binary=True, row_factory=stored) as cursor:
        cursor.execute(query.encode(), params)
        kept: list[Stored] = []
        while rows := cursor.fetchmany(CHUNK):
            rows = kept + rows
            cut = len(rows)
            while cut and rows[cut - 1].stream_id == rows[-1].stream_id:
                cut -= 1
            if cut:
                yield [row for row in rows[:cut] if asked.has_taken(row.position, row.stream_id)]
            kept = rows[cut:]
        if kept:
            yield [row for row in kept if asked.has_taken(row.position, row.stream_id)]
