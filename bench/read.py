"""Questions a second over HTTP, beside the very same SQL over a bare driver.

read.customer360.*   everything known of a customer, another one at each request
read.funnel.*        deals by stage
read.receivables.*   what each customer owes: the first page and the total
.1k, .1m             in a company with about so many events

Ours is the real server process, asked over one keep-alive connection that waits for each answer.
The yardstick sends the statements that the same question sends, recorded beforehand, in one
transaction over one psycopg connection with prepared statements, and fetches the rows. The notes
give the 99th percentile of both. A million events are made through our own commands first, which
takes some minutes.
"""

from __future__ import annotations

import asyncio
import http.client
import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx2
import orjson
import psycopg
from bodies import CUSTOMER, PROMISE
from databases import MASTER, Server, analyze, ledger_in
from fastapi import FastAPI
from measuring import Contender, Result, compare, console
from psycopg.conninfo import make_conninfo
from servers import pledge, running

from commands.handling.outcome import Appended
from commands.handling.writer import GROUP, Writer
from commands.http.wire import from_line
from events.envelope import Actor
from events.ledger.keys import Keyring
from events.ledger.sessions import Session
from projections.catalog import MODELS, SEARCH_PATH
from projections.engine.rebuild import create, rebuild
from read_api import reading
from read_api.app import install
from read_api.lanes import Lane
from read_api.reading import Reader

SIZES = {"1k": 1_000, "1m": 1_000_000}
QUESTIONS = ("customer360", "funnel", "receivables")
NAMES = tuple(f"read.{question}.{size}" for size in SIZES for question in QUESTIONS)
EVENTS_OF_ONE = 20
ASKED = 50
"""Different customers asked for."""

Statement = tuple[Any, Any]


def measure(server: Server, names: list[str], seconds: float) -> Iterator[Result]:
    for size, events in SIZES.items():
        chosen = [name for name in names if name.endswith(size)]
        if not chosen:
            continue
        url = server.database(f"read_{size}")
        customers = events // EVENTS_OF_ONE
        _fill(url, customers)
        with running(pledge, url) as port:
            for name in chosen:
                yield _compare(name, url, port, _paths(name.split(".")[1], customers), seconds)


def _paths(question: str, customers: int) -> list[str]:
    if question == "customer360":
        some = random.Random(1).sample(range(customers), min(ASKED, customers))
        return [f"/customers/{_id('customer', n)}" for n in some]
    return ["/funnel" if question == "funnel" else "/payments/receivables"]


def _compare(name: str, url: str, port: int, paths: list[str], seconds: float) -> Result:
    statements = [_recorded(url, path) for path in paths]
    took: dict[str, list[float]] = {"ours": [], "yardstick": []}

    def timed(side: str, work: Callable[[int], None], seconds: float) -> tuple[int, float]:
        began = now = time.perf_counter()
        turn = 0
        while now - began < seconds:
            work(turn)
            turn, before, now = turn + 1, now, time.perf_counter()
            took[side].append(now - before)
        return turn, now - began

    connection = http.client.HTTPConnection("127.0.0.1", port)
    bare = psycopg.connect(_with_search_path(url), autocommit=True)

    def ask(turn: int) -> None:
        connection.request("GET", paths[turn % len(paths)])
        answer = connection.getresponse()
        assert len(answer.read()) > 0
        assert answer.status == 200, answer.status

    def send(turn: int) -> None:
        with bare.transaction():
            for query, values in statements[turn % len(statements)]:
                cursor = bare.execute(query, values, prepare=True)
                if cursor.description is not None:
                    cursor.fetchall()

    try:
        result = compare(
            name,
            "requests/s",
            Contender(lambda s: timed("ours", ask, s)),
            Contender(lambda s: timed("yardstick", send, s)),
            seconds,
        )
    finally:
        connection.close()
        bare.close()
    p99 = {side: sorted(all_)[int(len(all_) * 0.99)] * 1e3 for side, all_ in took.items()}
    result.note = f"p99 {p99['ours']:.1f} ms beside {p99['yardstick']:.1f} ms"
    return result


def _with_search_path(url: str) -> str:
    path = SEARCH_PATH.replace(" ", "")
    return make_conninfo(url, options=f"-c search_path={path},public -c timezone=UTC")


def _recorded(url: str, path: str) -> list[Statement]:
    """The statements that a question sends, in their order."""
    sent: list[Statement] = []

    class Recording(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **how: Any) -> Any:
            sent.append((query, params))
            return super().execute(query, params, **how)

    def configure(lane: Lane, conn: Session) -> None:
        as_ever(lane, conn)
        conn.cursor_factory = Recording

    as_ever = reading._configure  # noqa: SLF001 - the very sessions of the product
    reading._configure = configure  # noqa: SLF001 - to record what they ask
    reader = Reader(url, Keyring(MASTER))
    app = FastAPI()
    install(app, reader)
    reader.open()

    async def ask() -> None:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://bench") as client:
            assert (await client.get(path)).status_code == 200

    try:
        asyncio.run(ask())
    finally:
        reader.close()
        reading._configure = as_ever  # noqa: SLF001 - as it was
    return sent


def _fill(url: str, customers: int) -> None:
    """A company through our own commands, then every read model built."""
    found = ledger_in(url)
    writer = found.writer()
    lines = _story(customers)
    done, total = 0, customers * len(list(_one(0)))
    began = time.perf_counter()
    try:
        while batch := list(islice(lines, 8 * GROUP)):
            _handle(writer, batch)
            done += len(batch)
            if console.is_terminal:
                console.print(f"  [dim]{done:,} of {total:,} commands[/]", end="\r")
    finally:
        writer.stop()
    with found.connect() as conn:
        for model in MODELS:
            create(conn, model)
            rebuild(conn, found.keyring(), model)
    analyze(url)
    console.print(f"[dim]{total:,} commands in {time.perf_counter() - began:.0f} s, all built")


def _handle(writer: Writer, batch: list[dict[str, Any]]) -> None:
    requests = [from_line(orjson.dumps(line), Actor("bench", "import")) for line in batch]
    for outcome in writer.handle(requests):
        assert isinstance(outcome, Appended), outcome


def _story(customers: int) -> Iterator[dict[str, Any]]:
    return (line for number in range(customers) for line in _one(number))


def _id(kind: str, number: int) -> UUID:
    return uuid5(NAMESPACE_URL, f"pledge:bench:read:{kind}:{number}")


def _one(number: int) -> Iterator[dict[str, Any]]:
    """A customer with two promises, three calls, a deal, an order half paid, and a ticket."""
    customer, deal = _id("customer", number), _id("deal", number)
    order, payment, ticket = _id("order", number), _id("payment", number), _id("ticket", number)
    worth = {"amount": f"{1000 + number % 900}.50", "currency": "EUR"}
    half = {"amount": f"{500 + number % 400}.25", "currency": "EUR"}
    call = {"channel": "call", "summary": "Asked when the sensors come.", "minutes": 5}
    steps: list[tuple[str, UUID, dict[str, Any]]] = [
        ("customers/register", customer, CUSTOMER),
        *[("customers/log-interaction", customer, call)] * 3,
        *[("customers/make-promise", customer, PROMISE)] * 2,
        (
            "opportunities/open",
            deal,
            {
                "title": "Sensors",
                "customer_id": customer,
                "owner": f"rep-{number % 40}",
                "amount": worth,
            },
        ),
        ("opportunities/move-stage", deal, {"stage": "proposal"}),
        ("opportunities/win", deal, {"amount": worth}),
        (
            "orders/place",
            order,
            {"customer_id": customer, "amount": worth, "owner": f"rep-{number % 40}"},
        ),
        (
            "orders/plan-payments",
            order,
            {"instalments": [{"due": "2027-03-31", "amount": worth}]},
        ),
        ("orders/ship", order, {}),
        (
            "payments/receive",
            payment,
            {
                "customer_id": customer,
                "amount": half,
                "allocations": [{"order_id": order, "amount": half}],
            },
        ),
        ("tickets/open", ticket, {"subject": "It reports -60", "customer_id": customer}),
        ("tickets/take", ticket, {}),
        ("tickets/reply", ticket, {"text": "We come on Thursday."}),
        ("tickets/resolve", ticket, {}),
    ]
    for place, (command, stream, data) in enumerate(steps):
        yield {"command": command, "id": stream, "key": f"{number} {place}", "data": data}
