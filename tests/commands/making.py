"""Requests and writers for tests, and connections that die when they are told to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import orjson
import psycopg

from aggregates.lead import Lead
from commands.base import Command, Context
from commands.catalog import CATALOG
from commands.handling import deciding
from commands.handling.request import Request
from commands.handling.writer import Writer
from commands.http.problems import Answer, render
from commands.lead import CaptureLead, ClaimLead
from events.envelope import Actor, Recorded
from events.lead import LeadEvent
from events.ledger import codec, ledger
from events.ledger.codec import decode_sealed
from events.ledger.keys import Keyring

MASTER = bytes(range(32))

Connect = Callable[[], ledger.Connection]


def request(
    name: str,
    data: Mapping[str, Any] | None = None,
    *,
    of: UUID | None = None,
    by: str = "ada",
    key: str | None = None,
    if_match: int | None = None,
    command: Command[Any, Any] | None = None,
) -> Request:
    """What the service makes of one HTTP request; ``command`` stands in for a validated body."""
    plural, verb = name.split("/")
    streams = CATALOG[plural]
    raw = orjson.dumps(data or {})
    stream_id = of or uuid4()
    command_id = uuid4()
    return Request(
        name=name,
        streams=streams,
        command=command or streams.commands[verb].model_validate_json(raw),
        stream_id=stream_id,
        actor=Actor(by),
        rep=by,
        key=key or str(uuid4()),
        body_hash=sha256(f"{name} {stream_id} ".encode() + raw).digest(),
        command_id=command_id,
        correlation_id=command_id,
        if_match=if_match,
    )


def capture(lead: UUID, **rest: Any) -> Request:
    return request("leads/capture", {"name": "Grace Hopper"}, of=lead, **rest)


def claim(lead: UUID, by: str = "ada", **rest: Any) -> Request:
    return request("leads/claim", of=lead, by=by, **rest)


def register(customer: UUID, **rest: Any) -> Request:
    return request("customers/register", {"name": "Analytical Engines"}, of=customer, **rest)


class ClaimThatFails(ClaimLead):
    """Meets a mistake in our own code when it is decided."""

    def decide(self, lead: Lead, context: Context, /) -> list[LeadEvent]:
        raise RuntimeError(f"no claim for {context.actor.id} on {lead.status}")


class CaptureOfHalfALetter(CaptureLead):
    """Holds a text that no bytes stand for, so it fails after it was decided."""


def failing_claim(lead: UUID, **rest: Any) -> Request:
    return request("leads/claim", of=lead, command=ClaimThatFails(), **rest)


def failing_capture(lead: UUID, **rest: Any) -> Request:
    command = CaptureOfHalfALetter.model_construct(name="\ud83d")
    return request("leads/capture", of=lead, command=command, **rest)


def fails(asked: Request) -> bool:
    """Whether a request cannot be carried out, by a fault that is not the caller's."""
    broken = isinstance(asked.command, ClaimThatFails | CaptureOfHalfALetter)
    return broken or "\0" in asked.key


@contextmanager
def writer_on(
    url: str,
    *,
    started: bool = False,
    remembered: int = 50_000,
    connect: Connect | None = None,
    keyring: Keyring | None = None,
) -> Iterator[Writer]:
    """A writer with a connection and a keyring of its own, as each process has one."""
    writer = Writer(
        connect or (lambda: ledger.connect(url)),
        keyring or Keyring(MASTER),
        remembered=remembered,
    )
    if started:
        writer.start()
    try:
        with patch.object(deciding, "Appending", FragileAppending):
            yield writer
    finally:
        writer.stop()


def ask(writer: Writer, *requests: Request) -> list[Answer]:
    """The answers of a started writer."""

    async def asked() -> list[Answer]:
        return [render(outcome) for outcome in await writer.submit(requests)]

    return asyncio.run(asked())


def handle(writer: Writer, requests: list[Request]) -> list[Answer]:
    """The answers of a writer that was not started."""
    return [render(outcome) for outcome in writer.handle(requests)]


def tell(writer: Writer, asked: Request) -> Answer:
    """The answer of a writer that was not started."""
    [answer] = handle(writer, [asked])
    return answer


def events_of(url: str, *streams: UUID) -> list[Recorded]:
    """The events of these streams, or all, in the order of their positions; opened."""
    with ledger.connect(url) as conn:
        rows = ledger.read(conn, 0, 1_000_000)
        events = codec.decode_all(conn, Keyring(MASTER), rows)
    return [event for event in events if not streams or event.stream_id in streams]


def types_of(url: str, *streams: UUID) -> list[str]:
    return [event.type for event in events_of(url, *streams)]


def count_outcomes(url: str) -> int:
    with ledger.connect(url) as conn:
        row = conn.execute("SELECT count(*) FROM ledger.outcomes").fetchone()
    assert row is not None
    return int(row[0])


def state_at(url: str, asked: Request, version: int) -> Any:
    """The state of a request's stream after its first ``version`` events."""
    state = asked.streams.blank
    with ledger.connect(url) as conn:
        for _, at, _, name, schema, payload in ledger.load(conn, [asked.stream_id]):
            if at <= version:
                state = asked.streams.evolve(state, decode_sealed(name, schema, payload))
    return state


class Fate:
    """What befalls a writer's next statements.

    Attributes:
        deaths: for each coming append, when its connection dies: "before" the server has it,
            "after" the commit and before the answer is read, or None.
        meanwhile: for each coming append, what else happens just before the server has it.
    """

    def __init__(self) -> None:
        self.deaths: deque[str | None] = deque()
        self.meanwhile: deque[Callable[[], None]] = deque()


class FragileAppending(ledger.Appending):
    """An append that meets the fate of its connection, if that has one."""

    def __init__(self, conn: ledger.Connection, *group: Any) -> None:
        fate = getattr(conn, "fate", Fate())
        if fate.meanwhile:
            fate.meanwhile.popleft()()
        death = fate.deaths.popleft() if fate.deaths else None
        if death == "before":
            conn.close()
        super().__init__(conn, *group)
        self._lost = death == "after"
        if self._lost:
            super().verdicts()
            conn.close()

    def has_landed(self) -> bool:
        self._read()
        return super().has_landed()

    def verdicts(self) -> list[ledger.Verdict]:
        self._read()
        return super().verdicts()

    def _read(self) -> None:
        if self._lost:
            raise psycopg.OperationalError("the connection died before the answer was read")


def fragile(url: str, fate: Fate) -> Connect:
    """Sessions whose appends meet this fate."""

    def connect() -> ledger.Connection:
        conn: Any = ledger.connect(url)
        conn.fate = fate
        session: ledger.Connection = conn
        return session

    return connect
