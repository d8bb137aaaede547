"""For every command and every rule that can refuse it: a short history after which it does."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import count
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from pydantic import ValidationError

from aggregates.base import Refused
from aggregates.company import Company
from commands.base import Command, Context
from commands.catalog import CATALOG, Streams
from events.company import ListName
from events.envelope import Actor
from tests.aggregates.scenario import NOON, keyed_hash, mark_of

CUSTOMERS = [UUID(int=n + (4 << 76) + (1 << 63)) for n in (0xC1, 0xC2)]
ORDERS = [UUID(int=n + (4 << 76) + (1 << 63)) for n in (0x01, 0x02)]
DOLLAR_ORDER = UUID(int=0x03 + (4 << 76) + (1 << 63))
DEAL, OF_A_LEAD = (UUID(int=n + (4 << 76) + (1 << 63)) for n in (0xD1, 0xD2))
"""Deals without a customer; the second may get one, when a lead is converted into it."""
THINGS = [UUID(int=n + (4 << 76) + (1 << 63)) for n in (0xE1, 0xE2)]
"""Contacts, promises, quotes: what lives inside one stream."""
ACTORS = ("ada", "ben")
WALKS = 300
MOST_WALKS = 10_000
"""Where a rule that a command names has not refused it yet."""
STEPS = 12
TRIES = 100
NEARLY_TOO_LARGE = "999999999999999.00"


def _money(amount: str, currency: str = "EUR") -> dict[str, str]:
    return {"amount": amount, "currency": currency}


def _line(amount: str, currency: str = "EUR") -> dict[str, Any]:
    return {"product": "looms", "quantity": "1", "unit_price": _money(amount, currency)}


AMOUNTS = [_money("10"), _money("10", "USD"), _money("500"), _money(NEARLY_TOO_LARGE)]
ALLOCATIONS = [
    [{"order_id": str(DOLLAR_ORDER if amount == AMOUNTS[1] else order), "amount": amount}]
    for order in ORDERS
    for amount in AMOUNTS[:3]
]
POOL: dict[str, list[Any]] = {
    "amount": AMOUNTS,
    "budget": AMOUNTS,
    "allocations": ALLOCATIONS,
    "customer_id": CUSTOMERS,
    "opportunity_id": [DEAL],
    "ConvertLead.opportunity_id": [OF_A_LEAD],
    "order_id": ORDERS,
    "owner": ACTORS,
    "promised_by": ACTORS,
    "technician": ACTORS,
    "contact_id": THINGS,
    "promise_id": THINGS,
    "quote_id": THINGS,
    "pipeline": ["sales", "nonsense"],
    "stage": ["discovery", "proposal", "won", "nonsense"],
    "line": [_line("10"), _line("10", "USD"), _line(NEARLY_TOO_LARGE)],
    "lines": [
        *([_line("10")], [_line(NEARLY_TOO_LARGE)]),
        *([{"line": 1, "quantity": "1"}], [{"line": 9, "quantity": "1"}]),
    ],
    "instalments": [
        [{"due": "2026-05-01", "amount": _money("10")}],
        [{"due": "2026-05-01", "amount": _money("10", "USD")}],
    ],
    "name": ["Looms"],
    "email": ["grace@example.org"],
    "time_zone": ["Europe/Paris"],
    "stages": [
        [
            {"name": "open", "kind": "open"},
            {"name": "won", "kind": "won"},
            {"name": "lost", "kind": "lost"},
        ],
        [
            {"name": "open", "kind": "won"},
            {"name": "won", "kind": "open"},
            {"name": "lost", "kind": "lost"},
        ],
        [
            {"name": "begun", "kind": "open", "key": "open"},
            {"name": "open", "kind": "open"},
            {"name": "won", "kind": "won"},
            {"name": "lost", "kind": "lost"},
        ],
    ],
}
"""What has a meaning to other fields or rules; every other field takes what its type may be."""


LISTED = Company(lists=dict.fromkeys(ListName, ("none",)))
"""Settings in which what is chosen from a list is hardly ever on it."""


class Step(NamedTuple):
    """A command as a caller sends it."""

    command: str
    actor: str
    data: dict[str, Any]


class Witness(NamedTuple):
    """What was done before, and what is refused then; ``is_listed``: under ``LISTED``."""

    history: tuple[Step, ...]
    refused: Step
    is_listed: bool = False


def witnesses() -> dict[tuple[str, type[Refused]], Witness]:
    """The shortest found for each pair, by many short random lives of one stream of each kind."""
    found: dict[tuple[str, type[Refused]], Witness] = {}
    for plural, streams in CATALOG.items():
        dice = Random(plural)
        wanted = {
            (f"{plural}/{verb}", rule)
            for verb, command in streams.commands.items()
            for rule in command.rules
        }
        for walk in range(MOST_WALKS):
            if walk >= WALKS and wanted <= found.keys():
                break
            for pair, witness in _life(plural, streams, dice):
                if pair not in found or len(witness.history) < len(found[pair].history):
                    found[pair] = witness
    return found


def _life(
    plural: str, streams: Streams[Any, Any], dice: Random
) -> Iterator[tuple[tuple[str, type[Refused]], Witness]]:
    state, history, numbers = streams.blank, list[Step](), count(1_000)
    settings = dice.choice((Company(), Company(), LISTED))
    verbs = [verb for verb in streams.commands if verb != streams.creates]
    for step in range(STEPS):
        verb = streams.creates if step == 0 and streams.creates else dice.choice(verbs)
        asked, command = asked_at_random(f"{plural}/{verb}", streams.commands[verb], dice)
        context = Context(
            stream_id=UUID(int=1),
            occurred_at=NOON,
            actor=Actor(asked.actor),
            rep=asked.actor,
            settings=settings,
            fresh_id=lambda: UUID(int=next(numbers)),
            keyed_hash=keyed_hash,
            mark_of=mark_of,
        )
        try:
            events = command.decide(state, context)
        except Refused as refusal:
            yield (asked.command, type(refusal)), Witness(tuple(history), asked, settings is LISTED)
            if step == 0:
                return
            continue
        for event in events:
            state = streams.evolve(state, event)
        history.append(asked)


def asked_at_random(
    name: str, cls: type[Command[Any, Any]], dice: Random
) -> tuple[Step, Command[Any, Any]]:
    """A command that its model accepts, of few different values, by one of few people."""
    why = ""
    for _ in range(TRIES):
        data = {
            field: _value(cls, field, dice)
            for field, info in cls.model_fields.items()
            if info.is_required() or dice.random() < 0.5
        }
        raw = orjson.dumps(data)
        try:
            return Step(name, dice.choice(ACTORS), orjson.loads(raw)), cls.model_validate_json(raw)
        except ValidationError as error:
            why = str(error)
    raise AssertionError(
        f"{TRIES} random examples of {name} were all refused; give the field at fault values in "
        f"POOL of tests/commands/witnesses.py. The last one: {why}"
    )


def _value(cls: type[Command[Any, Any]], field: str, dice: Random) -> Any:
    schema, defined = _schema(cls, field)
    is_closed = "enum" in defined.get(schema.get("$ref", "").rpartition("/")[2], schema)
    pool = POOL.get(f"{cls.__name__}.{field}", POOL.get(field))
    if pool is not None and not is_closed:
        return dice.choice(pool)
    return _by_type(schema, defined, dice)


@cache
def _schema(cls: type[Command[Any, Any]], field: str) -> tuple[Any, Any]:
    """A field's JSON Schema, and the definitions that it refers to."""
    whole = cls.model_json_schema()
    return whole["properties"][field], whole.get("$defs", {})


def _by_type(schema: Any, defined: Any, dice: Random) -> Any:
    """A value that a field of this type may take."""
    if "anyOf" in schema:
        schema = next(one for one in schema["anyOf"] if one.get("type") != "null")
    if "$ref" in schema:
        schema = defined[schema["$ref"].rpartition("/")[2]]
    match schema:
        case {"enum": values}:
            return dice.choice(values)
        case {"type": "integer"}:
            least = schema.get("minimum", 1)
            return dice.randint(least, min(schema.get("maximum", least + 9), least + 9))
        case {"type": "boolean"}:
            return dice.random() < 0.5
        case {"format": "uuid"}:
            return dice.choice(THINGS)
        case {"format": "date"}:
            return "2026-05-01"
        case {"title": "Money"}:
            return dice.choice(AMOUNTS)
        case {"type": "array"}:
            return [_by_type(schema["items"], defined, dice)]
        case {"examples": values}:
            return dice.choice(values)
    return "some words"
