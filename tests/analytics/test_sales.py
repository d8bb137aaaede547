"""Figures over deals, leads, tickets and receipts: worked examples, then any history."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise
from random import Random
from statistics import median
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from events.envelope import Recorded
from tests.projections.conftest import NewWorld
from tests.projections.world import World, day, eur

ANN, BEN = CUSTOMERS = [UUID(int=n) for n in (101, 102)]
DEALS = [UUID(int=400 + n) for n in range(6)]
BACK_TO_WORK = frozenset(
    f"ticket.{act}" for act in ("dispatched", "dispatch-confirmed", "escalated", "reopened")
)
LEADS = [UUID(int=500 + n) for n in range(5)]
TICKETS = [UUID(int=600 + n) for n in range(5)]
ORDERS = [UUID(int=700 + n) for n in range(4)]
FIRST_DAY = date(2026, 1, 1)
STAGES = ("intent", "negotiation", "purchase", "signed")


def registered(company: World) -> None:
    company.do(
        "customers/register", ANN, day("2025-12-01"), name="Ann", region="north", source="fair"
    )
    company.do("customers/register", BEN, day("2025-12-01"), name="Ben", region="south")
    company.do("customers/change-details", BEN, day("2025-12-05"), region="north")
    company.do("customers/change-details", ANN, day("2025-12-06"), region="south")


def opened(company: World, number: int, at: str, **more: Any) -> UUID:
    company.do(
        "opportunities/open", DEALS[number], day(at), title="Looms", pipeline="contract", **more
    )
    return DEALS[number]


def figures(company: World, path: str, **params: Any) -> Any:
    company.write_facts()
    return company.get(f"/analytics/{path}", **params)


def test_a_later_loss_takes_no_conversion_back(company: World) -> None:
    registered(company)
    for number in range(3):
        opened(company, number, "2026-01-10")
    company.do("opportunities/move-stage", DEALS[0], day("2026-01-20"), stage="negotiation")
    company.do("opportunities/move-stage", DEALS[1], day("2026-02-10"), stage="purchase")
    january = {"from": "2026-01-01", "to": "2026-02-01", "pipeline": "contract"}
    before = figures(company, "deals/conversion", **january)["items"][0]
    assert (before["stage"], before["next_stage"]) == ("intent", "negotiation")
    assert (before["entered"], before["converted"], before["advanced"]) == (3, 1, 2)
    assert before["conversion"] == 0.333333
    assert (before["days_mean"], before["days_median"]) == (10.0, 10.0)
    company.do("opportunities/lose", DEALS[0], day("2026-03-01"), reason="price")
    assert figures(company, "deals/conversion", **january)["items"][0] == before
    [first, *_] = figures(company, "deals/conversion", **january, as_of="2026-01-15")["items"]
    assert (first["entered"], first["converted"]) == (3, 0)


def test_deals_stand_close_and_get_stuck(company: World) -> None:
    registered(company)
    opened(company, 0, "2026-01-01", owner="bo", amount=eur("100"), customer_id=ANN)
    opened(company, 1, "2026-01-01", owner="bo", amount=eur("50"), customer_id=BEN)
    opened(company, 2, "2026-01-01", owner="cy", expected_close="2026-02-01", amount=eur("10"))
    opened(company, 3, "2026-01-05", owner="cy")
    company.do("opportunities/win", DEALS[0], day("2026-01-11"))
    company.do("opportunities/lose", DEALS[1], day("2026-01-21"), reason="price")
    company.do("opportunities/move-stage", DEALS[3], day("2026-03-01"), stage="purchase")
    league = figures(company, "deals/closings")["items"]
    assert [(g["group"], g["won"], g["lost"], g["win_rate"]) for g in league] == [
        ("bo", 1, 1, 0.5),
    ]
    assert league[0]["amount"] == eur("100.00")
    assert (league[0]["won_days_mean"], league[0]["lost_days_median"]) == (10.0, 20.0)
    by_reason = figures(company, "deals/closings", by="reason")["items"]
    assert {g["group"]: (g["won"], g["lost"]) for g in by_reason} == {None: (1, 0), "price": (0, 1)}
    by_region = figures(company, "deals/closings", by="region", region="south")["items"]
    assert [(g["group"], g["won"], g["lost"]) for g in by_region] == [("south", 1, 0)]
    by_stage = figures(company, "deals/open", as_of="2026-03-10")["items"]
    assert [(g["group"], g["deals"], g["overdue"]) for g in by_stage] == [
        ("intent", 1, 1),
        ("purchase", 1, 0),
    ]
    assert by_stage[0]["weighted"] == eur("1.00")
    quarters = figures(company, "deals/open", by="quarter")["items"]
    assert [g["group"] for g in quarters] == ["2026-Q1", None]
    stuck = figures(company, "deals", kind="open", idle_days=30, as_of="2026-03-10")
    assert [item["id"] for item in stuck["items"]] == [str(DEALS[2])]
    assert stuck["items"][0]["days_in_stage"] == stuck["items"][0]["idle_days"] > 68
    times = figures(company, "deals/stages", pipeline="contract", as_of="2026-03-10")["items"]
    assert [(t["stage"], t["stays"], t["standing"]) for t in times] == [
        ("intent", 3, 1),
        ("negotiation", 0, 0),
        ("purchase", 0, 1),
    ]
    strange = company.ask("/analytics/deals/open", pipeline="none")
    assert strange.status_code == 422
    assert "contract, sales" in strange.json()["detail"]


def test_a_reopened_deal_is_lost_no_more_and_was_lost_then(company: World) -> None:
    opened(company, 0, "2026-01-01", owner="bo")
    company.do("opportunities/lose", DEALS[0], day("2026-01-11"), reason="price")
    company.do("opportunities/reopen", DEALS[0], day("2026-02-01"), reason="new budget")
    assert figures(company, "deals/closings")["items"] == []
    [then] = figures(company, "deals/closings", as_of="2026-01-31")["items"]
    assert (then["lost"], then["loss_rate"]) == (1, 1.0)
    company.do("opportunities/win", DEALS[0], day("2026-02-11"))
    [won] = figures(company, "deals/closings", by="reason")["items"]
    assert (won["group"], won["won"]) == (None, 1)
    assert figures(company, "deals", reason="price")["items"] == []


def test_leads_by_source(company: World) -> None:
    for number, source in enumerate(("fair", "fair", "web", None)):
        given = {} if source is None else {"source": source}
        company.do("leads/capture", LEADS[number], day("2026-01-01"), name="Lea", **given)
    for number in (0, 2):
        company.do("leads/claim", LEADS[number], day("2026-01-02"))
        company.do("leads/qualify", LEADS[number], day("2026-01-03"))
    company.do("leads/convert", LEADS[0], day("2026-01-05"))
    company.do("leads/disqualify", LEADS[2], day("2026-01-06"), reason="no budget")
    found = {g["group"]: g for g in figures(company, "leads")["items"]}
    assert {
        name: (g["leads"], g["converted"], g["disqualified"], g["open"])
        for name, g in found.items()
    } == {
        "fair": (2, 1, 0, 1),
        "web": (1, 0, 1, 0),
        None: (1, 0, 0, 1),
    }
    assert (found["fair"]["conversion"], found["fair"]["days_mean"]) == (0.5, 4.0)
    assert found["web"]["days_mean"] is None


def test_what_was_due_and_what_came_in(company: World) -> None:
    registered(company)
    company.do("orders/place", ORDERS[0], day("2026-01-10"), customer_id=ANN, amount=eur("100"))
    plan = [
        {"due": "2026-02-01", "amount": eur("60")},
        {"due": "2026-04-01", "amount": eur("40")},
    ]
    company.do("orders/plan-payments", ORDERS[0], day("2026-01-10"), instalments=plan)
    company.do("orders/place", ORDERS[1], day("2026-02-15"), customer_id=BEN, amount=eur("10"))
    company.do("orders/place", ORDERS[2], day("2026-02-16"), customer_id=BEN, amount=eur("99"))
    company.do("orders/cancel", ORDERS[2], day("2026-02-17"), reason="too dear")
    company.do(
        "payments/receive", UUID(int=801), day("2026-02-20"), customer_id=ANN, amount=eur("50")
    )
    company.do("payments/refund", UUID(int=801), day("2026-03-02"), amount=eur("5"))
    company.do("orders/return", ORDERS[0], day("2026-03-05"), amount=eur("15"), reason="torn")
    found = figures(company, "receipts")["items"]
    assert [
        tuple(month[name]["amount"] for name in ("due", "received", "refunded", "behind"))
        for month in found
    ] == [
        ("70.00", "50.00", "0.00", "20.00"),
        ("0.00", "0.00", "5.00", "25.00"),
        ("25.00", "0.00", "0.00", "50.00"),
    ]
    assert [month["month"] for month in found] == ["2026-02", "2026-03", "2026-04"]
    window = {"from": "2026-04-01", "to": "2026-05-01"}
    assert figures(company, "receipts", **window)["items"] == found[2:]
    part = {"order_id": str(ORDERS[0]), "amount": eur("30")}
    company.do("payments/allocate", UUID(int=801), day("2026-03-10"), allocations=[part])
    mine = figures(company, "receipts", region="south", to="2026-06-01")["items"]
    assert [month["received"]["amount"] for month in mine] == ["0.00", "30.00", "0.00", "0.00"]
    assert [month["behind"]["amount"] for month in mine] == ["60.00", "30.00", "55.00", "55.00"]
    assert figures(company, "receipts", product="Loom")["items"] == []
    assert company.ask("/analytics/receipts", **{"from": "2026-01-02"}).status_code == 422
    company.do(
        "orders/place",
        ORDERS[3],
        day("2026-02-15"),
        customer_id=BEN,
        amount={"amount": "5", "currency": "USD"},
    )
    company.write_facts()
    assert company.ask("/analytics/receipts").status_code == 422


def test_how_long_orders_take_to_be_paid_and_which_are_late(company: World) -> None:
    registered(company)

    def order(n: int, placed: str, amount: str, *due: str) -> None:
        asked = {"customer_id": ANN, "amount": eur(amount)}
        company.do("orders/place", ORDERS[n], day(placed), **asked)
        share = str(Decimal(amount) / max(len(due), 1))
        parts = [{"due": one, "amount": eur(share)} for one in due]
        if parts:
            company.do("orders/plan-payments", ORDERS[n], day(placed), instalments=parts)

    def pay(number: int, at: str, order: int, amount: str, kind: str = "money") -> UUID:
        payment = UUID(int=800 + number)
        allocated = [{"order_id": ORDERS[order], "amount": eur(amount)}]
        asked = {"customer_id": ANN, "amount": eur(amount), "kind": kind}
        company.do("payments/receive", payment, day(at), **asked, allocations=allocated)
        return payment

    order(0, "2026-03-01", "100", "2026-03-10", "2026-03-31")
    pay(0, "2026-03-05", 0, "50")
    pay(1, "2026-03-31", 0, "50")  # 30 days, in time
    order(1, "2026-03-01", "60", "2026-03-15")
    note = pay(2, "2026-03-12", 1, "20", "credit-note")
    paid = pay(3, "2026-03-14", 1, "40")
    company.do("payments/release", paid, day("2026-03-16"), order_id=ORDERS[1], amount=eur("40"))
    pay(4, "2026-03-21", 1, "40")  # 20 days, late by six
    assert note
    order(2, "2026-03-20", "40")  # due at once, and owed
    order(3, "2026-03-20", "10")
    company.do("orders/cancel", ORDERS[3], day("2026-03-21"), reason="-")
    march = {"from": "2026-03-01", "to": "2026-04-01", "as_of": "2026-03-31"}
    found = figures(company, "receipts/terms", **march)
    names = ("settled", "days_to_pay_mean", "days_to_pay_median", "due", "late", "days")
    assert tuple(found[name] for name in names) == (2, 25.0, 25.0, 3, 2, 31)
    assert (found["billed"], found["receivable"]) == (eur("200.00"), eur("40.00"))
    assert (found["late_rate"], found["days_outstanding"]) == (0.666667, 6.2)
    behind = figures(company, "receipts/terms/late", **march)["items"]
    assert [(one["id"], one["days_late"], one["settled"]) for one in behind] == [
        (str(ORDERS[1]), 6, "2026-03-21"),
        (str(ORDERS[2]), 11, None),
    ]
    mid = figures(company, "receipts/terms", **{**march, "as_of": "2026-03-14"})
    assert (mid["settled"], mid["late"]) == (1, 0)
    empty = figures(company, "receipts/terms", **{"from": "2020-01-01", "to": "2020-02-01"})
    assert (empty["days_to_pay_mean"], empty["late_rate"], empty["days_outstanding"]) == (
        *(None, None, None),
    )


def test_customers_are_kept_lost_and_regained(company: World) -> None:
    registered(company)
    for order, (who, at) in enumerate(
        ((ANN, "2026-01-10"), (BEN, "2026-01-20"), (ANN, "2026-02-05"), (BEN, "2026-04-20"))
    ):
        company.do("orders/place", ORDERS[order], day(at), customer_id=who, amount=eur("1"))
    asked = {"lost_after_days": 40, "from": "2026-01-01", "to": "2026-05-01"}
    found = figures(company, "retention", **asked)["items"]
    names = ("customers", "lost", "new", "regained", "retention", "churn")
    assert [tuple(month[name] for name in names) for month in found] == [
        (0, 0, 2, 0, None, None),
        (2, 0, 0, 0, 1.0, 0.0),
        (2, 2, 0, 0, 0.0, 1.0),
        (0, 0, 0, 1, None, None),
    ]
    assert (
        figures(company, "retention", **{"from": "2026-01-01", "to": "2026-01-01"})["items"] == []
    )


def test_the_greatest_customers_and_who_answers_for_them(company: World) -> None:
    registered(company)
    company.do("customers/claim", BEN, day("2025-12-10"), by="bo")
    company.do("orders/place", ORDERS[0], day("2026-01-10"), customer_id=ANN, amount=eur("90"))
    company.do("orders/place", ORDERS[1], day("2026-01-11"), customer_id=BEN, amount=eur("10"))
    found = figures(company, "tiers")["items"]
    assert [
        (t["tier"], t["customers"], t["share_of_amount"], t["without_owner"]) for t in found
    ] == [
        ("premium", 1, 0.9, 1),
        ("ordinary", 1, 0.1, 0),
    ]
    listed = figures(company, "tiers/customers")["items"]
    assert [(c["customer_id"], c["owner"], c["cumulative_share"]) for c in listed] == [
        (str(ANN), None, 0.9),
        (str(BEN), "bo", 1.0),
    ]
    wrong = company.ask("/analytics/tiers", premium_share="0.9", ordinary_share="0.5")
    assert wrong.status_code == 422


def test_deals_and_tickets_of_customers_who_bear_a_tag(company: World) -> None:
    registered(company)
    company.do("customers/tag", ANN, day("2026-02-01"), tag="vip")
    for number, customer in enumerate((ANN, BEN)):
        opened(company, number, "2026-01-10", customer_id=customer, amount=eur("100"))
        ticket = {"subject": "Torn", "customer_id": customer}
        company.do("tickets/open", TICKETS[number], day("2026-01-10"), **ticket)
    company.do("opportunities/win", DEALS[0], day("2026-02-11"))
    [won] = figures(company, "deals/closings", tag="vip")["items"]
    assert (won["won"], won["amount"]) == (1, eur("100.00"))
    assert figures(company, "deals/open", tag="vip")["items"] == []
    [served] = figures(company, "tickets", tag="vip")["items"]
    assert served["tickets"] == 1
    [behind_it] = figures(company, "tickets/list", tag="vip")["items"]
    assert behind_it["customer_id"] == str(ANN)
    assert figures(company, "tickets", tag="vip", as_of="2026-01-31")["items"][0]["tickets"] == 0


def test_figures_as_csv_and_parquet(company: World) -> None:
    registered(company)
    company.do("orders/place", ORDERS[0], day("2026-01-10"), customer_id=ANN, amount=eur("90"))
    company.write_facts()
    accepted = {"accept": "application/vnd.apache.parquet"}
    answer = company.ask("/analytics/tiers/customers", headers=accepted)
    table = pq.read_table(io.BytesIO(answer.content))
    assert table.to_pylist()[0]["amount.amount"] == Decimal("90.00")
    assert table.to_pylist()[0]["customer_id"] == str(ANN)
    assert answer.headers["pledge-position"] == str(company.head())
    one = company.ask("/analytics/customers", headers=accepted)
    assert pq.read_table(io.BytesIO(one.content)).num_rows == 1
    text = company.ask("/analytics/customers", headers={"accept": "text/csv"}).text.splitlines()
    assert len(text) == 2
    empty = pq.read_table(io.BytesIO(company.ask("/analytics/leads", headers=accepted).content))
    assert empty.num_rows == 0
    assert {"group", "leads", "conversion"} <= set(empty.column_names)
    company.project()
    for path in ("/customers", "/orders", "/audit/events", f"/customers/{ANN}/timeline"):
        listed = company.ask(path, headers=accepted)
        assert pq.read_table(io.BytesIO(listed.content)).num_columns > 3, listed.text


def test_a_stage_that_nobody_knows_is_refused_and_one_of_a_lost_deal_is_not(
    company: World,
) -> None:
    company.do("opportunities/open", ORDERS[0], day("2026-01-10"), title="Pumps", owner="ada")
    company.write_facts()
    for path in ("deals", "deals/conversion/deals", "deals/stages/deals"):
        assert company.get(f"/analytics/{path}", stage="lost")["items"] == []
        answer = company.ask(f"/analytics/{path}", stage="proposaal")
        assert answer.status_code == 422
        assert "discovery, intent, lost," in answer.json()["errors"][0]["message"]


def test_the_columns_of_a_figure_of_one_row(company: World) -> None:
    company.write_facts()
    accepted = {"accept": "application/vnd.apache.parquet"}
    answer = company.ask("/analytics/customers", headers=accepted)
    table = pq.read_table(io.BytesIO(answer.content))
    names = table.column_names
    assert names[:5] == ["position", "as_of", "known_at", "today", "parameters.owner"]
    assert str(table.schema.field("parameters.from").type) == "date32[day]"
    assert names.index("parameters.time_zone") < names.index("customers_ever")


# Any history: the same questions answered from the events, in plain Python.

KINDS = (
    *("open", "open", "move", "move", "win", "lose", "reopen", "quote"),
    *("capture", "qualify", "convert", "disqualify"),
    *("ask", "dispatch", "confirm", "decline", "reply", "hear", "wait"),
    *("resolve", "close", "again", "rate"),
)
Action = tuple[str, int, int, int]


def history(seed: int) -> list[Action]:
    """Up to eighty things to be asked for; hypothesis itself would draw few of them, and alike."""
    dice = Random(seed)
    return [
        (dice.choice(KINDS), dice.randrange(6), dice.randrange(4), dice.randrange(71))
        for _ in range(dice.randrange(81))
    ]


HISTORIES = st.integers(0, 2**32).map(history)


def act(company: World, action: Action) -> None:
    kind, number, size, offset = action
    at = f"{FIRST_DAY + timedelta(days=offset)}T{3 + 5 * size:02}:15:00Z"
    deal, lead, ticket = DEALS[number], LEADS[number % 5], TICKETS[number % 5]
    by = f"r{size % 2}"
    line = {"product": "Loom", "quantity": "1", "unit_price": eur(f"{size + 1}.10")}
    given: dict[str, tuple[str, UUID, dict[str, Any]]] = {
        "open": (
            "opportunities/open",
            deal,
            {
                "title": "Looms",
                "pipeline": "contract",
                "owner": by,
                "customer_id": CUSTOMERS[number % 2],
                **({"amount": eur(f"{number}.50")} if size else {}),
                **({"expected_close": FIRST_DAY + timedelta(days=offset)} if size > 1 else {}),
            },
        ),
        "move": ("opportunities/move-stage", deal, {"stage": STAGES[size % 3]}),
        "win": ("opportunities/win", deal, {}),
        "lose": ("opportunities/lose", deal, {"reason": ("price", "time")[size % 2]}),
        "reopen": ("opportunities/reopen", deal, {"reason": "news"}),
        "quote": ("opportunities/quote", deal, {"lines": [line]}),
        "capture": ("leads/capture", lead, {"name": "Lea", "source": ("web", "fair")[size % 2]}),
        "qualify": ("leads/qualify", lead, {}),
        "convert": (
            "leads/convert",
            lead,
            {"opportunity_id": deal, "customer_id": CUSTOMERS[number % 2]},
        ),
        "disqualify": ("leads/disqualify", lead, {"reason": "no"}),
        "ask": ("tickets/open", ticket, {"subject": "Torn", "customer_id": CUSTOMERS[size % 2]}),
        "dispatch": ("tickets/dispatch", ticket, {"technician": by}),
        "confirm": ("tickets/confirm", ticket, {}),
        "decline": ("tickets/decline", ticket, {"reason": "ill"}),
        "reply": ("tickets/reply", ticket, {"text": "Soon"}),
        "hear": ("tickets/reply", ticket, {"text": "When?", "inbound": True}),
        "wait": ("tickets/wait", ticket, {}),
        "resolve": ("tickets/resolve", ticket, {}),
        "close": ("tickets/close", ticket, {}),
        "again": ("tickets/reopen", ticket, {"reason": "still torn"}),
        "rate": ("tickets/rate", ticket, {"score": 1 + size}),
    }
    command, stream, data = given[kind]
    if kind in ("confirm", "decline"):
        for technician in ("r0", "r1"):
            company.try_(command, stream, at, by=technician, **data)
    elif kind == "qualify":
        company.try_("leads/claim", lead, at, by=by)
        company.try_(command, stream, at, by=by, **data)
    else:
        company.try_(command, stream, at, **data)


def days(spells: Iterable[timedelta]) -> tuple[float | None, float | None]:
    """Their mean and median."""
    found = [Fraction(spell / timedelta(microseconds=1)) / 86_400_000_000 for spell in spells]
    if not found:
        return None, None
    return six(sum(found, Fraction(0)) / len(found)), six(Fraction(median(found)))


def six(value: Fraction) -> float:
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return float(exact.quantize(Decimal("0.000001"), ROUND_HALF_UP))


def share(part: int, whole: int) -> float | None:
    return six(Fraction(part, whole)) if whole else None


@dataclass
class Deal:
    """A deal as its events leave it."""

    owner: str
    opened_at: datetime
    expected: date | None = None
    entries: list[tuple[str, str, datetime]] = field(default_factory=list)
    amount: Decimal | None = None
    reason: str | None = None

    @property
    def stage(self) -> str:
        return self.entries[-1][0]

    @property
    def kind(self) -> str:
        return self.entries[-1][1]

    @property
    def since(self) -> datetime:
        return self.entries[-1][2]


def folded(events: list[Recorded]) -> dict[UUID, Deal]:
    found: dict[UUID, Deal] = {}
    for recorded in sorted(events, key=lambda r: r.type != "opportunity.opened"):
        event: Any = recorded.event
        if recorded.type == "opportunity.opened":
            found[recorded.stream_id] = Deal(
                event.owner, recorded.occurred_at, event.expected_close
            )
    for recorded in events:
        deal, event = found.get(recorded.stream_id), recorded.event
        if deal is None or recorded.stream_type != "opportunity":
            continue
        amount = getattr(event, "amount", None) or getattr(event, "total", None)
        if amount is not None:
            deal.amount = amount.amount
        if hasattr(event, "stage"):
            kind = {"opportunity.won": "won", "opportunity.lost": "lost"}.get(recorded.type, "open")
            deal.entries.append((event.stage, kind, recorded.occurred_at))
            deal.reason = event.reason if kind == "lost" else None
    return found


def acts_on_status(recorded: Recorded) -> bool:
    """Whether a wait ends with it."""
    others = ("ticket.opened", "ticket.waiting", "ticket.resolved", "ticket.closed")
    event: Any = recorded.event
    return recorded.type in BACK_TO_WORK.union(others) or getattr(event, "inbound", False)


class Oracle:
    """What the answers must be."""

    def __init__(self, company: World, asked: dict[str, Any]) -> None:
        as_of = asked.get("as_of")
        until = datetime.combine(as_of + timedelta(days=1), time(), UTC) if as_of else None
        self.events = [
            recorded
            for recorded in company.recorded()
            if recorded.position <= asked.get("known_at", 2**60)
            and (until is None or recorded.occurred_at < until)
        ]
        self.until = until
        self.start, self.end = asked.get("from"), asked.get("to")
        self.owner = asked.get("owner")
        self.deals = {
            key: deal
            for key, deal in folded(self.events).items()
            if self.owner in (None, deal.owner)
        }

    def inside(self, at: datetime) -> bool:
        found = at.astimezone(UTC).date()
        return (self.start is None or found >= self.start) and (
            self.end is None or found < self.end
        )

    def expected(self, deal: Deal) -> bool:
        """Whether it is expected to close in the window, where there is one."""
        if self.start is None and self.end is None:
            return True
        return deal.expected is not None and (
            (self.start is None or deal.expected >= self.start)
            and (self.end is None or deal.expected < self.end)
        )

    def conversion(self) -> list[tuple[Any, ...]]:
        rows = []
        for place, (stage, following) in enumerate(pairwise(STAGES)):
            entered, took, ahead = 0, [], 0
            for deal in self.deals.values():
                firsts = [
                    n
                    for n, (name, _, at) in enumerate(deal.entries)
                    if name == stage and self.inside(at)
                ]
                if not firsts:
                    continue
                entered += 1
                later = deal.entries[firsts[0] + 1 :]
                nexts = [at for name, _, at in later if name == following]
                took += [nexts[0] - deal.entries[firsts[0]][2]] if nexts else []
                ahead += any(name in STAGES[place + 1 :] for name, _, _ in later)
            rows.append((stage, entered, len(took), ahead, share(len(took), entered), *days(took)))
        return rows

    def stays(self) -> list[tuple[Any, ...]]:
        rows = []
        for stage in STAGES[:3]:
            took = [
                after[2] - entry[2]
                for deal in self.deals.values()
                for entry, after in zip(deal.entries, deal.entries[1:], strict=False)
                if entry[0] == stage and self.inside(after[2])
            ]
            standing = sum(deal.stage == stage for deal in self.deals.values())
            rows.append((stage, len(took), *days(took), standing))
        return rows

    def closings(self) -> dict[str | None, tuple[Any, ...]]:
        groups: dict[str | None, list[Deal]] = defaultdict(list)
        for deal in self.deals.values():
            if deal.kind != "open" and self.inside(deal.since):
                groups[deal.reason].append(deal)
        return {
            name: (
                sum(deal.kind == "won" for deal in each),
                sum(deal.kind == "lost" for deal in each),
                sum((deal.amount or Decimal(0) for deal in each if deal.kind == "won"), Decimal(0)),
                *days(deal.since - deal.opened_at for deal in each if deal.kind == "won"),
                *days(deal.since - deal.opened_at for deal in each if deal.kind == "lost"),
            )
            for name, each in groups.items()
        }

    def open(self) -> dict[str, tuple[int, Decimal, Decimal]]:
        chances = {
            "intent": Decimal("0.1"),
            "negotiation": Decimal("0.4"),
            "purchase": Decimal("0.7"),
        }
        found = {}
        for stage, chance in chances.items():
            each = [
                deal
                for deal in self.deals.values()
                if deal.stage == stage and deal.kind == "open" and self.expected(deal)
            ]
            amount = sum((deal.amount or Decimal(0) for deal in each), Decimal(0))
            if each:
                found[stage] = len(each), amount, amount * chance
        return found

    def leads(self) -> dict[str, tuple[Any, ...]]:
        streams: dict[UUID, list[Any]] = defaultdict(list)
        for recorded in self.events:
            if recorded.stream_type == "lead":
                streams[recorded.stream_id].append(recorded)
        won = {key for key, deal in folded(self.events).items() if deal.kind == "won"}
        rows: dict[str, list[tuple[bool, bool, bool, bool, timedelta | None]]] = defaultdict(list)
        for events in streams.values():
            kinds = {recorded.type: recorded for recorded in events}
            captured = kinds.get("lead.captured")
            owners = [r.event.owner for r in events if hasattr(r.event, "owner")]
            if captured is None or not self.inside(captured.occurred_at):
                continue
            if self.owner is not None and (not owners or owners[-1] != self.owner):
                continue
            converted = kinds.get("lead.converted")
            rows[captured.event.source].append(
                (
                    "lead.qualified" in kinds,
                    converted is not None,
                    "lead.disqualified" in kinds,
                    converted is not None and converted.event.opportunity_id in won,
                    converted and converted.occurred_at - captured.occurred_at,
                )
            )
        return {
            source: (
                len(each),
                *(sum(one[at] for one in each) for at in range(4)),
                *days(one[4] for one in each if one[4] is not None),
            )
            for source, each in rows.items()
        }

    def tickets(self) -> tuple[Any, ...]:
        streams: dict[UUID, list[Any]] = defaultdict(list)
        for recorded in self.events:
            if recorded.stream_type == "ticket":
                streams[recorded.stream_id].append(recorded)
        backlog, reopenings, scores = 0, 0, []
        spells: dict[str, list[timedelta]] = defaultdict(list)
        number = self.waits = 0
        for events in streams.values():
            if not any(r.type == "ticket.opened" for r in events):
                continue
            began = next(r.occurred_at for r in events if r.type == "ticket.opened")
            hands: list[str | None] = []
            for r in events:
                if r.type in ("ticket.dispatched", "ticket.dispatch-confirmed"):
                    hands.append(r.event.technician)
                elif r.type == "ticket.dispatch-declined":
                    hands.append(None)
            if self.owner is not None and (not hands or hands[-1] != self.owner):
                continue
            if not self.inside(began):
                continue
            number += 1
            states = ["open"]
            for r in events:
                if r.type in ("ticket.waiting", "ticket.resolved", "ticket.closed"):
                    states.append(r.type.removeprefix("ticket."))
                elif r.type in BACK_TO_WORK or getattr(r.event, "inbound", False):
                    states.append("open")
            backlog += states[-1] != "closed"
            done_by = ("resolved", "closed")
            reopenings += sum(a in done_by and b not in done_by for a, b in pairwise(states))
            taken = [r.occurred_at for r in events if r.type == "ticket.dispatch-confirmed"]
            answered = [
                r.occurred_at for r in events if r.type == "ticket.replied" and not r.event.inbound
            ]
            done = [r.occurred_at for r in events if r.type == "ticket.resolved"]
            spells["taken"] += [min(taken) - began] if taken else []
            spells["replied"] += [min(answered) - began] if answered else []
            spells["resolved"] += [max(done) - began] if done else []
            begun = [r for r in events if acts_on_status(r)]
            ended = [*(r.occurred_at for r in begun[1:]), self.until]
            waits = [
                end and max(end - r.occurred_at, timedelta(0))
                for r, end in zip(begun, ended, strict=True)
                if r.type == "ticket.waiting"
            ]
            self.waits += len(waits)
            if waits:
                spells["waited"].append(sum(filter(None, waits), timedelta(0)))
            given = [r.event.score for r in events if r.type == "ticket.rated"]
            scores += given[-1:]
        self.waited = days(spells["waited"])
        return (
            number,
            backlog,
            reopenings,
            *(len(spells[name]) for name in ("taken", "replied", "resolved")),
            *days(spells["taken"]),
            *days(spells["replied"]),
            *days(spells["resolved"]),
            share(sum(scores), len(scores)),
        )


QUESTIONS = st.fixed_dictionaries(
    {},
    optional={
        "from": st.integers(0, 40).map(lambda n: FIRST_DAY + timedelta(days=n)),
        "to": st.integers(41, 80).map(lambda n: FIRST_DAY + timedelta(days=n)),
        "as_of": st.integers(20, 90).map(lambda n: FIRST_DAY + timedelta(days=n)),
        "known_at": st.integers(4, 30),
        "owner": st.sampled_from(("r0", "r1")),
    },
)


@pytest.mark.slow(40)
@pytest.mark.timeout(600)
@settings(
    max_examples=10,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(actions=HISTORIES, questions=st.lists(QUESTIONS, min_size=2, max_size=4))
def test_any_history_gives_what_the_events_give(
    new_world: NewWorld, actions: list[Action], questions: list[dict[str, Any]]
) -> None:
    with new_world() as company:
        registered(company)
        for action in actions:
            act(company, action)
        company.write_facts(batch=7)
        head = company.head()
        for number, question in enumerate(questions):
            asked = {**question, "known_at": min(question.get("known_at", head), head)}
            compare(company, asked)
            if number == 0:
                behind(company, {name: str(value) for name, value in asked.items()})


def compare(company: World, question: dict[str, Any]) -> None:
    oracle = Oracle(company, question)
    params = {name: str(value) for name, value in question.items()}
    contract = {**params, "pipeline": "contract"}
    names = ("stage", "entered", "converted", "advanced", "conversion", "days_mean", "days_median")
    found = company.get("/analytics/deals/conversion", **contract)["items"]
    assert [tuple(row[name] for name in names) for row in found] == oracle.conversion()
    names = ("stage", "stays", "days_mean", "days_median", "standing")
    found = company.get("/analytics/deals/stages", **contract)["items"]
    assert [tuple(row[name] for name in names) for row in found] == oracle.stays()
    found = company.get("/analytics/deals/closings", **params, by="reason")["items"]
    names = ("won_days_mean", "won_days_median", "lost_days_mean", "lost_days_median")
    assert {
        row["group"]: (row["won"], row["lost"], amount(row["amount"]), *(row[n] for n in names))
        for row in found
    } == oracle.closings()
    found = company.get("/analytics/deals/open", **params)["items"]
    assert {
        row["group"]: (row["deals"], amount(row["amount"]), amount(row["weighted"]))
        for row in found
    } == {
        stage: (n, cents(total), cents(weighted))
        for stage, (n, total, weighted) in oracle.open().items()
    }
    found = company.get("/analytics/leads", **params)["items"]
    names = ("leads", "qualified", "converted", "disqualified", "won", "days_mean", "days_median")
    assert {row["group"]: tuple(row[name] for name in names) for row in found} == oracle.leads()
    [row] = company.get("/analytics/tickets", **params)["items"]
    names = ("tickets", "backlog", "reopenings", "taken", "replied", "resolved")
    spells = [f"{of}_days_{kind}" for of in names[3:] for kind in ("mean", "median")]
    assert tuple(row[name] for name in (*names, *spells, "score_mean")) == oracle.tickets()
    assert row["waits"] == oracle.waits
    if "as_of" in question:  # without it, what waits goes on waiting
        assert (row["waited_days_mean"], row["waited_days_median"]) == oracle.waited
    each = company.every("/analytics/deals", **params, kind="open")
    groups = company.get("/analytics/deals/open", **params)["items"]
    assert Counter(deal["stage"] for deal in each) == {g["group"]: g["deals"] for g in groups}
    every = company.get("/analytics/deals", **params)["items"]
    assert Counter(deal["stage"] for deal in every) == Counter(
        deal.stage for deal in oracle.deals.values() if oracle.inside(deal.since)
    )


def behind(company: World, params: dict[str, str]) -> None:
    """Every number has as many deals, leads or tickets behind it as it says."""
    contract = {**params, "pipeline": "contract"}
    for row in company.get("/analytics/deals/conversion", **contract)["items"]:
        of = {**contract, "stage": row["stage"]}
        each = company.every("/analytics/deals/conversion/deals", **of)
        assert len(each) == row["entered"]
        for name in ("converted", "advanced"):
            assert sum(one[name] for one in each) == row[name]
    for row in company.get("/analytics/deals/stages", **contract)["items"]:
        of = {**contract, "stage": row["stage"]}
        each = company.every("/analytics/deals/stages/deals", **of)
        left = [one for one in each if one["left_at"] is not None]
        assert (len(left), len(each) - len(left)) == (row["stays"], row["standing"])
    for by in ("source", "owner", "month"):
        for row in company.get("/analytics/leads", **params, by=by)["items"]:
            of = {"by": by} | ({} if row["group"] is None else {"group": row["group"]})
            each = company.every("/analytics/leads/list", **params, **of)
            assert len(each) == row["leads"]
            assert sum(one["status"] == "converted" for one in each) == row["converted"]
            assert sum(one["status"] == "open" for one in each) == row["open"]
            assert sum(one["won"] for one in each) == row["won"]
    for by in ("technician", "month"):
        for row in company.get("/analytics/tickets", **params, by=by)["items"]:
            of = {"by": by} | ({} if row["group"] is None else {"group": row["group"]})
            each = company.every("/analytics/tickets/list", **params, **of)
            assert len(each) == row["tickets"]
            assert sum(one["status"] != "closed" for one in each) == row["backlog"]
            assert sum(one["resolved_at"] is not None for one in each) == row["resolved"]


def amount(shown: dict[str, str] | None) -> Decimal:
    return Decimal(shown["amount"]) if shown else Decimal(0)


def cents(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"))
