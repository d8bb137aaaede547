import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from structlog.processors import format_exc_info
from structlog.testing import capture_logs
from structlog.typing import EventDict

from events.base import REGISTRY
from tests.conftest import NewLedger
from tests.projections.world import World, world

NewWorld = Callable[[], AbstractContextManager[World]]


@pytest.fixture(scope="session")
def new_world(new_ledger: NewLedger) -> NewWorld:
    """Makes worlds that know nothing of each other."""

    @contextmanager
    def make() -> Iterator[World]:
        with new_ledger() as url, world(url) as made:
            yield made

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
    """What was logged; errors among it are shown beside a test that fails."""
    with capture_logs([format_exc_info]) as entries:
        yield entries
    for entry in entries:
        if entry["log_level"] == "error":
            sys.stderr.write("".join(f"{name}: {value}\n" for name, value in entry.items()))
