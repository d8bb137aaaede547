"""Commands a second through our writer, beside stock eventsourcing with an aggregate of its own.

write.create  register a customer          write.update  make a promise to one just registered
.c1, .c32     that many clients at once, each waiting for its answer before it sends the next

Ours is all that a command passes through but HTTP: validation of the raw JSON body, idempotency
key and body hash, the decision, encryption of the personal fields, the outcome, one durable append.
The yardstick saves the same fields with the library's own aggregate and PostgreSQL recorder; it
validates, encrypts and remembers nothing. Each client of write.update begins a new customer every
50 commands, on both sides.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from uuid import UUID, uuid4

import orjson
import uvloop
from bodies import CUSTOMER, PROMISE
from databases import Server, count, ledger_in
from measuring import Contender, Measure, Result, compare, process_of
from yardsticks import customers

from commands.handling.outcome import Appended
from commands.handling.writer import Writer
from commands.http.wire import ENTRIES, from_body
from events.envelope import Actor
from pledge.serving import SWITCH_SECONDS

PER_CUSTOMER = 50
NAMES = {
    f"write.{mode}.c{clients}": (mode, clients)
    for mode in ("create", "update")
    for clients in (1, 32)
}
REGISTER, MAKE_PROMISE = ENTRIES["customers/register"], ENTRIES["customers/make-promise"]
REGISTER_BODY, PROMISE_BODY = orjson.dumps(CUSTOMER), orjson.dumps(PROMISE)
IN_CLEAR = f"""ledger.events WHERE type = 'customer.registered'
    AND position(convert_to('{CUSTOMER["email"]}', 'UTF8') IN payload) > 0"""


def measure(server: Server, names: list[str], seconds: float) -> Iterator[Result]:
    our_url, stock_url = server.database("write_ours"), server.database("write_stock")
    with (
        process_of(ours, our_url) as our_side,
        process_of(customers.stock, stock_url, PER_CUSTOMER) as stock_side,
    ):
        for name in names:
            mode, clients = NAMES[name]
            yield compare(
                name,
                "commands/s",
                Contender(partial(our_side, mode, clients), our_url),
                Contender(partial(stock_side, mode, clients), stock_url),
                seconds,
            )


@contextmanager
def ours(url: str) -> Iterator[Measure]:
    """Our writer in its own thread, clients on one loop, set up as the server sets itself."""
    writer = ledger_in(url).writer()
    writer.start()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    handled = 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        def measure(mode: str, clients: int, seconds: float) -> tuple[int, float]:
            nonlocal handled
            done, took = runner.run(_round(writer, mode, clients, seconds))
            handled += done
            _assert_done(url, handled)
            return done, took

        yield measure
    writer.stop()


async def _round(writer: Writer, mode: str, clients: int, seconds: float) -> tuple[int, float]:
    began = time.perf_counter()
    done = await asyncio.gather(
        *(_client(writer, mode, Actor(f"rep-{n}"), began + seconds) for n in range(clients))
    )
    return sum(done), time.perf_counter() - began


async def _client(writer: Writer, mode: str, actor: Actor, until: float) -> int:
    done = 0
    customer: UUID | None = None
    while time.perf_counter() < until:
        if mode == "create" or done % PER_CUSTOMER == 0:
            outcome = await _command(writer, actor, None)
            assert outcome.begins, outcome
            customer = outcome.stream_id
        else:
            outcome = await _command(writer, actor, customer)
            assert not outcome.begins, outcome
        done += 1
    return done


async def _command(writer: Writer, actor: Actor, customer: UUID | None) -> Appended:
    entry, raw = (REGISTER, REGISTER_BODY) if customer is None else (MAKE_PROMISE, PROMISE_BODY)
    request = from_body(entry, customer, raw, actor, key=str(uuid4()), if_match=None)
    [outcome] = await writer.submit((request,))
    assert isinstance(outcome, Appended), outcome
    return outcome


def _assert_done(url: str, handled: int) -> None:
    assert count(url, "ledger.events") == handled
    assert count(url, "ledger.outcomes WHERE status = 'appended'") == handled
    assert count(url, "vault.keys") == count(url, "ledger.events WHERE version = 1")
    assert count(url, IN_CLEAR) == 0
