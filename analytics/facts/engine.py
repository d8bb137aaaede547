"""The DuckDB of a process: one database in memory, whose bounds hold for all questions together."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import duckdb
from fsspec import AbstractFileSystem

LOCK = "in use"
SETTINGS = """
SET GLOBAL TimeZone = 'UTC';
SET GLOBAL parquet_metadata_cache = true;
SET GLOBAL validate_external_file_cache = 'NO_VALIDATION'
"""
"""Files may be cached: each is written once, under a name that nobody had before."""

MACROS = """
CREATE OR REPLACE MACRO asked() AS getvariable('asked');
CREATE OR REPLACE MACRO fits(value, wanted) AS wanted IS NULL OR value = wanted;
CREATE OR REPLACE MACRO happened(moment) AS asked().as_of IS NULL OR moment < asked().as_of;
CREATE OR REPLACE MACRO in_window(day) AS
    (asked().start IS NULL OR day >= asked().start)
    AND (asked().until IS NULL OR day < asked().until);
CREATE OR REPLACE MACRO business_day(moment) AS
    CASE asked().zone WHEN 'UTC' THEN make_timestamp(epoch_us(moment))::DATE
         ELSE timezone(asked().zone, moment)::DATE END;
"""
"""The scope, as SQL says it: of variables, for a view takes no parameters. A variable is of one
session, and a constant when a query is planned, so that conditions reach the files."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What all questions of a process may take together.

    Attributes:
        threads: of DuckDB.
        memory: a size with its unit, as DuckDB takes it.
        spill: a folder for what does not fit into memory; None is the system's temporary one.
        spill_size: how much may lie there.
    """

    threads: int = 2
    memory: str = "1GB"
    spill: Path | None = None
    spill_size: str = "4GB"


class TooLarge(RuntimeError):
    """A question needs more memory, or more room for what does not fit, than it may take."""


class SpillFull(RuntimeError):
    """The disk is full on which lies what does not fit into memory."""


class Engine:
    """DuckDB, started with the first question.

    Args:
        fs: the file system of the facts, where that is not this machine's own.
    """

    def __init__(self, bounds: Bounds, fs: AbstractFileSystem | None = None) -> None:
        self._bounds, self._fs = bounds, fs
        self._lock = Lock()
        self._database: duckdb.DuckDBPyConnection | None = None
        self._spill: SpillFolder | None = None

    @contextmanager
    def session(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A session with temporary tables, views and variables of its own.

        Raises:
            TooLarge: when what is asked in it takes more than the bounds.
            SpillFull: when the disk is full before that.
        """
        database = self._opened()
        try:
            with database.cursor() as conn:
                yield conn
        except duckdb.OutOfMemoryException as error:
            raise TooLarge(
                f"The question takes more than {self._bounds.memory} of memory and "
                f"{self._bounds.spill_size} on the disk. Ask for less: a window of days, one "
                "owner, region or product. An operator may raise PLEDGE_FIGURES_MEMORY."
            ) from error
        except duckdb.IOException as error:
            if "No space left" in str(error):
                raise SpillFull(
                    "The disk is full to which figures spill what does not fit into memory. Make "
                    "room there, or name another folder: PLEDGE_FIGURES_SPILL."
                ) from error
            raise
        except (duckdb.FatalException, duckdb.InternalException):
            self._forget(database)
            raise

    def close(self) -> None:
        """Let memory and disk go; the next question starts it again."""
        with self._lock:
            self._end()

    def _opened(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._database is None:
                self._spill = self._spill or SpillFolder(self._bounds.spill)
                config: dict[str, str | bool | int | float | list[str]] = {
                    "threads": self._bounds.threads,
                    "memory_limit": self._bounds.memory,
                    "temp_directory": str(self._spill.path),
                    "max_temp_directory_size": self._bounds.spill_size,
                }
                database = duckdb.connect(config=config)
                if self._fs is not None:
                    database.register_filesystem(self._fs)
                database.execute(f"{SETTINGS}; {MACROS}")
                self._database = database
            return self._database

    def _forget(self, database: duckdb.DuckDBPyConnection) -> None:
        """After a fault of its own DuckDB answers nothing more."""
        with self._lock:
            if self._database is database:
                self._end()

    def _end(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._spill is not None:
            self._spill.close()
            self._spill = None


class SpillFolder:
    """A folder of this process below ``root``, locked while it lives; those of the dead go."""

    def __init__(self, root: Path | None) -> None:
        parent = root or Path(tempfile.gettempdir())
        parent.mkdir(parents=True, exist_ok=True)
        for other in parent.glob("pledge-spill-*"):
            with suppress(OSError), (other / LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other)
        fresh = Path(tempfile.mkdtemp(prefix="new-pledge-spill-", dir=parent))
        self._lock = (fresh / LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = fresh.rename(parent / fresh.name.removeprefix("new-"))

    def close(self) -> None:
        """Delete it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()
