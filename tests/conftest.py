import gc
import json
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from events.ledger.migrate import migrate
from pledge.broker import broker
from pledge.embedded import ELSEWHERE, create_database, postgres

NewLedger = Callable[[], AbstractContextManager[str]]

SHARED = pytest.StashKey[Path]()
SERVERS = {"postgres_url", "kafka_bootstrap", "processes"}
"""The fixtures without which a test gets no server and may start no process."""
SLOW_SECONDS = 10
GROUPS = "groups.json"


def pytest_configure(config: pytest.Config) -> None:
    given: dict[str, str] | None = getattr(config, "workerinput", None)
    if given is not None:
        config.stash[SHARED] = Path(given["shared"])
        return
    config.stash[SHARED] = shared = Path(tempfile.mkdtemp(prefix="pledge-"))
    shared.chmod(0o755)
    config.add_cleanup(lambda: leave(shared))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist the folder of the run's servers."""
    node.workerinput["shared"] = str(node.config.stash[SHARED])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many as there are cores for `-n logical`; half as many again for all, for many wait."""
    cores = len(os.sched_getaffinity(0))
    return cores if config.option.numprocesses == "logical" else cores + (cores + 1) // 2


def leave(shared: Path) -> None:
    """Stop a server whose workers were killed, and delete what the run's servers had."""
    if (shared / "postgres").exists():
        with postgres(shared):
            pass
    remove(shared)


def remove(home: Path) -> None:
    """Delete a folder, and the database of it that lies elsewhere."""
    for note in home.rglob(ELSEWHERE):
        shutil.rmtree(note.read_text().partition("\n")[0])
    shutil.rmtree(home)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs no server, keep together what shares one, and begin with the longest."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for item in items:
        if SERVERS.isdisjoint(fixtures_of(item)):
            item.add_marker("quick")
        slow = item.get_closest_marker("slow")
        seconds[group_of(item)] += next(iter(slow.args), SLOW_SECONDS) if slow else 0
    items.sort(key=lambda item: seconds[group_of(item)], reverse=True)


@pytest.hookimpl(tryfirst=True)  # before it is told that this worker is ready
def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell who hands out the tests to workers which of them belong together."""
    groups = {item.nodeid: group_of(item) for item in session.items}
    shared = session.config.stash[SHARED]
    fresh = shared / f"groups of {os.getpid()}"
    fresh.write_text(json.dumps(groups))
    fresh.replace(shared / GROUPS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out whole groups, in the order of the collection.

    ``--dist=loadgroup`` of pytest-xdist 3.8 writes groups where pytest 9.2 does not look for them.
    """
    from xdist.scheduler import LoadScopeScheduling

    groups: dict[str, str] = {}

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if not groups:
                groups.update(json.loads((config.stash[SHARED] / GROUPS).read_text()))
            return groups[nodeid]

    return ByGroup(config, log)


def fixtures_of(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


def group_of(item: pytest.Item) -> str:
    """What one worker runs: all on the one Kafka, all on the same fixtures of a module, a test."""
    if "kafka_bootstrap" in fixtures_of(item) or item.get_closest_marker("kafka"):
        return "kafka"
    found = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    shared = [name for name, definitions in found.items() if definitions[-1].scope == "module"]
    if not shared:
        return item.nodeid
    chosen = getattr(getattr(item, "callspec", None), "params", {})
    return " ".join([item.path.stem, *(str(chosen[name]) for name in shared if name in chosen)])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    global at_rest  # noqa: PLW0603 - a hook of the interpreter's has nowhere else to look
    at_rest = SERVERS.isdisjoint(fixtures_of(item))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Whoever shared a server stops it after the last test, whatever that one asked for."""
    global at_rest  # noqa: PLW0603 - as above
    at_rest = False


at_rest = False


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Keep a test that asked for no server from starting one."""
    if event == "subprocess.Popen" and at_rest and arguments[1][1:2] != ["-c"]:
        raise AssertionError(f"a test that starts a process asks for `processes`: {arguments[1]}")


sys.addaudithook(watch)


@pytest.fixture(scope="session")
def processes() -> None:
    """Asked for by whatever starts the product, or a server, as a process."""


@pytest.fixture
def folder(processes: None) -> Iterator[Path]:  # noqa: ARG001 - asked for by name
    """The home of a service of the test's own, with a short path that any account may enter."""
    made = Path(tempfile.mkdtemp(prefix="pledge-"))
    made.chmod(0o755)
    yield made
    remove(made)


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A real PostgreSQL: that of PLEDGE_TEST_DATABASE_URL, else the run's own for all workers."""
    if given := os.environ.get("PLEDGE_TEST_DATABASE_URL"):
        yield given
        return
    with postgres(request.config.stash[SHARED]) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            for setting in ("fsync", "full_page_writes"):  # no power cut is ever survived here
                connection.execute(f"ALTER SYSTEM SET {setting} = off".encode())
            connection.execute("SELECT pg_reload_conf()")
        yield url


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """A real Kafka: that of PLEDGE_KAFKA_BOOTSTRAP, else one of this session's own."""
    if given := os.environ.get("PLEDGE_KAFKA_BOOTSTRAP"):
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="pledge-kafka-"))
    try:
        with broker(folder) as cluster:
            yield cluster.bootstrap
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """An empty database of the test's own."""
    name = f"test_{uuid4().hex}"
    yield create_database(postgres_url, name)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def empty_ledger(postgres_url: str) -> Iterator[str]:
    """The name of a database with an empty ledger, to be copied and not to be used."""
    name = f"template_{uuid4().hex}"
    migrate(create_database(postgres_url, name))
    yield name
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def new_ledger(postgres_url: str, empty_ledger: str) -> NewLedger:
    """Makes databases with an empty ledger, which vanish again."""

    @contextmanager
    def make() -> Iterator[str]:
        name_ = f"test_{uuid4().hex}"
        name = sql.Identifier(name_)
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(empty_ledger))
            )
            # PostgreSQL copies everything but the rights on the database itself.
            connection.execute(
                sql.SQL("GRANT CREATE, TEMPORARY ON DATABASE {} TO pledge_service").format(name)
            )
        try:
            yield create_database(postgres_url, name_)
        finally:
            with psycopg.connect(postgres_url, autocommit=True) as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    return make


@pytest.fixture
def ledger_url(new_ledger: NewLedger) -> Iterator[str]:
    """A database with an empty ledger, the test's own."""
    with new_ledger() as url:
        yield url


@pytest.fixture(autouse=True)
def sockets_collected(request: pytest.FixtureRequest) -> Iterator[None]:
    """What clients of Kafka leave open is collected here, not in a test that forbids warnings."""
    yield
    if "kafka_bootstrap" in request.fixturenames:
        gc.collect()
