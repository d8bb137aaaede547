"""A small, believable sample company, made through the very commands that users send."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson

from commands.wire import from_line
from commands.writer import Writer
from events.envelope import Actor
from events.ledger import Connection

SPACE = uuid5(NAMESPACE_URL, "pledge:sample-company")
LAST_KEY = "sample:last"

REPS = ("rep-north", "rep-south", "rep-asia", "key-accounts")


def id_of(name: str) -> UUID:
    """The id that the sample company always gives to this name."""
    return uuid5(SPACE, name)


def was_cut_short(conn: Connection) -> bool:
    """Whether a sample company was begun and never finished."""
    row = conn.execute(
        "SELECT count(*) FILTER (WHERE key = %s), count(*) FROM ledger.outcomes "
        "WHERE actor_kind = 'import' AND key LIKE 'sample:%%'",
        (LAST_KEY,),
    ).fetchone()
    return row is not None and row[0] == 0 and row[1] > 0


def fill(writer: Writer, now: datetime | None = None) -> int:
    """Make the sample company; how many commands that took. Repeating it adds nothing.

    Raises:
        RuntimeError: when a command was not accepted.
    """
    story = [*_story(now or datetime.now(UTC))]
    requests = [from_line(orjson.dumps(line), Actor("sample", "import")) for line in story]
    for line, answer in zip(story, writer.handle(requests), strict=True):
        if answer.status >= 300:  # noqa: PLR2004 - every success is below
            raise RuntimeError(f"the sample company could not be made: {line} {answer.body}")
    return len(story)


class _Story:
    """Lines of NDJSON, told day by day; ``days`` count back from today."""

    def __init__(self, now: datetime) -> None:
        self._midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.lines: list[dict[str, Any]] = []

    def day(self, days_ago: int) -> date:
        return (self._midnight - timedelta(days=days_ago)).date()

    def tell(
        self, days_ago: int, hour: int, actor: str, command: str, stream: str, **data: Any
    ) -> None:
        moment = self._midnight - timedelta(days=days_ago) + timedelta(hours=hour)
        given = {name: value for name, value in data.items() if value is not None}
        self.lines.append(
            {
                "command": command,
                "id": id_of(stream),
                "key": f"sample:{len(self.lines)}",
                "occurred_at": moment,
                "actor": actor,
                "data": given,
            }
        )


def _money(amount: str, currency: str = "EUR") -> dict[str, str]:
    return {"amount": amount, "currency": currency}


CUSTOMERS = (
    ("Nordwind Logistik", "customer", "north", "logistics", "rep-north", "Greta Lindqvist"),
    ("Hôpital Saint-Roch", "customer", "south", "health", "rep-south", "Camille Aubert"),
    ("杭州青山医疗", "customer", "asia", "health", "rep-asia", "王芳"),
    ("宁波海通物流", "customer", "asia", "logistics", "rep-asia", "周婷"),
    ("Baltic Devices", "customer", "north", "electronics", "rep-north", "Janek Tamm"),
    ("Orion Biotech", "customer", "south", "biotech", "key-accounts", "Marta Ferrer"),
    ("Meridian Foods", "customer", "south", "food", None, "Paolo Riva"),
    ("Kestrel Instruments", "partner", "north", "electronics", "key-accounts", "Owen Pryce"),
    ("Vantage Systems", "competitor", "north", "electronics", None, None),
    ("成都锦江制药", "customer", "asia", "pharma", "rep-asia", "李敏"),
)

DEALS = (
    (
        "Cold-chain sensors, phase 1",
        "Nordwind Logistik",
        "rep-north",
        "sales",
        "won",
        "48200.00",
        140,
    ),
    (
        "Cold-chain sensors, phase 2",
        "Nordwind Logistik",
        "rep-north",
        "sales",
        "proposal",
        "31500.00",
        24,
    ),
    (
        "Ward monitoring",
        "Hôpital Saint-Roch",
        "rep-south",
        "contract",
        "negotiation",
        "128400.00",
        61,
    ),
    ("Probe replacement", "Hôpital Saint-Roch", "rep-south", "sales", "lost", "9800.00", 95),
    ("重症监护监测", "杭州青山医疗", "rep-asia", "contract", "signed", "352000.00", 170),
    ("监测扩展一期", "杭州青山医疗", "rep-asia", "contract", "purchase", "128400.00", 33),
    ("仓库标签系统", "宁波海通物流", "rep-asia", "sales", "discovery", "12750.00", 12),
    ("Bench analysers", "Baltic Devices", "rep-north", "sales", "won", "21900.00", 88),
    ("Validation services", "Orion Biotech", "key-accounts", "sales", "won", "58600.00", 47),
    ("Analyser fleet lease", "Orion Biotech", "key-accounts", "contract", "intent", "74000.00", 9),
    ("Line monitoring", "Meridian Foods", "rep-south", "sales", "lost", "17300.00", 120),
    ("批次记录数字化", "成都锦江制药", "rep-asia", "sales", "proposal", "94000.00", 18),
)

LEADS = (
    ("Ada Sørensen", "Fjord Cold Storage", "web form", "open", None),
    ("Tom Achterberg", "Achterberg Pharma", "trade fair", "open", "rep-north"),
    ("陈立", "苏州康泰实验室", "trade fair", "qualified", "rep-asia"),
    ("Lucía Campos", "Campos Agro", "referral", "qualified", "rep-south"),
    ("Bela Novák", "Novák Optik", "paid search", "disqualified", "rep-north"),
    ("Hanna Weiss", "Weiss Labortechnik", "web form", "open", None),
    ("Rui Matos", "Porto Marine", "social", "open", None),
)


def _story(now: datetime) -> Iterator[dict[str, Any]]:
    story = _Story(now)
    for n, (name, kind, region, industry, owner, contact) in enumerate(CUSTOMERS):
        _customer(story, 200 - n, name, kind, region, industry, owner, contact)
    for title, customer, owner, pipeline, stage, amount, days_ago in DEALS:
        _deal(story, days_ago, title, customer, owner, pipeline, stage, amount)
    for n, (name, company, source, status, owner) in enumerate(LEADS):
        _lead(story, 30 - 3 * n, name, company, source, status, owner)
    _promises(story)
    _orders(story)
    _tickets(story)
    _handover(story)
    story.lines[-1]["key"] = LAST_KEY
    return iter(story.lines)


def _customer(
    story: _Story,
    day: int,
    name: str,
    kind: str,
    region: str,
    industry: str,
    owner: str | None,
    contact: str | None,
) -> None:
    actor = owner or "marketing"
    story.tell(
        day,
        9,
        actor,
        "customers/register",
        name,
        name=name,
        kind=kind,
        region=region,
        industry=industry,
        owner=owner,
        source="sample",
    )
    if contact is None:
        return
    handle = f"contact-{id_of(contact).hex[:6]}"
    story.tell(
        day,
        10,
        actor,
        "customers/add-contact",
        name,
        contact_id=id_of(contact),
        name=contact,
        email=f"{handle}@example.com",
        phone=f"+49 30 5550 {id_of(contact).int % 10_000:04d}",
        role="buyer",
    )
    story.tell(
        day - 3,
        11,
        actor,
        "customers/log-interaction",
        name,
        channel="call",
        contact_id=id_of(contact),
        minutes=14,
        summary=f"First call with {contact}: needs, budget and who decides.",
    )


def _deal(
    story: _Story,
    day: int,
    title: str,
    customer: str,
    owner: str,
    pipeline: str,
    stage: str,
    amount: str,
) -> None:
    story.tell(
        day,
        9,
        owner,
        "opportunities/open",
        title,
        title=title,
        customer_id=id_of(customer),
        pipeline=pipeline,
        amount=_money(amount),
    )
    path = {
        "sales": ("discovery", "proposal", "won", "lost"),
        "contract": ("intent", "negotiation", "purchase", "signed", "lost"),
    }[pipeline]
    reached = path.index(stage) if stage != "lost" else 2
    for n, step in enumerate(path[1 : min(reached, len(path) - 3) + 1], start=1):
        story.tell(day - 3 * n, 14, owner, "opportunities/move-stage", title, stage=step)
    if reached >= 1:
        story.tell(
            max(day - 7, 1),
            15,
            owner,
            "opportunities/quote",
            title,
            quote_id=id_of(f"quote {title}"),
            lines=[{"product": title, "quantity": "1", "unit_price": _money(amount)}],
            valid_until=story.day(max(day - 7, 1) - 30).isoformat(),
        )
    if stage in ("won", "signed"):
        story.tell(max(day - 21, 0), 16, owner, "opportunities/win", title, amount=_money(amount))
    elif stage == "lost":
        story.tell(max(day - 25, 0), 16, owner, "opportunities/lose", title, reason="price")


def _lead(
    story: _Story,
    day: int,
    name: str,
    company: str,
    source: str,
    status: str,
    owner: str | None,
) -> None:
    story.tell(
        day,
        8,
        "marketing",
        "leads/capture",
        f"lead {name}",
        name=name,
        company=company,
        source=source,
        need="Wants to know what it costs and how soon.",
    )
    if owner is not None:
        story.tell(day - 1, 9, owner, "leads/claim", f"lead {name}")
    if status == "qualified":
        story.tell(
            day - 2, 10, str(owner), "leads/qualify", f"lead {name}", budget=_money("25000.00")
        )
    elif status == "disqualified":
        story.tell(day - 2, 10, str(owner), "leads/disqualify", f"lead {name}", reason="no budget")


def _promises(story: _Story) -> None:
    def promise(
        day: int,
        by: str,
        customer: str,
        what: str,
        due_in: int,
        topic: str | None = None,
        amount: dict[str, str] | None = None,
    ) -> UUID:
        promise_id = id_of(f"promise {customer} {what}")
        story.tell(
            day,
            11,
            by,
            "customers/make-promise",
            customer,
            promise_id=promise_id,
            what=what,
            due=story.day(day - due_in).isoformat(),
            topic=topic,
            amount=amount,
        )
        return promise_id

    kept = promise(60, "rep-asia", "杭州青山医疗", "中文用户手册随货交付", 20, "manual")
    story.tell(43, 10, "rep-asia", "customers/keep-promise", "杭州青山医疗", promise_id=kept)
    promise(5, "rep-asia", "杭州青山医疗", "免费更换四个故障探头", 9, "probes")
    promise(20, "rep-asia", "杭州青山医疗", "发送修订后的付款计划", 14, "payment plan")
    promise(
        16,
        "rep-south",
        "Hôpital Saint-Roch",
        "Ward monitoring at 118,000 with two years of service",
        40,
        "Ward monitoring price",
        _money("118000.00"),
    )
    promise(
        8,
        "key-accounts",
        "Hôpital Saint-Roch",
        "Ward monitoring at 124,500, service apart",
        40,
        "ward monitoring price",
        _money("124500.00"),
    )
    promise(
        11,
        "rep-north",
        "Nordwind Logistik",
        "Named engineer on site within four hours",
        45,
        "service level",
    )
    broken = promise(
        70, "rep-north", "Baltic Devices", "Deliver all analysers before the fair", 15, "delivery"
    )
    story.tell(
        54,
        17,
        "rep-north",
        "customers/break-promise",
        "Baltic Devices",
        promise_id=broken,
        reason="Two of six came ten days late.",
    )
    withdrawn = promise(
        35, "key-accounts", "Orion Biotech", "Loan unit for the validation", 30, "loan unit"
    )
    story.tell(
        31,
        9,
        "key-accounts",
        "customers/withdraw-promise",
        "Orion Biotech",
        promise_id=withdrawn,
        reason="They bought one instead and agreed.",
    )
    promise(
        3, "key-accounts", "Orion Biotech", "Lease offer with and without insurance", 10, "lease"
    )


ORDERS = (
    # deal, customer, who took it, amount, days ago, instalments: days ago when due, amount
    (
        "Cold-chain sensors, phase 1",
        "Nordwind Logistik",
        "rep-north",
        "48200.00",
        118,
        ((88, "24100.00"), (58, "24100.00")),
    ),
    (
        "重症监护监测",
        "杭州青山医疗",
        "rep-asia",
        "352000.00",
        148,
        ((120, "117333.00"), (60, "117333.00"), (-20, "117334.00")),
    ),
    ("Bench analysers", "Baltic Devices", "rep-north", "21900.00", 66, ((36, "21900.00"),)),
    ("Validation services", "Orion Biotech", "key-accounts", "58600.00", 25, ((-5, "58600.00"),)),
)
PAYMENTS = (
    # reference, customer, days ago, amount, the deal whose order it is for, how much of it
    ("NW-2201", "Nordwind Logistik", 90, "24100.00", "Cold-chain sensors, phase 1", "24100.00"),
    ("NW-2317", "Nordwind Logistik", 41, "15000.00", "Cold-chain sensors, phase 1", "15000.00"),
    ("HZ-0081", "杭州青山医疗", 119, "117333.00", "重症监护监测", "117333.00"),
    ("HZ-0114", "杭州青山医疗", 37, "117333.00", "重症监护监测", "117333.00"),
    ("OB-77", "Orion Biotech", 10, "60000.00", "Validation services", "58600.00"),
)


def _orders(story: _Story) -> None:
    """Paid in time, late, in part, too much and not at all."""
    for n, (deal, customer, owner, amount, day, parts) in enumerate(ORDERS, 1):
        order = f"order {deal}"
        story.tell(
            day,
            10,
            owner,
            "orders/place",
            order,
            customer_id=id_of(customer),
            opportunity_id=id_of(deal),
            number=f"S-{1000 + n}",
            lines=[{"product": deal, "quantity": "1", "unit_price": _money(amount)}],
        )
        instalments = [
            {"due": story.day(due).isoformat(), "amount": _money(part)} for due, part in parts
        ]
        story.tell(day, 11, owner, "orders/plan-payments", order, instalments=instalments)
        story.tell(day - 8, 9, "warehouse", "orders/ship", order, carrier="DHL")
    story.tell(
        50,
        9,
        "rep-north",
        "orders/dispute",
        "order Bench analysers",
        reason="Two of six came ten days late; they pay when it is settled.",
    )
    for reference, customer, day, amount, deal, share in PAYMENTS:
        story.tell(
            day,
            12,
            "accounts",
            "payments/receive",
            f"payment {reference}",
            customer_id=id_of(customer),
            amount=_money(amount),
            reference=reference,
            method="transfer",
            allocations=[{"order_id": id_of(f"order {deal}"), "amount": _money(share)}],
        )


def _tickets(story: _Story) -> None:
    """One from call to rating, a complaint that waits too long, one that nobody took yet."""

    def opened(day: int, number: int, customer: str, subject: str, **details: Any) -> str:
        ticket = f"ticket {number}"
        story.tell(
            day,
            8,
            "service-desk",
            "tickets/open",
            ticket,
            customer_id=id_of(customer),
            number=f"T-{number}",
            subject=subject,
            **details,
        )
        return ticket

    sensor = opened(
        22, 51, "Nordwind Logistik", "Sensor 14 reports -60 °C", kind="repair", channel="call"
    )
    story.tell(22, 9, "service-desk", "tickets/dispatch", sensor, technician="tech-lena")
    story.tell(22, 11, "tech-lena", "tickets/confirm", sensor)
    story.tell(21, 9, "tech-lena", "tickets/reply", sensor, text="I come on Thursday at nine.")
    story.tell(20, 15, "tech-lena", "tickets/log-work", sensor, minutes=95, text="New cable.")
    story.tell(20, 16, "tech-lena", "tickets/resolve", sensor, text="It reads -18.2 °C again.")
    story.tell(18, 9, "service-desk", "tickets/close", sensor)
    story.tell(17, 9, "service-desk", "tickets/rate", sensor, score=5)
    late = opened(
        52,
        52,
        "Baltic Devices",
        "Analysers came late",
        kind="complaint",
        channel="email",
        priority="high",
    )
    story.tell(45, 9, "service-desk", "tickets/escalate", late, reason="no answer for a week")
    opened(1, 53, "杭州青山医疗", "探头读数漂移", kind="repair", channel="chat")
    story.tell(1, 9, "service-desk", "tickets/dispatch", "ticket 53", technician="tech-wei")
    question = opened(6, 54, "成都锦江制药", "批次记录如何导出?", kind="question", channel="chat")
    story.tell(6, 10, "tech-wei", "tickets/take", question)
    story.tell(5, 9, "tech-wei", "tickets/wait", question, reason="asked which version they run")


def _handover(story: _Story) -> None:
    story.tell(
        4,
        9,
        "sales-lead",
        "customers/hand-over",
        "宁波海通物流",
        owner="key-accounts",
        reason="rep-asia leaves the company at the end of the month",
    )
    story.tell(2, 9, "sales-lead", "customers/claim", "Meridian Foods")
    story.tell(
        1,
        16,
        "sales-lead",
        "customers/release",
        "Meridian Foods",
        reason="No project this year; free for whoever has an idea",
    )
