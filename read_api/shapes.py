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
    timeline: list[EntryShape] = Field(description="The latest 50 events.")


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
    status: str = Field(examples=["running", "halted"])
    halted: str | None
    halted_at: int | None
    parked: list[UUID]


class Projections(Shape):
    """Every read model against the ledger's end."""

    position: int
    items: list[ProjectionShape]
