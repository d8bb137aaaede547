"""Given what happened, when this is asked, then exactly that follows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from aggregates.base import Refused
from aggregates.company import Company
from commands.base import Command, Context
from commands.catalog import CATALOG, Streams
from events.base import Event
from events.company import COMPANY, CompanyEvent
from events.envelope import Actor
from events.ledger.keys import SubjectKey
from events.values import Money

STREAM = UUID("00000000-0000-0000-0000-00000000feed")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def fresh(n: int) -> UUID:
    """The id that a decision gets when it asks for its n-th new one."""
    return UUID(int=n)


def keyed_hash(text: str, subject: UUID) -> str:
    """A hash that a decision gets, with a key that nobody has elsewhere."""
    return SubjectKey(subject.bytes * 2).hash_of(text)


def mark_of(text: str, subject: UUID) -> str:
    """A mark that a decision gets, with the same key."""
    return SubjectKey(subject.bytes * 2).mark_of(text)


def eur(amount: str) -> Money:
    return Money.model_validate({"amount": amount, "currency": "EUR"})


def streams_of(command: type[Command[Any, Any]]) -> Streams[Any, Any]:
    """The catalog's entry that a command belongs to."""
    return next(s for s in CATALOG.values() if command in s.commands.values())


def context(
    streams: Streams[Any, Any],
    by: str = "ada",
    at: datetime = NOON,
    on: UUID | None = None,
    settings: Company | None = None,
) -> Context:
    numbers = count(1)
    return Context(
        stream_id=on or (COMPANY if streams.stream_type == "company" else STREAM),
        occurred_at=at,
        actor=Actor(by),
        rep=by,
        settings=settings or Company(),
        fresh_id=lambda: fresh(next(numbers)),
        keyed_hash=keyed_hash,
        mark_of=mark_of,
    )


def marked(event: Event, asked: Context) -> Event:
    """The event as a command of today records it."""
    return asked.marked(event) if "marks" in type(event).model_fields else event


def fold(streams: Streams[Any, Any], events: Iterable[Event]) -> Any:
    return reduce(streams.evolve, events, streams.blank)


@dataclass(frozen=True)
class Decision:
    """What was decided, to be compared as a whole."""

    events: list[Event] | None
    refusal: Refused | None
    context: Context

    def then(self, *expected: Event) -> None:
        """Exactly these events, marked; the bytes of the expected ones read back as the same."""
        expected = tuple(marked(event, self.context) for event in expected)
        if self.refusal is not None:
            pytest.fail(f"refused: {self.refusal.rule}: {self.refusal.detail}")
        if self.events != list(expected):
            pytest.fail(f"decided:\n{_listed(self.events)}\nexpected:\n{_listed(expected)}")
        for event in expected:
            written = event.model_dump_json(exclude_none=True)
            assert type(event).model_validate_json(written) == event, written

    def nothing(self) -> None:
        """What is asked is so already."""
        self.then()

    def refused(self, rule: type[Refused]) -> None:
        """This rule said no."""
        if self.refusal is None:
            pytest.fail(f"not refused by {rule.__name__}; decided:\n{_listed(self.events)}")
        assert type(self.refusal) is rule
        assert self.refusal.detail.endswith("."), "a rule is told in a sentence"


@dataclass(frozen=True)
class Given:
    """A stream's past, and the company's."""

    events: tuple[Event, ...]
    settings: Company

    def under(self, *events: CompanyEvent) -> Given:
        """The company's settings, as these events left them."""
        return Given(self.events, reduce(Company.evolve, events, self.settings))

    def when(
        self,
        command: Command[Any, Any],
        *,
        by: str = "ada",
        at: datetime = NOON,
        on: UUID | None = None,
    ) -> Decision:
        streams = streams_of(type(command))
        asked = context(streams, by, at, on, self.settings)
        state = fold(streams, (marked(event, asked) for event in self.events))
        try:
            decided = command.decide(state, asked)
        except Refused as refusal:
            return Decision(None, refusal, asked)
        return Decision(decided, None, asked)


def given(*events: Event) -> Given:
    return Given(events, Company())


def _listed(events: Iterable[Event] | None) -> str:
    return "\n".join(f"  {event!r}" for event in events or ()) or "  nothing"
