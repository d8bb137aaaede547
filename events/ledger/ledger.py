"""The ledger in PostgreSQL: append a group of decided commands, load streams, read in order."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import Any, NamedTuple
from uuid import UUID
from weakref import WeakSet

import psycopg
from psycopg import generators, pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.rows import tuple_row

from events.envelope import Actor
from events.ledger import sessions
from events.ledger.arrays import BigInts, Blobs, Bools, Instants, Ints, Texts, UUIDs, register
from events.ledger.sessions import Session, watchful

Connection = psycopg.Connection[Any]

MAX_EVENTS = 1_000
"""The most events that one command may append."""
MAX_BYTES = 1_000_000
"""The most payload bytes that one command may append."""

SESSION = (
    "-c role=pledge_service -c synchronous_commit=on "
    "-c default_transaction_isolation=read\\ committed -c timezone=UTC"
)
APPEND_OIDS = [2950, 20] + [
    kind.oid
    for kind in (
        *(Texts, UUIDs, UUIDs, UUIDs, Texts, Texts, Texts, Blobs, Texts, UUIDs, BigInts, BigInts),
        *(Instants, Texts, Texts, Texts, Texts, Bools, UUIDs, BigInts, Ints, Ints),
        *(Ints, UUIDs, Texts, Ints, Blobs, BigInts),
        *(UUIDs, Blobs),
    )
]
APPEND_NAME = b"append"
BINARIES = [pq.Format.BINARY] * len(APPEND_OIDS)
APPEND = b"SELECT * FROM ledger.append(%s)" % b", ".join(
    b"$%d" % (n + 1) for n in range(len(APPEND_OIDS))
)
LOAD = """
SELECT stream_id, version, stream_type, type, schema_version, payload
  FROM ledger.events WHERE stream_id = ANY(%b) ORDER BY stream_id, version
"""


class Stored(NamedTuple):
    """A row of the ledger: an event as it is stored, personal fields sealed."""

    position: int
    event_id: UUID
    stream_type: str
    stream_id: UUID
    version: int
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    actor_kind: str
    command_id: UUID
    correlation_id: UUID
    causation_id: UUID | None
    type: str
    schema_version: int
    payload: bytes


COLUMNS = ", ".join(Stored._fields)
STREAM_TYPES = """
SELECT DISTINCT ON (stream_id) stream_id, stream_type FROM ledger.events WHERE stream_id = ANY(%b)
"""
READ = f"SELECT {COLUMNS} FROM ledger.events WHERE position > %b ORDER BY position LIMIT %b"
READ_STREAMS = f"""
SELECT {COLUMNS} FROM ledger.events WHERE stream_id = ANY(%b) ORDER BY stream_id, version
"""
HEAD = "SELECT coalesce(max(position), 0) FROM ledger.events"
AT = "SELECT event_id FROM ledger.events WHERE position = %s"
OUTCOMES = """
SELECT o.actor, o.key, o.command_id, o.body_hash, o.stream_id, o.stream_type, o.status, o.rule,
       o.detail, o.fields, o.no_such_stream, o.version, o.first_position, o.last_position,
       o.after_position,
       (SELECT array_agg(e.type ORDER BY e.position) FROM ledger.events e
         WHERE e.position BETWEEN o.first_position AND o.last_position)
  FROM ledger.outcomes o JOIN unnest(%b, %b) AS u (actor, key) USING (actor, key)
"""


@dataclass(slots=True)
class NewEvent:
    """An event encoded and named, not yet in the ledger."""

    event_id: UUID
    type: str
    schema_version: int
    payload: bytes
    version: int


@dataclass(slots=True)
class Proposal:
    """What one command was decided to do to its stream.

    Attributes:
        expected: the stream version it was decided at; None leaves it to the unique constraint.
        verdict: appended (perhaps no events), refused, or precondition (confirm, never store).
        no_such_stream: whether it is refused because its own stream does not exist.
        rests_on: another stream that the decision rests on, and the version that it had; 0 where
            it rests on the stream's absence.
    """

    command: str
    command_id: UUID
    correlation_id: UUID
    causation_id: UUID | None
    actor: Actor
    key: str
    body_hash: bytes
    stream_type: str
    stream_id: UUID
    expected: int | None
    occurred_at: datetime
    verdict: str = "appended"
    rule: str | None = None
    detail: str | None = None
    fields: tuple[str, ...] = ()
    no_such_stream: bool = False
    rests_on: tuple[UUID, int] | None = None
    events: list[NewEvent] = field(default_factory=list)


class Verdict(NamedTuple):
    """What the ledger says of a proposal.

    Attributes:
        status: the proposal's verdict, or duplicate, conflict or stale: then nothing was written.
        version: the stream's version after it.
        first: position of the first event appended.
        after: the ledger's position after it.
    """

    status: str
    version: int
    first: int | None
    after: int


class StoredOutcome(NamedTuple):
    """A command's stored outcome; its answer is rendered from this for ever.

    Attributes:
        no_such_stream: of a refusal, whether its own stream did not exist; None in older rows.
    """

    actor: str
    key: str
    command_id: UUID
    body_hash: bytes
    stream_id: UUID
    stream_type: str
    status: str
    rule: str | None
    detail: str | None
    fields: list[str] | None
    no_such_stream: bool | None
    version: int
    first: int | None
    last: int | None
    after: int
    types: list[str] | None


def connect(conninfo: str, name: str = "pledge", *, limit: float = math.inf) -> Connection:
    """An autocommit session with the service's rights only.

    Args:
        limit: the most seconds that a statement may take.

    Raises:
        psycopg.OperationalError: when the database cannot be reached, or later does not answer.
    """
    conn = Session.connect(watchful(conninfo, SESSION, name), autocommit=True)
    conn.limit = limit
    register(conn.adapters)
    return conn


class Appending:
    """A group on its way into the ledger: sent in one round trip, its answer not read yet.

    The caller can decide the next group while the server works at this one. Nothing else may be
    asked of the session until ``verdicts`` has returned.

    Args:
        conn: an autocommit session.
        proposals: the decided commands, in order; those of one stream must stand together.
        new_keys: subjects and their wrapped keys, made for this group.
        settings: the stream and version of the settings that the group was decided under.

    Raises:
        psycopg.OperationalError: when the session is gone.
    """

    def __init__(
        self,
        conn: Connection,
        proposals: Sequence[Proposal],
        new_keys: Sequence[tuple[UUID, bytes]] = (),
        settings: tuple[UUID, int] | None = None,
    ) -> None:
        self._conn = conn
        self._proposals = len(proposals)
        if conn not in _prepared:
            conn.pgconn.send_prepare(APPEND_NAME, APPEND, APPEND_OIDS)
            self._result(pq.ExecStatus.COMMAND_OK)
            _prepared.add(conn)
        conn.pgconn.send_query_prepared(
            APPEND_NAME, _parameters(proposals, new_keys, settings), BINARIES, pq.Format.BINARY
        )
        conn.wait(generators.send(conn.pgconn))
        self._overdue_at = time.monotonic() + sessions.SILENCE_SECONDS

    def fileno(self) -> int:
        """The socket that becomes readable when the answer comes."""
        return self._conn.pgconn.socket

    def has_landed(self) -> bool:
        """Whether ``verdicts`` is to be asked: it returns at once, or the answer is overdue.

        Raises:
            psycopg.OperationalError: when the session died.
        """
        self._conn.pgconn.consume_input()
        return not self._conn.pgconn.is_busy() or time.monotonic() > self._overdue_at

    def verdicts(self) -> list[Verdict]:
        """What became of each proposal; waits until it is known.

        Raises:
            psycopg.Error: when the database refuses; the whole group is then undone. Of an
                OperationalError nobody knows: append again, the keys tell what happened.
        """
        rows = Transformer(self._conn)
        rows.set_pgresult(self._result(pq.ExecStatus.TUPLES_OK))
        row = rows.load_row(0, tuple)
        assert row is not None
        statuses, versions, firsts, after, _recorded = row
        if statuses[0] == "stale":
            return [Verdict("stale", 0, None, 0)] * self._proposals
        return list(map(Verdict, statuses, versions, firsts, after))

    def _result(self, expected: pq.ExecStatus) -> pq.abc.PGresult:
        results: list[pq.abc.PGresult]
        results = self._conn.wait(generators.execute(self._conn.pgconn))
        [result] = results
        if result.status != expected:
            raise error_from_result(result, self._conn.info.encoding)
        return result


_prepared: WeakSet[Connection] = WeakSet()
"""The sessions that know the append's statement."""


def append(
    conn: Connection,
    proposals: Sequence[Proposal],
    new_keys: Sequence[tuple[UUID, bytes]] = (),
    settings: tuple[UUID, int] | None = None,
) -> list[Verdict]:
    """Append a group and wait for its verdicts; all as ``Appending`` says."""
    return Appending(conn, proposals, new_keys, settings).verdicts()


def _parameters(
    proposals: Sequence[Proposal],
    new_keys: Sequence[tuple[UUID, bytes]],
    settings: tuple[UUID, int] | None,
) -> list[bytes | None]:
    events = [event for proposal in proposals for event in proposal.events]
    numbers = [len(proposal.events) for proposal in proposals]
    before = [0, *accumulate(numbers)][:-1]
    owners = [place for place, number in enumerate(numbers, 1) for _ in range(number)]
    arrays = (
        Texts([p.command for p in proposals]),
        UUIDs([p.command_id for p in proposals]),
        UUIDs([p.correlation_id for p in proposals]),
        UUIDs([p.causation_id for p in proposals]),
        Texts([p.actor.id for p in proposals]),
        Texts([p.actor.kind for p in proposals]),
        Texts([p.key for p in proposals]),
        Blobs([p.body_hash for p in proposals]),
        Texts([p.stream_type for p in proposals]),
        UUIDs([p.stream_id for p in proposals]),
        BigInts([p.expected for p in proposals]),
        BigInts([p.events[-1].version if p.events else p.expected for p in proposals]),
        Instants([p.occurred_at for p in proposals]),
        Texts([p.verdict for p in proposals]),
        Texts([p.rule for p in proposals]),
        Texts([p.detail for p in proposals]),
        Texts([" ".join(p.fields) or None for p in proposals]),
        Bools([p.no_such_stream if p.verdict == "refused" else None for p in proposals]),
        UUIDs([p.rests_on and p.rests_on[0] for p in proposals]),
        BigInts([p.rests_on and p.rests_on[1] for p in proposals]),
        Ints(before),
        Ints(numbers),
        Ints(owners),
        UUIDs([e.event_id for e in events]),
        Texts([e.type for e in events]),
        Ints([e.schema_version for e in events]),
        Blobs([e.payload for e in events]),
        BigInts([e.version for e in events]),
        UUIDs([subject for subject, _ in new_keys]),
        Blobs([wrapped for _, wrapped in new_keys]),
    )
    return [
        settings[0].bytes if settings else None,
        settings[1].to_bytes(8) if settings else None,
        *[array.data for array in arrays],
    ]


def load(
    conn: Connection, stream_ids: Collection[UUID]
) -> Iterable[tuple[UUID, int, str, str, int, bytes]]:
    """Rows of (stream id, version, stream type, type, schema version, payload), by stream."""
    return conn.cursor(binary=True).execute(LOAD, (list(stream_ids),), prepare=True)


def stream_types(conn: Connection, stream_ids: Collection[UUID]) -> dict[UUID, str]:
    """The type of each of these streams that exists."""
    return dict(conn.execute(STREAM_TYPES, (list(stream_ids),), prepare=True).fetchall())


def outcomes(
    conn: Connection, keys: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], StoredOutcome]:
    """The stored outcomes of these (actor, idempotency key) pairs."""
    actors, names = [actor for actor, _ in keys], [key for _, key in keys]
    rows = conn.execute(OUTCOMES, (actors, names), prepare=True)
    return {(row[0], row[1]): StoredOutcome(*row) for row in rows}


def head(conn: Connection) -> int:
    """The ledger's last position, 0 when it is empty."""
    row = conn.cursor(row_factory=tuple_row).execute(HEAD, prepare=True).fetchone()
    return int(row[0]) if row else 0


def event_at(conn: Connection, position: int) -> UUID | None:
    """The id of the event at a position, if there is one."""
    row = conn.execute(AT, (position,)).fetchone()
    return row and row[0]


def ledger_id(conn: Connection) -> UUID:
    """Which ledger this is."""
    row = conn.execute("SELECT ledger_id FROM ledger.identity").fetchone()
    assert row is not None
    found: UUID = row[0]
    return found


def read(conn: Connection, after: int, limit: int, query: str = READ) -> list[Stored]:
    """The next events above a position; no reader can pass a hole."""
    cursor = conn.cursor(binary=True, row_factory=stored)
    return cursor.execute(query, (after, limit), prepare=True).fetchall()


def read_streams(conn: Connection, stream_ids: Collection[UUID]) -> list[Stored]:
    """All events of some streams, each stream in the order of its versions."""
    cursor = conn.cursor(binary=True, row_factory=stored)
    return cursor.execute(READ_STREAMS, (list(stream_ids),)).fetchall()


def stored(_: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], Stored]:
    """For cursors: rows of ``COLUMNS`` by name."""
    return Stored._make
