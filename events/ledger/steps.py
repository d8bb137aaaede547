"""The steps of the database's history that this version knows, and how it meets a later one."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from psycopg import errors

from events.base import LaterVersion

OTHER_VERSION: tuple[type[Exception], ...] = (
    LaterVersion,
    errors.UndefinedFunction,
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.InvalidSchemaName,
)
"""What code meets on a ledger of another version: an event, or the lack of what it calls."""


@cache
def steps() -> dict[str, str]:
    """The numbered SQL files, by name, in their order."""
    folder = files("events.ledger").joinpath("migrations")
    found = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return {entry.name: entry.read_text() for entry in found if entry.name.endswith(".sql")}


def newest() -> str:
    """The number of the last one."""
    return max(steps()).partition("_")[0]
