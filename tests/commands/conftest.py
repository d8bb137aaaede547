from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from events.ledger.migrate import migrate


@pytest.fixture
def ledger_url(database_url: str) -> str:
    """An empty ledger of the test's own."""
    migrate(database_url)
    return database_url


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[EventDict]]:
    """What was logged; rendering the tracebacks of many injected faults would take minutes."""
    with capture_logs() as entries:
        yield entries
