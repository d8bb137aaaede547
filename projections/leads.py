"""Read model ``leads``: each lead, from its capture to its qualification or disqualification."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, assert_never
from uuid import UUID

from events.envelope import Recorded
from events.lead import (
    LeadCaptured,
    LeadClaimed,
    LeadConverted,
    LeadDetailsChanged,
    LeadDisqualified,
    LeadEvent,
    LeadHandedOver,
    LeadQualified,
    LeadReopened,
    LeadReturned,
)
from events.values import StoredMoney
from projections.asking.clocks import Moment
from projections.asking.listing import AskedAt, By, Counted, Listing, Question, Where
from projections.asking.parameters import Ids, Time, Word, each
from projections.asking.rows import fetch
from projections.asking.shape import HeadAt, Shape
from projections.asking.sorting import Sorts
from projections.asking.then import last_said, latest, stood
from projections.asking.view import View
from projections.engine.model import ReadModel
from projections.engine.tables import Row, Rows, Table
from projections.facts.leads import DETAILS, LeadFact, facts


@dataclass(slots=True)
class LeadRow(Row):
    """A lead as it stands; ``captured_position`` is 0 where its capture is not among the events."""

    lead_id: UUID
    version: int = 0
    position: int = 0
    status: str = "open"
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    need: str | None = None
    company: str | None = None
    source: str | None = None
    campaign: str | None = None
    region: str | None = None
    industry: str | None = None
    owner: str | None = None
    budget: Decimal | None = None
    budget_currency: str | None = None
    note: str | None = None
    reason: str | None = None
    customer_id: UUID | None = None
    opportunity_id: UUID | None = None
    captured_at: datetime | None = None
    captured_position: int = 0
    claimed_at: datetime | None = None
    qualified_at: datetime | None = None
    closed_at: datetime | None = None
    changed_at: datetime | None = None


LEADS = Table(
    "leads",
    LeadRow,
    key=("lead_id",),
    indexes=("(captured_at, lead_id)", "(owner, status)", "(customer_id)", "(position)"),
)
FACTS = Table("lead_facts", LeadFact, key=("lead_id", "version"), facts=True)


def apply(rows: Rows, recorded: Recorded) -> None:
    """Change the lead's row by one event."""
    event: LeadEvent = recorded.event  # type: ignore[assignment]  # the model names its events
    lead = rows.get(LEADS, recorded.stream_id)
    lead.version, lead.position = recorded.version, recorded.position
    lead.changed_at = recorded.occurred_at
    match event:
        case LeadCaptured():
            lead.name, lead.email, lead.phone = event.name, event.email, event.phone
            lead.need, lead.company = event.need, event.company
            lead.source, lead.campaign = event.source, event.campaign
            lead.region, lead.industry = event.region, event.industry
            lead.owner = event.owner
            lead.captured_at, lead.captured_position = recorded.occurred_at, recorded.position
            if event.owner is not None:
                lead.claimed_at = recorded.occurred_at
        case LeadDetailsChanged():
            for name in DETAILS:
                if getattr(event, name) is not None:
                    setattr(lead, name, getattr(event, name))
        case LeadClaimed() | LeadHandedOver():
            lead.owner, lead.claimed_at = event.owner, recorded.occurred_at
        case LeadReturned():
            lead.owner = None
        case LeadQualified():
            lead.status, lead.qualified_at = "qualified", recorded.occurred_at
            lead.note = event.note
            if event.budget is not None:
                lead.budget, lead.budget_currency = event.budget.amount, event.budget.currency
        case LeadDisqualified():
            lead.status, lead.closed_at = "disqualified", recorded.occurred_at
            lead.reason, lead.note = event.reason, event.note
        case LeadReopened():
            lead.status = "open"
            lead.closed_at = lead.qualified_at = lead.reason = lead.note = None
        case LeadConverted():
            lead.status, lead.closed_at = "converted", recorded.occurred_at
            lead.customer_id, lead.opportunity_id = event.customer_id, event.opportunity_id
        case _:
            assert_never(event)
    for fact in facts(recorded):
        rows.add(FACTS, fact)


MODEL = ReadModel("leads", (LEADS, FACTS), LeadEvent, apply, revision=2)

Status = Literal["open", "qualified", "disqualified", "converted"]
POOL = "(owner IS NULL AND status IN ('open', 'qualified')) = %(in_pool)s"


class AskLeads(Counted):
    """What may be asked of leads; ``in_pool`` are those that are open and have no owner."""

    ids: Annotated[Ids, Where("lead_id = ANY (%(ids)s)", each)] = None
    status: Annotated[Status | None, Where("status = %(status)s")] = None
    owner: Annotated[Word, Where("owner = %(owner)s")] = None
    in_pool: Annotated[bool | None, Where(POOL)] = None
    source: Annotated[Word, Where("source = %(source)s")] = None
    region: Annotated[Word, Where("region = %(region)s")] = None
    industry: Annotated[Word, Where("industry = %(industry)s")] = None
    campaign: Annotated[Word, Where("campaign = %(campaign)s")] = None
    reason: Annotated[Word, Where("reason = %(reason)s")] = None
    customer_id: Annotated[UUID | None, Where("customer_id = %(customer_id)s")] = None
    email: Annotated[Word, Where("lower(email) = lower(%(email)s)")] = None
    captured_from: Annotated[Time, Where("captured_at >= %(captured_from)s")] = None
    captured_to: Annotated[Time, Where("captured_at < %(captured_to)s")] = None
    sort: Annotated[
        Word,
        Sorts(
            *("captured_at", "changed_at", "claimed_at", "qualified_at", "closed_at", "name"),
            *("company", "status", "owner", "source", "campaign", "region", "industry"),
            *("reason", "budget"),
        ),
    ] = None


class LeadShape(Shape):
    """A lead, from its capture to its qualification or disqualification."""

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
    budget: StoredMoney | None
    note: str | None
    reason: str | None
    customer_id: UUID | None
    opportunity_id: UUID | None
    captured_at: datetime | None
    claimed_at: datetime | None
    qualified_at: datetime | None
    closed_at: datetime | None
    changed_at: datetime | None


class LeadDetail(LeadShape, HeadAt):
    """A lead with the position that the answer reflects."""


SELECT = """
SELECT lead_id AS id, version, status, name, email, phone, need, company, source, campaign, region,
       industry, owner, budget, budget_currency AS "budget.currency", note, reason, customer_id,
       opportunity_id, captured_at, claimed_at, qualified_at, closed_at, changed_at
  FROM leads WHERE captured_at IS NOT NULL
"""
CLOSED = "s.kind IN ('disqualified', 'converted')"
SAID = {
    **last_said(
        *("status", "name", "email", "phone", "need", "company", "source", "campaign", "region"),
        *("industry", "budget", "budget_currency", "customer_id", "opportunity_id"),
    ),
    "owner": latest("s.owner", "s.owner IS NOT NULL OR s.kind = 'returned'"),
    "note": latest("s.note", "s.kind IN ('qualified', 'disqualified', 'reopened')"),
    "reason": latest("s.reason", "s.kind IN ('disqualified', 'reopened')"),
    "claimed_at": latest("s.occurred_at", "s.owner IS NOT NULL"),
    "qualified_at": latest(
        "CASE s.kind WHEN 'qualified' THEN s.occurred_at END", "s.kind IN ('qualified', 'reopened')"
    ),
    "closed_at": latest(
        f"CASE WHEN {CLOSED} THEN s.occurred_at END", f"{CLOSED} OR s.kind = 'reopened'"
    ),
}


def select(when: Moment) -> str:
    """Every lead as it was at a moment."""
    if when.is_live:
        return SELECT
    counts, there = when.counts("s"), when.counts("t", "captured_at", "captured_position")
    return f"WITH {stood(when, LEADS, FACTS, SAID, counts=counts, there=there)} {SELECT}"


def lead(view: View, lead_id: UUID, _: AskedAt) -> LeadDetail | None:
    """One lead, or None."""
    of = {**view.when.values, "id": lead_id}
    for found in fetch(view.conn, LeadShape, f"{select(view.when)} AND lead_id = %(id)s", of):
        return LeadDetail.of(view.head_at, found)
    return None


LIST = Listing(
    path="/leads",
    name="list_leads",
    tag="leads",
    says="Leads, in the order of their capture.",
    asks=AskLeads,
    shape=LeadShape,
    needs=(MODEL,),
    select=select,
    order=(By("captured_at"), By("lead_id", "id")),
)
QUESTIONS = (
    LIST.question(),
    Question(
        path="/leads/{id}",
        name="one_lead",
        tag="leads",
        says="One lead, now or at any moment of either clock; its ETag is its version.",
        asks=AskedAt,
        shape=LeadDetail,
        needs=(MODEL,),
        answer=lead,
    ),
)
