"""Sums that are kept: whatever happens in whatever order, they say what the facts say."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from events.company import COMPANY
from events.kafka.records import PARTITIONS, partition_of
from events.ledger import ledger
from events.ledger.checkpoints import Checkpoint
from projections import opportunities, orders
from projections.catalog import MODELS
from projections.engine import rebuild as rebuilding
from projections.engine.rebuild import rebuild
from projections.engine.sources import Piece
from projections.engine.tables import Connection, Rows, Sums
from tests.projections.conftest import NewWorld
from tests.projections.world import World

START = datetime(2025, 1, 1, tzinfo=UTC)
CUSTOMERS = [UUID(int=n) for n in (101, 102, 103)]
ORDERS = [UUID(int=n) for n in range(201, 207)]
PAYMENTS = [UUID(int=n) for n in range(301, 306)]
OLD_PAYMENT = UUID(int=399)
DEALS = [UUID(int=n) for n in range(401, 406)]
ZONES = ("Asia/Shanghai", "America/Los_Angeles", "Pacific/Kiritimati")
WORDS = (
    *("place", "place", "place", "add-line", "plan", "plan", "return", "cancel", "zone"),
    "hand over",
    *("receive", "receive", "receive", "note", "allocate", "allocate", "release", "refund"),
    *("deal opens", "deal opens", "deal moves", "deal is quoted"),
    *("deal is won", "deal is lost", "deal reopens"),
)
PROPERTY = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
SEEDS = st.integers(0, 2**32)
WAITING = """
SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
 WHERE locktype = 'advisory' AND NOT granted
"""


def amount(number: int, currency: str) -> dict[str, str]:
    return {"amount": str(number), "currency": currency}


class Company:
    """What a seed decides to happen, step by step."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.dice = Random(seed)
        self.billed: dict[UUID, int] = {}
        for customer in CUSTOMERS:
            world.do("customers/register", customer, self.at(), name=f"C{customer.int}")
        self.allocate_as_before()

    def allocate_as_before(self) -> None:
        """Once, dollars could be allocated to an order in euros; such events are still there."""
        received = {"customer_id": str(CUSTOMERS[0]), "amount": amount(100, "USD")}
        self.world.do("payments/receive", OLD_PAYMENT, self.at(), **received)
        data = {"order_id": str(ORDERS[0]), "amount": amount(40, "USD")}
        self.world.slip_in("payment", OLD_PAYMENT, "payment.allocated", orjson.dumps(data))

    def at(self) -> str:
        return (START + timedelta(hours=self.dice.randrange(24 * 400))).isoformat()

    def money(self, currency: str = "EUR") -> dict[str, str]:
        return amount(self.dice.randrange(1, 20) * 10, currency)

    def part(self, currency: str) -> dict[str, Any]:
        return {"order_id": str(self.dice.choice(ORDERS)), "amount": self.money(currency)}

    def plan(self, order: UUID, currency: str) -> list[dict[str, Any]]:
        """Up to three parts of what is billed."""
        left = self.billed.get(order, 100)
        parts = []
        for _ in range(self.dice.randrange(3)):
            if left > 10:
                parts.append(self.dice.randrange(1, left // 10) * 10)
                left -= parts[-1]
        return [
            {
                "due": str((START + timedelta(days=self.dice.randrange(900))).date()),
                "amount": amount(part, currency),
            }
            for part in (*parts, left)
        ]

    def happen(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        what = self.dice.choice(WORDS)
        if what == "zone":
            zone = self.dice.choice(ZONES)
            self.try_("companies/set-time-zone", COMPANY, time_zone=zone)
        elif what.startswith("deal"):
            self.deal(what)
        else:
            self.money_moves(what)

    def money_moves(self, what: str) -> None:
        dice = self.dice
        order, payment = dice.choice(ORDERS), dice.choice(PAYMENTS)
        ordered = "USD" if order == ORDERS[-1] else "EUR"
        paid = "USD" if payment == PAYMENTS[-1] else "EUR"
        tens = dice.randrange(1, 20) * 10
        money = amount(tens, ordered)
        customer = str(dice.choice(CUSTOMERS))
        receipt = {
            "customer_id": customer,
            "amount": self.money(paid),
            "allocations": [self.part(paid) for _ in range(dice.randrange(3))],
        }
        match what:
            case "place":
                placed = {"customer_id": customer, "owner": dice.choice("xyz")}
                if self.try_("orders/place", order, amount=money, **placed):
                    self.billed[order] = tens
            case "add-line":
                line = {"product": "x", "quantity": "1", "unit_price": money}
                if self.try_("orders/add-line", order, line=line):
                    self.billed[order] += tens
            case "plan":
                self.try_("orders/plan-payments", order, instalments=self.plan(order, ordered))
            case "return":
                if self.try_("orders/return", order, amount=money, reason="r"):
                    self.billed[order] -= tens
            case "hand over":
                self.try_("orders/hand-over", order, owner=dice.choice("xyz"))
            case "cancel":
                self.try_("orders/cancel", order, reason="r")
            case "receive":
                self.try_("payments/receive", payment, **receipt)
            case "note":
                self.try_("payments/receive", payment, kind="credit-note", **receipt)
            case "allocate":
                self.try_("payments/allocate", payment, allocations=[self.part(paid)])
            case "release":
                self.try_("payments/release", payment, **self.part(paid))
            case "refund":
                of = {} if dice.random() < 0.5 else {"order_id": str(order)}
                self.try_("payments/refund", payment, amount=self.money(paid), **of)

    def deal(self, what: str) -> None:
        dice = self.dice
        deal = dice.choice(DEALS)
        match what:
            case "deal opens":
                more = {"amount": self.money(dice.choice(("EUR", "USD")))}
                more = more if dice.random() < 0.7 else {}
                of = {"owner": dice.choice("xy"), "product": dice.choice(("Loom", "Pump"))}
                of = of if dice.random() < 0.7 else {}
                self.try_("opportunities/open", deal, title="t", **more, **of)
            case "deal moves":
                self.try_("opportunities/move-stage", deal, stage="proposal")
            case "deal is quoted":
                line = {"product": "x", "quantity": "1", "unit_price": self.money()}
                self.try_("opportunities/quote", deal, lines=[line])
            case "deal is won":
                self.try_("opportunities/win", deal)
            case "deal is lost":
                self.try_("opportunities/lose", deal, reason="price")
            case "deal reopens":
                self.try_("opportunities/reopen", deal, reason="r")

    def try_(self, command: str, stream: UUID, **data: Any) -> bool:
        """Whether it was done."""
        status = self.world.try_(command, stream, self.at(), **data)
        assert status in (200, 201, 404, 409, 422), self.world.answer.body
        return status < 300


def questions() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from ((f"/orders/{order}", {}) for order in ORDERS)
    yield from (("/orders", {}), ("/payments/by-rep", {}), ("/payments/by-period", {}))
    for path in ("/payments/receivables", "/payments/ageing"):
        yield path, {}
        yield path, {"currency": "EUR"}
        for customer in CUSTOMERS:
            yield path, {"customer_id": str(customer)}
            yield path, {"customer_id": str(customer), "currency": "USD"}
    yield "/payments/ageing", {"buckets": "10,200"}
    for owing in ("true", "false"):
        yield "/payments/receivables", {"owing": owing}
        yield "/payments/receivables", {"owing": owing, "currency": "EUR"}
        yield "/payments/receivables", {"owing": owing, "customer_id": str(CUSTOMERS[0])}
    yield from (("/funnel", of) for of in ({}, {"owner": "x"}, {"product": "Loom"}))
    yield "/funnel", {"owner": "y", "product": "Pump", "pipeline": "sales"}
    yield from ((f"/customers/{customer}", {}) for customer in CUSTOMERS)


def assert_as_the_facts(world: World) -> None:
    """Live, as of now, and as known at the last position, everything is the same."""
    head = world.head()
    for path, asked in questions():
        live = shown(world, path, asked)
        now = {"as_of": datetime.now(UTC).isoformat()}
        for clocks in (now, {**now, "known_at": head}):
            assert live == shown(world, path, asked | clocks), (path, asked, clocks)
    for asked in ({}, {"owing": "true"}, {"currency": "EUR"}):
        now = {"as_of": datetime.now(UTC).isoformat()}
        live, then = (
            [
                one
                for page in world.pages("/payments/receivables", limit=1, **clocks)
                for one in page
            ]
            for clocks in (asked, asked | now)
        )
        assert live == then, asked


def shown(world: World, path: str, asked: dict[str, Any]) -> Any:
    answer = world.ask(path, **asked)
    if answer.status_code == 404:
        return None
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return {name: found[name] for name in found if name not in ("as_of", "known_at", "rfm")}


@pytest.mark.slow
@pytest.mark.timeout(900)
@PROPERTY
@given(seed=SEEDS)
def test_the_live_answer_is_what_the_facts_give(new_world: NewWorld, seed: int) -> None:
    with new_world() as world:
        company = Company(world, seed)
        for _ in range(4):
            company.happen(company.dice.randrange(20))
            with world.connect() as conn:
                batch = company.dice.choice((1, 3, 10, 5_000))
                with closing(world.runner(conn, batch=batch)) as runner:
                    runner.catch_up(conn)
        assert world.differing() == []
        assert world.differing("seed") == []
        assert_as_the_facts(world)


class InPartitions:
    """The ledger in the topic's partitions, of which this reads some, in an order of its own."""

    id = "a topic"
    partitions = PARTITIONS

    def __init__(self, own: Sequence[int], dice: Random) -> None:
        self._own, self._dice = frozenset(own), dice
        self._is_news = False
        self._after: dict[int, int] = {}
        self._offsets = count(1)

    def open(self, conn: Connection) -> None:
        self._conn = conn
        self._is_news = True

    def close(self) -> None:
        pass

    def assigned(self) -> frozenset[int] | None:
        is_news, self._is_news = self._is_news, False
        return self._own if is_news else None

    def seek(self, wanted: Mapping[int, Sequence[Checkpoint]]) -> None:
        self._after = {place: min(c.taken for c in found) for place, found in wanted.items()}

    def read(self, limit: int) -> list[Piece]:
        head, pieces = ledger.head(self._conn), []
        behind = [place for place, after in self._after.items() if after < head]
        for place in self._dice.sample(behind, min(len(behind), 2)):
            after = self._after[place]
            rows = ledger.read(self._conn, after, head - after)
            mine = [row for row in rows if partition_of(row.stream_id) == place][:limit]
            until = mine[-1].position if len(mine) == limit else head
            self._after[place] = until
            pieces.append(Piece(place, mine, next(self._offsets), until))
        return pieces

    def rest(self, stop: threading.Event) -> None:
        stop.wait(0.001)


@pytest.mark.slow
@pytest.mark.timeout(900)
@PROPERTY
@given(seed=SEEDS)
def test_processes_that_share_the_partitions_keep_the_same_sums(
    new_world: NewWorld, seed: int
) -> None:
    """A payment may come long before its order."""
    with new_world() as world:
        company = Company(world, seed)
        company.happen(60)
        failed: list[BaseException] = []

        def follow(own: Sequence[int], dice: Random) -> None:
            made = world.new_runner((orders.MODEL,), batch=2)
            made._source = InPartitions(own, dice)
            try:
                with world.connect() as conn, closing(made) as runner:
                    runner.prepare(conn)
                    runner.catch_up(conn)
            except BaseException as error:
                failed.append(error)

        world.project([model for model in MODELS if model is not orders.MODEL])
        with world.connect() as conn:
            rebuilding.create(conn, orders.MODEL)
        halves = (range(PARTITIONS // 2), range(PARTITIONS // 2, PARTITIONS))
        threads = [
            threading.Thread(target=follow, args=(own, Random(f"{seed} {own}"))) for own in halves
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert failed == []
        assert world.differing() == []
        assert_as_the_facts(world)


def test_who_writes_sums_waits_for_who_is_writing_them(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order's projector has asked before writing, when another's brings a payment for it."""
    order = ORDERS[0]
    payment = next(one for one in PAYMENTS if partition_of(one) != partition_of(order))
    company.do("customers/register", CUSTOMERS[0], name="Ann")
    bought = {"customer_id": str(CUSTOMERS[0]), "amount": amount(100, "EUR")}
    company.do("orders/place", order, **bought)
    part = {"order_id": str(order), "amount": amount(40, "EUR")}
    company.do("payments/receive", payment, **bought, allocations=[part])
    with company.connect() as conn:
        rebuilding.create(conn, orders.MODEL)
    has_asked, may_write = threading.Event(), threading.Event()
    flush = Rows.flush

    def flush_late(rows: Rows, conn: Connection) -> None:
        if threading.current_thread() is first:
            has_asked.set()
            assert may_write.wait(60)
        flush(rows, conn)

    def follow(stream: UUID) -> None:
        made = company.new_runner((orders.MODEL,))
        made._source = InPartitions([partition_of(stream)], Random(1))
        with company.connect() as conn, closing(made) as runner:
            runner.prepare(conn)
            runner.catch_up(conn)

    monkeypatch.setattr(Rows, "flush", flush_late)
    first, second = (threading.Thread(target=follow, args=(one,)) for one in (order, payment))
    first.start()
    assert has_asked.wait(60)
    second.start()
    deadline = time.monotonic() + 60
    with company.superuser() as conn:
        while not conn.execute(WAITING).fetchall() and second.is_alive():
            assert time.monotonic() < deadline
    may_write.set()
    for thread in (first, second):
        thread.join(60)
    company.project([model for model in MODELS if model is not orders.MODEL])
    assert company.differing() == []
    assert company.get(f"/orders/{order}")["balance"] == {"amount": "60.00", "currency": "EUR"}


def test_a_rebuild_under_way_keeps_what_comes_meanwhile(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last events of a rebuild are folded onto sums that a query filled."""
    made = Company(company, 7)
    made.happen(40)
    company.project()
    finish = rebuilding.finish

    def finish_late(*how: Any) -> None:
        finish(*how)
        made.happen(40)

    monkeypatch.setattr(rebuilding, "finish", finish_late)
    with company.connect() as conn:
        for model in (orders.MODEL, opportunities.MODEL):
            rebuild(conn, company.reader.keyring, model)
    company.project()
    assert company.differing() == []
    assert_as_the_facts(company)


def test_another_definition_of_a_sum_asks_for_a_rebuild() -> None:
    [deals] = [table for level in opportunities.MODEL.sums for table in level]
    assert isinstance(deals, Sums)
    tables = [table for table in opportunities.MODEL.tables if table is not deals]
    kept = {**deals.__dict__, "select": f"{deals.select} HAVING true"}
    names = ("name", "row", "key", "indexes", "facts", "select", "of", "hangs_on")
    other = Sums(**{name: kept[name] for name in names})
    changed = type(opportunities.MODEL)(
        "opportunities", (*tables, other), opportunities.MODEL.events, opportunities.apply
    )
    assert changed.shape != opportunities.MODEL.shape
