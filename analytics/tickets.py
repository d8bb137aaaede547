"""Figures over tickets: backlog, times, reopenings, ratings."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from analytics.facts.asking import Session, of_customers
from analytics.facts.scope import Group, OfTickets
from analytics.figure import Chart, Figure
from analytics.grouping import mean, micros, month, spell
from analytics.purchases import ratio
from projections.asking.clocks import Unanswerable
from projections.asking.listing import Paged
from projections.asking.shape import Shape

TABLES = ("tickets", "accounts", "tags")
By = Literal["all", "topic", "priority", "product", "channel", "technician", "month"]

EACH = """
WITH acts AS (
    SELECT *, CASE WHEN kind IN ('opened', 'dispatched', 'dispatch-confirmed', 'escalated',
                                 'reopened') THEN 'open'
                   WHEN kind = 'replied' AND inbound THEN 'open'
                   WHEN kind IN ('waiting', 'resolved', 'closed') THEN kind END AS status
      FROM tickets
), steps AS (
    SELECT *, status IN ('open', 'waiting') AND lag(status IGNORE NULLS) OVER (
               PARTITION BY ticket_id ORDER BY position) IN ('resolved', 'closed') AS reopens
      FROM acts
), ticket AS (
    SELECT ticket_id,
           arg_max(customer_id, position) AS customer_id,
           arg_max(channel, position) AS channel, arg_max(topic, position) AS topic,
           arg_max(priority, position) AS priority, arg_max(product, position) AS product,
           arg_max(CASE kind WHEN 'dispatch-declined' THEN '' ELSE technician END, position)
               AS technician,
           arg_max(status, position) AS status,
           min(occurred_at) FILTER (kind = 'opened') AS opened_at,
           min(occurred_at) FILTER (kind = 'dispatch-confirmed') AS taken_at,
           min(occurred_at) FILTER (kind = 'replied' AND NOT inbound) AS replied_at,
           max(occurred_at) FILTER (kind = 'resolved') AS resolved_at,
           count(*) FILTER (reopens) AS reopenings,
           count(*) FILTER (kind = 'escalated') AS escalations,
           sum(minutes)::BIGINT AS minutes, arg_max(score, position) AS score
      FROM steps GROUP BY ticket_id
), spells AS (
    SELECT ticket_id, status, occurred_at AS since,
           lead(occurred_at) OVER (PARTITION BY ticket_id ORDER BY position) AS until
      FROM acts WHERE status IS NOT NULL
), waited AS (
    SELECT ticket_id, count(*) AS waits,
           sum(greatest(coalesce(epoch_us(until), $now::BIGINT) - epoch_us(since), 0))::BIGINT
               AS wait
      FROM spells WHERE status = 'waiting' GROUP BY ticket_id
), each AS (
    SELECT * REPLACE (nullif(technician, '') AS technician),
           epoch_us(taken_at) - epoch_us(opened_at) AS take,
           epoch_us(replied_at) - epoch_us(opened_at) AS reply,
           epoch_us(resolved_at) - epoch_us(opened_at) AS resolve
      FROM ticket LEFT JOIN waited USING (ticket_id)
     WHERE opened_at IS NOT NULL AND in_window(business_day(opened_at))
       AND fits(technician, asked().owner) AND fits(product, asked().product)
       {of_customers}
)
"""
GROUPS = """
SELECT {by} AS "group", count(*) AS tickets,
       count(*) FILTER (status <> 'closed') AS backlog,
       count(*) FILTER (status IN ('open', 'waiting')) AS unresolved,
       sum(reopenings)::BIGINT AS reopenings, count(*) FILTER (reopenings > 0) AS reopened,
       count(*) FILTER (escalations > 0) AS escalated, coalesce(sum(minutes), 0)::BIGINT AS minutes,
       count(take) AS taken, sum(take)::HUGEINT AS take, median(take) AS take_middle,
       count(reply) AS replied, sum(reply)::HUGEINT AS reply, median(reply) AS reply_middle,
       count(resolve) AS resolved, sum(resolve)::HUGEINT AS resolve,
       median(resolve) AS resolve_middle,
       coalesce(sum(waits), 0)::BIGINT AS waits, count(wait) AS waited, sum(wait)::HUGEINT AS wait,
       median(wait) AS wait_middle,
       count(score) AS rated, sum(score)::BIGINT AS score
  FROM each GROUP BY {grouped} ORDER BY {order}
"""


class AskTickets(OfTickets):
    """What may be asked of tickets by group."""

    by: By = "all"


class AskTicketsBehind(OfTickets, Paged):
    """What may be asked of the tickets behind a group."""

    by: By = "all"
    group: Group = None

    def check(self) -> None:
        """See ``Asked``."""
        super().check()
        if self.by == "all" and self.group is not None:
            raise Unanswerable("group", "needs a by that says of what it is one")


class TicketGroup(Shape):
    """Tickets of one group, opened in the window; times in days since the opening."""

    group: str | None
    tickets: int
    backlog: int
    unresolved: int
    reopened: int
    reopenings: int
    escalated: int
    minutes: int
    taken: int
    taken_days_mean: float | None
    taken_days_median: float | None
    replied: int
    replied_days_mean: float | None
    replied_days_median: float | None
    resolved: int
    resolved_days_mean: float | None
    resolved_days_median: float | None
    waits: int
    waited: int = Field(description="Tickets that ever waited.")
    waited_days: float | None = Field(description="Their days of waiting in all.")
    waited_days_mean: float | None
    waited_days_median: float | None
    rated: int
    score_mean: float | None


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
    waits: int
    waited_days: float | None
    minutes: int
    score: int | None


def tickets(session: Session[OfTickets], asked: AskTickets) -> list[TicketGroup]:
    """Tickets opened in the window, by group: what is left of them, and how long they took.

    ``backlog`` are those that are not closed at the moment. ``taken`` is a technician's first yes,
    ``replied`` our first answer, ``resolved`` the last time that it was done; days since the
    opening, time of waiting included. A wait lasts until the next act on the ticket's status, up to
    the moment if there was none; ``waited`` are days of waiting of each ticket that did.
    """
    by, is_one = asked.by, asked.by == "all"
    query = _each(session) + GROUPS.format(
        by=_by(by),
        grouped="ALL" if not is_one else "()",
        order="1" if by == "month" or is_one else "tickets DESC, 1 NULLS LAST",
    )
    return [
        TicketGroup.of(
            group=row["group"],
            tickets=row["tickets"],
            backlog=row["backlog"],
            unresolved=row["unresolved"],
            reopened=row["reopened"],
            reopenings=row["reopenings"] or 0,
            escalated=row["escalated"],
            minutes=row["minutes"],
            **_times(row, "taken", "take"),
            **_times(row, "replied", "reply"),
            **_times(row, "resolved", "resolve"),
            waits=row["waits"],
            waited_days=spell(row["wait"]),
            **_times(row, "waited", "wait"),
            rated=row["rated"],
            score_mean=ratio(row["score"], row["rated"]),
        )
        for row in session.rows(query, {"now": micros(session)})
    ]


def each(
    session: Session[OfTickets], asked: AskTicketsBehind
) -> tuple[list[TicketBehind], str | None]:
    """The tickets behind a group, or behind all of them, by id."""
    values = {"group": asked.group, "now": micros(session)}
    query = f"{_each(session)} SELECT * FROM each WHERE {_by(asked.by)} IS NOT DISTINCT FROM $group"
    rows, more = session.page(query, "ticket_id", asked, values)
    return [
        TicketBehind.of(
            id=UUID(row["ticket_id"]),
            status=row["status"],
            customer_id=row["customer_id"] and UUID(row["customer_id"]),
            **{name: row[name] for name in ("topic", "priority", "product", "channel")},
            **{name: row[name] for name in ("technician", "opened_at", "taken_at", "replied_at")},
            **{name: row[name] for name in ("resolved_at", "reopenings", "escalations")},
            waits=row["waits"] or 0,
            waited_days=spell(row["wait"]),
            minutes=row["minutes"] or 0,
            score=row["score"],
        )
        for row in rows
    ], more


def _each(session: Session[OfTickets]) -> str:
    customers = "".join(f"AND {condition}" for condition in of_customers(session.scope))
    return EACH.format(of_customers=customers)


def _by(by: By) -> str:
    if by == "month":
        return month("business_day(opened_at)")
    return "NULL::VARCHAR" if by == "all" else by


def _times(row: dict[str, Any], name: str, of: str) -> dict[str, Any]:
    return {
        name: row[name],
        f"{name}_days_mean": mean(row[of], row[name]),
        f"{name}_days_median": spell(row[f"{of}_middle"]),
    }


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="tickets",
        operation="ticket_groups",
        says="Tickets opened in the window: backlog, times, reopenings, ratings.",
        asks=AskTickets,
        row=TicketGroup,
        answer=tickets,
        tables=TABLES,
        chart=Chart("group", ("tickets", "backlog")),
    ),
    Figure(
        name="tickets/list",
        operation="tickets_behind",
        says="The tickets of a group, or all that were opened in the window.",
        asks=AskTicketsBehind,
        row=TicketBehind,
        answer=each,
        tables=TABLES,
    ),
)
