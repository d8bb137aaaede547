"""Where the parts of a process meet: the database, the keys, the two sides, one application."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from events.ledger import ledger
from events.ledger.arrays import register
from events.ledger.keys import Keyring, is_bound
from events.ledger.migrate import migrate
from pledge.embedded import create_database, postgres
from pledge.settings import Settings
from projections.engine.tables import Connection

if TYPE_CHECKING:  # processes that need neither start faster
    from analytics.facts.store import Store
    from commands.handling.writer import Writer

KEY_BYTES = 32
WRITER_SESSION = "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan"


class Misconfigured(RuntimeError):
    """A setting cannot be used; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What every process of the product is built on."""

    conninfo: str
    master: bytes

    def keyring(self) -> Keyring:
        """A keyring of a component's own."""
        return Keyring(self.master)

    def connect(self) -> Connection:
        """A session with the service's rights."""
        conn = ledger.connect(self.conninfo)
        register(conn.adapters)
        return conn

    def connect_writer(self) -> Connection:
        """A session for the writer.

        All it does are look-ups by key, yet on tables that were empty when a plan was made
        PostgreSQL would go on scanning them; and it would plan anew for every group's size.
        """
        from commands.handling.writer import PATIENCE_SECONDS

        conn = ledger.connect(self.conninfo, "pledge writer", limit=PATIENCE_SECONDS)
        conn.execute(WRITER_SESSION)
        return conn

    def writer(self) -> Writer:
        """The write side."""
        from commands.handling.writer import Writer

        return Writer(self.connect_writer, self.keyring())


@contextmanager
def parts(settings: Settings, *, supervised: bool = False) -> Iterator[Parts]:
    """A migrated database and its master key; the embedded database runs as long as the block.

    Args:
        supervised: whether this process starts the embedded database again when it dies.

    Raises:
        Misconfigured: when the database cannot be reached or the key cannot be used.
        EmbeddedPostgresFailed: when the embedded database does not start.
        OtherVersion: when the database was made by another version.
        WrongMasterKey: when the ledger was begun with another key.
    """
    with database(settings, supervised=supervised) as conninfo:
        try:
            migrate(conninfo)
        except psycopg.errors.InsufficientPrivilege as error:
            raise Misconfigured(
                f"The database's user may not set it up: {error}. Let its owner start Pledge once, "
                "then GRANT pledge_service to this user."
            ) from error
        except psycopg.OperationalError as error:
            raise Misconfigured(
                f"The database does not answer: {str(error).strip()}. Check PLEDGE_DATABASE_URL."
            ) from error
        with ledger.connect(conninfo) as conn:
            found = Parts(conninfo, master_key(settings, is_needed=is_bound(conn)))
            found.keyring().verify(conn)
        yield found


@contextmanager
def database(settings: Settings, *, supervised: bool = False) -> Iterator[str]:
    """The database as it is; the embedded one runs as long as the block.

    Raises:
        Misconfigured: when the folder of the embedded one cannot be made.
        EmbeddedPostgresFailed: when it does not start.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(
            f"The folder {settings.home} cannot be made ({error.strerror}). "
            "Give Pledge another one: PLEDGE_HOME=FOLDER"
        ) from error
    with postgres(settings.home, supervised=supervised) as url:
        yield create_database(url, "pledge")


def facts(settings: Settings) -> Store:
    """Where figures have their facts."""
    from analytics.facts.engine import Bounds
    from analytics.facts.store import Store

    bounds = Bounds(
        settings.figures_threads,
        settings.figures_memory,
        settings.figures_spill,
        settings.figures_spill_size,
    )
    return Store(settings.facts or str((settings.home / "facts").absolute()), bounds)


def master_key(settings: Settings, *, is_needed: bool = False) -> bytes:
    """The key that wraps all others, made on first use where none was given.

    Args:
        is_needed: whether a ledger was begun with it, so that no other will do.

    Raises:
        Misconfigured: when it is missing and needed, or is not 32 bytes in base64.
    """
    if settings.master_key is not None:
        return _decoded(settings.master_key.get_secret_value(), "PLEDGE_MASTER_KEY")
    path = settings.master_key_file or settings.home / "master.key"
    if not path.exists():
        if settings.master_key_file is not None:
            raise Misconfigured(f"There is no master key in {path} (PLEDGE_MASTER_KEY_FILE).")
        if is_needed:
            raise Misconfigured(
                f"The master key of this ledger is missing: there is no {path}. Put it back, or "
                "name its file: PLEDGE_MASTER_KEY_FILE. No other key opens the data."
            )
        _make_key(path)
    try:
        return _decoded(path.read_text(encoding="ascii"), str(path))
    except OSError as error:
        raise Misconfigured(f"The master key {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{path} must hold {KEY_BYTES} bytes in base64.") from error


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(base64.b64encode(os.urandom(KEY_BYTES)).decode() + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def _decoded(text: str, source: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise Misconfigured(f"{source} must hold {KEY_BYTES} bytes in base64.")
    return key
