"""Keeping tables of sums: what rows of several streams come to together.

The query of a sum is asked before and after the rows of a batch are written, restricted to those
rows, and the difference is added. So streams may come in any order, and a batch costs what it
touches. The same query, unrestricted, fills the whole table at a build.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from events.ledger.arrays import UUIDs
from events.ledger.locks import Lock
from projections.engine.model import ReadModel
from projections.engine.tables import Connection, Rows, Sums

WITHIN = "SELECT set_config('search_path', %s, true)"
ALONE = f"{WITHIN}, pg_advisory_xact_lock({Lock.SUMS}, hashtext(%s))"
FEW = 50
"""Rows among which a query may loop."""

Amounts = dict[tuple[Any, ...], Sequence[Any]]
"""By key, the sums."""


def keep(conn: Connection, model: ReadModel, schema: str, rows: Rows) -> None:
    """Write the rows that a batch touches, and add to the sums what that changes.

    One writer at a time: a sum is also made of rows that other processes write.
    """
    if not model.sums:
        rows.flush(conn)
        return
    conn.execute(ALONE, (schema, schema), prepare=True)
    if any(rows.values(of) for table in _every(model) for of in table.hangs_on):
        rows.flush(conn)
        for table in _every(model):
            conn.execute(f"DELETE FROM {table.name}".encode())
        fill(conn, model)
        return
    touched: Callable[[str], Collection[Any]] = rows.values
    write: Callable[[], None] = _writing(conn, rows)
    for level in model.sums:
        ids = {table: _ids(table, touched) for table in level}
        before = {table: _asked(conn, table, ids[table]) for table in level}
        write()
        after = {table: _asked(conn, table, ids[table]) for table in level}
        changes = {table: _changes(before[table], after[table]) for table in level}
        touched, write = _touched(changes), _adding(conn, changes)
    write()


def fill(conn: Connection, model: ReadModel, schema: str | None = None) -> None:
    """Fill the empty tables of sums from all rows that are there, in the transaction at hand.

    Args:
        schema: of the tables; by default those that their names stand for.
    """
    if not model.sums:
        return
    if schema is not None:
        conn.execute(WITHIN, (schema,))
    with _without_loops(conn):
        for table in _every(model):
            every = table.select.format(among="IS NOT NULL")
            columns = ", ".join(table.columns)
            conn.execute(f"INSERT INTO {table.name} ({columns}) {every}".encode())


def _every(model: ReadModel) -> Iterator[Sums[Any]]:
    return (table for level in model.sums for table in level)


def _ids(table: Sums[Any], touched: Callable[[str], Collection[Any]]) -> set[Any]:
    return {one for of in table.of for one in touched(of)}


def _asked(conn: Connection, table: Sums[Any], ids: Collection[Any]) -> Amounts:
    """What the rows with these ids come to."""
    if not ids:
        return {}
    sql = table.select.format(among="= ANY (%(ids)b)").encode()
    values = {"ids": UUIDs(ids)}
    if len(ids) <= FEW:
        found = conn.execute(sql, values, prepare=True).fetchall()
    else:
        with _without_loops(conn):
            found = conn.execute(sql, values, prepare=False).fetchall()
    width = len(table.key)
    return {row[:width]: row[width:] for row in found}


@contextmanager
def _without_loops(conn: Connection) -> Iterator[None]:
    """Without row estimates the planner would choose nested loops."""
    conn.execute("SET LOCAL enable_nestloop = off")
    yield
    conn.execute("SET LOCAL enable_nestloop = on")


def _changes(before: Amounts, after: Amounts) -> Amounts:
    changes = {}
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old is None:
            change = new
        elif new is None:
            change = [-amount for amount in old]
        else:
            change = [b - a for a, b in zip(old, new, strict=True)]
        if change is not None and any(change):
            changes[key] = change
    return changes


def _touched(changes: Mapping[Sums[Any], Amounts]) -> Callable[[str], Collection[Any]]:
    found = {
        f"{table.name}.{column}": {key[place] for key in amounts}
        for table, amounts in changes.items()
        for place, column in enumerate(table.key)
    }
    return lambda of: found.get(of, ())


def _writing(conn: Connection, rows: Rows) -> Callable[[], None]:
    return lambda: rows.flush(conn)


def _adding(conn: Connection, changes: Mapping[Sums[Any], Amounts]) -> Callable[[], None]:
    def add() -> None:
        for table, amounts in changes.items():
            if amounts:
                _add(conn, table, amounts)

    return add


def _add(conn: Connection, table: Sums[Any], amounts: Amounts) -> None:
    rows = [(*key, *sums) for key, sums in amounts.items()]
    conn.execute(table.adding.encode(), [list(column) for column in zip(*rows, strict=True)])
    gone = [key for key, sums in amounts.items() if sums[0] < 0]
    if gone:
        conn.execute(table.dropping.encode(), [list(column) for column in zip(*gone, strict=True)])
