"""Facts in Parquet files, on a path or an object store, with a log of which of them count.

A file is written once, under a name that nobody had before, and counts as soon as a manifest names
it. Manifests are numbered; the highest holds, and a number is given once only: of two writers that
both believe themselves alone one fails, and has changed nothing. So position and rows move in one
step, a reader sees all of a compaction or none of it, and whatever a killed writer left behind
counts for nothing and is swept away later.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from hashlib import sha256
from itertools import chain
from typing import Any
from uuid import UUID, uuid4

import fsspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from analytics.facts.engine import Bounds, Engine

MANIFESTS = "manifests"
FILES = 16
"""The most small files of a table that are left apart."""
LARGE = 2_000_000
"""Rows from which on a file stays as it is."""
GRACE_SECONDS = 600.0
"""How long a file that does not count any more stays there for those who read it."""


REMEDY = "Have the facts written again: pledge analytics rebuild"
SEALED = re.compile(r"-([0-9a-f]{16})\.parquet$")
"""The end of a file's name: the first half of its SHA-256."""


class Damaged(RuntimeError):
    """A file of the facts is missing, cut or changed; the message names it and the remedy."""


class WrittenByOthers(RuntimeError):
    """Another writer was faster; nothing of this one counts."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What counts.

    Attributes:
        number: 0 where nothing was written yet.
        shape: of the tables, as of the code that wrote them.
        position: the facts of every event up to it are in the files, and of none behind it.
        files: by table, names below the store's root with how many rows they hold, oldest first.
        halted: why no more can be written; None when it can.
        retired: files that counted before, with when they ceased to, in seconds since 1970.
        columns: by table, what its files hold; empty in manifests that older code wrote.
        goal: the position from which on these files answer, and not those before them.
        before: what answers until then; None where there was nothing that could.
    """

    number: int = 0
    shape: str = ""
    ledger_id: UUID | None = None
    position: int = 0
    event_id: UUID | None = None
    files: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    halted: str | None = None
    retired: list[tuple[str, float]] = field(default_factory=list)
    columns: dict[str, list[str]] = field(default_factory=dict)
    goal: int = 0
    before: Manifest | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it has come as far as it must to answer."""
        return self.position >= self.goal

    @property
    def answering(self) -> Manifest | None:
        """The facts that answer questions: these, or those that they will replace, if any."""
        if self.is_whole:
            return self
        return self.before and replace(self.before, number=self.number)

    @property
    def names(self) -> set[str]:
        """Of all files that count, those that still answer among them."""
        own = {name for files in self.files.values() for name, _ in files}
        return own if self.before is None else own | self.before.names

    def without(self, names: Iterable[str]) -> list[tuple[str, float]]:
        """What is retired once these files count no more; those of long ago are forgotten."""
        now = time.time()
        kept = [(name, since) for name, since in self.retired if since > now - GRACE_SECONDS]
        return [*kept, *((name, now) for name in names)]

    def anew(
        self,
        shape: str,
        ledger_id: UUID,
        columns: dict[str, list[str]],
        *,
        before: Manifest | None,
        goal: int,
    ) -> Manifest:
        """The one that begins again in its place: nothing counts yet."""
        new = Manifest(
            self.number,
            shape,
            ledger_id,
            columns=columns,
            goal=goal,
            before=before and replace(before, retired=[], halted=None),
        )
        return replace(new, retired=self.without(sorted(self.names - new.names)))

    def settled(self) -> Manifest:
        """Without the facts before it, once it has reached its goal."""
        if self.before is None or not self.is_whole:
            return self
        gone = self.before.names - replace(self, before=None).names
        return replace(self, before=None, retired=self.without(sorted(gone)))


class Store:
    """The files below one root.

    Args:
        root: a path, or a URL that fsspec knows, like ``s3://bucket/facts``.
        bounds: what questions about them may take.

    Attributes:
        engine: answers questions about them.
    """

    def __init__(self, root: str, bounds: Bounds | None = None) -> None:
        self.fs, path = fsspec.core.url_to_fs(root)
        self.root = str(path).rstrip("/")
        self.engine = Engine(bounds or Bounds(), None if self.is_local else self.fs)
        self._whole: set[str] = set()

    def path(self, name: str) -> str:
        """A file's path on the store's file system."""
        return f"{self.root}/{name}"

    def url(self, name: str) -> str:
        """The same, as DuckDB and others take it."""
        return self.path(name) if self.is_local else str(self.fs.unstrip_protocol(self.path(name)))

    @property
    def is_local(self) -> bool:
        """Whether the root is a path on this machine."""
        return isinstance(self.fs, LocalFileSystem)

    def latest(self) -> Manifest:
        """What counts now.

        Raises:
            Damaged: when the manifest cannot be read.
        """
        while True:
            number = self.number()
            if number == 0:
                return Manifest()
            path = self._manifest(number)
            with suppress(FileNotFoundError):  # swept away since, for there is a higher one
                body = self.fs.cat_file(path)
                try:
                    return manifest_of(orjson.loads(body))
                except (ValueError, TypeError, LookupError, AttributeError) as error:
                    raise Damaged(f"The manifest {path} is damaged. {REMEDY}") from error

    def number(self) -> int:
        """Of the manifest that counts, whether it can be read or not; 0 where there is none."""
        return max(self._numbers(), default=0)

    def check(self, manifest: Manifest, *, footers: bool = False, known: bool = True) -> None:
        """Hold the files that count against their names and numbers of rows.

        Args:
            footers: whether the ends of the files are enough, which show that they were not cut.
            known: whether also those that this process has found whole before.

        Raises:
            Damaged: naming the first file that is missing, cut or changed.
        """
        before = manifest.before or Manifest()
        every = dict(one for held in (manifest, before) for one in chain(*held.files.values()))
        for name, rows in every.items():
            if not known and name in self._whole:
                continue
            try:
                self._check(name, rows, footers=footers)
            except FileNotFoundError as error:
                raise Damaged(f"The file {name} of the facts is missing. {REMEDY}") from error
            except (pa.ArrowException, OSError) as error:
                raise Damaged(f"The file {name} of the facts is damaged. {REMEDY}") from error
        if not footers:
            self._whole = {*every}

    def _check(self, name: str, rows: int, *, footers: bool) -> None:
        sealed = SEALED.search(name)
        with self.fs.open(self.path(name), "rb") as file:
            if sealed is not None and not footers:
                if sha256(file.read()).hexdigest()[:16] != sealed[1]:
                    raise pa.ArrowInvalid("it is not what was written")
            elif pq.read_metadata(file).num_rows != rows:
                raise pa.ArrowInvalid("it has another number of rows")

    def _numbers(self) -> list[int]:
        self.fs.invalidate_cache()
        try:
            found = self.fs.ls(self.path(MANIFESTS), detail=False)
        except FileNotFoundError:
            return []
        stems = [str(name).rpartition("/")[2].removesuffix(".json") for name in found]
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _manifest(self, number: int) -> str:
        return self.path(f"{MANIFESTS}/{number:012}.json")

    def commit(self, manifest: Manifest) -> Manifest:
        """Let this count from now on, in the place of the manifest with its number; the new one.

        Raises:
            WrittenByOthers: when something else took that place already.
        """
        new = replace(manifest, number=manifest.number + 1)
        body = orjson.dumps(new, option=orjson.OPT_INDENT_2)
        target = self._manifest(new.number)
        if self._numbers()[-1:] > [manifest.number]:
            raise WrittenByOthers(f"{target} is not the next one any more")
        try:
            if self.is_local:
                self._link(body, target)
            else:
                self.fs.pipe_file(target, body, mode="create")
        except FileExistsError as error:
            raise WrittenByOthers(f"{target} is there already") from error
        return new

    def _link(self, body: bytes, target: str) -> None:
        """Exclusively and as a whole, and on the disk before it is there."""
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120 - fsspec's paths are texts
        fresh = f"{target}.{uuid4().hex}"
        with open(fresh, "xb") as file:  # noqa: PTH123 - the same
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, target)
        finally:
            os.unlink(fresh)  # noqa: PTH108 - the same

    def write(self, table: str, rows: pa.Table) -> tuple[str, int]:
        """A file that does not count yet; its name and how many rows it holds."""
        first, last = (rows["position"][at].as_py() for at in (0, -1))
        buffer = pa.BufferOutputStream()
        pq.write_table(rows, buffer, compression="zstd", row_group_size=250_000)
        body = buffer.getvalue()
        seal = sha256(body).hexdigest()[:16]
        name = f"{table}/{first:012}-{last:012}-{uuid4().hex[:8]}-{seal}.parquet"
        self.fs.makedirs(self.path(table), exist_ok=True)
        with self.fs.open(self.path(name), "wb") as file:
            file.write(body)
            if self.is_local:
                file.flush()
                os.fsync(file.fileno())
        return name, rows.num_rows

    def compacted(self, manifest: Manifest) -> Manifest:
        """The manifest with each table's small files as one, where they are many."""
        files = dict(manifest.files)
        gone: list[str] = []
        for table, found in files.items():
            small = [(name, rows) for name, rows in found if rows < LARGE]
            if len(small) > FILES:
                whole = pa.concat_tables([self.read(name) for name, _ in small])
                kept = [one for one in found if one not in small]
                files[table] = [*kept, self.write(table, whole.sort_by("position"))]
                gone += [name for name, _ in small]
        return replace(manifest, files=files, retired=manifest.without(gone))

    def read(self, name: str) -> pa.Table:
        """All rows of a file.

        Raises:
            Damaged: when it cannot be read.
        """
        try:
            with self.fs.open(self.path(name), "rb") as file:
                return pq.read_table(file)
        except (pa.ArrowException, FileNotFoundError) as error:
            raise Damaged(f"The file {name} of the facts is damaged. {REMEDY}") from error

    def columns(self, manifest: Manifest) -> dict[str, list[str]]:
        """By table, what the files hold; where older code wrote them, as their last ones say."""
        return manifest.columns or {
            table: described(self._schema(files[-1][0]))
            for table, files in manifest.files.items()
            if files
        }

    def _schema(self, name: str) -> pa.Schema:
        with self.fs.open(self.path(name), "rb") as file:
            return pq.read_schema(file)

    def sweep(self, manifest: Manifest) -> None:
        """Remove what has not counted for a while, so that nobody reads it any more."""
        counts = {self.path(name) for name in manifest.names}
        counts.add(self._manifest(manifest.number))
        before = time.time() - GRACE_SECONDS
        counts |= {self.path(name) for name, since in manifest.retired if since > before}
        for found in self.fs.find(self.root, detail=True).values():
            if found["name"] not in counts and _changed_at(found) < before:
                with suppress(FileNotFoundError):
                    self.fs.rm_file(found["name"])


def described(schema: pa.Schema) -> list[str]:
    """What a table holds, as a manifest says it."""
    return [f"{field.name} {field.type}" for field in schema]


def manifest_of(told: dict[str, Any]) -> Manifest:
    """A manifest as it was stored; what code of another version says besides is left out."""
    known = {one.name for one in fields(Manifest)}
    told = {name: value for name, value in told.items() if name in known}
    told["files"] = {
        table: [(name, rows) for name, rows in files] for table, files in told["files"].items()
    }
    told["retired"] = [(name, since) for name, since in told.get("retired", ())]
    for name in ("ledger_id", "event_id"):
        told[name] = told[name] and UUID(told[name])
    before = told.pop("before", None)
    return Manifest(**told, before=before and manifest_of(before))


def _changed_at(found: dict[str, Any]) -> float:
    """When a file was last written; in file systems that do not say so, just now."""
    told = found.get("mtime", found.get("LastModified", found.get("created")))
    if isinstance(told, datetime):
        return told.timestamp()
    return time.time() if told is None else float(told)
