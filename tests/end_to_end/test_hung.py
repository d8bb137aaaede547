"""Every part of the product on a PostgreSQL that hangs for some seconds, and moves again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from analytics.facts.writing import Writing
from commands.handling import writer as writing
from commands.handling.writer import Writer
from commands.policies import Policies
from events.kafka.relay import Relay
from events.ledger import ledger, sessions
from events.ledger.keys import Keyring
from tests.commands.making import ask, capture, request, types_of
from tests.commands.proxy import Proxy
from tests.end_to_end.running import READY_SECONDS, Service, stopped
from tests.projections.world import MASTER, World, world

BOUND_SECONDS = 10
HELD = """
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
REACHED = "SELECT min(position) FROM progress.checkpoints WHERE name <> 'policy_memory'"
BEGUN = "SELECT count(*) FROM progress.checkpoints WHERE name IN ('policies', 'relay')"


@pytest.fixture
def proxy(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr(writing, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(sessions, "SILENCE_SECONDS", 0.2)
    monkeypatch.setitem(sessions.REACHING, "connect_timeout", 2)
    with Proxy(ledger_url) as made:
        yield made


@pytest.fixture
def company(proxy: Proxy) -> Iterator[World]:
    with world(proxy.url) as made:
        for workers in made.reader.lanes.values():
            workers.pool.timeout = 1
        yield made


def until(satisfied: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not satisfied():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@contextmanager
def bounded() -> Iterator[None]:
    """What would wait for as long as the server hangs ends by itself."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < BOUND_SECONDS


@pytest.mark.slow(15)
def test_every_part_bounds_its_waiting_and_goes_on(
    company: World, proxy: Proxy, ledger_url: str, kafka_bootstrap: str
) -> None:
    topic, stop = f"pledge.{uuid4().hex[:8]}", threading.Event()
    connect, keyring = company.connect, Keyring(MASTER)
    parts = {
        "projections": company.new_runner().run,
        "facts": Writing(connect, keyring, company.store).run,
        "policies": Policies(connect, keyring, company.writer).run,
        "relay": Relay(connect, kafka_bootstrap, topic).run,
    }
    writer = Writer(connect, keyring)
    with ExitStack() as leaving, psycopg.connect(ledger_url, autocommit=True) as aside:

        def all_is_done(head: int) -> bool:
            facts = company.store.latest()
            row = aside.execute(REACHED).fetchone()
            return row is not None and min(row[0], facts.position) >= head

        def deals() -> int:
            return types_of(ledger_url).count("opportunity.opened")

        def convert(lead: UUID) -> int:
            """Convert a lead, for which a policy opens a deal; the position of that."""
            there = deals()
            for name in ("leads/claim", "leads/qualify", "leads/convert"):
                [answer] = ask(writer, request(name, of=lead))
                assert answer.status == 200, answer.body
            until(lambda: deals() > there, "the policies do not go on")
            return ledger.head(aside)

        writer.start()
        leaving.callback(writer.stop)
        for name, run in parts.items():
            thread = threading.Thread(target=run, args=(stop,), name=name)
            thread.start()
            leaving.callback(thread.join)
        leaving.callback(stop.set)
        until(lambda: aside.execute(BEGUN).fetchone() == (2,), "the parts do not begin")
        lead, late = uuid4(), uuid4()
        ask(writer, capture(lead), capture(late))
        head = convert(lead)
        until(lambda: all_is_done(head), "a part does not take what comes")

        proxy.freeze()
        leaving.callback(proxy.thaw)
        with bounded():
            [lost] = ask(writer, capture(uuid4(), key="lost"))
        assert lost.status == 503
        for path in ("/leads", "/health/ready", "/audit/events"):
            with bounded():
                assert company.ask(path).status_code == 503, path
        # Its sessions are gone from the client's side: the leaders let go of their locks.
        until(lambda: aside.execute(HELD).fetchone() == (0,), "a session outlives its client")

        proxy.thaw()
        again = capture(uuid4(), key="lost")
        until(lambda: ask(writer, again)[0].status < 500, "commands do not go on")
        head = convert(late)
        until(lambda: all_is_done(head), "a part does not go on")
        assert company.get("/leads", min_position=head)["position"] >= head
        assert deals() == 2
        assert not company.differing()


@pytest.mark.slow(40)
def test_the_embedded_server_may_hang_be_killed_and_be_kept_from_starting(folder: Path) -> None:
    with Service(folder / "home") as service:
        done = service.made("/leads", {"name": "Grace Hopper"})
        conf = service.home / "postgres" / "postgresql.conf"

        def post(key: str) -> int:
            headers = {"X-Actor": "ada", "Idempotency-Key": key}
            body = {"name": "Ada Byron"}
            return service.client.post("/leads", json=body, headers=headers).status_code

        def is_ready() -> bool:
            with bounded():
                return service.client.get("/health/ready").status_code == 200

        with bounded(), stopped(service.postmaster()):
            assert post("hung") == 503
        until(lambda: post("hung") == 201, "commands do not go on")
        until(is_ready, "it is not ready again")

        aside = conf.rename(conf.with_suffix(".aside"))
        os.kill(service.postmaster(), signal.SIGKILL)
        until(lambda: not is_ready(), "nobody says that the database is away")
        with bounded():
            assert post("away") == 503
        aside.rename(conf)
        until(is_ready, "nobody starts the database again")
        assert post("away") in (200, 201)
        shown = service.get("/leads", min_position=service.position())["items"]
        assert {item["id"] for item in shown} >= {done["id"]}
        assert len(shown) == 3
        assert "a server ended and is started again" in service.said()
        assert "Traceback" not in service.said()
