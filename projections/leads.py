"""Read model ``leads``: each lead from its first appearance to its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, assert_never
from uuid import UUID

from events.envelope import Recorded
from events.lead import (
    LeadCaptured,
    LeadClaimed,
    LeadConverted,
    LeadDisqualified,
    LeadEvent,
    LeadQualified,
    LeadReturned,
)
from projections.asking.money import money
from projections.asking.pages import LIMIT, Filter, fetch, page
from projections.engine.model import ReadModel
from projections.engine.tables import Connection, Row, Rows, Table


@dataclass(slots=True)
class LeadRow(Row):
    """A lead as it stands."""

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
    claimed_at: datetime | None = None
    qualified_at: datetime | None = None
    closed_at: datetime | None = None
    changed_at: datetime | None = None


LEADS = Table(
    "leads",
    LeadRow,
    key=("lead_id",),
    indexes=("(captured_at, lead_id)", "(owner, status)", "(customer_id)"),
)


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
            lead.captured_at = recorded.occurred_at
        case LeadClaimed():
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
        case LeadConverted():
            lead.status, lead.closed_at = "converted", recorded.occurred_at
            lead.customer_id, lead.opportunity_id = event.customer_id, event.opportunity_id
        case _:
            assert_never(event)


MODEL = ReadModel("leads", (LEADS,), LeadEvent, apply)

SELECT = "SELECT * FROM leads"


def lead(conn: Connection, lead_id: UUID) -> dict[str, Any] | None:
    """One lead, or None."""
    rows = fetch(conn, f"{SELECT} WHERE lead_id = %s AND captured_at IS NOT NULL", (lead_id,))
    return shown(rows[0]) if rows else None


def leads(
    conn: Connection,
    *,
    status: str | None = None,
    owner: str | None = None,
    in_pool: bool | None = None,
    source: str | None = None,
    region: str | None = None,
    industry: str | None = None,
    customer_id: UUID | None = None,
    captured_from: datetime | None = None,
    captured_to: datetime | None = None,
    cursor: str | None = None,
    limit: int = LIMIT,
) -> tuple[list[dict[str, Any]], str | None]:
    """Leads by the time of their capture; ``in_pool`` are those that are open and nobody's."""
    pool = "(owner IS NULL AND status IN ('open', 'qualified')) = %s"
    return page(
        conn,
        SELECT,
        [
            Filter("captured_at IS NOT NULL AND %s", (True,)),
            Filter("status = %s", (status,)),
            Filter("owner = %s", (owner,)),
            Filter(pool, (in_pool,)),
            Filter("source = %s", (source,)),
            Filter("region = %s", (region,)),
            Filter("industry = %s", (industry,)),
            Filter("customer_id = %s", (customer_id,)),
            Filter("captured_at >= %s", (captured_from,)),
            Filter("captured_at < %s", (captured_to,)),
        ],
        ("captured_at", "lead_id"),
        cursor,
        limit,
        shape=shown,
    )


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A lead as the API shows it."""
    del row["position"]
    row["id"] = row.pop("lead_id")
    row["budget"] = money(row["budget"], row.pop("budget_currency"))
    return row
