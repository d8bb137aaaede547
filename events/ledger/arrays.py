"""One-dimensional PostgreSQL arrays in binary form, written directly.

psycopg finds an array's type by looking at its elements one by one in Python, which costs more
than the append that the arrays are for. Here the caller names the type once.
Format: https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-FORMAT-CODES
and ``array_send`` in the server's source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any
from uuid import UUID

from psycopg import pq
from psycopg.adapt import AdaptersMap, Dumper

HEADER = Struct("!iiIii")
EMPTY = Struct("!iiI")
LENGTH = Struct("!i")
NULL = LENGTH.pack(-1)
BOOL = Struct("!i?")
INT4 = Struct("!ii")
INT8 = Struct("!iq")
UUID_LENGTH = LENGTH.pack(16)
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Array:
    """A whole array, ready to be sent."""

    __slots__ = ("data",)

    oid: int
    element_oid: int

    def __init__(self, elements: Iterable[Any]) -> None:
        parts = self.parts(elements)
        if parts:
            self.data = HEADER.pack(1, 1, self.element_oid, len(parts), 1) + b"".join(parts)
        else:
            self.data = EMPTY.pack(0, 0, self.element_oid)

    # A comprehension of each kind's own: a call for each element would cost as much as its packing.
    parts: Callable[[Iterable[Any]], list[bytes]]


class Texts(Array):
    """text[]"""

    oid, element_oid = 1009, 25

    @staticmethod
    def parts(elements: Iterable[str | None]) -> list[bytes]:
        return [
            NULL if element is None else LENGTH.pack(len(raw := element.encode())) + raw
            for element in elements
        ]


class Blobs(Array):
    """bytea[]"""

    oid, element_oid = 1001, 17

    @staticmethod
    def parts(elements: Iterable[bytes | None]) -> list[bytes]:
        return [NULL if raw is None else LENGTH.pack(len(raw)) + raw for raw in elements]


class UUIDs(Array):
    """uuid[]"""

    oid, element_oid = 2951, 2950

    @staticmethod
    def parts(elements: Iterable[UUID | None]) -> list[bytes]:
        return [NULL if element is None else UUID_LENGTH + element.bytes for element in elements]


class Bools(Array):
    """bool[]"""

    oid, element_oid = 1000, 16

    @staticmethod
    def parts(elements: Iterable[bool | None]) -> list[bytes]:
        return [NULL if element is None else BOOL.pack(1, element) for element in elements]


class Ints(Array):
    """int4[]"""

    oid, element_oid = 1007, 23

    @staticmethod
    def parts(elements: Iterable[int | None]) -> list[bytes]:
        return [NULL if element is None else INT4.pack(4, element) for element in elements]


class BigInts(Array):
    """int8[]"""

    oid, element_oid = 1016, 20

    @staticmethod
    def parts(elements: Iterable[int | None]) -> list[bytes]:
        return [NULL if element is None else INT8.pack(8, element) for element in elements]


class Instants(Array):
    """timestamptz[]"""

    oid, element_oid = 1185, 1184

    @staticmethod
    def parts(elements: Iterable[datetime | None]) -> list[bytes]:
        return [
            NULL if element is None else INT8.pack(8, (element - POSTGRES_EPOCH) // MICROSECOND)
            for element in elements
        ]


class _ArrayDumper(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: Array) -> bytes:
        return obj.data


DUMPERS = [
    (kind, type(f"{kind.__name__}Dumper", (_ArrayDumper,), {"oid": kind.oid}))
    for kind in (Texts, Blobs, UUIDs, Bools, Ints, BigInts, Instants)
]


def register(adapters: AdaptersMap) -> None:
    """Let a connection send these arrays."""
    for kind, dumper in DUMPERS:
        adapters.register_dumper(kind, dumper)
