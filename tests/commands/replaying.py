"""The truth about a history: its outcomes replayed one by one, by the aggregates alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from aggregates.base import IdTaken, Refused
from aggregates.company import Company
from aggregates.customer import CustomerUnknown
from commands.base import Context
from commands.catalog import CATALOG
from commands.handling.request import Request
from commands.http.problems import Answer
from events.base import Event
from events.company import COMPANY
from events.envelope import Recorded
from events.lead import LeadConverted
from events.ledger import codec, ledger
from events.ledger.keys import Keyring
from tests.aggregates.scenario import keyed_hash
from tests.commands.making import fails

BLANK = {streams.stream_type: streams.blank for streams in CATALOG.values()}
UNKNOWN = {streams.stream_type: streams.unknown for streams in CATALOG.values()}
CREATES = {
    f"{plural}/{streams.creates}": streams.exists
    for plural, streams in CATALOG.items()
    if streams.creates and streams.exists
}
STATEMENT = """
SELECT actor, key, command, command_id, body_hash, stream_type, stream_id, status, rule, detail,
       fields, version, first_position, last_position, after_position, recorded_at
  FROM ledger.outcomes WHERE starts_with(key, %s)
 ORDER BY after_position, first_position NULLS LAST, recorded_at, version
"""


class Told(NamedTuple):
    """One request and what it was told, in the call that lasted from ``began`` to ``ended``.

    Attributes:
        call: which call it belonged to.
        began: the ledger's position before the call.
        ended: the ledger's position after it.
    """

    call: int
    request: Request
    answer: Answer
    began: int
    ended: int


class Stored(NamedTuple):
    actor: str
    key: str
    command: str
    command_id: UUID
    body_hash: bytes
    stream_type: str
    stream_id: UUID
    status: str
    rule: str | None
    detail: str | None
    fields: list[str] | None
    version: int
    first: int | None
    last: int | None
    after: int
    recorded_at: datetime


@dataclass
class Stream:
    stream_type: str
    version: int
    state: Any


@dataclass
class World:
    """Every stream's state at one position of the ledger."""

    keyring: Keyring
    streams: dict[UUID, Stream] = field(default_factory=dict)

    def settings(self) -> Company:
        company = self.streams.get(COMPANY)
        return company.state if company and company.stream_type == "company" else Company()

    def evolve(self, stream_type: str, stream_id: UUID, events: list[Event]) -> None:
        stream = self.streams.setdefault(stream_id, Stream(stream_type, 0, BLANK[stream_type]))
        for event in events:
            stream.state = stream.state.evolve(event)
            stream.version += 1

    def mark_of(self, text: str, subject: UUID) -> str:
        key = self.keyring.get(subject)
        return key.mark_of(text) if key else "of a command that was not carried out"

    def verdict(self, asked: Request, fresh: Iterator[UUID]) -> list[Event] | Refused:
        """What follows from a request here and now: events, or the first rule that says no."""
        stream_type = asked.streams.stream_type
        there = self.streams.get(asked.stream_id)
        version = there.version if there else 0
        assert asked.if_match in (None, version), "carried out in spite of its If-Match"
        kind = "company" if asked.stream_id == COMPANY else there and there.stream_type
        try:
            if kind not in (None, stream_type):
                raise IdTaken if asked.name in CREATES else UNKNOWN[stream_type]
            if asked.name in CREATES and there:
                raise CREATES[asked.name]
            if asked.name not in CREATES and stream_type != "company" and not there:
                raise UNKNOWN[stream_type]
            customer = getattr(asked.command, "customer_id", None)
            if customer is not None:
                known = self.streams.get(customer)
                if known is None or known.stream_type != "customer":
                    raise _MissingCustomer
            state = there.state if there else BLANK[stream_type]
            context = Context(
                asked.stream_id,
                datetime.now(UTC),
                asked.actor,
                asked.actor.id,
                self.settings(),
                lambda: next(fresh),
                keyed_hash,
                self.mark_of,
            )
            return asked.command.decide(state, context)
        except Refused as refusal:
            return refusal


class _MissingCustomer(CustomerUnknown):
    """There is no customer with this id."""

    fields = ("customer_id",)

    @property
    def rule(self) -> str:
        return "CustomerUnknown"


class History:
    """A slice of the ledger: all that happened above a position under keys of one prefix.

    Args:
        conn: a session of the service's role.
        since: the ledger's position before it.
        prefix: how all its keys begin.
    """

    def __init__(
        self, conn: ledger.Connection, keyring: Keyring, since: int, prefix: str, told: list[Told]
    ) -> None:
        self.since = since
        rows = ledger.read(conn, since, 100_000)
        self.events = codec.decode_all(conn, keyring, rows)
        company = codec.decode_all(conn, keyring, ledger.read_streams(conn, [COMPANY]))
        self.before = World(keyring)
        self.before.evolve("company", COMPANY, [r.event for r in company if r.position <= since])
        if self.before.streams[COMPANY].version == 0:
            del self.before.streams[COMPANY]
        self.outcomes = [Stored(*row) for row in conn.execute(STATEMENT, (prefix,))]
        self.told = told

    def check(self) -> None:
        """Assert that the log is one serial order and every answer is true in it."""
        self._check_places()
        self._check_that_outcomes_cover_events()
        self._replay()
        by_key = {(outcome.actor, outcome.key): outcome for outcome in self.outcomes}
        for told in self.told:
            asked = told.request
            self._check_answer(told, by_key.get((asked.actor.id, asked.key)))
        self._check_order_within_calls()

    def version_at(self, stream_id: UUID, position: int) -> int:
        stream = self.before.streams.get(stream_id)
        return (stream.version if stream else 0) + sum(
            1 for e in self.events if e.stream_id == stream_id and e.position <= position
        )

    def _check_places(self) -> None:
        positions = [event.position for event in self.events]
        assert positions == list(range(self.since + 1, self.since + 1 + len(positions)))
        assert all(a.recorded_at <= b.recorded_at for a, b in pairwise(self.events))
        versions: dict[UUID, int] = {i: s.version for i, s in self.before.streams.items()}
        for event in self.events:
            versions[event.stream_id] = versions.get(event.stream_id, 0) + 1
            assert event.version == versions[event.stream_id]
        ids = {event.event_id for event in self.events}
        assert len(ids) == len(self.events)

    def _check_that_outcomes_cover_events(self) -> None:
        ours = iter(self.events)
        for outcome in self.outcomes:
            if outcome.first is None:
                assert outcome.last is None
                continue
            assert outcome.status == "appended"
            assert outcome.last == outcome.after
            for position in range(outcome.first, outcome.last + 1):
                event = next(ours)
                assert event.position == position
                assert event.command_id == outcome.command_id
                assert event.stream_id == outcome.stream_id
                assert event.stream_type == outcome.stream_type
                assert event.actor == outcome.actor
                assert event.recorded_at == outcome.recorded_at
        assert next(ours, None) is None

    def _replay(self) -> None:
        requests = {told.request.command_id: told.request for told in self.told}
        world = World(
            self.before.keyring,
            {i: Stream(s.stream_type, s.version, s.state) for i, s in self.before.streams.items()},
        )
        by_position = {event.position: event for event in self.events}
        for outcome in self.outcomes:
            asked = requests[outcome.command_id]
            assert outcome.command == asked.name
            assert outcome.body_hash == asked.body_hash
            assert outcome.stream_id == asked.stream_id
            here = world.streams.get(asked.stream_id)
            recorded = [
                by_position[position]
                for position in range(outcome.first or 0, (outcome.last or -1) + 1)
            ]
            verdict = world.verdict(asked, _fresh_ids_of(recorded))
            if isinstance(verdict, Refused):
                assert outcome.status == "refused", f"{asked.name} should be refused: {verdict!r}"
                assert outcome.rule == verdict.rule
                assert outcome.detail == verdict.detail
                assert tuple(outcome.fields or ()) == verdict.fields
                assert outcome.version == (here.version if here else 0)
                continue
            assert outcome.status == "appended", f"{asked.name} is refused: {outcome.rule}"
            assert [r.event.model_dump() for r in recorded] == [e.model_dump() for e in verdict]
            if verdict:
                world.evolve(asked.streams.stream_type, asked.stream_id, verdict)
                here = world.streams[asked.stream_id]
            assert outcome.version == (here.version if here else 0)

    def _check_answer(self, told: Told, outcome: Stored | None) -> None:
        asked, answer = told.request, told.answer
        match answer.status:
            case 412:
                assert asked.if_match is not None
                assert answer.version is not None
                assert answer.version != asked.if_match
                earliest = self.version_at(asked.stream_id, told.began)
                assert earliest <= answer.version <= self.version_at(asked.stream_id, told.ended)
                assert outcome is None or outcome.command_id != asked.command_id
            case 422:
                assert outcome is not None
                assert outcome.body_hash != asked.body_hash
            case 500:
                assert fails(asked)
                assert outcome is None or outcome.command_id != asked.command_id
            case _:
                assert outcome is not None, f"no outcome for {answer}"
                assert outcome.body_hash == asked.body_hash
                assert answer.status == _status_of(outcome)
                assert answer.body == self._body_of(outcome)
                if outcome.command_id == asked.command_id:
                    assert (outcome.first or outcome.after + 1) > told.began
                    assert outcome.after <= told.ended

    def _body_of(self, outcome: Stored) -> dict[str, Any]:
        body: dict[str, Any] = {
            "id": outcome.stream_id,
            "version": outcome.version,
            "position": outcome.after,
        }
        if outcome.status == "appended":
            return body | {
                "events": [
                    {"type": e.type, "version": e.version, "position": e.position}
                    for e in self.events
                    if e.command_id == outcome.command_id
                ]
            }
        words = "".join(" " + c.lower() if c.isupper() else c for c in outcome.rule or "").split()
        return body | {
            "type": "/problems/" + "-".join(words),
            "title": " ".join(words).capitalize(),
            "status": _status_of(outcome),
            "detail": outcome.detail,
            "rule": outcome.rule,
            "fields": outcome.fields or [],
        }

    def _check_order_within_calls(self) -> None:
        done = {outcome.command_id: outcome for outcome in self.outcomes}
        calls: dict[int, list[Stored]] = {}
        customers: dict[UUID, UUID] = {}
        for told in self.told:
            command_id = told.request.command_id
            if command_id in done:
                calls.setdefault(told.call, []).append(done[command_id])
                customer = getattr(told.request.command, "customer_id", None)
                if customer is not None:
                    customers[command_id] = customer
        for call in calls.values():
            for place, later in enumerate(call):
                for earlier in call[:place]:
                    if earlier.stream_id == later.stream_id:
                        assert (earlier.after, earlier.version) <= (later.after, later.version)
                    creates = earlier.command == "customers/register" and earlier.first
                    if creates and customers.get(later.command_id) == earlier.stream_id:
                        assert earlier.after <= later.after


def _fresh_ids_of(recorded: list[Recorded]) -> Iterator[UUID]:
    for event in (r.event for r in recorded):
        if isinstance(event, LeadConverted):
            if event.new_customer:
                yield event.customer_id
            if event.new_opportunity:
                yield event.opportunity_id
    while True:
        yield uuid4()


def _status_of(outcome: Stored) -> int:
    if outcome.status == "appended":
        return 201 if outcome.command in CREATES else 200
    own = not outcome.fields and outcome.rule in {rule.__name__ for rule in UNKNOWN.values()}
    return 404 if own else 409
