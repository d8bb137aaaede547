"""Read model ``orders``: what was bought, how far it has come, and when it is to be paid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, assert_never
from uuid import UUID

from events.envelope import Recorded
from events.lines import PricedLine
from events.order import (
    GoodsReturned,
    OrderCancelled,
    OrderCompleted,
    OrderDisputed,
    OrderEvent,
    OrderHeld,
    OrderLineAdded,
    OrderPlaced,
    OrderResolved,
    OrderShipped,
    PaymentsPlanned,
)
from projections.asking.clocks import Moment, time_zone
from projections.asking.money import money
from projections.asking.pages import LIMIT, Filter, fetch, page
from projections.engine.model import ReadModel
from projections.engine.tables import Connection, Row, Rows, Table


@dataclass(slots=True)
class OrderRow(Row):
    """An order as it stands; ``placed_position`` is 0 where its placing is not among the events."""

    order_id: UUID
    version: int = 0
    position: int = 0
    placed_position: int = 0
    customer_id: UUID | None = None
    owner: str | None = None
    opportunity_id: UUID | None = None
    number: str | None = None
    title: str | None = None
    note: str | None = None
    status: str = "placed"
    amount: Decimal | None = None
    returned: Decimal = Decimal(0)
    currency: str | None = None
    placed_at: datetime | None = None


@dataclass(slots=True)
class OrderFact(Row):
    """A fact, never changed: the order came to this state, or this amount, or so much came back.

    It holds what its own event says and no sum of several: as of a day only some of them count.
    """

    order_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    status: str | None = None
    amount: Decimal | None = None
    returned: Decimal | None = None
    actor: str | None = None
    reason: str | None = None


@dataclass(slots=True)
class LineRow(Row):
    """A fact, never changed: this was bought too."""

    order_id: UUID
    version: int
    number: int
    position: int = 0
    occurred_at: datetime | None = None
    line: dict[str, Any] | None = None


@dataclass(slots=True)
class InstalmentRow(Row):
    """A fact, never changed: by the plan of this version so much is to be paid by then."""

    order_id: UUID
    version: int
    number: int
    position: int = 0
    occurred_at: datetime | None = None
    due: date | None = None
    amount: Decimal | None = None


ORDERS = Table(
    "orders",
    OrderRow,
    key=("order_id",),
    indexes=("(placed_at, order_id)", "(customer_id)", "(owner)", "(number)"),
)
FACTS = Table("order_facts", OrderFact, key=("order_id", "version"), facts=True)
LINES = Table("order_lines", LineRow, key=("order_id", "version", "number"), facts=True)
INSTALMENTS = Table("instalments", InstalmentRow, key=("order_id", "version", "number"), facts=True)


def apply(rows: Rows, recorded: Recorded) -> None:
    """Change the order's rows by one event."""
    event: OrderEvent = recorded.event  # type: ignore[assignment]  # the model names its events
    order = rows.get(ORDERS, recorded.stream_id)
    order.version, order.position = recorded.version, recorded.position
    fact = OrderFact(
        recorded.stream_id,
        recorded.version,
        recorded.position,
        recorded.occurred_at,
        recorded.recorded_at,
        actor=recorded.actor,
    )
    match event:
        case OrderPlaced():
            order.customer_id, order.owner = event.customer_id, event.owner
            order.opportunity_id = event.opportunity_id
            order.number, order.title, order.note = event.number, event.title, event.note
            order.amount, order.currency = event.total.amount, event.total.currency
            fact.status, fact.amount = "placed", event.total.amount
            _buy(rows, recorded, *event.lines)
            order.placed_at, order.placed_position = recorded.occurred_at, recorded.position
        case OrderLineAdded():
            fact.amount = event.line.total.amount
            order.amount = (order.amount or 0) + event.line.total.amount
            _buy(rows, recorded, event.line)
        case PaymentsPlanned():
            for number, part in enumerate(event.instalments, 1):
                rows.add(
                    INSTALMENTS,
                    InstalmentRow(
                        recorded.stream_id,
                        recorded.version,
                        number,
                        recorded.position,
                        recorded.occurred_at,
                        part.due,
                        part.amount.amount,
                    ),
                )
        case OrderShipped():
            fact.status = "shipped"
        case OrderHeld():
            fact.status, fact.reason = "held", event.reason
        case OrderDisputed():
            fact.status, fact.reason = "disputed", event.reason
        case OrderResolved():
            fact.status, fact.reason = "resolved", event.outcome
        case OrderCompleted():
            fact.status = "completed"
        case OrderCancelled():
            fact.status, fact.reason = "cancelled", event.reason
        case GoodsReturned():
            fact.returned, fact.reason = event.amount.amount, event.reason
            order.returned += event.amount.amount
        case _:
            assert_never(event)
    order.status = fact.status or order.status
    rows.add(FACTS, fact)


def _buy(rows: Rows, recorded: Recorded, *lines: PricedLine) -> None:
    for number, line in enumerate(lines, 1):
        rows.add(
            LINES,
            LineRow(
                recorded.stream_id,
                recorded.version,
                number,
                recorded.position,
                recorded.occurred_at,
                line.model_dump(mode="json"),
            ),
        )


MODEL = ReadModel("orders", (ORDERS, FACTS, LINES, INSTALMENTS), OrderEvent, apply, critical=True)

BILLED = "CASE {0}.status WHEN 'cancelled' THEN 0 ELSE {0}.amount - {0}.returned END AS billed"
LIVE = f"SELECT o.*, {BILLED.format('o')} FROM orders o WHERE o.placed_position > 0"
PAST = f"""
SELECT o.order_id, stood.version, o.customer_id, o.owner, o.opportunity_id, o.number, o.title,
       o.note, stood.status, stood.amount, {BILLED.format("stood")}, o.currency, o.placed_at
  FROM orders o CROSS JOIN LATERAL (
       SELECT (array_agg(s.status ORDER BY s.version DESC)
                 FILTER (WHERE s.status IS NOT NULL))[1] AS status,
              coalesce(sum(s.amount), 0) AS amount, coalesce(sum(s.returned), 0) AS returned,
              max(s.version) AS version
         FROM order_facts s WHERE s.order_id = o.order_id AND {{facts}}
  ) stood
 WHERE o.placed_position > 0 AND {{placed}}
"""
SELECT = """
SELECT o.order_id, o.version, o.number, o.title, o.note, o.owner, o.opportunity_id, o.status,
       o.amount, o.billed, o.currency, o.placed_at, o.customer_id, {name} AS customer_name,
       paid.credited, paid.received, paid.refunded
  FROM ({orders}) o
  LEFT JOIN customers c USING (customer_id)
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(s.amount) FILTER (WHERE s.kind = 'allocated' AND s.is_note), 0)
                  AS credited,
              coalesce(sum(s.amount) FILTER (WHERE s.kind = 'allocated' AND NOT s.is_note), 0)
                  AS received,
              coalesce(sum(s.amount) FILTER (WHERE s.kind = 'refunded'), 0) AS refunded
         FROM payment_facts s
        WHERE s.order_id = o.order_id AND s.currency = o.currency AND {facts}
 ) paid
"""
PAST_NAME = """
(SELECT n.name FROM customer_names n
  WHERE n.customer_id = o.customer_id AND {facts} ORDER BY n.version DESC LIMIT 1)
"""


def orders_at(when: Moment) -> tuple[str, list[Any]]:
    """A query for every order as it was at a moment, and its values.

    Status, amount and billed are those of the moment.
    """
    if when.is_live:
        return LIVE, []
    facts, bounds = when.bounds("s")
    placed, since = when.bounds("o")
    placed = placed.replace("occurred_at", "placed_at").replace("position", "placed_position")
    return PAST.format(facts=facts, placed=placed), [*bounds, *since]


def name_at(when: Moment, alias: str) -> tuple[str, list[Any]]:
    """An expression for the customer's name at a moment, and its values."""
    if when.is_live:
        return "c.name", []
    facts, bounds = when.bounds("n")
    return PAST_NAME.format(facts=facts).replace("o.customer_id", f"{alias}.customer_id"), bounds


def orders(
    conn: Connection,
    when: Moment,
    *,
    customer_id: UUID | None = None,
    owner: str | None = None,
    status: str | None = None,
    number: str | None = None,
    opportunity_id: UUID | None = None,
    placed_from: datetime | None = None,
    placed_to: datetime | None = None,
    cursor: str | None = None,
    limit: int = LIMIT,
) -> tuple[list[dict[str, Any]], str | None]:
    """Orders by the time of their placing."""
    select, values = _select(when)
    return page(
        conn,
        select,
        [
            Filter("o.customer_id = %s", (customer_id,)),
            Filter("o.owner = %s", (owner,)),
            Filter("o.status = %s", (status,)),
            Filter("o.number = %s", (number,)),
            Filter("o.opportunity_id = %s", (opportunity_id,)),
            Filter("o.placed_at >= %s", (placed_from,)),
            Filter("o.placed_at < %s", (placed_to,)),
        ],
        ("o.placed_at", "o.order_id"),
        cursor,
        limit,
        values=values,
        shape=shown,
    )


def _select(when: Moment) -> tuple[str, list[Any]]:
    source, values = orders_at(when)
    name, bounds = name_at(when, "o")
    facts, paid = when.bounds("s")
    return SELECT.format(name=name, orders=source, facts=facts), [*bounds, *values, *paid]


def order(conn: Connection, order_id: UUID, when: Moment) -> dict[str, Any] | None:
    """One order with its lines, its plan, its history and what was paid for it, or None."""
    select, values = _select(when)
    rows = fetch(conn, f"{select} WHERE o.order_id = %s", [*values, order_id])
    if not rows:
        return None
    billed, placed_at = rows[0]["billed"], rows[0]["placed_at"]
    paid = rows[0]["credited"] + rows[0]["received"] - rows[0]["refunded"]
    found = shown(rows[0])
    currency = found["billed"]["currency"]
    facts, bounds = when.bounds("s")
    found["lines"] = [
        row["line"]
        for row in fetch(
            conn,
            f"SELECT line FROM order_lines s WHERE order_id = %s AND {facts} "
            "ORDER BY version, number",
            [order_id, *bounds],
        )
    ]
    found["history"] = _history(conn, order_id, currency, when)
    plan = fetch(
        conn,
        f"SELECT number, due, amount FROM instalments s WHERE order_id = %s AND {facts} "
        "AND version = (SELECT max(t.version) FROM instalments t WHERE t.order_id = s.order_id "
        f"AND {facts.replace('s.', 't.')}) ORDER BY due, number",
        [order_id, *bounds, *bounds],
    )
    placed = placed_at.astimezone(time_zone(conn, when.known_at)).date()
    found["instalments"] = _opens(plan, placed, billed, paid, currency)
    found["payments"] = fetch(
        conn,
        "SELECT payment_id AS id, CASE WHEN is_note THEN 'credit-note' ELSE 'money' END AS "
        "payment_kind, kind, amount, currency, occurred_at, recorded_at, actor, "
        f"position FROM payment_facts s WHERE order_id = %s AND {facts} "
        "ORDER BY occurred_at, position",
        [order_id, *bounds],
    )
    for payment in found["payments"]:
        payment["amount"] = money(payment["amount"], payment.pop("currency"))
    return found


def _opens(
    plan: list[dict[str, Any]], placed: date, billed: Decimal, paid: Decimal, currency: str
) -> list[dict[str, Any]]:
    """By when which part of what is billed is to be paid, and what of it is still open.

    What is billed beyond the plan is due with its last part; without a plan, on the order's day.
    """
    last = plan[-1]["due"] if plan else placed
    shown_parts = []
    for part in [*plan, {"number": None, "due": last, "amount": billed}]:
        share = max(min(part["amount"], billed), Decimal(0))
        billed -= share
        covered = max(min(paid, share), Decimal(0))
        paid -= covered
        if part["number"] is not None or share > 0:
            amounts = {"amount": money(share, currency), "open": money(share - covered, currency)}
            shown_parts.append({"number": part["number"], "due": part["due"], **amounts})
    return shown_parts


def _history(conn: Connection, order_id: UUID, currency: str, when: Moment) -> list[dict[str, Any]]:
    """What became of the order, event by event, with what it then was."""
    facts, bounds = when.bounds("s")
    rows = fetch(
        conn,
        "SELECT version, status, amount, returned, occurred_at, recorded_at, actor, reason, "
        f"position FROM order_facts s WHERE order_id = %s AND {facts} ORDER BY version",
        [order_id, *bounds],
    )
    status, amount, returned = "placed", Decimal(0), Decimal(0)
    for row in rows:
        status = row["status"] or status
        amount += row["amount"] or 0
        returned += row.pop("returned") or 0
        billed = Decimal(0) if status == "cancelled" else amount - returned
        row["status"] = status
        row["amount"], row["billed"] = money(amount, currency), money(billed, currency)
    return rows


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """An order as the API shows it; ``balance`` is what is still to be paid."""
    row["id"] = row.pop("order_id")
    row["customer"] = {"id": row.pop("customer_id"), "name": row.pop("customer_name")}
    currency = row.pop("currency")
    balance = row["billed"] - row["credited"] - row["received"] + row["refunded"]
    for name in ("amount", "billed", "credited", "received", "refunded"):
        row[name] = money(row[name], currency)
    row["balance"] = money(balance, currency)
    return row
