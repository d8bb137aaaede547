"""How long tickets waited, and for what. Reasons are personal texts, which no file of facts has.

A wait lasts from when a ticket was put to waiting until the next act on its status, which may be
waiting anew; up to the moment if there was none.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from projections import tickets
from projections.asking.clocks import Moment
from projections.asking.listing import (
    AskedAt,
    By,
    Listing,
    Question,
    TurnedAt,
    Where,
    chosen,
)
from projections.asking.parameters import Time, Word
from projections.asking.rows import fetch
from projections.asking.shape import HeadAt, Shape
from projections.asking.sorting import Sorts
from projections.asking.view import View

DAYS = "round(({0} / 86400)::numeric, 6)::float8"
EACH = """
SELECT *, greatest(extract(epoch FROM coalesce(until, %(now)s) - since), 0) AS seconds
  FROM (SELECT s.ticket_id, s.occurred_at AS since, s.status, s.text AS reason, s.actor, s.position,
               lead(s.occurred_at) OVER (PARTITION BY s.ticket_id ORDER BY s.version) AS until
          FROM ticket_facts s WHERE s.status IS NOT NULL AND {facts}
  ) s WHERE status = 'waiting'
"""
WAITS = f"""
SELECT w.ticket_id, t.number, w.reason, w.since, w.until, {DAYS.format("w.seconds")} AS days,
       w.actor, w.position
  FROM ({EACH}) w JOIN tickets t USING (ticket_id) WHERE true
"""
BY_REASON = f"""
SELECT w.reason, count(DISTINCT w.ticket_id) AS tickets, count(*) AS waits,
       count(*) FILTER (WHERE w.until IS NULL) AS waiting,
       {DAYS.format("sum(w.seconds)")} AS days, {DAYS.format("avg(w.seconds)")} AS days_mean,
       {DAYS.format("percentile_cont(0.5) WITHIN GROUP (ORDER BY w.seconds)")} AS days_median
  FROM ({EACH}) w WHERE true{{conditions}}
 GROUP BY w.reason ORDER BY days DESC, w.reason NULLS LAST
"""


class OfWaits(AskedAt):
    """Which waits."""

    since_from: Annotated[Time, Where("w.since >= %(since_from)s")] = None
    since_to: Annotated[Time, Where("w.since < %(since_to)s")] = None
    ticket_id: Annotated[UUID | None, Where("w.ticket_id = %(ticket_id)s")] = None


class AskWaits(OfWaits, TurnedAt):
    """What may be asked of waits."""

    reason: Annotated[Word, Where("w.reason = %(reason)s")] = None
    over: Annotated[bool | None, Where("(w.until IS NOT NULL) = %(over)s")] = None
    sort: Annotated[Word, Sorts("since", "until", "number", "reason", "actor")] = None


class WaitOfTicket(Shape):
    """A wait of a ticket."""

    ticket_id: UUID
    number: str | None
    reason: str | None
    since: datetime
    until: datetime | None
    days: float
    actor: str
    position: int


class ReasonShape(Shape):
    """What tickets waited for, for how long; ``waiting`` are waits that are not over."""

    reason: str | None
    tickets: int
    waits: int
    waiting: int
    days: float
    days_mean: float
    days_median: float


class ByReason(HeadAt):
    """Time of waiting by its reason, the longest first."""

    items: list[ReasonShape]


def select(when: Moment) -> str:
    """Every wait that was begun by a moment."""
    return WAITS.format(facts=when.counts("s"))


def by_reason(view: View, asked: OfWaits) -> ByReason:
    """How long tickets waited for what: in all, mean and median of the waits, in days."""
    filters, given = chosen(asked)
    conditions = "".join(f" AND {one}" for one in filters)
    sql = BY_REASON.format(facts=view.when.counts("s"), conditions=conditions)
    items = fetch(view.conn, ReasonShape, sql, {**view.when.values, **given})
    return ByReason.of(view.head_at, items=items)


LIST = Listing(
    path="/tickets/waits",
    name="list_waits",
    tag="tickets",
    says="Waits of tickets by their beginning, each with its reason and how long it took.",
    asks=AskWaits,
    shape=WaitOfTicket,
    needs=(tickets.MODEL,),
    select=select,
    order=(By("w.since"), By("w.position")),
)
QUESTIONS = (
    LIST.question(),
    Question(
        path="/tickets/waits/by-reason",
        name="waits_by_reason",
        tag="tickets",
        says="How long tickets waited, by what for.",
        asks=OfWaits,
        shape=ByReason,
        needs=(tickets.MODEL,),
        answer=by_reason,
    ),
)
