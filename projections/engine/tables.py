"""Tables of read models, and the rows of a batch on their way through memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from copy import copy
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from itertools import chain
from operator import attrgetter
from types import UnionType
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin, get_type_hints
from uuid import UUID

import orjson
import psycopg
from psycopg.types.json import Jsonb

from events.ledger.arrays import UUIDs, register

Connection = psycopg.Connection[Any]

COLUMN_TYPES: dict[Any, str] = {
    UUID: "uuid",
    str: "text",
    int: "int8",
    bool: "bool",
    datetime: "timestamptz",
    date: "date",
    Decimal: "numeric",
    dict: "jsonb",
    list: "jsonb",
}


class Row:
    """A row of a read model: a slotted dataclass whose first field is its stream's id.

    Every field that is not part of the key has a default, so that a row can begin with any event:
    a past view may select a later event of a stream and not its first.
    """

    __slots__ = ()
    table: ClassVar[Table[Any]]


R = TypeVar("R", bound=Row)


@dataclass(frozen=True, eq=False)
class Table(Generic[R]):
    """Where the rows of one class are kept. All rows of a stream come from its events alone.

    Attributes:
        key: the leading columns that name a row; the first is the stream's id.
        indexes: further indexes, each a list of columns or expressions as in SQL.
        facts: whether rows are only ever added, one for each event, and never looked at again.
    """

    name: str
    row: type[R]
    key: tuple[str, ...]
    indexes: tuple[str, ...] = ()
    facts: bool = False

    @cached_property
    def columns(self) -> dict[str, str]:
        """Column names and their PostgreSQL types, in order."""
        hints = get_type_hints(self.row)
        return {field.name: _column_type(hints[field.name]) for field in fields(self.row)}  # type: ignore[arg-type]  # a Row is a dataclass

    @cached_property
    def key_of(self) -> Callable[[R], tuple[Any, ...]]:
        """Reads a row's key."""
        names = self.key
        if len(names) == 1:
            one = attrgetter(names[0])
            return lambda row: (one(row),)
        return attrgetter(*names)

    @cached_property
    def values_of(self) -> Callable[[R], tuple[Any, ...]]:
        """Reads a row's values in the order of its columns; lists and dicts as jsonb."""
        read = attrgetter(*self.columns)
        json = [n for n, kind in enumerate(self.columns.values()) if kind == "jsonb"]
        if not json:
            return read

        def values(row: R) -> tuple[Any, ...]:
            found = list(read(row))
            for n in json:
                if found[n] is not None:
                    found[n] = Jsonb(found[n], dumps=orjson.dumps)
            return tuple(found)

        return values

    def ddl(self, prefix: str = "", kind: str = "TABLE") -> str:
        """CREATE TABLE without keys or indexes."""
        columns = ", ".join(f"{name} {type_}" for name, type_ in self.columns.items())
        return f"CREATE {kind} {prefix}{self.name} ({columns})"

    def index_ddl(self, prefix: str = "") -> list[str]:
        """The primary key and the indexes, best made after a bulk load."""
        key = ", ".join(self.key)
        return [
            f"ALTER TABLE {prefix}{self.name} ADD PRIMARY KEY ({key})",
            *(f"CREATE INDEX ON {prefix}{self.name} {index}" for index in self.indexes),
        ]


@dataclass(frozen=True, eq=False, kw_only=True)
class Sums(Table[R]):
    """Sums over rows of several streams, kept up to them (``projections.engine.sums``).

    After the key comes ``count``, of the rows that a sum is made of: one of none is no row.

    Attributes:
        select: the query that gives all columns, in order, with ``{among}`` after the ids of rows.
        of: where those ids stand, as ``orders.order_id``; of sums over sums, in those sums.
        hangs_on: columns, named likewise; when a row with one is written, all tables of sums are
            filled anew.
    """

    select: str
    of: tuple[str, ...]
    hangs_on: tuple[str, ...] = ()

    @cached_property
    def adding(self) -> str:
        """The statement that adds amounts, given as arrays by column."""
        arrays = ", ".join(f"%s::{kind}[]" for kind in self.columns.values())
        sums = [name for name in self.columns if name not in self.key]
        added = ", ".join(f"{name} = t.{name} + excluded.{name}" for name in sums)
        return (
            f"INSERT INTO {self.name} AS t ({', '.join(self.columns)}) SELECT * "
            f"FROM unnest({arrays}) ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {added}"
        )

    @cached_property
    def dropping(self) -> str:
        """The statement that drops sums of nothing among keys, given as arrays by column."""
        arrays = ", ".join(f"%s::{self.columns[name]}[]" for name in self.key)
        same = " AND ".join(f"t.{name} = k.{name}" for name in self.key)
        return (
            f"DELETE FROM {self.name} AS t USING unnest({arrays}) AS k ({', '.join(self.key)}) "
            f"WHERE {same} AND t.count = 0"
        )


def _column_type(hint: Any) -> str:
    if isinstance(hint, UnionType):
        (hint,) = (arg for arg in get_args(hint) if arg is not type(None))
    return COLUMN_TYPES[get_origin(hint) or hint]


class Rows:
    """The rows that a batch of events touches, folded in memory, then written at once.

    Args:
        tables: those of one read model.
        prefix: the schema they live in, with its dot.
    """

    def __init__(self, tables: Iterable[Table[Any]], prefix: str = "") -> None:
        self._tables = tuple(tables)
        self._prefix = prefix
        self._stored: dict[Table[Any], dict[tuple[Any, ...], Any]] = {t: {} for t in self._tables}
        self._touched: dict[Table[Any], dict[tuple[Any, ...], Any]] = {t: {} for t in self._tables}
        self._facts: dict[Table[Any], list[Any]] = {t: [] for t in self._tables}

    def load(self, conn: Connection, stream_ids: Collection[UUID]) -> None:
        """Fetch what is stored of these streams; streams that begin in this batch need not be."""
        for table in self._tables:
            if table.facts or isinstance(table, Sums):
                continue
            select = (
                f"SELECT {', '.join(table.columns)} FROM {self._prefix}{table.name} "
                f"WHERE {table.key[0]} = ANY (%b)"
            )
            for values in conn.cursor(binary=True).execute(
                select.encode(), (UUIDs(stream_ids),), prepare=True
            ):
                row = table.row(*values)
                self._stored[table][table.key_of(row)] = row

    def copy(self) -> Rows:
        """The same stored rows again, to be changed apart."""
        twin = Rows(self._tables, self._prefix)
        for table, rows in self._stored.items():
            twin._stored[table] = {key: copy(row) for key, row in rows.items()}
        return twin

    def get(self, table: Table[R], *key: Any) -> R:
        """The row with this key, made blank if there is none; it will be written."""
        touched = self._touched[table]
        row = touched.get(key)
        if row is None:
            row = touched[key] = self._stored[table].get(key) or table.row(*key)
        return row

    def add(self, table: Table[R], fact: R) -> None:
        """Write one more row of a table of facts."""
        assert table.facts, table.name
        self._facts[table].append(fact)

    def values(self, of: str) -> set[Any]:
        """The values of a column, as ``orders.order_id``, in the rows that will be written."""
        name, _, column = of.partition(".")
        value = attrgetter(column)
        return {
            value(row)
            for table in self._tables
            if table.name == name
            for row in chain(self._touched[table].values(), self._facts[table])
        }

    def flush(self, conn: Connection) -> None:
        """Write what was touched, then forget everything."""
        for table in self._tables:
            touched, stored = self._touched[table], self._stored[table]
            facts = self._facts[table]
            stale = [key for key in touched if key in stored] if stored else ()
            if stale:
                self._delete(conn, table, stale)
            if touched or facts:
                self._copy(conn, table, chain(touched.values(), facts))
            stored.clear()
            touched.clear()
            facts.clear()

    def _delete(
        self, conn: Connection, table: Table[Any], keys: Collection[tuple[Any, ...]]
    ) -> None:
        names = ", ".join(table.key)
        arrays = ", ".join(f"%s::{table.columns[name]}[]" for name in table.key)
        conn.execute(
            f"DELETE FROM {self._prefix}{table.name} AS t USING unnest({arrays}) AS k ({names}) "
            f"WHERE {' AND '.join(f't.{name} = k.{name}' for name in table.key)}".encode(),
            [list(column) for column in zip(*keys, strict=True)],
            prepare=True,
        )

    def _copy(self, conn: Connection, table: Table[R], rows: Iterable[R]) -> None:
        columns = ", ".join(table.columns)
        statement = f"COPY {self._prefix}{table.name} ({columns}) FROM STDIN (FORMAT BINARY)"
        values_of = table.values_of
        with conn.cursor().copy(statement.encode()) as copy:
            copy.set_types(list(table.columns.values()))
            for row in rows:
                copy.write_row(values_of(row))


def ready(conn: Connection) -> Connection:
    """The connection, able to send the arrays that ``Rows`` sends."""
    register(conn.adapters)
    return conn
