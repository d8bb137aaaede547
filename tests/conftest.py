import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from events.ledger.migrate import migrate
from pledge.broker import broker
from pledge.embedded import create_database, postgres

NewLedger = Callable[[], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL: that of PLEDGE_TEST_DATABASE_URL, else one of this session's own."""
    if given := os.environ.get("PLEDGE_TEST_DATABASE_URL"):
        yield given
        return
    home = Path(tempfile.mkdtemp(prefix="pledge-"))
    try:
        home.chmod(0o755)
        with postgres(home) as url:
            yield url
    finally:
        shutil.rmtree(home)


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
