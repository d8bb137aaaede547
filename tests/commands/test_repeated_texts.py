"""A text about a person is refused when it comes again, and forgotten with the person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import count
from typing import Any, ClassVar, cast
from uuid import UUID, uuid4

import psycopg
import pytest

from aggregates.base import Refused, Unknown
from commands.base import Command, Context, Records
from commands.catalog import BY_TYPE, Streams
from commands.handling.request import Request
from events.base import ERASED, Event
from events.envelope import Actor
from events.ledger import ledger
from events.ledger.keys import Keyring
from events.values import PersonalText, Text
from tests.commands.making import MASTER, events_of, handle, tell, writer_on
from tests.conftest import NewLedger

SAID = "Asks for the price in euros."


class MemoNoted(Event, type="memo.noted"):
    """Something to remember of a person."""

    text: PersonalText
    text_hash: str


class MemoHinted(Event, type="memo.hinted"):
    """A person said something; only its hash is kept."""

    text_hash: str


class MemoRepeated(Refused):
    """It was noted before."""

    fields = ("text",)


class MemoUnknown(Unknown):
    """There is no memo with this id."""


@dataclass(frozen=True, slots=True)
class Memo:
    """What was noted, by its keyed hash."""

    hashes: frozenset[str] = frozenset()

    def note(self, noted: MemoNoted) -> list[MemoNoted]:
        if noted.text_hash in self.hashes:
            raise MemoRepeated
        return [noted]

    def hint(self, hinted: MemoHinted) -> list[MemoHinted]:
        if hinted.text_hash in self.hashes:
            raise MemoRepeated
        return [hinted]

    def evolve(self, event: MemoNoted | MemoHinted) -> Memo:
        return replace(self, hashes=self.hashes | {event.text_hash})


class NoteMemo(Command[Memo, MemoNoted]):
    """Note something about a person."""

    rules = (MemoRepeated,)
    noted: ClassVar = Records(MemoNoted, derived=("text_hash",))

    text: Text

    def decide(self, memo: Memo, context: Context, /) -> list[MemoNoted]:
        text_hash = context.keyed_hash(self.text, context.stream_id)
        return memo.note(self.noted.of(self, text_hash=text_hash))


class HintMemo(Command[Memo, MemoHinted]):
    """Note that a person said something, without the words."""

    rules = (MemoRepeated,)

    text: Text
    said_by: UUID

    def decide(self, memo: Memo, context: Context, /) -> list[MemoHinted]:
        return memo.hint(MemoHinted(text_hash=context.keyed_hash(self.text, self.said_by)))


MEMOS = Streams[Memo, Any](
    stream_type="memo",
    blank=Memo(),
    evolve=Memo.evolve,
    unknown=MemoUnknown,
    commands={"note": NoteMemo, "hint": HintMemo},
)
_keys = count()


@pytest.fixture(autouse=True)
def memos(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalog has memos."""
    monkeypatch.setitem(cast("dict[str, Streams[Any, Any]]", BY_TYPE), "memo", MEMOS)


def note(person: UUID, text: str) -> Request:
    key = f"note {next(_keys)}"
    return Request(
        name="memos/note",
        streams=MEMOS,
        command=NoteMemo(text=text),
        stream_id=person,
        actor=Actor("ada"),
        key=key,
        body_hash=sha256(key.encode()).digest(),
        command_id=uuid4(),
        correlation_id=uuid4(),
    )


def erase(url: str, person: UUID) -> None:
    with ledger.connect(url) as conn:
        conn.execute("DELETE FROM vault.keys WHERE subject = %s", (person,))


def payloads(url: str) -> list[bytes]:
    with ledger.connect(url) as conn:
        return [row.payload for row in ledger.read(conn, 0, 100)]


def hashes_of(url: str, person: UUID) -> list[str]:
    return [cast("MemoNoted", recorded.event).text_hash for recorded in events_of(url, person)]


def test_a_repeated_text_is_refused_by_this_process_and_by_the_next(ledger_url: str) -> None:
    person = uuid4()
    with writer_on(ledger_url) as writer:
        assert tell(writer, note(person, SAID)).status == 200
        assert tell(writer, note(person, SAID.upper())).body["rule"] == "MemoRepeated"
        assert tell(writer, note(person, "Asks for a visit.")).status == 200
    with writer_on(ledger_url) as writer:
        assert tell(writer, note(person, f" {SAID} ")).body["rule"] == "MemoRepeated"


def test_a_text_that_is_repeated_within_one_group_is_refused(ledger_url: str) -> None:
    person = uuid4()
    with writer_on(ledger_url) as writer:
        answers = handle(writer, [note(person, SAID), note(person, SAID), note(person, "Other.")])
        assert [answer.status for answer in answers] == [200, 409, 200]
        assert tell(writer, note(person, SAID)).body["rule"] == "MemoRepeated"


def test_of_another_person_the_same_text_is_no_repetition(ledger_url: str) -> None:
    grace, ada = uuid4(), uuid4()
    with writer_on(ledger_url) as writer:
        assert [a.status for a in handle(writer, [note(grace, SAID), note(ada, SAID)])] == [
            200,
            200,
        ]
    assert hashes_of(ledger_url, grace) != hashes_of(ledger_url, ada)


def test_one_text_has_another_hash_in_every_ledger(new_ledger: NewLedger) -> None:
    person = uuid4()
    found = []
    for _ in range(2):
        with new_ledger() as url:
            with writer_on(url) as writer:
                assert tell(writer, note(person, SAID)).status == 200
            found += hashes_of(url, person)
    assert len(set(found)) == 2


def test_once_the_persons_key_is_deleted_nothing_leads_from_the_hash_to_the_text(
    ledger_url: str,
) -> None:
    person, other = uuid4(), uuid4()
    with writer_on(ledger_url) as writer:
        assert [a.status for a in handle(writer, [note(person, SAID), note(other, SAID)])] == [
            200,
            200,
        ]
    [text_hash] = hashes_of(ledger_url, person)
    assert guesses(ledger_url, [person, other], SAID)[0] == text_hash
    erase(ledger_url, person)
    assert [cast("MemoNoted", r.event).text for r in events_of(ledger_url, person)] == [ERASED]
    assert all(SAID.encode() not in payload for payload in payloads(ledger_url))
    assert text_hash not in guesses(ledger_url, [person, other], SAID)


def guesses(url: str, people: list[UUID], text: str) -> list[str]:
    """Hashes that whoever has the whole database and the master key can make of a text."""
    keyring = Keyring(MASTER)
    with ledger.connect(url) as conn:
        keyring.load(conn, people)
    keys = [key for person in people if (key := keyring.get(person)) is not None]
    plain: list[Callable[[bytes], Any]] = [sha256, lambda raw: sha256(MASTER + raw)]
    return [key.hash_of(text) for key in keys] + [
        make(text.encode()).hexdigest()[:32] for make in plain
    ]


def test_who_comes_back_after_an_erasure_has_said_nothing_yet(ledger_url: str) -> None:
    person = uuid4()
    with writer_on(ledger_url) as writer:
        assert tell(writer, note(person, SAID)).status == 200
    erase(ledger_url, person)
    with writer_on(ledger_url) as writer:
        assert tell(writer, note(person, SAID)).status == 200
        assert tell(writer, note(person, SAID)).body["rule"] == "MemoRepeated"
    assert len(set(hashes_of(ledger_url, person))) == 2


def test_a_hash_alone_is_found_again_though_no_field_is_sealed_with_its_key(
    ledger_url: str,
) -> None:
    memo, person = uuid4(), uuid4()
    for status in (200, 409):
        asked = note(memo, SAID)
        asked.command = HintMemo(text=SAID, said_by=person)
        with writer_on(ledger_url) as writer:
            assert tell(writer, asked).status == status


def test_a_refused_command_leaves_no_key(ledger_url: str) -> None:
    class NoteNothing(NoteMemo):
        def decide(self, memo: Memo, context: Context, /) -> list[MemoNoted]:
            super().decide(memo, context)
            raise MemoRepeated

    person = uuid4()
    asked = note(person, SAID)
    asked.command = NoteNothing(text=SAID)
    with writer_on(ledger_url) as writer:
        assert tell(writer, asked).body["rule"] == "MemoRepeated"
    with ledger.connect(ledger_url) as conn:
        assert conn.execute("SELECT count(*) FROM vault.keys").fetchone() == (0,)


def test_a_database_that_goes_away_at_a_key_fails_no_command(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([psycopg.OperationalError("the connection is gone")])
    load = Keyring.load

    def fragile(keyring: Keyring, *of: Any) -> None:
        for failure in failures:
            raise failure
        load(keyring, *of)

    monkeypatch.setattr(Keyring, "load", fragile)
    with writer_on(ledger_url) as writer:
        assert tell(writer, note(uuid4(), SAID)).status == 200
    assert next(failures, None) is None
