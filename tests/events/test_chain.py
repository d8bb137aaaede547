"""The chain: what a reader may take, and that a relay says nothing untrue whatever fails."""

from __future__ import annotations

import json
import random
import threading
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest

from events.kafka import leading, relay
from events.kafka.records import (
    PARTITIONS,
    WATERMARK,
    Foreign,
    event_record,
    link_of,
    partition_of,
    source_of,
    watermark_record,
)
from events.kafka.relay import Lost, Relay
from events.kafka.topic import Tail
from events.ledger import ledger
from events.ledger.checkpoints import Overtaken
from tests.commands.making import capture, claim, tell, writer_on
from tests.outside import Outsider, Seen

SOURCE = "urn:pledge:ledger:x"


def row(position: int, payload: bytes = b'{"owner":"ada"}', **other: Any) -> tuple[Any, ...]:
    moment = datetime(2026, 3, 2, 9, tzinfo=UTC)
    found = {
        "event_id": UUID(int=1),
        "stream_type": "lead",
        "stream_id": UUID(int=2),
        "version": 3,
        "occurred_at": moment,
        "recorded_at": moment,
        "actor": 'a"da,"data":',
        "actor_kind": "user",
        "command_id": UUID(int=4),
        "correlation_id": UUID(int=5),
        "causation_id": None,
        "type": "lead.claimed",
        "schema_version": 1,
    } | other
    return (position, *found.values(), payload)


@pytest.mark.parametrize("cause", [None, UUID(int=6)])
@pytest.mark.parametrize(
    "payload", [b"{}", b'{ "a" : 1.50, "b":",\\"data\\":" }', '{"ü":"好"}'.encode()]
)
def test_a_record_gives_back_the_row_that_it_was_made_of(
    cause: UUID | None, payload: bytes
) -> None:
    made = row(9, payload, causation_id=cause)
    link = link_of(event_record(made, SOURCE, 4), SOURCE, 8)
    assert (link.position, link.previous) == (9, 4)
    assert link.row == made


def test_an_event_that_the_reader_has_is_not_read_again() -> None:
    assert link_of(event_record(row(9), SOURCE, 4), SOURCE, 9) == (9, 4, None)


def test_a_watermark_has_no_event() -> None:
    assert link_of(watermark_record(9, 4, SOURCE, 3), SOURCE, 0) == (9, 4, None)


@pytest.mark.parametrize(
    "changed",
    [
        {"source": "urn:pledge:ledger:y"},
        {"previous": 9},
        {"previous": -1},
        {"position": "9"},
        {"position": 9.5},
        {"subject": "lead"},
        {"subject": "lead/x"},
        {"commandid": None},
        {"time": "yesterday"},
        {"specversion": "0.3"},
    ],
)
def test_a_record_that_no_relay_of_this_ledger_writes_is_foreign(changed: dict[str, Any]) -> None:
    record = json.loads(event_record(row(9), SOURCE, 4)) | changed
    with pytest.raises(Foreign):
        link_of(json.dumps(record).encode(), SOURCE, 0)


@pytest.mark.parametrize("name", ["source", "position", "previous", "subject", "data", "actor"])
def test_a_record_that_lacks_an_attribute_is_foreign(name: str) -> None:
    record = json.loads(event_record(row(9), SOURCE, 4))
    del record[name]
    with pytest.raises(Foreign):
        link_of(json.dumps(record).encode(), SOURCE, 0)


@pytest.mark.parametrize("value", [b"", b"x", b"null", b"[]", b"{}", b"\xff", None])
def test_what_is_no_cloudevent_is_foreign(value: Any) -> None:
    with pytest.raises(Foreign):
        link_of(value, SOURCE, 0)


class Ack:
    """What a producer says of a record, at once or only when asked some times."""

    def __init__(self, exception: Exception | None, pending: int) -> None:
        self.exception = exception
        self._pending = pending

    @property
    def is_done(self) -> bool:
        self._pending -= 1
        return self._pending < 0

    def get(self, timeout: float) -> None:
        assert timeout > 0
        self._pending = 0


class Faulty:
    """A producer: some records get in, some fail, some get in and seem to have failed."""

    def __init__(self, dice: random.Random, log: list[Seen], offsets: Any) -> None:
        self._dice = dice
        self._log = log
        self._offsets = offsets

    def send(
        self, _topic: str, value: bytes, key: bytes, headers: Any, partition: int, ms: int
    ) -> Ack:
        fate = self._dice.choices(("taken", "lost", "unsure"), (40, 1, 1))[0]
        if fate != "lost":
            self._log.append(Seen(partition, next(self._offsets), key, value, headers, ms))
        pending = self._dice.choice((0, 0, 0, 1, 4))
        return Ack(None if fate == "taken" else RuntimeError("no answer"), pending)


class Relays:
    """Relays of one ledger that fail, begin again at the checkpoint, and write late."""

    def __init__(self, url: str, dice: random.Random) -> None:
        self._url = url
        self._dice = dice
        self._topic_id = uuid4()
        self._offsets = count()
        self._zombies: list[Any] = []
        self._relay = Relay(lambda: ledger.connect(url), "nowhere", "topic")
        self.log: list[Seen] = []

    def carry(self, head: int) -> None:
        """Until the checkpoint is there."""
        leading, turns = self._lead(), 0
        while leading.checkpoint.position < head:
            turns += 1
            assert turns < 2_000, "it does not come to an end"
            if self._dice.random() < 0.02:
                self._zombies.append(leading)
                leading = self._lead()
            if self._zombies and self._dice.random() < 0.2:
                self._wake(self._dice.choice(self._zombies))
            try:
                self._relay._turn(leading)
            except Lost:
                leading.conn.close()
                leading = self._lead()
        for one in (leading, *self._zombies):
            one.conn.close()

    def _wake(self, zombie: Any) -> None:
        try:
            self._relay._turn(zombie)
        except (Lost, Overtaken):
            self._zombies.remove(zombie)
            zombie.conn.close()

    def _lead(self) -> Any:
        conn = ledger.connect(self._url)
        checkpoint = leading.take_lead(conn, self._topic_id, Tail())
        position = checkpoint.position
        return relay._Leading(
            conn,
            Faulty(self._dice, self.log, self._offsets).send,
            lambda: self._topic_id,
            self._topic_id,
            source_of(checkpoint.ledger_id),
            checkpoint,
            position,
            [position] * PARTITIONS,
            threading.Event(),
        )


@pytest.mark.parametrize("seed", range(12))
def test_whatever_fails_a_reader_takes_each_event_once_and_no_hole_stays(
    ledger_url: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BATCH", 7)
    if seed % 2:
        monkeypatch.setattr(relay, "BATCH_BYTES", 2_000)  # three or four events
    with writer_on(ledger_url) as writer:
        for _ in range(60):
            lead_id = uuid4()
            assert tell(writer, capture(lead_id)).status == 201
            assert tell(writer, claim(lead_id)).status == 200
    with ledger.connect(ledger_url) as conn:
        rows = ledger.read(conn, 0, 1_000)
        urn = source_of(ledger.ledger_id(conn))
    head = rows[-1][0]
    relays = Relays(ledger_url, random.Random(seed))
    relays.carry(head)
    outsider = Outsider(urn).read(relays.log)
    assert outsider.holes == []
    assert len(outsider.taken) == PARTITIONS
    assert set(outsider.taken.values()) == {head}
    taken = [(record.partition, record.event["position"]) for record in outsider.events]
    for partition in range(PARTITIONS):
        mine = [position for at, position in taken if at == partition]
        assert mine == [row[0] for row in rows if partition_of(row[3]) == partition]


class Held:
    """What a producer says of a watermark that is under way until somebody waits for it."""

    exception = None
    is_done = False

    def get(self, timeout: float) -> None:
        assert timeout > 0
        self.is_done = True


class Holding:
    """A producer that takes events at once, and watermarks when they are waited for."""

    def __init__(self) -> None:
        self.events = 0
        self.marks: list[Held] = []

    def send(self, _topic: str, value: bytes, *_: Any) -> Ack | Held:
        if json.loads(value)["type"] == WATERMARK:
            self.marks.append(Held())
            return self.marks[-1]
        self.events += 1
        return Ack(None, 0)

    @property
    def waited_for(self) -> int:
        return sum(mark.is_done for mark in self.marks)


def leads_captured(url: str, number: int) -> None:
    with writer_on(url) as writer:
        for _ in range(number):
            assert tell(writer, capture(uuid4())).status == 201


def test_events_are_sent_while_watermarks_are_under_way_and_the_checkpoint_stays_behind_them(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BATCH", 7)
    leads_captured(ledger_url, 7 * relay.IN_FLIGHT)
    relays, holding = Relays(ledger_url, random.Random(0)), Holding()
    leading = relays._lead()
    leading.send = holding.send
    with leading.conn:
        for _ in range(20):
            relays._relay._turn(leading)
        assert holding.events == 7 * relay.IN_FLIGHT
        assert len(leading.marks) == relay.IN_FLIGHT
        assert (holding.waited_for, leading.checkpoint.position) == (0, 0)
        for ack in leading.marks[0].acks:
            ack.is_done = True
        relays._relay._turn(leading)
        assert leading.checkpoint.position == 7
        for ack in holding.marks:
            ack.is_done = True
        relays._relay._turn(leading)
        assert leading.checkpoint.position == holding.events


def test_watermarks_under_way_are_bounded_and_all_awaited_in_the_end(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BATCH", 7)
    leads_captured(ledger_url, 7 * relay.IN_FLIGHT + 14)
    relays, holding = Relays(ledger_url, random.Random(0)), Holding()
    leading = relays._lead()
    leading.send = holding.send
    with leading.conn:
        for _ in range(20):
            relays._relay._turn(leading)
            assert len(leading.marks) <= relay.IN_FLIGHT
        assert holding.events == 7 * relay.IN_FLIGHT + 14
        assert leading.checkpoint.position == 14
        relays._relay._leave(leading)
        assert leading.checkpoint.position == holding.events


def test_after_a_refusal_one_batch_is_sent_at_a_time(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BATCH", 7)
    leads_captured(ledger_url, 21)
    relays, holding = Relays(ledger_url, random.Random(0)), Holding()
    leading = relays._lead()
    leading.send = holding.send
    relays._relay._refusals = 1
    with leading.conn:
        for sent in (7, 14, 21):
            relays._relay._turn(leading)
            assert (holding.events, len(leading.batches)) == (sent, 0)
