"""Read model ``orders``: what was bought, how far it has come, and when it is to be paid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args
from uuid import UUID

from pydantic import Field

from events.envelope import Recorded
from events.order import OrderEvent, OrderHandedOver, OrderPlaced
from events.values import StoredMoney
from projections import accounts, customers, payments
from projections.asking.clocks import Moment
from projections.asking.listing import AskedAt, By, Listing, Question, TurnedAt, Where
from projections.asking.money import Balance, balance, money
from projections.asking.parameters import Amount, Ids, Time, Word, each
from projections.asking.rows import fetch
from projections.asking.shape import HeadAt, Shape
from projections.asking.sorting import Sorts
from projections.asking.view import View
from projections.customers import CustomerRef, name_at
from projections.dues import InstalmentShape, instalments, orders_at, paid_at
from projections.engine.model import ReadModel
from projections.engine.tables import Row, Rows, Table
from projections.facts.orders import InstalmentFact, LineFact, OrderFact, facts


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
    region: str | None = None
    number: str | None = None
    title: str | None = None
    note: str | None = None
    status: str = "placed"
    amount: Decimal | None = None
    returned: Decimal = Decimal(0)
    currency: str | None = None
    placed_at: datetime | None = None


ORDERS = Table(
    "orders",
    OrderRow,
    key=("order_id",),
    indexes=("(placed_at, order_id)", "(customer_id)", "(owner)", "(number)"),
)
FACTS = Table("order_facts", OrderFact, key=("order_id", "version"), facts=True)
LINES = Table("order_lines", LineFact, key=("order_id", "version", "number"), facts=True)
INSTALMENTS = Table(
    "instalments", InstalmentFact, key=("order_id", "version", "number"), facts=True
)


Events = OrderEvent | accounts.Events


def apply(rows: Rows, recorded: Recorded) -> None:
    """Change the order's rows by one event, or what a payment is for."""
    event: Events = recorded.event  # type: ignore[assignment]  # the model names its events
    if isinstance(event, OrderEvent):
        _apply(rows, recorded, event)
    else:
        accounts.apply(rows, recorded, event)


def _apply(rows: Rows, recorded: Recorded, event: OrderEvent) -> None:
    order = rows.get(ORDERS, recorded.stream_id)
    order.version, order.position = recorded.version, recorded.position
    if isinstance(event, OrderPlaced):
        order.customer_id, order.owner = event.customer_id, event.owner
        order.opportunity_id, order.region = event.opportunity_id, event.region
        order.number, order.title, order.note = event.number, event.title, event.note
        order.amount, order.currency = Decimal(0), event.total.currency
        order.placed_at, order.placed_position = recorded.occurred_at, recorded.position
    if isinstance(event, OrderHandedOver):
        order.owner = event.owner
    for fact in facts(recorded):
        match fact:
            case OrderFact():
                _fold(order, fact)
                rows.add(FACTS, fact)
            case LineFact():
                rows.add(LINES, fact)
            case InstalmentFact():
                rows.add(INSTALMENTS, fact)


def _fold(order: OrderRow, fact: OrderFact) -> None:
    order.status = fact.status or order.status
    amount = fact.amount
    if amount is None:
        return
    if fact.kind == "returned":
        fact.amount, fact.returned = None, amount
        order.returned += amount
    else:
        order.amount = (order.amount or 0) + amount


TABLES: tuple[Table[Any], ...] = (ORDERS, FACTS, LINES, INSTALMENTS, *accounts.TABLES)
MODEL = ReadModel("orders", TABLES, Events, apply, critical=True)

Status = Literal["placed", "shipped", "held", "disputed", "resolved", "completed", "cancelled"]


class AskOrders(TurnedAt):
    """What may be asked of orders."""

    ids: Annotated[Ids, Where("o.order_id = ANY (%(ids)s)", each)] = None
    customer_id: Annotated[UUID | None, Where("o.customer_id = %(customer_id)s")] = None
    owner: Annotated[Word, Where("o.owner = %(owner)s")] = None
    status: Annotated[Status | None, Where("o.status = %(status)s")] = None
    number: Annotated[Word, Where("o.number = %(number)s")] = None
    opportunity_id: Annotated[UUID | None, Where("o.opportunity_id = %(opportunity_id)s")] = None
    region: Annotated[Word, Where("o.region = %(region)s")] = None
    currency: Annotated[Word, Where("o.currency = %(currency)s")] = None
    amount_from: Annotated[Amount, Where("o.amount >= %(amount_from)s")] = None
    amount_to: Annotated[Amount, Where("o.amount < %(amount_to)s")] = None
    placed_from: Annotated[Time, Where("o.placed_at >= %(placed_from)s")] = None
    placed_to: Annotated[Time, Where("o.placed_at < %(placed_to)s")] = None
    sort: Annotated[
        Word,
        Sorts(
            *("placed_at", "number", "title", "customer.name", "owner", "status", "amount"),
            *("billed", "received", "difference", "balance"),
        ),
    ] = None


class OrderShape(Shape):
    """An order; ``balance`` is billed - credited - received + refunded."""

    id: UUID
    version: int
    number: str | None
    title: str | None
    note: str | None
    customer: CustomerRef
    owner: str | None
    opportunity_id: UUID | None
    region: str | None = Field(description="The order's own, beside that of its customer.")
    status: str = Field(examples=list(get_args(Status)))
    amount: StoredMoney = Field(description="What was ordered.")
    billed: Balance = Field(
        description="The same without what was returned; 0 when cancelled. "
        "Below 0 as of a day that lies between a return and what came back by it."
    )
    credited: Balance = Field(description="The amount of credit notes allocated to it.")
    received: StoredMoney
    refunded: StoredMoney
    difference: Balance = Field(
        description="amount - received, before returns, refunds and credit notes; of a cancelled "
        "order the amount counts as 0."
    )
    balance: Balance
    placed_at: datetime


class OrderFactShape(Shape):
    """What the order came to be, when and by whom."""

    version: int
    status: str
    owner: str
    amount: StoredMoney
    billed: Balance
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    reason: str | None
    position: int


class PaidShape(Shape):
    """Money, or a credit note, allocated to the order (below 0: released) or refunded of it."""

    id: UUID = Field(description="The payment.")
    payment_kind: str = Field(examples=["money", "credit-note"])
    kind: str = Field(examples=["allocated", "refunded"])
    amount: Balance
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    position: int


class OrderDetail(OrderShape, HeadAt):
    """An order with lines, plan, history and payments, at a moment."""

    lines: list[dict[str, Any]]
    history: list[OrderFactShape]
    instalments: list[InstalmentShape]
    payments: list[PaidShape]


SELECT = """
SELECT o.order_id AS id, o.version, o.number, o.title, o.note, o.customer_id AS "customer.id",
       {name} AS "customer.name", o.owner, o.opportunity_id, o.region, o.status, o.amount, o.billed,
       paid.credited, paid.received, paid.refunded,
       CASE o.status WHEN 'cancelled' THEN 0 ELSE o.amount END - paid.received AS difference,
       o.billed - paid.credited - paid.received + paid.refunded AS balance, o.currency, o.placed_at
  FROM ({orders}) o
  LEFT JOIN customers c USING (customer_id)
 CROSS JOIN LATERAL ({paid}) paid WHERE true
"""
LINES_OF = """
SELECT jsonb_build_object(
           'product', product, 'quantity', quantity::text, 'discount', discount::text,
           'unit_price', jsonb_build_object('amount', unit_price::text, 'currency', currency),
           'total', jsonb_build_object('amount', amount::text, 'currency', currency))
  FROM order_lines s WHERE order_id = %(id)s AND {facts} ORDER BY version, number
"""
HISTORY_OF = """
SELECT version, status, owner, amount, returned, occurred_at, recorded_at, actor, reason, position
  FROM order_facts s WHERE order_id = %(id)s AND {facts} ORDER BY version
"""
PAID_FOR = """
SELECT payment_id AS id, CASE WHEN is_note THEN 'credit-note' ELSE 'money' END AS payment_kind,
       kind, amount, currency, occurred_at, recorded_at, actor, position
  FROM payment_facts s WHERE order_id = %(id)s AND {facts} ORDER BY occurred_at, position
"""


def select(when: Moment) -> str:
    """Every order as it was at a moment, with what was paid for it."""
    return SELECT.format(name=name_at(when, "o"), orders=orders_at(when), paid=paid_at(when))


class _Fact(Shape):
    """What one event says of an order."""

    version: int
    status: str | None
    owner: str | None
    amount: Decimal | None
    returned: Decimal | None
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    reason: str | None
    position: int


def order(view: View, order_id: UUID, _: AskedAt) -> OrderDetail | None:
    """One order with its lines, its plan, its history and what was paid for it, or None."""
    conn, when = view.conn, view.when
    of = {**when.values, "id": order_id}
    for found in fetch(conn, OrderShape, f"{select(when)} AND o.order_id = %(id)s", of):
        facts = when.counts("s")
        return OrderDetail.of(
            view.head_at,
            found,
            lines=[line for (line,) in conn.execute(LINES_OF.format(facts=facts).encode(), of)],
            history=_history(
                fetch(conn, _Fact, HISTORY_OF.format(facts=facts), of), found.billed.currency
            ),
            instalments=instalments(conn, order_id, when),
            payments=fetch(conn, PaidShape, PAID_FOR.format(facts=facts), of),
        )
    return None


def _history(facts: list[_Fact], currency: str) -> list[OrderFactShape]:
    """What became of the order, event by event, with what it then was."""
    status, owner, amount, returned = "placed", "", Decimal(0), Decimal(0)
    history = []
    for fact in facts:
        status, owner = fact.status or status, fact.owner or owner
        amount += fact.amount or 0
        returned += fact.returned or 0
        billed = Decimal(0) if status == "cancelled" else amount - returned
        history.append(
            OrderFactShape.of(
                fact,
                status=status,
                owner=owner,
                amount=money(amount, currency),
                billed=balance(billed, currency),
            )
        )
    return history


NEEDS = (MODEL, payments.MODEL, customers.MODEL)
LIST = Listing(
    path="/orders",
    name="list_orders",
    tag="orders",
    says="Orders by the time of their placing, with what is billed and paid.",
    asks=AskOrders,
    shape=OrderShape,
    needs=NEEDS,
    select=select,
    order=(By("o.placed_at"), By("o.order_id", "id")),
)
QUESTIONS = (
    LIST.question(),
    Question(
        path="/orders/{id}",
        name="one_order",
        tag="orders",
        says="One order with lines, plan, history and payments; now, its ETag is its version.",
        asks=AskedAt,
        shape=OrderDetail,
        needs=NEEDS,
        answer=order,
    ),
)
