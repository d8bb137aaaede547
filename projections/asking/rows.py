"""From rows of a query to parts of an answer.

A column is called as the field that it fills. A part within a part is named with a dot, as in
``customer.id``; where its first column is null, there is none. An amount's currency is the column
``{field}.currency``, or else ``currency``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from types import NoneType
from typing import Annotated, Any, TypeVar, get_args, get_origin

from psycopg import Cursor
from psycopg.rows import RowMaker, no_result
from pydantic import BaseModel

from events.values import Money
from projections.asking.money import Balance, balance, money
from projections.asking.shape import made
from projections.engine.tables import Connection

S = TypeVar("S", bound=BaseModel)

AMOUNTS: dict[Any, Callable[[Any, Any], Any]] = {Money: money, Balance: balance}


def fetch(conn: Connection, shape: type[S], sql: str, values: Mapping[str, Any]) -> list[S]:
    """The rows of a query, each as its shape.

    Raises:
        TypeError: when the columns are not those of the shape.
    """
    return send(conn, shape, sql, values)()


def send(
    conn: Connection, shape: type[S], sql: str, values: Mapping[str, Any]
) -> Callable[[], list[S]]:
    """Send a query; what is returned waits for its rows, as of ``fetch``.

    In a pipeline several queries are under way at once.
    """

    def makes(cursor: Cursor[Any]) -> RowMaker[S]:
        columns = columns_of(cursor)
        return maker(shape, columns) if columns else no_result

    cursor = conn.cursor(row_factory=makes)
    may_prepare = conn.prepare_threshold is not None
    return cursor.execute(sql.encode(), values, prepare=may_prepare).fetchall


def columns_of(cursor: Cursor[Any]) -> tuple[str, ...]:
    """The names of a result's columns; ``description`` would make an object of each."""
    result = cursor.pgresult
    if result is None:
        return ()
    return tuple((result.fname(at) or b"").decode() for at in range(result.nfields))


@lru_cache(1_000)
def maker(shape: type[S], columns: tuple[str, ...], also: Collection[str] = ()) -> RowMaker[S]:
    """What makes the shape of a row's values.

    Args:
        also: columns that fill no field.

    Raises:
        TypeError: when a field has no column, or a column no field.
    """
    make, used = _maker(shape, columns, "")
    left = {*columns} - used - {*also}
    if left:
        raise TypeError(f"{shape.__name__} has no fields for the columns {sorted(left)}")
    return make


def _maker(shape: type[S], columns: Sequence[str], prefix: str) -> tuple[RowMaker[S], set[str]]:
    """What makes a shape of the columns that begin with the prefix, and which those are."""
    place = {name: at for at, name in enumerate(columns)}
    names, places, used = [], [], set()
    amounts: list[tuple[str, Callable[[Any, Any], Any], int]] = []
    parts: list[tuple[str, RowMaker[Any]]] = []
    for name, field in shape.model_fields.items():
        column = prefix + name
        kind = plain(field.annotation)
        within = [at for at, other in enumerate(columns) if other.startswith(f"{column}.")]
        if column in place:
            names.append(name)
            places.append(place[column])
            used.add(column)
            if kind in AMOUNTS:
                own = f"{column}.currency"
                currency = own if own in place else f"{prefix}currency"
                if currency not in place:
                    raise TypeError(f"{shape.__name__}.{name} has no column of its currency")
                amounts.append((name, AMOUNTS[kind], place[currency]))
                used.add(currency)
        elif within:
            names.append(name)
            places.append(within[0])
            make, its = _maker(kind, columns, f"{column}.")
            parts.append((name, make))
            used |= its
        elif field.is_required():
            raise TypeError(f"{shape.__name__}.{name} has no column {column}")
    pick = itemgetter(*places) if len(places) > 1 else lambda values: (values[places[0]],)

    def row(values: Sequence[Any]) -> S:
        fields = dict(zip(names, pick(values), strict=True))
        for name, amount, currency in amounts:
            fields[name] = amount(fields[name], values[currency])
        for name, part in parts:
            if fields[name] is not None:
                fields[name] = part(values)
        return made(shape, fields)

    return row, used


def plain(annotation: Any) -> Any:
    """The type of a field, which may also be null or annotated."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    if len(kinds) == 1 and NoneType in get_args(annotation):
        annotation = kinds[0]
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
