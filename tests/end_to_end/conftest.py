import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from pledge.embedded import ELSEWHERE, create_database
from tests.end_to_end.running import Service


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path that the database server's account may enter."""
    made = Path(tempfile.mkdtemp(prefix="pledge-"))
    made.chmod(0o755)
    yield made
    for note in made.rglob(ELSEWHERE):
        shutil.rmtree(note.read_text().partition("\n")[0])
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def service(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One running service with an empty ledger, for all tests of a file."""
    name = f"test_{uuid4().hex}"
    url = create_database(postgres_url, name)
    with Service(tmp_path_factory.mktemp("home"), url) as running:
        yield running
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
