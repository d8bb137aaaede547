"""What an import remembers between rows: on disk beyond a little, so that memory stays bounded."""

import sqlite3
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from types import TracebackType
from typing import Self

import orjson

from pledge.importing.rows import Row

RECENT = 1_000
"""How many of the latest entries are kept in memory."""
BATCH = 500
_SESSION = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"


class Store:
    """Entries by key, the latest in memory and all others in a temporary file."""

    def __init__(self) -> None:
        self._recent: dict[bytes, bytes] = {}
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._database is not None:
            self._database.close()

    def get(self, key: bytes) -> bytes | None:
        """The entry of this key."""
        entry = self._recent.get(key)
        if entry is None and self._database is not None:
            found = self._database.execute("SELECT entry FROM entries WHERE key = ?", (key,))
            for (entry,) in found:
                return bytes(entry)
        return entry

    def put(self, key: bytes, entry: bytes) -> None:
        """Make this the entry of the key."""
        self._recent[key] = entry
        if len(self._recent) > RECENT:
            self._spill()

    def _spill(self) -> None:
        if self._database is None:
            self._database = sqlite3.connect("", isolation_level=None)
            self._database.executescript(
                f"{_SESSION} CREATE TABLE entries (key BLOB PRIMARY KEY, entry BLOB) "
                "WITHOUT ROWID; BEGIN"
            )
        self._database.executemany(
            "INSERT OR REPLACE INTO entries VALUES (?, ?)", sorted(self._recent.items())
        )
        self._recent.clear()


def gathered(rows: Iterable[tuple[str, Row]]) -> Iterator[list[Row]]:
    """The rows of each group, wherever they stand; groups in the order of their first rows.

    Args:
        rows: with the text of their group.
    """
    database = sqlite3.connect("", isolation_level=None)
    try:
        database.executescript(
            f"{_SESSION} CREATE TABLE rows (place INTEGER PRIMARY KEY, of BLOB, row BLOB); BEGIN"
        )
        database.executemany(
            "INSERT INTO rows (of, row) VALUES (?, ?)",
            (
                (digest(of), orjson.dumps([row.line, row.cells, row.swallowed, row.inexact]))
                for of, row in rows
            ),
        )
        found = database.execute(
            "SELECT of, row FROM rows JOIN (SELECT of, min(place) AS first FROM rows GROUP BY of) "
            "USING (of) ORDER BY first, place"
        )
        group: list[Row] = []
        last = None
        for of, written in found:
            if of != last and group:
                yield group
                group = []
            last = of
            line, cells, swallowed, inexact = orjson.loads(written)
            group.append(Row(line, 1.0, cells, swallowed, inexact))
        if group:
            yield group
    finally:
        database.close()


def digest(text: str | bytes) -> bytes:
    """Stands for a text of any length."""
    return blake2b(text.encode() if isinstance(text, str) else text, digest_size=16).digest()
