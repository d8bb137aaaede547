import pytest

from events.migrate import migrate


@pytest.fixture
def ledger_url(database_url: str) -> str:
    """An empty ledger of the test's own."""
    migrate(database_url)
    return database_url
