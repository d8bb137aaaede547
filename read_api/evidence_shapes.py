"""The shapes of what stands behind figures."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from read_api.figure_shapes import Figure, SalesFigure, ScoringShape
from read_api.shapes import Balance, Shape


class Buyer(Shape):
    """A customer's purchases, in the window and ever."""

    customer_id: UUID
    purchases: int
    amount: Balance | None
    purchases_ever: int
    amount_ever: Balance | None
    first_day: date
    last_day: date


class Buyers(Figure):
    """Customers who bought, by id."""

    items: list[Buyer]
    next: str | None


class Repeater(Shape):
    """A customer who bought several times, with the days between."""

    customer_id: UUID
    purchases: int
    gaps: int
    mean_gap: float | None
    first_gap: int


class Repeaters(Figure):
    """Customers behind the cycles, by id."""

    items: list[Repeater]
    next: str | None


class CohortMember(Shape):
    """What a customer of a cohort bought, in the month asked for or in all of them."""

    customer_id: UUID
    purchases: int
    amount: Balance | None


class CohortMembers(Figure):
    """Customers of a cohort, by id."""

    items: list[CohortMember]
    next: str | None


class Change(Shape):
    """What became of a customer in a month: kept, lost, new or regained."""

    customer_id: UUID
    change: str


class Changes(Figure):
    """Who was a customer at a month's start or end, by id."""

    lost_after_days: int
    items: list[Change]
    next: str | None


class MovedCustomer(Shape):
    """A customer's segments at both moments; null where it had or has none."""

    customer_id: UUID
    before: str | None
    after: str | None


class MovedCustomers(Figure):
    """Customers behind the movement, by id."""

    since: datetime
    scoring: ScoringShape
    items: list[MovedCustomer]
    next: str | None


class Entrant(Shape):
    """A deal that entered the stage; days until it entered the next one, if it did."""

    id: UUID
    pipeline: str
    entered_at: datetime
    converted: bool
    advanced: bool
    days: float | None


class Entrants(SalesFigure):
    """Deals behind a conversion, by id."""

    items: list[Entrant]


class Stay(Shape):
    """A deal's stay in the stage, up to now where it has not ended."""

    id: UUID
    position: int
    pipeline: str
    entered_at: datetime
    left_at: datetime | None
    days: float


class Stays(SalesFigure):
    """Stays behind the times in a stage, in the order of the ledger."""

    items: list[Stay]


class LeadBehind(Shape):
    """A lead as it stood at the moment; days from its capture to its conversion."""

    id: UUID
    status: str
    source: str | None
    campaign: str | None
    region: str | None
    industry: str | None
    owner: str | None
    captured_at: datetime
    qualified: bool
    converted_at: datetime | None
    opportunity_id: UUID | None
    won: bool
    days: float | None


class LeadsBehind(SalesFigure):
    """Leads behind a group, by id."""

    items: list[LeadBehind]


class TicketBehind(Shape):
    """A ticket as it stood at the moment."""

    id: UUID
    status: str
    customer_id: UUID | None
    topic: str | None
    priority: str
    product: str | None
    channel: str
    technician: str | None
    opened_at: datetime
    taken_at: datetime | None
    replied_at: datetime | None
    resolved_at: datetime | None
    reopenings: int
    escalations: int
    minutes: int
    score: int | None


class TicketsBehind(SalesFigure):
    """Tickets behind a group, by id."""

    items: list[TicketBehind]


class MoneyMove(Shape):
    """An amount that fell due, came in or went back; its position leads into the audit."""

    day: date
    kind: str
    order_id: UUID | None
    payment_id: UUID | None
    position: int
    due: Balance | None
    received: Balance | None
    refunded: Balance | None


class MoneyMoves(SalesFigure):
    """What a month's receipts are made of, by day."""

    items: list[MoneyMove]
