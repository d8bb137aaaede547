import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from pledge.embedded import create_database
from tests.conftest import remove
from tests.end_to_end.running import Deployment, Service


@contextmanager
def kafka_deployment() -> Iterator[Deployment]:
    """Every process of the deployment around Kafka, with an empty ledger."""
    made = Path(tempfile.mkdtemp(prefix="pledge-"))
    made.chmod(0o755)
    try:
        with Deployment(made) as deployment:
            yield deployment
    finally:
        remove(made)


@pytest.fixture(scope="module", params=os.environ.get("PLEDGE_TEST_DEPLOYMENT", "embedded").split())
def service(
    request: pytest.FixtureRequest, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One running service with an empty ledger, for all tests of a file.

    ``PLEDGE_TEST_DEPLOYMENT="embedded kafka"`` runs every such file on both deployments.
    """
    if request.param == "kafka":
        with kafka_deployment() as deployment:
            yield deployment
        return
    name = f"test_{uuid4().hex}"
    url = create_database(postgres_url, name)
    with Service(tmp_path_factory.mktemp("home"), url) as running:
        yield running
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
