"""What every process of the service does alike."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from pledge.processes import on_signals


@pytest.fixture(autouse=True)
def _own_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.timeout(120)
def test_a_signal_that_comes_while_its_own_lock_is_held_stops_all_the_same() -> None:
    lock, stopped = threading.Lock(), threading.Event()

    def stop() -> None:
        with lock:
            stopped.set()

    on_signals(stop)
    with lock:
        signal.raise_signal(signal.SIGTERM)
    assert stopped.wait(60)
