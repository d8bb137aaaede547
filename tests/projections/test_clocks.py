"""Two clocks: when it happened, and when we knew. Fact tables, replay and an oracle must agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from events.base import Event
from events.company import COMPANY
from events.customer import PromiseBroken, PromiseKept, PromiseMade, PromiseWithdrawn
from events.envelope import Recorded
from events.opportunity import (
    OpportunityLost,
    OpportunityOpened,
    OpportunityReopened,
    OpportunityWon,
    QuoteGiven,
    StageMoved,
)
from events.values import Money
from projections import funnel, promises
from projections.asking.clocks import Moment
from projections.asking.listing import AskedAt
from projections.asking.pages import MAX_LIMIT
from projections.asking.past import past
from projections.asking.view import Caller, View
from projections.catalog import MODELS
from projections.engine.sums import fill
from projections.funnel import AskFunnel
from projections.promises import AskPromises
from read_api.answers import as_json
from tests.projections.conftest import NewWorld
from tests.projections.world import World, day, eur, instant

ANN, BEN = UUID(int=101), UUID(int=102)
LEADS = UUID(int=11), UUID(int=12)
DEALS = UUID(int=21), UUID(int=22), UUID(int=23)
WORDS = UUID(int=31), UUID(int=32), UUID(int=33)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = 24 * 12
REGISTERED = 2
"""The position from which on both customers are known."""

customers = st.sampled_from([ANN, BEN])
deals = st.sampled_from(DEALS)
words = st.sampled_from(WORDS)
amounts = st.none() | st.builds(
    lambda amount, currency: {"amount": f"{amount}.50", "currency": currency},
    st.integers(0, 3),
    st.sampled_from(["EUR", "USD"]),
)
some_day = st.builds(lambda n: (FIRST + timedelta(days=n)).date().isoformat(), st.integers(0, 12))
moments = st.integers(0, HOURS).map(lambda hours: (FIRST + timedelta(hours=hours)).isoformat())


def without_none(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value is not None}


def asked(command: str, stream: st.SearchStrategy[UUID], **data: Any) -> st.SearchStrategy[Any]:
    return st.tuples(
        st.just(command), stream, moments, st.fixed_dictionaries(data).map(without_none)
    )


HISTORIES = st.lists(
    st.one_of(
        asked(
            "customers/make-promise",
            customers,
            promise_id=words,
            what=st.just("a thing"),
            due=st.none() | some_day,
            topic=st.sampled_from([None, "price", "Price", "date"]),
            amount=amounts,
        ),
        asked("customers/keep-promise", customers, promise_id=words),
        asked("customers/break-promise", customers, promise_id=words, reason=st.just("late")),
        asked("customers/withdraw-promise", customers, promise_id=words, reason=st.just("moot")),
        asked(
            "customers/log-interaction", customers, channel=st.just("call"), summary=st.just("-")
        ),
        asked("customers/claim", customers),
        asked("customers/tag", customers, tag=st.sampled_from(["vip", "late"])),
        asked("customers/untag", customers, tag=st.sampled_from(["vip", "late"])),
        asked("leads/capture", st.sampled_from(LEADS), name=st.just("Grace Hopper")),
        asked("leads/claim", st.sampled_from(LEADS)),
        asked("leads/qualify", st.sampled_from(LEADS)),
        asked("leads/convert", st.sampled_from(LEADS), customer_id=customers),
        asked(
            "opportunities/open",
            deals,
            title=st.just("a deal"),
            customer_id=st.none() | customers,
            amount=amounts,
            pipeline=st.sampled_from(["sales", "contract"]),
        ),
        asked(
            "opportunities/move-stage",
            deals,
            stage=st.sampled_from(["discovery", "proposal", "intent", "negotiation"]),
        ),
        asked(
            "opportunities/quote",
            deals,
            lines=st.sampled_from(["7", "8"]).map(
                lambda price: [{"product": "p", "quantity": "1", "unit_price": eur(price)}]
            ),
        ),
        asked("opportunities/win", deals, amount=amounts),
        asked("opportunities/lose", deals, reason=st.just("price")),
        asked("opportunities/reopen", deals, reason=st.just("they called")),
        asked("opportunities/identify-customer", deals, customer_id=customers),
    ),
    min_size=4,
    max_size=40,
)


class Chosen(NamedTuple):
    """A question's two clocks."""

    as_of: datetime | None
    known_at: int | None

    def takes(self, recorded: Recorded) -> bool:
        before = self.as_of is None or recorded.occurred_at < self.as_of
        return before and (self.known_at is None or recorded.position <= self.known_at)

    def params(self) -> dict[str, Any]:
        named = {"as_of": self.as_of and self.as_of.isoformat().replace("+00:00", "Z")}
        return {k: v for k, v in {**named, "known_at": self.known_at}.items() if v is not None}


def begin(world: World) -> None:
    for customer in (ANN, BEN):
        world.do("customers/register", customer, day("2025-12-31"), name=f"customer {customer.int}")


def live(world: World, history: list[Any]) -> None:
    for command, stream, at, data in history:
        assert world.try_(command, stream, at, **data) < 500, world.answer.body


# The oracle: what a careful clerk would answer who has only the events.


def amount_in(event: Event) -> Money | None:
    if isinstance(event, OpportunityOpened | OpportunityWon):
        return event.amount
    return event.total if isinstance(event, QuoteGiven) else None


def by_stream(events: list[Recorded], chosen: Chosen) -> Iterator[list[Recorded]]:
    streams: dict[UUID, list[Recorded]] = defaultdict(list)
    for recorded in events:
        if chosen.takes(recorded):
            streams[recorded.stream_id].append(recorded)
    for mine in streams.values():
        yield sorted(mine, key=lambda recorded: recorded.version)


def funnel_of(events: list[Recorded], chosen: Chosen) -> dict[Any, Any]:
    stages: dict[Any, Any] = {}
    for mine in by_stream(events, chosen):
        facts = [recorded.event for recorded in mine]
        if not any(isinstance(fact, OpportunityOpened) for fact in facts):
            continue
        stage = kind = worth = None
        for fact in facts:
            match fact:
                case OpportunityOpened() | StageMoved() | OpportunityReopened():
                    stage, kind = fact.stage, "open"
                case OpportunityWon():
                    stage, kind = fact.stage, "won"
                case OpportunityLost():
                    stage, kind = fact.stage, "lost"
            worth = amount_in(fact) or worth
        found = stages.setdefault((stage, kind), {"count": 0, "amount": defaultdict(Decimal)})
        found["count"] += 1
        if worth is not None:
            found["amount"][worth.currency] += worth.amount
    return {name: {**found, "amount": dict(found["amount"])} for name, found in stages.items()}


def promises_of(events: list[Recorded], chosen: Chosen, today: date) -> list[Any]:
    found = []
    for mine in by_stream(events, chosen):
        facts = [(recorded, recorded.event) for recorded in mine]
        for recorded, made in facts:
            if not isinstance(made, PromiseMade):
                continue
            status = "open"
            for settled, fact in facts:
                if getattr(fact, "promise_id", None) == made.promise_id:
                    match fact:
                        case PromiseKept():
                            kept_on = settled.occurred_at.astimezone(UTC).date()
                            is_late = made.due is not None and made.due < kept_on
                            status = "kept-late" if is_late else "kept"
                        case PromiseBroken():
                            status = "broken"
                        case PromiseWithdrawn():
                            status = "withdrawn"
            found.append((recorded, made, status))
    found.sort(key=lambda item: (item[0].occurred_at, item[0].position))
    return [
        (
            recorded.stream_id,
            made.promise_id,
            status,
            status == "open" and made.due is not None and made.due < today,
            [
                other.promise_id
                for where, other, its_status in found
                if where.stream_id == recorded.stream_id
                and other is not made
                and its_status == status == "open"
                and None not in (other.topic, made.topic)
                and str(other.topic).lower() == str(made.topic).lower()
                and (other.amount, other.due) != (made.amount, made.due)
            ],
        )
        for recorded, made, status in found
    ]


def business_day(events: list[Recorded], chosen: Chosen) -> date:
    if chosen.as_of is not None:
        return (chosen.as_of - timedelta(microseconds=1)).date()
    if chosen.known_at is not None:
        return events[chosen.known_at - 1].recorded_at.date()
    return datetime.now(UTC).date()


def shown_funnel(stages: list[Any]) -> dict[Any, Any]:
    return {
        (stage["stage"], stage["kind"]): {
            "count": stage["count"],
            "amount": {m["currency"]: Decimal(m["amount"]) for m in stage["amount"]},
        }
        for stage in stages
        if stage["count"]
    }


def shown_promises(items: list[Any]) -> list[Any]:
    return [
        (
            UUID(item["customer"]["id"]),
            UUID(item["id"]),
            item["status"],
            item["overdue"],
            list(map(UUID, item["contradicts"])),
        )
        for item in items
    ]


@contextmanager
def replayed(world: World, chosen: Chosen) -> Iterator[View]:
    """Inside, the tables hold a replay of the chosen events of all streams."""
    streams = {recorded.stream_id for recorded in world.recorded()} | {COMPANY}
    params = {name: str(value) for name, value in chosen.params().items()}
    with (
        world.reader.view(Caller("ada"), (promises.MODEL,), AskedAt(**params), past=True) as view,
        past(view.conn, world.reader.keyring, MODELS, streams, view.when, COMPANY),
    ):
        for model in MODELS:  # every stream is there, so sums can be made
            fill(view.conn, model)
        yield replace(view, when=Moment(None, None, view.when.now, view.when.today))


def check(world: World, events: list[Recorded], chosen: Chosen) -> None:
    """Fact tables, replay and oracle say the same."""
    stages = world.get("/funnel", **chosen.params())["stages"]
    assert shown_funnel(stages) == funnel_of(events, chosen)
    items = world.get("/promises", limit=MAX_LIMIT, **chosen.params())["items"]
    today = business_day(events, chosen)
    assert shown_promises(items) == promises_of(events, chosen, today)
    with replayed(world, chosen) as view:
        every = AskPromises(limit=MAX_LIMIT)
        again = [
            funnel.funnel(view, AskFunnel()).stages,
            promises.LIST.rows(view.conn, view.when, every)[0],
        ]
    assert orjson.loads(as_json(again).body) == [stages, items]


for_histories = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink would take minutes
)


@pytest.mark.slow
@for_histories
@given(data=st.data(), history=HISTORIES)
def test_facts_and_replay_and_oracle_agree_at_every_moment(
    new_world: NewWorld, data: st.DataObject, history: list[Any]
) -> None:
    with new_world() as world:
        begin(world)
        live(world, history)
        world.project()
        events = world.recorded()
        positions = st.none() | st.integers(REGISTERED, len(events))
        instants = st.none() | moments.map(instant)
        check(world, events, Chosen(None, None))
        for chosen in data.draw(
            st.lists(st.builds(Chosen, instants, positions), min_size=3, max_size=5)
        ):
            check(world, events, chosen)


@pytest.mark.slow
@for_histories
@given(data=st.data(), before=HISTORIES, after=HISTORIES)
def test_what_was_known_then_is_told_in_the_same_bytes_for_ever(
    new_world: NewWorld, data: st.DataObject, before: list[Any], after: list[Any]
) -> None:
    with new_world() as world:
        begin(world)
        live(world, before)
        world.project()
        head = world.head()
        position = data.draw(st.integers(REGISTERED, head), label="known at")
        as_of = data.draw(st.none() | moments.map(instant), label="as of")
        clocks = Chosen(as_of, position).params()
        paths = ["/funnel", "/promises", f"/customers/{ANN}", f"/customers/{BEN}"]
        then = {path: world.ask(path, **clocks).content for path in paths}
        live(world, after)
        world.project()
        assert {path: world.ask(path, **clocks).content for path in paths} == then


def counts(world: World, **params: Any) -> dict[str, int]:
    stages = world.get("/funnel", **params)["stages"]
    return {stage["stage"]: stage["count"] for stage in stages if stage["count"]}


def test_a_late_entry_changes_what_is_known_now_and_not_what_was_known_then(
    company: World,
) -> None:
    deal = DEALS[0]
    company.do("opportunities/open", deal, day("2026-01-03"), title="a deal", amount=eur("10"))
    known = company.do("opportunities/move-stage", deal, day("2026-01-05"), stage="proposal")
    company.project()
    then = company.ask("/funnel", as_of="2026-01-10", known_at=known).content
    company.do("opportunities/win", deal, day("2026-01-07"))
    company.project()
    assert counts(company, as_of="2026-01-10") == {"won": 1}
    assert counts(company, as_of="2026-01-10", known_at=known) == {"proposal": 1}
    assert company.ask("/funnel", as_of="2026-01-10", known_at=known).content == then
    assert counts(company, as_of="2026-01-06") == {"proposal": 1}
    assert counts(company, as_of="2026-01-02") == {}


def test_a_day_is_included_and_an_instant_is_not(company: World) -> None:
    company.do("opportunities/open", DEALS[0], "2026-01-03T23:59:59.999999Z", title="a deal")
    company.do("opportunities/open", DEALS[1], "2026-01-04T00:00:00Z", title="a deal")
    company.project()
    assert counts(company, as_of="2026-01-03") == {"discovery": 1}
    assert counts(company, as_of="2026-01-04T00:00:00Z") == {"discovery": 1}
    assert counts(company, as_of="2026-01-04T00:00:00.000001Z") == {"discovery": 2}


def test_a_business_day_ends_when_it_ends_in_the_companys_zone(company: World) -> None:
    company.do("companies/set-time-zone", COMPANY, time_zone="Asia/Shanghai")
    company.do("opportunities/open", DEALS[0], "2026-01-03T15:59:59Z", title="a deal")
    company.do("opportunities/open", DEALS[1], "2026-01-03T16:00:00Z", title="a deal")
    company.project()
    assert counts(company, as_of="2026-01-03") == {"discovery": 1}


def test_known_at_may_be_a_time_of_recording(company: World) -> None:
    for deal in DEALS:
        company.do("opportunities/open", deal, day("2026-01-03"), title="a deal")
    company.project()
    second = company.recorded()[1].recorded_at
    just_after = second + timedelta(microseconds=1)
    for moment, known in ((second, 1), (just_after, 2)):
        text = moment.isoformat().replace("+00:00", "Z")
        answer = company.get("/funnel", known_at=text)
        assert answer["known_at"] == known
        assert shown_funnel(answer["stages"])[("discovery", "open")]["count"] == known


# What is told about a past moment must not depend on what was learnt since.


def test_a_pipeline_defined_anew_does_not_change_what_was_known(company: World) -> None:
    company.do("opportunities/open", DEALS[0], day("2026-01-03"), title="a deal")
    company.do("opportunities/open", DEALS[1], day("2026-01-03"), title="a deal")
    known = company.do("opportunities/move-stage", DEALS[1], day("2026-01-04"), stage="proposal")
    company.project()
    asked_for = [{}, {"pipeline": "sales"}, {"as_of": "2026-01-04", "pipeline": "sales"}]
    then = [company.ask("/funnel", known_at=known, **params).content for params in asked_for]
    company.do(
        "companies/define-pipeline",
        COMPANY,
        name="sales",
        stages=[
            {"name": "proposal", "kind": "open"},
            {"name": "demo", "kind": "open"},
            {"name": "discovery", "kind": "open"},
            {"name": "won", "kind": "won"},
            {"name": "lost", "kind": "lost"},
        ],
    )
    company.project()
    now = [company.ask("/funnel", known_at=known, **params).content for params in asked_for]
    assert now == then


def test_a_customer_renamed_does_not_change_what_was_known(company: World) -> None:
    company.do("customers/register", ANN, day("2026-01-02"), name="Ann")
    known = company.do(
        "customers/make-promise", ANN, day("2026-01-03"), promise_id=WORDS[0], what="a thing"
    )
    company.project()
    then = company.ask("/promises", known_at=known).content
    company.do("customers/change-details", ANN, day("2026-01-04"), name="Ann Ltd")
    company.project()
    assert company.ask("/promises", known_at=known).content == then


def test_another_time_zone_does_not_change_what_was_known(company: World) -> None:
    company.do("customers/register", ANN, day("2026-01-02"), name="Ann")
    known = 0
    for offset in (-1, 0, 1):
        due = (datetime.now(UTC) + timedelta(days=offset)).date().isoformat()
        word = WORDS[offset + 1]
        known = company.do("customers/make-promise", ANN, promise_id=word, what="a thing", due=due)
    company.project()
    paths = ["/promises", f"/customers/{ANN}"]
    then = [company.ask(path, known_at=known).content for path in paths]
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        company.do("companies/set-time-zone", COMPANY, time_zone=zone)
        company.project()
        assert [company.ask(path, known_at=known).content for path in paths] == then, zone
