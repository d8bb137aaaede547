from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[EventDict]]:
    """What was logged; rendering the tracebacks of many injected faults would take minutes."""
    with capture_logs() as entries:
        yield entries
