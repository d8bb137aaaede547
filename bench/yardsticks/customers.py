"""Stock eventsourcing: its own aggregate, its PostgreSQL recorder, default settings, threads."""

# ruff: noqa: ARG002 - the library makes an event's fields of a method's arguments

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from bodies import CUSTOMER, PROMISE
from databases import count
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from measuring import Measure
from psycopg.conninfo import conninfo_to_dict

MEASURED_VERSION = "9.5.6"
PROMISED: dict[str, Any] = {**PROMISE, **PROMISE["amount"]}


class Customer(Aggregate):
    @event("Registered")
    def __init__(
        self, name: str, email: str, phone: str, source: str, website: str, region: str
    ) -> None:
        self.name = name
        self.promises = 0

    @event("PromiseMade")
    def promise(
        self, promised_by: str, what: str, due: str, topic: str, amount: str, currency: str
    ) -> None:
        self.promises += 1


def environment(url: str) -> dict[str, str]:
    """How the library is told to use a database."""
    assert version("eventsourcing") == MEASURED_VERSION
    place = conninfo_to_dict(url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(place["dbname"]),
        "POSTGRES_HOST": str(place["host"]),
        "POSTGRES_PORT": str(place["port"]),
        "POSTGRES_USER": str(place["user"]),
        "POSTGRES_PASSWORD": "none",
        "POSTGRES_POOL_SIZE": "16",
        "POSTGRES_MAX_OVERFLOW": "20",
    }


@contextmanager
def stock(url: str, per_customer: int) -> Iterator[Measure]:
    app: Application[Any] = Application(env=environment(url))
    saved = 0

    def measure(mode: str, clients: int, seconds: float) -> tuple[int, float]:
        nonlocal saved
        done = [0] * clients
        began = time.perf_counter()
        until = began + seconds

        def client(number: int) -> None:
            customer_id = None
            while time.perf_counter() < until:
                if mode == "create" or done[number] % per_customer == 0:
                    customer = Customer(**CUSTOMER)
                    customer_id = customer.id
                else:
                    customer = app.repository.get(customer_id)
                    customer.promise(**PROMISED)
                app.save(customer)
                done[number] += 1

        threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
        saved += sum(done)
        assert count(url, "application_events") == saved
        return sum(done), took

    yield measure
    app.close()
