from collections.abc import Iterator

import psycopg
import pytest

from events import ledger
from events.base import REGISTRY
from events.ledger import Connection
from events.migrate import migrate


@pytest.fixture
def registry() -> Iterator[None]:
    """Lets a test name events of its own, which are unknown again afterwards."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.fixture
def ledger_url(database_url: str) -> str:
    """A database with an empty ledger."""
    migrate(database_url)
    return database_url


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
