"""Every list as of a past moment: facts, replay and the 360 degree view must agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, NamedTuple, get_args
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from events.company import COMPANY
from events.customer import CustomerRegistered, PromiseMade
from events.envelope import Recorded
from events.lead import LeadCaptured
from events.opportunity import OpportunityOpened
from events.payment import CreditNoteIssued, PaymentReceived
from projections import customers as customers_
from projections import interactions, leads, opportunities, orders, payments, promises, tickets
from projections.asking.clocks import Moment
from projections.asking.listing import AskedAt
from projections.asking.past import past
from projections.asking.then import EVERY
from projections.asking.view import Caller, View
from projections.catalog import MODELS
from projections.customers_then import SAID
from projections.engine.model import ReadModel
from projections.engine.tables import Rows, Table
from read_api.answers import as_json
from tests.events.examples import events_of
from tests.projections.conftest import NewWorld
from tests.projections.world import World, day, eur

CUSTOMERS = [UUID(int=n) for n in (11, 12, 13)]
CONTACTS = [UUID(int=n) for n in (21, 22)]
LEADS = [UUID(int=n) for n in (31, 32)]
DEALS = [UUID(int=n) for n in (41, 42)]
ORDERS = [UUID(int=n) for n in (51, 52)]
PAYMENTS = [UUID(int=n) for n in (61, 62)]
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = [UUID(int=n) for n in (71, 72)]
TICKETS = [UUID(int=n) for n in (81,)]
STREAMS = [*CUSTOMERS, *LEADS, *DEALS, *ORDERS, *PAYMENTS, *TICKETS]
LISTS: tuple[Any, ...] = (
    *(leads.LIST, opportunities.LIST, orders.LIST, payments.LIST),
    *(interactions.LIST, promises.LIST, tickets.LIST),
)
MAIL = "x@example.com"

moments = st.integers(0, 24 * 8).map(lambda hours: (FIRST + timedelta(hours=hours)).isoformat())
words = st.sampled_from(["ada", "ben"])
mails = st.sampled_from([None, MAIL, "y@example.com"])
sums = st.sampled_from(["1", "2", "3"]).map(eur)
maybe = st.none() | sums
regions = st.sampled_from([None, "north", "south"])


def asked(command: str, streams: list[UUID], **data: Any) -> st.SearchStrategy[Any]:
    fixed = {
        name: v if isinstance(v, st.SearchStrategy) else st.just(v) for name, v in data.items()
    }
    given_ = st.fixed_dictionaries(fixed)
    return st.tuples(
        st.just(command),
        st.sampled_from(streams),
        moments,
        given_.map(lambda data: {name: v for name, v in data.items() if v is not None}),
    )


def allocation(order: UUID, amount: dict[str, str]) -> dict[str, Any]:
    return {"order_id": order, "amount": amount}


customers, an_order = st.sampled_from(CUSTOMERS), st.sampled_from(ORDERS)
a_promise = st.sampled_from(WORDS)
contacts = st.sampled_from(CONTACTS)
details = {"name": words, "email": mails, "region": regions}
reason = {"reason": "so"}
BEGINNINGS = st.tuples(
    asked("customers/register", CUSTOMERS[:1], **details, owner=st.none() | words),
    asked("customers/register", CUSTOMERS[1:2], name="Bea", annual_revenue=maybe),
    asked("leads/capture", LEADS[:1], **details, owner=st.none() | words),
    asked("opportunities/open", DEALS[:1], title="Looms", customer_id=customers, amount=maybe),
    asked("orders/place", ORDERS[:1], customer_id=st.just(CUSTOMERS[1]), amount=eur("9")),
    asked("payments/receive", PAYMENTS[:1], customer_id=st.just(CUSTOMERS[0]), amount=eur("9")),
)
MORE = st.one_of(
    asked("customers/register", CUSTOMERS[2:], name="Cy"),
    asked("customers/change-details", CUSTOMERS, **details, employees=st.integers(1, 3)),
    asked("customers/add-contact", CUSTOMERS, contact_id=contacts, name="Kay", email=mails),
    asked("customers/change-contact", CUSTOMERS, contact_id=contacts, email=mails, role="buyer"),
    asked("customers/remove-contact", CUSTOMERS, contact_id=contacts),
    asked("customers/claim", CUSTOMERS),
    asked("customers/release", CUSTOMERS, **reason),
    asked("customers/hand-over", CUSTOMERS, owner=words),
    asked("customers/tag", CUSTOMERS, tag=st.sampled_from(["vip", "late"])),
    asked("customers/untag", CUSTOMERS, tag=st.sampled_from(["vip", "late"])),
    asked("customers/log-interaction", CUSTOMERS, channel="call", summary="-"),
    asked("leads/capture", LEADS[1:], **details),
    asked("leads/change-details", LEADS, **details, need=st.none() | words),
    asked("leads/claim", LEADS),
    asked("leads/return", LEADS, **reason),
    asked("leads/hand-over", LEADS, owner=words),
    asked("leads/qualify", LEADS, budget=maybe, note=st.none() | words),
    asked("leads/disqualify", LEADS, **reason, note=st.none() | words),
    asked("leads/reopen", LEADS, **reason),
    asked("leads/convert", LEADS, customer_id=customers),
    asked("opportunities/open", DEALS[1:], title="Pumps", expected_close="2026-02-01"),
    asked("opportunities/change-details", DEALS, title=words, amount=maybe),
    asked("opportunities/hand-over", DEALS, owner=words),
    asked("opportunities/identify-customer", DEALS, customer_id=customers),
    asked("opportunities/move-stage", DEALS, stage=st.sampled_from(["proposal", "intent"])),
    asked("opportunities/win", DEALS, amount=maybe),
    asked("opportunities/lose", DEALS, reason="price", comment=st.none() | words),
    asked("opportunities/reopen", DEALS, **reason),
    asked("orders/place", ORDERS[1:], customer_id=customers, amount=eur("5")),
    asked(
        "payments/receive",
        PAYMENTS[1:],
        customer_id=customers,
        amount=eur("5"),
        kind=st.sampled_from(["money", "credit-note"]),
    ),
    asked(
        "payments/allocate",
        PAYMENTS,
        allocations=st.builds(allocation, an_order, sums).map(lambda one: [one]),
    ),
    asked("payments/release", PAYMENTS, order_id=an_order, amount=sums),
    asked("payments/refund", PAYMENTS, order_id=st.none() | an_order, amount=sums),
    asked("orders/ship", ORDERS),
    asked("orders/cancel", ORDERS, **reason),
    asked("customers/make-promise", CUSTOMERS, promise_id=a_promise, what="-", topic=words),
    asked("customers/hand-over-promise", CUSTOMERS, promise_id=a_promise, owner=words),
    asked("customers/keep-promise", CUSTOMERS, promise_id=a_promise, note=st.none() | words),
    asked("customers/break-promise", CUSTOMERS, promise_id=a_promise, **reason),
    asked("tickets/open", TICKETS, channel="call", subject="-", customer_id=st.none() | customers),
    asked("tickets/identify-customer", TICKETS, customer_id=customers),
    asked("tickets/wait", TICKETS, **reason),
    asked("tickets/resolve", TICKETS, text="-"),
    asked("tickets/reopen", TICKETS, **reason),
)
HISTORIES = st.builds(
    lambda begun, more: [*begun, *more], BEGINNINGS, st.lists(MORE, min_size=15, max_size=40)
)


class Clocks(NamedTuple):
    """Both clocks of a question; the position as events back from the last one."""

    as_of: str | None
    back: int | None

    def params(self, head: int) -> dict[str, Any]:
        known_at = None if self.back is None else max(head - self.back, 0)
        return {n: v for n, v in (("as_of", self.as_of), ("known_at", known_at)) if v is not None}


clocks = st.builds(
    Clocks,
    st.none() | moments.map(lambda text: text.replace("+00:00", "Z")),
    st.none() | st.integers(0, 20),
)
_numbers = count(1)


def moved(value: Any, by: int) -> Any:
    """The same with other ids: each history has its own."""
    match value:
        case UUID():
            return UUID(int=value.int + by)
        case dict():
            return {name: moved(one, by) for name, one in value.items()}
        case list():
            return [moved(one, by) for one in value]
    return value


@contextmanager
def replayed(company: World, streams: list[UUID], params: dict[str, Any]) -> Iterator[View]:
    """Inside, the tables hold a replay of what counts of these streams' events."""
    asked_at = AskedAt(**{name: str(value) for name, value in params.items()})
    with (
        company.reader.view(Caller("ada"), MODELS, asked_at, past=True) as view,
        past(view.conn, company.reader.keyring, MODELS, streams, view.when, COMPANY),
    ):
        when = view.when
        yield replace(view, when=Moment(None, None, when.now, when.today, when.zone))


def without_name(items: list[Any]) -> list[Any]:
    """The items without their customer's name: a replay of streams does not know them all."""
    return [
        {name: one and one["id"] if name == "customer" else one for name, one in item.items()}
        for item in items
    ]


def ours(items: list[Any], streams: list[UUID]) -> list[Any]:
    return [
        item
        for item in items
        if UUID(item["id"] if "what" not in item and "id" in item else item["customer"]["id"])
        in streams
    ]


def check(company: World, streams: list[UUID], params: dict[str, Any]) -> None:
    """Each list is what a replay of the selected events gives, whatever it is filtered by."""
    shown = {one.path: company.get(one.path, limit=1000, **params)["items"] for one in LISTS}
    with replayed(company, streams, params) as view:
        for one in LISTS:
            again = one.rows(view.conn, view.when, one.asks(limit=1000))[0]
            replay = orjson.loads(as_json(again).body)
            assert without_name(ours(shown[one.path], streams)) == without_name(replay), one.path
    listed = company.get("/customers", limit=1000, **params)["items"]
    of_mail = company.get("/customers", email=MAIL, **params)["items"]
    names = {}
    for customer in streams[: len(CUSTOMERS)]:
        answer = company.ask(f"/customers/{customer}", **params)
        record = [item for item in listed if item["id"] == str(customer)]
        if answer.status_code == 404:
            assert record == []
            continue
        view_of_it = answer.json()
        assert record == [{name: view_of_it[name] for name in record[0]}]
        names[view_of_it["id"]] = view_of_it["name"]
        reached = MAIL in (one["email"] for one in (view_of_it, *view_of_it["contacts"]))
        assert reached == (str(customer) in {item["id"] for item in of_mail})
    for items in shown.values():
        for item in ours(items, streams):
            customer_ = item.get("customer")
            if customer_ is not None and customer_["id"] in names:
                assert customer_["name"] == names[customer_["id"]]


PASTS: tuple[tuple[ReadModel, Table[Any], Any, Any], ...] = (
    (customers_.MODEL, customers_.CUSTOMERS, SAID, CustomerRegistered),
    (leads.MODEL, leads.LEADS, leads.SAID, LeadCaptured),
    (opportunities.MODEL, opportunities.OPPORTUNITIES, opportunities.SAID, OpportunityOpened),
    (payments.MODEL, payments.PAYMENTS, payments.SAID, PaymentReceived | CreditNoteIssued),
    (promises.MODEL, promises.PROMISES, promises.SAID, PromiseMade),
)


@pytest.mark.parametrize(
    ("model", "table", "said", "first"), PASTS, ids=[past[1].name for past in PASTS]
)
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)
@given(data=st.data())
def test_every_column_that_an_event_changes_is_made_of_facts(
    data: st.DataObject, model: ReadModel, table: Table[Any], said: Any, first: Any
) -> None:
    for event_type in get_args(model.events):
        event = data.draw(events_of(event_type))
        if isinstance(event, first):
            continue
        name, at, nobody = event.event_type, FIRST, UUID(int=8)
        of = (at, at, "ada", "user", nobody, nobody, None, name, 1, event)
        rows = Rows(model.tables)
        model.apply(rows, Recorded(7, nobody, name.partition(".")[0], UUID(int=7), 2, *of))
        blank = table.row(*table.key)
        changed = {
            column
            for column in {*table.columns} - {*table.key, "tags"}  # a list, for which there is SQL
            if rows.values(f"{table.name}.{column}") - {getattr(blank, column)}
        }
        assert changed <= {*said, *EVERY}, name


@pytest.fixture(scope="module")
def company(new_world: NewWorld) -> Iterator[World]:
    """One company for all histories."""
    with new_world() as made:
        yield made


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(history=HISTORIES, asked_at=st.lists(clocks, min_size=2, max_size=2))
def test_every_list_as_of_a_moment_is_a_replay_of_the_events_that_count(
    company: World, history: list[Any], asked_at: list[Clocks]
) -> None:
    by = 1000 * next(_numbers)
    for command, stream, at, data in history:
        status = company.try_(command, moved(stream, by), at, **moved(data, by))
        assert status < 500, company.answer.body
    company.project()
    head = company.head()
    streams = [moved(one, by) for one in STREAMS]
    check(company, streams, {})
    for one in asked_at:
        check(company, streams, one.params(head))


def test_a_customer_of_whom_anything_had_happened_is_in_the_list(company: World) -> None:
    ann, order = UUID(int=101), UUID(int=102)
    before = company.do("customers/register", ann, day("2011-02-17"), name="Ann", owner="ada")
    company.do("orders/place", order, day("2009-05-01"), customer_id=ann, amount=eur("10"))
    company.project()
    [shown] = company.get("/customers", as_of="2010-06-30", name="ann", owner="ada")["items"]
    assert shown == {n: company.get(f"/customers/{ann}", as_of="2010-06-30")[n] for n in shown}
    assert shown["name"] == "Ann"
    assert company.get("/customers", as_of="2010-06-30", known_at=before)["items"] == []
    assert company.get("/customers", as_of="2009-04-30")["items"] == []


def test_what_is_known_later_of_whose_a_lead_is_changes_nothing_known_before(
    company: World,
) -> None:
    ann, lead = UUID(int=103), UUID(int=104)
    company.do("leads/capture", lead, day("2008-01-01"), name="Ann")
    company.do("leads/claim", lead, day("2008-01-01"))
    company.do("leads/qualify", lead, day("2008-01-01"))
    known = company.do("customers/register", ann, day("2008-06-01"), name="Ann")
    company.project()
    then = {"as_of": "2008-03-01", "known_at": known}
    assert company.ask(f"/customers/{ann}", **then).status_code == 404
    company.do("leads/convert", lead, day("2008-02-01"), customer_id=ann)
    company.project()
    assert company.ask(f"/customers/{ann}", **then).status_code == 404
    assert company.ask(f"/customers/{ann}", as_of="2008-03-01").status_code == 200
