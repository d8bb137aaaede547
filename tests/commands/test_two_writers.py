"""Whatever two writers do at once, the log is one serial order and every answer is true in it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from commands.handling import writer as writing
from commands.handling.request import Request
from commands.handling.writer import Writer
from commands.http.problems import Answer, render
from events.company import COMPANY
from events.lead import LeadReturned
from events.ledger import ledger
from events.ledger.keys import Keyring
from tests.commands.making import (
    MASTER,
    Fate,
    capture,
    claim,
    events_of,
    failing_capture,
    failing_claim,
    fragile,
    handle,
    register,
    request,
    tell,
    types_of,
    writer_on,
)
from tests.commands.replaying import History, Told

REMEMBERED = [0, 2, 50_000]
EXAMPLES = 60


class Asked(NamedTuple):
    """One request to be made; ids are labels, and become ids of the example's own."""

    name: str
    of: str
    data: dict[str, Any]
    by: str
    key: str | None
    if_match: int | str | None


class Repeated(NamedTuple):
    """An earlier request once more, with the same key and body."""

    nth: int
    if_match: int | str | None


class Step(NamedTuple):
    """Both writers' next calls.

    Attributes:
        deaths: of each writer's connection, at its next append.
        depth: before which append of the first writer's call the second writer comes between.
    """

    first: list[Asked | Repeated]
    second: list[Asked | Repeated]
    deaths: tuple[str | None, str | None]
    depth: int


CUSTOMERS = st.sampled_from(["c1", "c2"])
ANY_CUSTOMER = st.sampled_from(["c1", "c1", "c2", "nobody", "l1"])
NO_CUSTOMER_OR_ANY = st.one_of(st.none(), ANY_CUSTOMER)
LEADS = st.sampled_from(["l1", "l1", "l2"])
DEALS = st.sampled_from(["o1", "o1", "o2"])
ANYTHING = st.sampled_from(["c1", "l1", "o1", "company", "nobody"])
REPS = st.sampled_from(["ada", "bob"])
TAGS = st.sampled_from(["vip", "late"])
STAGES = st.sampled_from(["discovery", "proposal", "pitch", "won"])
PROMISES = st.sampled_from(["p1", "p2"])
CONTACTS = st.sampled_from(["n1", "n2"])
EURO = {"amount": "12.50", "currency": "EUR"}
QUOTED = [{"product": "loom", "quantity": "2", "unit_price": EURO, "discount": "10"}]


def _stages(*names: str) -> list[dict[str, str]]:
    open_ones = [{"name": name, "kind": "open"} for name in names]
    return [*open_ones, {"name": "won", "kind": "won"}, {"name": "lost", "kind": "lost"}]


def _data(**fields: st.SearchStrategy[Any] | str) -> st.SearchStrategy[dict[str, Any]]:
    given_fields = {n: st.just(v) if isinstance(v, str) else v for n, v in fields.items()}
    return st.fixed_dictionaries(given_fields).map(
        lambda data: {name: value for name, value in data.items() if value is not None}
    )


KINDS: list[tuple[str, st.SearchStrategy[str], st.SearchStrategy[dict[str, Any]]]] = [
    ("customers/register", CUSTOMERS, _data(name="Acme", owner=st.none() | REPS)),
    ("customers/change-details", CUSTOMERS, _data(email="a@example.org")),
    ("customers/add-contact", CUSTOMERS, _data(contact_id=CONTACTS, name="Grace")),
    ("customers/claim", CUSTOMERS, _data()),
    ("customers/release", CUSTOMERS, _data(reason="too far")),
    ("customers/hand-over", CUSTOMERS, _data(owner=REPS)),
    ("customers/tag", CUSTOMERS, _data(tag=TAGS)),
    ("customers/untag", CUSTOMERS, _data(tag=TAGS)),
    (
        "customers/log-interaction",
        CUSTOMERS,
        _data(channel="call", summary="asked", contact_id=st.none() | CONTACTS),
    ),
    (
        "customers/make-promise",
        CUSTOMERS,
        _data(promise_id=PROMISES, what="a call", contact_id=st.none() | CONTACTS),
    ),
    ("customers/keep-promise", CUSTOMERS, _data(promise_id=PROMISES)),
    ("customers/break-promise", CUSTOMERS, _data(promise_id=PROMISES, reason="forgot")),
    ("leads/capture", LEADS, _data(name="Grace", owner=st.none() | REPS)),
    ("leads/claim", LEADS, _data()),
    ("leads/return", LEADS, _data(reason="no time")),
    ("leads/qualify", LEADS, _data(note="serious", budget=st.just(EURO))),
    ("leads/disqualify", LEADS, _data(reason="gone")),
    ("leads/convert", LEADS, _data(customer_id=NO_CUSTOMER_OR_ANY)),
    (
        "opportunities/open",
        DEALS,
        _data(
            title="Looms",
            customer_id=NO_CUSTOMER_OR_ANY,
            pipeline=st.sampled_from(["sales", "sales", "special"]),
            stage=st.none() | STAGES,
        ),
    ),
    ("opportunities/identify-customer", DEALS, _data(customer_id=ANY_CUSTOMER)),
    ("opportunities/move-stage", DEALS, _data(stage=STAGES)),
    ("opportunities/quote", DEALS, _data(quote_id=PROMISES, lines=st.just(QUOTED))),
    ("opportunities/win", DEALS, _data(amount=st.none() | st.just(EURO))),
    ("opportunities/lose", DEALS, _data(reason="price", comment="too dear")),
    ("opportunities/reopen", DEALS, _data(reason="they called", stage=st.none() | STAGES)),
    (
        "companies/define-pipeline",
        st.just("company"),
        _data(
            name=st.sampled_from(["sales", "special"]),
            stages=st.sampled_from([_stages("discovery", "pitch"), _stages("discovery")]),
        ),
    ),
    (
        "companies/set-time-zone",
        st.just("company"),
        _data(time_zone=st.sampled_from(["UTC", "Europe/Paris"])),
    ),
    ("leads/claim!", LEADS, _data()),
    ("leads/capture!", LEADS, _data()),
]
OFTEN = {
    "customers/register": 4,
    "leads/capture": 4,
    "opportunities/open": 5,
    "opportunities/identify-customer": 2,
    "leads/claim": 3,
    "leads/return": 3,
    "leads/qualify": 2,
    "leads/convert": 2,
}
WEIGHTED = [kind for kind in KINDS for _ in range(OFTEN.get(kind[0], 1))]
VERSIONS = st.one_of(st.none(), st.none(), st.none(), st.just("right"), st.integers(0, 3))
KEYS = st.one_of(st.none(), st.none(), st.none(), st.sampled_from(["k1", "k2"]), st.just("\0"))


@st.composite
def _asked(draw: st.DrawFn) -> Asked:
    name, of, data = draw(st.sampled_from(WEIGHTED))
    where = draw(ANYTHING) if draw(st.integers(0, 11)) == 0 else draw(of)
    return Asked(name, where, draw(data), draw(REPS), draw(KEYS), draw(VERSIONS))


REPEATS = st.builds(Repeated, nth=st.integers(0, 30), if_match=VERSIONS)
CALLS = st.lists(st.one_of(*[_asked()] * 5, REPEATS), max_size=7)
DEATHS = st.sampled_from([*[None] * 6, "before", "after"])
STEPS = st.builds(
    Step, first=CALLS, second=CALLS, deaths=st.tuples(DEATHS, DEATHS), depth=st.integers(0, 2)
)
HISTORIES = st.lists(STEPS, min_size=1, max_size=4)


class Example:
    """One history, told to two writers; its streams and keys are its own, but for the company."""

    def __init__(
        self, url: str, writers: Sequence[Writer], fates: Sequence[Fate], *, started: bool = False
    ) -> None:
        self.writers = writers
        self.started = started
        self.fates = fates
        self.prefix = f"{uuid4()} "
        self.made: list[tuple[Asked, str]] = []
        self.told: list[Told] = []
        self.calls = 0
        self._space = uuid5(NAMESPACE_OID, self.prefix)
        self._conns = [ledger.connect(url) for _ in writers]
        self.since = ledger.head(self._conns[0])

    def close(self) -> None:
        for conn in self._conns:
            conn.close()

    def call(self, which: int, requests: list[Request]) -> None:
        """Let one of the writers handle these in one group."""
        self.calls += 1
        call = self.calls
        conn = self._conns[which]
        began = ledger.head(conn)
        writer = self.writers[which]
        answers = in_flight(writer, requests) if self.started else handle(writer, requests)
        ended = ledger.head(conn)
        assert len(answers) == len(requests)
        for asked, answer in zip(requests, answers, strict=True):
            self.told.append(Told(call, asked, answer, began, ended))

    def requests(self, items: list[Asked | Repeated]) -> list[Request]:
        made = []
        for item in items:
            if isinstance(item, Asked):
                key = self.prefix + (str(uuid4()) if item.key in (None, "\0") else str(item.key))
                asked, key = item, key + ("\0" if item.key == "\0" else "")
                self.made.append((asked, key))
            elif self.made:
                asked, key = self.made[item.nth % len(self.made)]
                asked = asked._replace(if_match=item.if_match)
            else:
                continue
            made.append(self._request(asked, key))
        return made

    def check(self) -> None:
        History(self._conns[0], Keyring(MASTER), self.since, self.prefix, self.told).check()

    def _id(self, label: str) -> UUID:
        return COMPANY if label == "company" else uuid5(self._space, label)

    def _request(self, asked: Asked, key: str) -> Request:
        of = self._id(asked.of)
        data = {
            name: self._id(value) if name.endswith("_id") else value
            for name, value in asked.data.items()
        }
        version = asked.if_match
        if version == "right":
            rows = ledger.read_streams(self._conns[0], [of])
            version = len(rows)
        rest: dict[str, Any] = {"by": asked.by, "key": key, "if_match": version}
        if asked.name == "leads/claim!":
            return failing_claim(of, **rest)
        if asked.name == "leads/capture!":
            return failing_capture(of, **rest)
        return request(asked.name, data, of=of, **rest)


def in_flight(writer: Writer, requests: list[Request]) -> list[Answer]:
    """The answers of a started writer, to which each request came by itself."""

    async def all_at_once() -> list[Answer]:
        handled = await asyncio.gather(*[writer.submit([asked]) for asked in requests])
        return [render(outcome) for [outcome] in handled]

    return asyncio.run(all_at_once())


@contextmanager
def two_writers(
    url: str, remembered: int, *, started: bool = False
) -> Iterator[tuple[list[Writer], list[Fate]]]:
    fates = [Fate(), Fate()]
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                writer_on(url, connect=fragile(url, fate), remembered=remembered, started=started)
            )
            for fate in fates
        ]
        yield writers, fates


def many() -> Any:
    return settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # shrinking would repeat what depends on the threads' timing
        suppress_health_check=list(HealthCheck),
    )


def assert_whole(url: str) -> None:
    """The ledger of all examples together has no hole, and no key has two outcomes."""
    events = events_of(url)
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    with ledger.connect(url) as conn:
        keys = Counter(conn.execute("SELECT actor, key FROM ledger.outcomes").fetchall())
    assert keys
    assert set(keys.values()) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("remembered", REMEMBERED)
def test_two_writers_at_once_leave_one_serial_order(
    ledger_url: str, remembered: int, started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if started:
        monkeypatch.setattr(writing, "GROUP", 2)  # so that one group waits while another commits
    with two_writers(ledger_url, remembered, started=started) as (writers, fates):

        @many()
        @given(HISTORIES)
        def happen(history: list[Step]) -> None:
            example = Example(ledger_url, writers, fates, started=started)
            try:
                for step in history:
                    calls = [example.requests(step.first), example.requests(step.second)]
                    for fate, death in zip(fates, step.deaths, strict=True):
                        fate.deaths.append(death)
                    run_both(example, calls)
                    for fate in fates:
                        fate.deaths.clear()
                example.check()
            finally:
                example.close()

        happen()
    assert_whole(ledger_url)


def run_both(example: Example, calls: list[list[Request]]) -> None:
    ready = threading.Barrier(2)
    errors: list[BaseException] = []

    def run(which: int) -> None:
        ready.wait()
        try:
            example.call(which, calls[which])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("remembered", REMEMBERED)
def test_a_writer_that_comes_between_makes_no_answer_false(
    ledger_url: str, remembered: int
) -> None:
    with two_writers(ledger_url, remembered) as (writers, fates):

        @many()
        @given(HISTORIES)
        def happen(history: list[Step]) -> None:
            example = Example(ledger_url, writers, fates)
            first = fates[0]
            try:
                for step in history:
                    first_call = example.requests(step.first)
                    second_call = example.requests(step.second)
                    for fate, death in zip(fates, step.deaths, strict=True):
                        fate.deaths.append(death)
                    first.meanwhile.extend([lambda: None] * step.depth)
                    first.meanwhile.append(lambda call=second_call: example.call(1, call))
                    example.call(0, first_call)
                    while first.meanwhile:
                        first.meanwhile.popleft()()
                    for fate in fates:
                        fate.deaths.clear()
                example.check()
            finally:
                first.meanwhile.clear()
                example.close()

        happen()
    assert_whole(ledger_url)


@pytest.mark.parametrize("remembered", REMEMBERED)
def test_a_missing_customer_is_no_evidence_after_it_was_registered(
    ledger_url: str, remembered: int
) -> None:
    customer, deal = uuid4(), uuid4()
    with writer_on(ledger_url, remembered=remembered) as writer:
        claimed, opened, registered = handle(
            writer,
            [
                request("customers/claim", of=customer),
                request("opportunities/open", {"title": "x", "customer_id": customer}, of=deal),
                register(customer),
            ],
        )
    assert claimed.status == 404
    assert registered.status == 201
    if opened.status == 409:
        assert opened.body["position"] < registered.body["position"]


@pytest.mark.parametrize("remembered", REMEMBERED)
def test_settings_left_as_they_were_do_not_stand_in_the_way(
    ledger_url: str, remembered: int
) -> None:
    customer = uuid4()
    with (
        writer_on(ledger_url, remembered=remembered) as one,
        writer_on(ledger_url, remembered=remembered) as other,
    ):
        same_zone = request("companies/set-time-zone", {"time_zone": "UTC"}, of=COMPANY)
        assert tell(one, same_zone).status == 200
        assert tell(other, register(customer)).status == 201
        assert tell(one, register(customer)).status == 409
        assert tell(one, capture(uuid4())).status == 201


@pytest.mark.parametrize("begin", [register, capture])
def test_nobody_else_moves_in_where_the_company_lives(
    ledger_url: str, begin: Callable[[UUID], Request]
) -> None:
    zone = request("companies/set-time-zone", {"time_zone": "Europe/Paris"}, of=COMPANY)
    with writer_on(ledger_url) as writer:
        answer = tell(writer, begin(COMPANY))
        assert (answer.status, answer.body["rule"]) == (409, "IdTaken")
        assert tell(writer, zone).status == 200
        assert tell(writer, request("opportunities/open", {"title": "Looms"})).status == 201


def test_a_writer_told_to_remember_nothing_keeps_no_stream_between_groups(ledger_url: str) -> None:
    lead = uuid4()
    with writer_on(ledger_url, remembered=0) as writer:
        assert [answer.status for answer in handle(writer, [capture(lead), claim(lead)])] == [
            201,
            200,
        ]
        assert not writer._decider._memory.known


def test_a_reference_waits_for_the_customer_that_the_same_call_registers(ledger_url: str) -> None:
    customer, deal = uuid4(), uuid4()
    with writer_on(ledger_url) as writer:
        answers = handle(
            writer,
            [
                register(customer),
                request("opportunities/open", {"title": "x", "customer_id": customer}, of=deal),
                request("opportunities/win", of=deal),
                request("customers/claim", of=customer),
            ],
        )
    assert [answer.status for answer in answers] == [201, 201, 200, 200]


def test_later_commands_of_a_stream_are_decided_again_when_an_earlier_one_lost(
    ledger_url: str,
) -> None:
    lead = uuid4()
    fate = Fate()
    with (
        writer_on(ledger_url, connect=fragile(ledger_url, fate)) as one,
        writer_on(ledger_url) as other,
    ):
        tell(one, capture(lead))
        fate.meanwhile.append(lambda: assert_claimed(other, lead))
        answers = handle(
            one,
            [
                claim(lead, by="ada"),
                request("leads/qualify", of=lead, by="ada"),
                request("leads/return", {"reason": "no time"}, of=lead, by="bob"),
            ],
        )
    assert [answer.status for answer in answers] == [409, 200, 200]
    assert types_of(ledger_url, lead) == [
        "lead.captured",
        "lead.claimed",
        "lead.qualified",
        "lead.returned",
    ]


def test_a_command_that_lost_leaves_none_of_its_events_to_the_next_one(ledger_url: str) -> None:
    contested, calm = uuid4(), uuid4()
    fate = Fate()
    with (
        writer_on(ledger_url, connect=fragile(ledger_url, fate)) as one,
        writer_on(ledger_url) as other,
    ):
        handle(one, [capture(contested), capture(calm)])
        fate.meanwhile.append(lambda: assert_claimed(other, contested))
        answers = handle(
            one,
            [
                request("leads/return", {"reason": "no time"}, of=contested),
                claim(contested),
                request("leads/disqualify", {"reason": "gone"}, of=calm),
            ],
        )
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert types_of(ledger_url, calm) == ["lead.captured", "lead.disqualified"]
    assert types_of(ledger_url, contested) == [
        "lead.captured",
        "lead.claimed",
        "lead.returned",
        "lead.claimed",
    ]


def test_what_follows_a_repeat_is_not_decided_on_what_the_repeat_would_have_done(
    ledger_url: str,
) -> None:
    lead = uuid4()
    fate = Fate()
    with (
        writer_on(ledger_url, connect=fragile(ledger_url, fate)) as one,
        writer_on(ledger_url) as other,
    ):
        tell(one, capture(lead))

        def bob_is_first() -> None:
            assert_claimed(other, lead)
            assert tell(other, claim(lead, by="ada", key="late")).status == 409

        fate.meanwhile.append(bob_is_first)
        answers = handle(
            one,
            [
                claim(lead, by="ada", key="late"),
                request("leads/return", {"reason": "no time"}, of=lead),
            ],
        )
    assert [answer.status for answer in answers] == [409, 200]
    returned = events_of(ledger_url, lead)[-1].event
    assert returned == LeadReturned(previous_owner="bob", reason="no time")


@pytest.mark.parametrize("remembered", REMEMBERED)
def test_a_customer_registered_meanwhile_is_not_missed(ledger_url: str, remembered: int) -> None:
    customer, deal = uuid4(), uuid4()
    fate = Fate()
    with (
        writer_on(ledger_url, connect=fragile(ledger_url, fate), remembered=remembered) as one,
        writer_on(ledger_url) as other,
    ):
        fate.meanwhile.append(lambda: tell(other, register(customer)))
        opened = tell(
            one, request("opportunities/open", {"title": "x", "customer_id": customer}, of=deal)
        )
    assert opened.status == 201


def assert_claimed(writer: Writer, lead: UUID) -> None:
    assert tell(writer, claim(lead, by="bob")).status == 200
