"""What stands already is no event: every command of the catalog, sent twice in one state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest

from aggregates.base import Refused
from aggregates.company import Company
from commands.base import Context
from commands.catalog import CATALOG, Streams
from commands.handling.request import Request
from events.envelope import Actor
from events.ledger import ledger
from tests.aggregates.scenario import NOON, keyed_hash, mark_of
from tests.commands.making import handle, request, tell, types_of, writer_on
from tests.commands.witnesses import STEPS, asked_at_random

EACH_TIME = {
    "customers/add-contact": "without an id it is another contact",
    "customers/log-interaction": "each interaction took place",
    "customers/make-promise": "without an id it is another promise",
    "opportunities/quote": "without an id it is another quote",
    "orders/add-line": "an order may have two equal lines",
    "orders/return": "more came back",
    "payments/allocate": "more of the payment is for the order",
    "payments/release": "less of it is",
    "payments/refund": "more was paid back",
    "tickets/reply": "each reply was sent",
    "tickets/note": "each note was written",
    "tickets/log-work": "more time was spent",
    "tickets/resolve": "each resolution has its time, and the last one counts",
    "tickets/escalate": "each escalation is another call for help, and they are counted",
}
"""Commands that are an act each time, and why."""
WALKS = 150
MOST_WALKS = 3_000


def second_times(
    plural: str, streams: Streams[Any, Any], dice: Random
) -> Iterator[tuple[str, str]]:
    """Of a random life: each command that was carried out, and what came of it once more."""
    state, numbers = streams.blank, count(1_000)
    verbs = [verb for verb in streams.commands if verb != streams.creates]
    for step in range(STEPS):
        verb = streams.creates if step == 0 and streams.creates else dice.choice(verbs)
        name = f"{plural}/{verb}"
        asked, command = asked_at_random(name, streams.commands[verb], dice)
        context = Context(
            stream_id=UUID(int=1),
            occurred_at=NOON,
            actor=Actor(asked.actor),
            rep=asked.actor,
            settings=Company(),
            fresh_id=lambda: UUID(int=next(numbers)),
            keyed_hash=keyed_hash,
            mark_of=mark_of,
        )
        try:
            events = command.decide(state, context)
        except Refused:
            continue
        for event in events:
            state = streams.evolve(state, event)
        if verb == streams.creates:
            yield name, "refused"  # a stream begins once: it exists by now
            continue
        try:
            again = command.decide(state, context)
        except Refused:
            yield name, "refused"
            continue
        yield name, "recorded" if again else "nothing"
        for event in again:
            state = streams.evolve(state, event)


def test_a_command_sent_twice_is_no_event_or_refused_but_for_those_that_are_acts() -> None:
    found: Counter[tuple[str, str]] = Counter()
    for plural, streams in CATALOG.items():
        dice = Random(plural)
        wanted = {f"{plural}/{verb}" for verb in streams.commands}
        acts = {(name, "recorded") for name in EACH_TIME if name in wanted}
        for walk in range(MOST_WALKS):
            carried_out = {name for name, _ in found}
            if walk >= WALKS and wanted <= carried_out and acts <= found.keys():
                break
            found.update(second_times(plural, streams, dice))
    assert {name for name, _ in found} == {
        f"{plural}/{verb}" for plural, streams in CATALOG.items() for verb in streams.commands
    }
    assert {name for name, what in found if what == "recorded"} == EACH_TIME.keys()


DEAL = {"title": "Looms", "amount": {"amount": "10", "currency": "EUR"}, "product": "Loom"}
PERSON = {"name": "Grace Hopper", "email": "grace@example.org"}
CUSTOMER = {
    **PERSON,
    "note": "Likes ships.",
    "region": "north",
    "founded": 1949,
    "annual_revenue": {"amount": "5", "currency": "EUR"},
}
CASES = [
    ("customers/register", CUSTOMER, "customers/change-details"),
    ("leads/capture", {**PERSON, "company": "Navy", "source": "fair"}, "leads/change-details"),
    ("opportunities/open", DEAL, "opportunities/change-details"),
]


@pytest.mark.parametrize("remembered", [0, 50_000])
@pytest.mark.parametrize(("create", "details", "change"), CASES)
def test_details_that_stand_already_are_no_event_in_this_process_and_the_next(
    ledger_url: str, remembered: int, create: str, details: dict[str, Any], change: str
) -> None:
    stream = uuid4()
    with writer_on(ledger_url, remembered=remembered) as writer:
        assert tell(writer, request(create, details, of=stream)).status == 201
        for part in (details, *({name: value} for name, value in details.items())):
            answer = tell(writer, request(change, part, of=stream))
            assert (answer.status, answer.body["events"], answer.body["version"]) == (200, [], 1)
    with writer_on(ledger_url, remembered=remembered) as other:
        assert tell(other, request(change, details, of=stream)).body["events"] == []
        text = next(name for name in ("name", "title") if name in details)
        upper = {**details, text: details[text].upper()}
        for version in (2, 2):
            answer = tell(other, request(change, upper, of=stream))
            assert answer.body["version"] == version, "letters of another case are a correction"
        assert tell(other, request(change, details, of=stream)).body["version"] == 3


def test_commands_sent_together_are_compared_with_what_the_ones_before_them_left(
    ledger_url: str,
) -> None:
    stream = uuid4()
    asked = [
        request("customers/register", CUSTOMER, of=stream),
        *(request("customers/change-details", {"name": name}, of=stream) for name in "aabba"),
    ]
    with writer_on(ledger_url) as writer:
        versions = [answer.body["version"] for answer in handle(writer, asked)]
    assert versions == [1, 2, 2, 3, 3, 4]


def test_a_contacts_details_that_stand_already_are_no_event(ledger_url: str) -> None:
    stream, contact = uuid4(), str(uuid4())
    person = {"contact_id": contact, **PERSON, "title": "Admiral"}
    change = request("customers/change-contact", person, of=stream)
    with writer_on(ledger_url) as writer:
        tell(writer, request("customers/register", {"name": "Navy"}, of=stream))
        tell(writer, request("customers/add-contact", person, of=stream))
        assert tell(writer, change).body["events"] == []
        other = {"contact_id": contact, "title": "Rear admiral"}
        for version in (3, 3):
            asked = request("customers/change-contact", other, of=stream)
            assert tell(writer, asked).body["version"] == version


def test_a_deals_title_is_the_same_once_its_customer_is_known(ledger_url: str) -> None:
    customer, deal = uuid4(), uuid4()
    same = [request("opportunities/change-details", {"title": "Looms"}, of=deal) for _ in range(3)]
    other = request("opportunities/change-details", {"title": "Pumps"}, of=deal)
    known = request("opportunities/identify-customer", {"customer_id": str(customer)}, of=deal)
    with writer_on(ledger_url) as writer:
        tell(writer, request("customers/register", {"name": "Navy"}, of=customer))
        tell(writer, request("opportunities/open", {"title": "Looms"}, of=deal))
        asked = (same[0], known, same[1], other, same[2])
        assert [tell(writer, one).body["version"] for one in asked] == [1, 2, 2, 3, 4]


def test_details_that_an_earlier_version_recorded_are_an_event_once_more_and_then_no_more(
    ledger_url: str,
) -> None:
    """Nobody marked the texts then, so nobody can tell."""
    stream = uuid4()
    register = request("customers/register", CUSTOMER, of=stream)
    change = [request("customers/change-details", CUSTOMER, of=stream) for _ in range(2)]
    clear = request("customers/change-details", {"region": "north", "founded": 1949}, of=stream)
    with writer_on(ledger_url) as writer:
        assert tell(writer, register).status == 201
    forget_marks(ledger_url, stream)
    with writer_on(ledger_url) as writer:
        versions = [tell(writer, asked).body["version"] for asked in (clear, *change)]
    assert versions == [1, 2, 2]


def forget_marks(url: str, stream: UUID) -> None:
    """Have an event of the version before in the place of a stream's first one."""
    with ledger.connect(url) as conn:
        [row] = ledger.read_streams(conn, [stream])
    payload = {n: value for n, value in orjson.loads(row.payload).items() if n != "marks"}
    assert payload != orjson.loads(row.payload)
    with psycopg.connect(url, autocommit=True) as superuser:
        superuser.execute("SET session_replication_role = replica")  # without the triggers
        superuser.execute(
            "UPDATE ledger.events SET payload = %s, schema_version = 1 WHERE event_id = %s",
            (orjson.dumps(payload), row.event_id),
        )


def test_who_was_forgotten_and_is_entered_anew_is_an_event(ledger_url: str) -> None:
    stream = uuid4()
    with writer_on(ledger_url) as writer:
        tell(writer, request("customers/register", CUSTOMER, of=stream))
    with psycopg.connect(ledger_url, autocommit=True) as superuser:
        superuser.execute("DELETE FROM vault.keys WHERE subject = %s", (stream,))
    with writer_on(ledger_url) as writer:
        for version in (2, 2):
            asked = request("customers/change-details", PERSON, of=stream)
            assert tell(writer, asked).body["version"] == version


def test_marks_tell_nothing_of_a_text_and_differ_from_person_to_person(ledger_url: str) -> None:
    one, other = uuid4(), uuid4()
    with writer_on(ledger_url) as writer:
        for stream in (one, other):
            tell(writer, request("customers/register", PERSON, of=stream))
    with ledger.connect(ledger_url) as conn:
        rows = [orjson.loads(row.payload) for row in ledger.read(conn, 0, 10)]
    marks = [row["marks"] for row in rows]
    assert [sorted(mark) for mark in marks] == [["email", "name"]] * 2
    assert len({text for mark in marks for text in mark.values()}) == 4


def acts(stream: UUID, *asked: tuple[str, dict[str, Any]]) -> list[Request]:
    return [request(name, data, of=stream) for name, data in asked]


def test_waiting_rating_holding_and_disputing_twice_is_no_event(ledger_url: str) -> None:
    ticket, order, customer = uuid4(), uuid4(), uuid4()
    waits, other = ("tickets/wait", {"reason": "parts"}), ("tickets/wait", {"reason": "Parts"})
    done = ("tickets/resolve", {"text": "Oiled."})
    rated = ("tickets/rate", {"score": 2, "text": "Late."})
    held, disputed = ("orders/hold", {"reason": "address"}), ("orders/dispute", {"reason": "torn"})
    plan = [{"due": "2026-05-01", "amount": {"amount": "9", "currency": "EUR"}}]
    planned = ("orders/plan-payments", {"instalments": plan})
    placed = {"customer_id": str(customer), "amount": {"amount": "9", "currency": "EUR"}}
    with writer_on(ledger_url) as writer:
        tell(writer, request("customers/register", {"name": "Ann"}, of=customer))
        asked = [
            *acts(ticket, ("tickets/open", {"subject": "It squeaks"}), waits, waits, other, waits),
            *acts(ticket, ("tickets/take", {}), ("tickets/take", {}), done),
            *acts(ticket, rated, rated, ("tickets/rate", {"score": 2}), done),
            *acts(order, ("orders/place", placed), planned, planned, held, held),
            *acts(order, disputed, disputed, held, held),
        ]
        assert {answer.status for answer in handle(writer, asked)} <= {200, 201}
    assert types_of(ledger_url, ticket) == [
        *("ticket.opened", "ticket.waiting", "ticket.waiting", "ticket.waiting"),
        *("ticket.dispatched", "ticket.dispatch-confirmed", "ticket.resolved"),
        *("ticket.rated", "ticket.rated", "ticket.resolved"),
    ]
    assert types_of(ledger_url, order) == [
        *("order.placed", "order.payments-planned", "order.held", "order.disputed", "order.held"),
    ]
