"""The shapes of answers, for the OpenAPI document and for readers of it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from events.values import Money, StageKind

T = TypeVar("T")


class Shape(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """RFC 9457: what is wrong, and what to do."""

    type: str = Field(examples=["/problems/invalid"])
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None


class FieldError(Shape):
    """What is wrong with one field."""

    field: str
    message: str


class Page(Shape, Generic[T]):
    """One page of a list.

    ``position``: every event up to it is reflected; ``next``: where the list goes on.
    """

    position: int
    parked: list[UUID] = Field(description="Streams whose later events are missing here.")
    items: list[T]
    next: str | None


class CustomerRef(Shape):
    """A customer by name."""

    id: UUID
    name: str | None


class CustomerShape(Shape):
    """A customer's record."""

    id: UUID
    version: int
    name: str | None
    kind: str
    owner: str | None = Field(description="The rep who answers for it; null in the public sea.")
    email: str | None
    phone: str | None
    address: str | None
    note: str | None
    industry: str | None
    region: str | None
    website: str | None
    source: str | None
    parent: str | None
    founded: int | None
    employees: int | None
    annual_revenue: Money | None
    tags: list[str]
    registered_at: datetime | None
    last_contact_at: datetime | None
    changed_at: datetime | None


class ContactShape(Shape):
    """A person who speaks for the customer."""

    id: UUID
    name: str | None
    email: str | None
    phone: str | None
    title: str | None
    role: str | None
    added_at: datetime | None


class OwnerShape(Shape):
    """From when on which rep, or nobody, answered for the customer."""

    owner: str | None
    since: datetime
    actor: str
    reason: str | None


class InteractionShape(Shape):
    """Once that somebody of ours was in touch."""

    version: int
    occurred_at: datetime
    actor: str
    channel: str
    summary: str
    contact_id: UUID | None
    inbound: bool
    minutes: int | None


class LeadShape(Shape):
    """A lead from its first appearance to its end."""

    id: UUID
    version: int
    status: str
    name: str | None
    email: str | None
    phone: str | None
    need: str | None
    company: str | None
    source: str | None
    campaign: str | None
    region: str | None
    industry: str | None
    owner: str | None
    budget: Money | None
    note: str | None
    reason: str | None
    customer_id: UUID | None
    opportunity_id: UUID | None
    captured_at: datetime | None
    claimed_at: datetime | None
    qualified_at: datetime | None
    closed_at: datetime | None
    changed_at: datetime | None


class OpportunityShape(Shape):
    """A deal as it stands."""

    id: UUID
    version: int
    title: str | None
    pipeline: str | None
    stage: str | None
    kind: StageKind
    customer: CustomerRef | None
    owner: str | None
    product: str | None
    amount: Money | None
    expected_close: date | None
    lost_reason: str | None
    comment: str | None
    opened_at: datetime | None
    stage_since: datetime | None
    closed_at: datetime | None
    changed_at: datetime | None


class StageShape(Shape):
    """When the deal came to stand in a stage, and by whom."""

    version: int
    stage: str
    kind: StageKind
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    position: int


class QuoteShape(Shape):
    """A quote given."""

    id: UUID
    opportunity_id: UUID
    version: int
    occurred_at: datetime
    given_by: str
    total: Money
    valid_until: date | None
    lines: list[dict[str, Any]]


class OpportunityDetail(OpportunityShape):
    """A deal with every stage it stood in and every quote given."""

    position: int
    parked: list[UUID]
    stages: list[StageShape]
    quotes: list[QuoteShape]


class LeadDetail(LeadShape):
    """A lead with the position that the answer reflects."""

    position: int
    parked: list[UUID]


class PromiseShape(Shape):
    """Who promised what to whom, until when, and what came of it."""

    id: UUID
    version: int
    customer: CustomerRef
    status: str = Field(examples=["open", "kept", "broken", "withdrawn"])
    overdue: bool
    promised_by: str | None
    recorded_by: str | None
    what: str | None
    due: date | None
    topic: str | None
    amount: Money | None
    contact_id: UUID | None
    made_at: datetime | None
    settled_at: datetime | None
    settled_by: str | None
    note: str | None
    contradicts: list[UUID] = Field(description="Open promises on the same topic that differ.")


class EntryShape(Shape):
    """One event around a customer."""

    position: int
    occurred_at: datetime
    recorded_at: datetime
    stream_type: str
    stream_id: UUID
    version: int
    type: str
    actor: str
    data: dict[str, Any]


class Balance(Shape):
    """An amount that may be below 0: then it is owed the other way round."""

    amount: str = Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$", examples=["-12.50"])
    currency: str = Field(pattern="^[A-Z]{3}$")


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
    status: str = Field(
        examples=["placed", "shipped", "held", "disputed", "resolved", "completed", "cancelled"]
    )
    amount: Money = Field(description="What was ordered.")
    billed: Balance = Field(
        description="The same without what was returned; 0 when cancelled. "
        "Below 0 as of a day that lies between a return and what came back by it."
    )
    credited: Balance = Field(description="By credit notes that were allocated to it.")
    received: Money
    refunded: Money
    balance: Balance
    placed_at: datetime


class OrderFactShape(Shape):
    """What the order came to be, when and by whom."""

    version: int
    status: str
    amount: Money
    billed: Balance
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    reason: str | None
    position: int


class InstalmentShape(Shape):
    """A part of what is billed; what is paid covers the earliest parts first.

    Without a number: what is billed beyond the plan in force, or without one.
    """

    number: int | None
    due: date
    amount: Money
    open: Money


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


class OrderDetail(OrderShape):
    """An order with lines, plan, history and payments, at a moment."""

    position: int
    as_of: datetime | None
    known_at: int | None
    parked: list[UUID]
    lines: list[dict[str, Any]]
    history: list[OrderFactShape]
    instalments: list[InstalmentShape]
    payments: list[PaidShape]


class Orders(Page[OrderShape]):
    """Orders at a moment."""

    as_of: datetime | None
    known_at: int | None


class PaymentShape(Shape):
    """Money, or a credit note; ``credit`` is what is for no order and was not given back."""

    id: UUID
    version: int
    kind: str = Field(examples=["money", "credit-note"])
    customer: CustomerRef
    amount: Money
    credit: Money
    refunded: Money
    method: str | None
    reference: str | None
    note: str | None
    received_at: datetime
    received_by: str


class PaymentFactShape(Shape):
    """What became of a payment, step by step."""

    version: int
    kind: str = Field(examples=["received", "credited", "allocated", "refunded"])
    order_id: UUID | None
    amount: Balance
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    position: int


class PaymentDetail(PaymentShape):
    """A payment with all that became of it."""

    position: int
    parked: list[UUID]
    history: list[PaymentFactShape]


class Sums(Shape):
    """receivable = billed - received + refunded; overdue: what was due before today."""

    billed: Balance
    received: Balance
    refunded: Money
    receivable: Balance
    overdue: Money


class Receivable(Sums):
    """What a customer owes in a currency."""

    customer: CustomerRef


class Receivables(Page[Receivable]):
    """Who owes what at a moment."""

    as_of: datetime | None
    known_at: int | None
    total: Sums | None = Field(description="Null unless everything is in one currency.")


class Bucket(Shape):
    """What is owed and past due by so many days."""

    bucket: str = Field(examples=["current", "1-30", ">90"])
    amount: Money


class AgeingItem(Shape):
    """What a customer owes in a currency, by days past due."""

    customer: CustomerRef
    receivable: Money
    buckets: list[Bucket]


class AgeingTotal(Shape):
    """What all owe in a currency, by days past due."""

    currency: str
    receivable: Money
    buckets: list[Bucket]


class Ageing(Shape):
    """What is owed at a moment, by days past due."""

    position: int
    as_of: datetime | None
    known_at: int | None
    parked: list[UUID]
    items: list[AgeingItem]
    total: list[AgeingTotal]


class RepMoney(Shape):
    """Of a rep in a currency; without a rep: money and credit notes that are for no order yet."""

    rep: str | None
    orders: int
    billed: Balance
    received: Balance
    refunded: Money
    receivable: Balance


class ByRep(Shape):
    """Orders and money by rep at a moment."""

    position: int
    as_of: datetime | None
    known_at: int | None
    parked: list[UUID]
    items: list[RepMoney]


class PeriodMoney(Shape):
    """Orders and money of a period in a currency."""

    begins: date
    orders: int
    billed: Balance
    received: Money
    refunded: Money


class ByPeriod(Shape):
    """Orders and money by period at a moment."""

    position: int
    as_of: datetime | None
    known_at: int | None
    parked: list[UUID]
    period: str
    items: list[PeriodMoney]


class TicketShape(Shape):
    """A ticket: who has it in hand and how long it takes."""

    id: UUID
    version: int
    number: str | None
    channel: str | None
    subject: str | None
    text: str | None
    contact_id: UUID | None
    order_id: UUID | None
    customer: CustomerRef | None
    status: str = Field(examples=["open", "waiting", "resolved", "closed"])
    dispatch: str = Field(examples=["undispatched", "unconfirmed", "confirmed"])
    technician: str | None
    kind: str | None
    priority: str
    product: str | None
    score: int | None = Field(description="What the customer thinks, 1 (bad) to 5 (good).")
    minutes: int = Field(description="Worked on it in all.")
    opened_at: datetime
    first_taken_at: datetime | None = Field(description="First confirmed by a technician.")
    first_reply_at: datetime | None
    resolved_at: datetime | None = Field(description="The last time.")
    closed_at: datetime | None
    changed_at: datetime
    waits: int
    escalations: int
    resolutions: int
    closings: int
    reopenings: int


class TicketFactShape(Shape):
    """What was done or written, when and by whom."""

    version: int
    type: str
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    status: str | None
    dispatch: str | None
    technician: str | None
    kind: str | None
    priority: str | None
    minutes: int | None
    score: int | None
    inbound: bool | None
    text: str | None
    position: int


class TicketDetail(TicketShape):
    """A ticket with all that was done and written, at a moment."""

    position: int
    as_of: datetime | None
    known_at: int | None
    parked: list[UUID]
    history: list[TicketFactShape]


class Tickets(Page[TicketShape]):
    """Tickets at a moment."""

    as_of: datetime | None
    known_at: int | None


class StandingIn(Shape):
    """A customer's segment by recency, frequency and monetary value, in one currency."""

    recency_days: int
    frequency: int
    monetary: Money | None
    r_score: int
    f_score: int
    m_score: int
    segment: str


class Standing(Shape):
    """Where a customer stands among all: by all its purchases, compared with everybody's."""

    position: int
    items: list[StandingIn]


class CustomerView(CustomerShape):
    """Everything known of a customer, in one answer."""

    position: int
    as_of: datetime | None
    known_at: int | None
    parked: list[UUID]
    contacts: list[ContactShape]
    owners: list[OwnerShape]
    interactions: list[InteractionShape] = Field(description="The latest 50.")
    promises: list[PromiseShape]
    opportunities: list[OpportunityShape]
    quotes: list[QuoteShape]
    leads: list[LeadShape]
    orders: list[OrderShape]
    payments: list[PaymentShape]
    accounts: list[Sums] = Field(description="What the customer owes, by currency.")
    tickets: list[TicketShape]
    timeline: list[EntryShape] = Field(description="The latest 50 events.")
    rfm: Standing | None = Field(
        description="Where the customer stands among all; null where the facts do not tell yet."
    )


class FunnelStage(Shape):
    """How many deals stand in a stage, and what they are worth in each currency."""

    stage: str
    kind: StageKind
    count: int
    amount: list[Money]


class Funnel(Shape):
    """The sales funnel at a moment."""

    position: int
    as_of: datetime | None
    known_at: int | None
    parked: list[UUID]
    pipeline: str | None
    stages: list[FunnelStage]


class Promises(Page[PromiseShape]):
    """The promise ledger at a moment."""

    as_of: datetime | None
    known_at: int | None


class RecordedShape(Shape):
    """An event with its whole envelope."""

    position: int
    event_id: UUID
    stream_type: str
    stream_id: UUID
    version: int
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    actor_kind: str
    command_id: UUID
    correlation_id: UUID
    causation_id: UUID | None
    type: str
    schema_version: int
    data: dict[str, Any] | None
    unreadable: str | None = None


class RefusalShape(Shape):
    """A command that a rule refused."""

    recorded_at: datetime
    occurred_at: datetime
    actor: str
    actor_kind: str
    command: str
    command_id: UUID
    correlation_id: UUID
    stream_type: str
    stream_id: UUID
    version: int
    rule: str
    detail: str
    fields: list[str]
    key: str
    position: int


class ProjectionShape(Shape):
    """How far a read model is behind the ledger."""

    name: str
    position: int
    lag_positions: int
    lag_seconds: float
    status: str = Field(examples=["running", "stalled", "behind", "halted"])
    halted: str | None
    halted_at: int | None
    parked: list[UUID]


class Projections(Shape):
    """Every read model against the ledger's end."""

    position: int
    items: list[ProjectionShape]


class RelayShape(Shape):
    """How far the relay has carried the ledger to Kafka; nulls where none ever ran.

    ``epoch`` rises with each relay that takes the lead.
    """

    ledger_position: int
    position: int | None
    lag_positions: int | None
    lag_seconds: float
    halted: str | None
    epoch: int | None
    topic_id: UUID | None
    source: str = Field(description="The `source` of every record that carries this ledger.")


class ParkedPolicy(Shape):
    """What a policy wanted done in answer to an event, and which rule refused it."""

    policy: str
    position: int
    event_id: UUID
    stream_id: UUID
    command: str
    rule: str
    detail: str
    attempts: int
    parked_at: datetime
    is_retried: bool = Field(description="Whether an operator has asked to try it again.")


class PoliciesShape(Shape):
    """Up to where policies have acted, why they stand still if they do, and what was refused."""

    position: int
    halted: str | None
    items: list[ParkedPolicy]
