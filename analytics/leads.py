"""The sources of leads, and what becomes of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from analytics.facts.asking import Session
from analytics.facts.scope import Group, OfLeads
from analytics.figure import Chart, Figure
from analytics.grouping import mean, month, spell
from analytics.purchases import ratio
from projections.asking.clocks import Unanswerable
from projections.asking.listing import Paged
from projections.asking.shape import Shape

TABLES = ("leads", "deals")
By = Literal["source", "campaign", "region", "industry", "owner", "month"]

EACH = """
WITH lead AS (
    SELECT lead_id,
           arg_max(source, position) AS source, arg_max(campaign, position) AS campaign,
           arg_max(region, position) AS region, arg_max(industry, position) AS industry,
           arg_max_null(owner, position)
               FILTER (kind IN ('captured', 'claimed', 'handed-over', 'returned')) AS owner,
           arg_max(CASE kind WHEN 'reopened' THEN 'captured' ELSE kind END, position) FILTER (
               kind IN ('captured', 'qualified', 'disqualified', 'reopened', 'converted')
           ) AS status,
           bool_or(kind = 'qualified') AS was_qualified,
           min(occurred_at) FILTER (kind = 'captured') AS captured_at,
           arg_max(occurred_at, position) FILTER (kind = 'converted') AS converted_at,
           arg_max(opportunity_id, position) AS opportunity_id
      FROM leads GROUP BY lead_id
), won AS (
    SELECT deal_id AS opportunity_id,
           arg_max(kind, position) FILTER (stage IS NOT NULL) = 'won' AS is_won
      FROM deals GROUP BY deal_id
), each AS (
    SELECT *, epoch_us(converted_at) - epoch_us(captured_at) AS took
      FROM lead LEFT JOIN won USING (opportunity_id)
     WHERE captured_at IS NOT NULL AND in_window(business_day(captured_at))
       AND fits(owner, asked().owner) AND fits(region, asked().region)
       AND fits(source, asked().channel)
)
"""
GROUPS = """
SELECT {by} AS "group", count(*) AS leads,
       count(*) FILTER (was_qualified) AS qualified,
       count(*) FILTER (status = 'converted') AS converted,
       count(*) FILTER (status = 'disqualified') AS disqualified,
       count(*) FILTER (status IN ('captured', 'qualified')) AS open,
       count(*) FILTER (is_won) AS won,
       sum(took)::HUGEINT AS took, median(took) AS middle
  FROM each GROUP BY 1 ORDER BY {order}
"""


class AskLeads(OfLeads):
    """What may be asked of leads by group."""

    by: By = "source"


class AskLeadsBehind(OfLeads, Paged):
    """What may be asked of the leads behind a group."""

    by: By | None = None
    group: Group = None

    def check(self) -> None:
        """See ``Asked``."""
        super().check()
        if self.by is None and self.group is not None:
            raise Unanswerable("group", "needs a by that says of what it is one")


class LeadGroup(Shape):
    """Leads of one group, captured in the window."""

    group: str | None
    leads: int
    open: int
    qualified: int
    disqualified: int
    converted: int
    won: int
    conversion: float | None
    win_rate: float | None
    days_mean: float | None
    days_median: float | None


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


def leads(session: Session[OfLeads], asked: AskLeads) -> list[LeadGroup]:
    """Leads captured in the window, by where they came from: what became of them, and how soon.

    ``conversion`` is the share that was converted, ``win_rate`` the share whose deal is won.
    """
    order = "1" if asked.by == "month" else "leads DESC, 1 NULLS LAST"
    query = EACH + GROUPS.format(by=_by(asked.by), order=order)
    return [
        LeadGroup.of(
            group=row["group"],
            leads=row["leads"],
            open=row["open"],
            qualified=row["qualified"],
            disqualified=row["disqualified"],
            converted=row["converted"],
            won=row["won"],
            conversion=ratio(row["converted"], row["leads"]),
            win_rate=ratio(row["won"], row["leads"]),
            days_mean=mean(row["took"], row["converted"]),
            days_median=spell(row["middle"]),
        )
        for row in session.rows(query)
    ]


def each(session: Session[OfLeads], asked: AskLeadsBehind) -> tuple[list[LeadBehind], str | None]:
    """The leads behind a group, or behind all of them, by id."""
    query = f"{EACH} SELECT * FROM each WHERE {_by(asked.by)} IS NOT DISTINCT FROM $group"
    rows, more = session.page(query, "lead_id", asked, {"group": asked.group})
    return [
        LeadBehind.of(
            id=UUID(row["lead_id"]),
            status="open" if row["status"] in {"captured", "qualified"} else row["status"],
            source=row["source"],
            campaign=row["campaign"],
            region=row["region"],
            industry=row["industry"],
            owner=row["owner"],
            captured_at=row["captured_at"],
            qualified=row["was_qualified"],
            converted_at=row["converted_at"],
            opportunity_id=row["opportunity_id"] and UUID(row["opportunity_id"]),
            won=bool(row["is_won"]),
            days=spell(row["took"]),
        )
        for row in rows
    ], more


def _by(by: By | None) -> str:
    if by == "month":
        return month("business_day(captured_at)")
    return by or "NULL::VARCHAR"


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="leads",
        operation="lead_groups",
        says="Leads captured in the window, by source: what became of them, and how soon.",
        asks=AskLeads,
        row=LeadGroup,
        answer=leads,
        tables=TABLES,
        chart=Chart("group", ("leads", "converted", "won")),
    ),
    Figure(
        name="leads/list",
        operation="leads_behind",
        says="The leads of a group, or all that were captured in the window.",
        asks=AskLeadsBehind,
        row=LeadBehind,
        answer=each,
        tables=TABLES,
    ),
)
