from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from events.base import REGISTRY
from events.ledger import ledger
from events.ledger.ledger import Connection
from pledge.embedded import create_database


@pytest.fixture
def registry() -> Iterator[None]:
    """Lets a test name events of its own, which are unknown again afterwards."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.fixture
def new_database(postgres_url: str) -> Iterator[Callable[[], str]]:
    """Makes further empty databases of the test's own."""
    made: list[str] = []

    def make() -> str:
        made.append(f"test_{uuid4().hex}")
        return create_database(postgres_url, made[-1])

    yield make
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        for name in made:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def service(ledger_url: str) -> Iterator[Connection]:
    """A session with the service's rights."""
    with ledger.connect(ledger_url) as conn:
        yield conn


@pytest.fixture
def superuser(ledger_url: str) -> Iterator[Connection]:
    """A session that may do what PostgreSQL lets anybody do."""
    with psycopg.connect(ledger_url, autocommit=True) as conn:
        yield conn
