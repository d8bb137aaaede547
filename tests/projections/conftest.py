from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from structlog.testing import capture_logs
from structlog.typing import EventDict

from events.base import REGISTRY
from events.ledger.migrate import migrate
from pledge.embedded import create_database
from tests.projections.world import World, world

NewWorld = Callable[[], AbstractContextManager[World]]


@pytest.fixture(scope="session")
def empty_ledger(postgres_url: str) -> Iterator[str]:
    """The name of a database with an empty ledger, to be copied and not to be used."""
    name = f"template_{uuid4().hex}"
    migrate(create_database(postgres_url, name))
    yield name
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def new_world(postgres_url: str, empty_ledger: str) -> NewWorld:
    """Makes worlds that know nothing of each other."""

    @contextmanager
    def make() -> Iterator[World]:
        name = f"test_{uuid4().hex}"
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            conn.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(empty_ledger)
                )
            )
            # PostgreSQL copies everything but the rights on the database itself.
            conn.execute(
                sql.SQL("GRANT CREATE, TEMPORARY ON DATABASE {} TO pledge_service").format(
                    sql.Identifier(name)
                )
            )
        try:
            with world(create_database(postgres_url, name)) as made:
                yield made
        finally:
            with psycopg.connect(postgres_url, autocommit=True) as conn:
                conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    return make


@pytest.fixture
def company(new_world: NewWorld) -> Iterator[World]:
    """A company that nothing has happened in yet."""
    with new_world() as made:
        yield made


@pytest.fixture
def registry() -> Iterator[None]:
    """Lets a test name events of its own, which are unknown again afterwards."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[EventDict]]:
    """What was logged."""
    with capture_logs() as entries:
        yield entries
