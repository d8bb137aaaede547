import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from pledge.broker import broker
from pledge.embedded import create_database, postgres


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
