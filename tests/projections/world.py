"""A small company for tests: commands in, read models up to date, questions over the read API."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from itertools import count
from traceback import print_exc
from typing import Any, cast
from uuid import UUID, uuid4

import httpx2
import orjson
import psycopg
from fastapi import FastAPI
from pydantic import TypeAdapter

from analytics.facts.store import Store
from analytics.facts.writing import Writing
from commands.handling.writer import Writer
from commands.http.problems import render
from commands.http.wire import from_line
from events.envelope import Actor, Recorded
from events.kafka.relay import Relay
from events.kafka.topic import prepare_topic
from events.ledger import codec, ledger
from events.ledger.keys import Keyring
from projections.catalog import MODELS
from projections.engine.model import ReadModel
from projections.engine.rebuild import differences
from projections.engine.runner import Runner
from projections.engine.sources import FromLedger, Source
from projections.engine.tables import Connection
from projections.engine.topic import FromTopic
from read_api.app import install
from read_api.reading import Reader

MASTER = bytes(range(32))
STRANGE_EVENT = """
INSERT INTO ledger.events
SELECT coalesce(max(position), 0) + 1, gen_random_uuid(), %(stream_type)s, %(stream)s,
       (SELECT coalesce(max(version), 0) + 1 FROM ledger.events WHERE stream_id = %(stream)s),
       clock_timestamp(), clock_timestamp(), 'nobody', 'user', gen_random_uuid(),
       gen_random_uuid(), NULL, %(type)s, 1, %(payload)s
  FROM ledger.events RETURNING position
"""


def day(text: str, hour: int = 12) -> str:
    """An instant of a day in UTC."""
    return f"{text}T{hour:02}:00:00Z"


def eur(amount: str) -> dict[str, str]:
    return {"amount": amount, "currency": "EUR"}


_lent: ContextVar[Reader] = ContextVar("reader")


class Lent:
    """Whichever reader the question is asked of."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_lent.get(), name)


@cache
def application() -> FastAPI:
    """The read API, installed once for all worlds: that takes longer than most tests."""
    app = FastAPI()
    install(app, cast("Reader", Lent()))
    return app


class World:
    """One ledger with a writer, and read models that move when they are told to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.writer = Writer(lambda: ledger.connect(url), Keyring(MASTER))
        self._folder = tempfile.TemporaryDirectory(prefix="pledge-facts-")
        self.store = Store(self._folder.name)
        self.reader = Reader(url, Keyring(MASTER), facts=self.store)
        self.reader.open()
        self.app = application()
        self.source: Callable[[], Source] = FromLedger
        self._keys = count()

    def close(self) -> None:
        self.writer.stop()
        self.reader.close()
        self._folder.cleanup()

    def write_facts(self, batch: int = 20_000) -> None:
        """Bring the facts up to the ledger."""
        with self.connect() as conn:
            Writing(self.connect, Keyring(MASTER), self.store).catch_up(conn, batch)

    def connect(self) -> Connection:
        return ledger.connect(self.url)

    def superuser(self) -> Connection:
        """A session that may do what PostgreSQL lets anybody do."""
        return psycopg.connect(self.url, autocommit=True)

    def try_(self, command: str, stream: UUID, at: str | None = None, /, **data: Any) -> int:
        """Ask for something; the status of the answer."""
        by = data.pop("by", "ada")
        line = {"command": command, "id": stream, "key": f"key {next(self._keys)}", "data": data}
        if at is not None:
            line["occurred_at"] = at
        [outcome] = self.writer.handle([from_line(orjson.dumps(line), Actor(by))])
        self.answer = render(outcome)
        return self.answer.status

    def do(self, command: str, stream: UUID, at: str | None = None, /, **data: Any) -> int:
        """Have something done; the ledger's position after it."""
        status = self.try_(command, stream, at, **data)
        assert status < 300, self.answer.body
        return int(self.answer.body["position"])

    def slip_in(self, stream_type: str, stream: UUID, type: str, payload: bytes = b"{}") -> int:
        """Write what no command would, as only a superuser can; its position."""
        values = {"stream_type": stream_type, "stream": stream, "type": type, "payload": payload}
        with self.superuser() as conn:
            row = conn.execute(STRANGE_EVENT, values).fetchone()
        assert row is not None
        return int(row[0])

    def runner(self, conn: Connection, models: Iterable[ReadModel] = MODELS, **how: Any) -> Runner:
        runner = self.new_runner(models, **how)
        runner.prepare(conn)
        return runner

    def new_runner(self, models: Iterable[ReadModel] = MODELS, **how: Any) -> Runner:
        return Runner(self.connect, Keyring(MASTER), models, source=self.source(), **how)

    def project(self, models: Iterable[ReadModel] = MODELS) -> None:
        """Bring the read models up to the ledger."""
        with self.connect() as conn, closing(self.runner(conn, models)) as runner:
            runner.catch_up(conn)

    def head(self) -> int:
        with self.connect() as conn:
            return ledger.head(conn)

    def recorded(self) -> list[Recorded]:
        """Every event, opened."""
        with self.connect() as conn:
            return codec.decode_all(conn, Keyring(MASTER), ledger.read(conn, 0, 1_000_000))

    def differing(self, shuffle: str | None = None) -> list[Any]:
        """The rows in which the read models differ from a replay of the ledger."""
        with self.connect() as conn:
            return [
                difference
                for model in MODELS
                for difference in differences(conn, Keyring(MASTER), model, shuffle=shuffle)[1]
            ]

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """All rows of a read model's table, as ``view_customers.customers``."""
        with self.superuser() as conn:
            return conn.execute(f"SELECT * FROM {table} ORDER BY 1, 2".encode()).fetchall()

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        """The read API of this world."""
        _lent.set(self.reader)
        await self.app(scope, receive, send)

    def ask(self, path: str, headers: dict[str, str] | None = None, **params: Any) -> Any:
        """The answer to a GET, whatever it is; JSON is held against the route's own model."""
        routes: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await self.asgi(scope, receive, send)
            except Exception:
                print_exc()  # the answer is a 500 all the same
                raise
            routes.append(scope.get("route"))

        async def asked() -> httpx2.Response:
            transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx2.AsyncClient(transport=transport, base_url="http://pledge") as client:
                return await client.get(path, params=params or None, headers=headers)

        answer = asyncio.run(asked())
        if answer.status_code == 200 and answer.headers["content-type"] == "application/json":
            model = getattr(routes[0], "response_model", None)
            if model is not None:
                TypeAdapter(model).validate_json(answer.content)
        return answer

    def get(self, path: str, **params: Any) -> Any:
        """The JSON that a successful GET answers."""
        answer = self.ask(path, **params)
        assert answer.status_code == 200, f"{answer.url}: {answer.status_code} {answer.text}"
        return answer.json()

    def every(self, path: str, **params: Any) -> list[Any]:
        """The items of all pages of a list."""
        return [item for page in self.pages(path, limit=3, **params) for item in page]

    def pages(self, path: str, **params: Any) -> Iterator[list[Any]]:
        """The pages of a list."""
        page = self.get(path, **params)
        yield page["items"]
        while page["next"] is not None:
            page = self.get(page["next"])
            yield page["items"]


@contextmanager
def world(url: str) -> Iterator[World]:
    made = World(url)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def carried(company: World, bootstrap: str) -> Iterator[World]:
    """Inside, a relay carries the company's events, and its read models follow the topic."""
    topic, stop = f"pledge.{uuid4().hex[:8]}", threading.Event()
    prepare_topic(bootstrap, topic)
    thread = threading.Thread(target=Relay(company.connect, bootstrap, topic).run, args=(stop,))
    thread.start()
    company.source = lambda: FromTopic(bootstrap, topic)
    try:
        yield company
    finally:
        stop.set()
        thread.join()


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
