"""Read model ``timeline``: every event around a customer, in order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from events.customer import CustomerEvent
from events.envelope import Recorded
from events.lead import LeadConverted, LeadEvent
from events.opportunity import CustomerIdentified, OpportunityEvent, OpportunityOpened
from events.order import OrderEvent, OrderPlaced
from events.payment import CreditNoteIssued, PaymentEvent, PaymentReceived
from events.ticket import TicketCustomerIdentified, TicketEvent, TicketOpened
from projections.asking.clocks import Moment
from projections.asking.listing import By, ListedAt, Listing, Where
from projections.asking.parameters import Time, Word
from projections.asking.shape import Shape
from projections.engine.model import ReadModel
from projections.engine.tables import Connection, Row, Rows, Table


@dataclass(slots=True)
class EntryRow(Row):
    """One event, readable."""

    stream_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    stream_type: str | None = None
    type: str | None = None
    actor: str | None = None
    data: dict[str, Any] | None = None


@dataclass(slots=True)
class LinkRow(Row):
    """A fact: from this version on a deal's, lead's, order's … stream is this customer's."""

    stream_id: UUID
    customer_id: UUID
    version: int = 0
    position: int = 0
    occurred_at: datetime | None = None


ENTRIES = Table("timeline_entries", EntryRow, key=("stream_id", "version"), facts=True)
LINKS = Table(
    "timeline_links", LinkRow, key=("stream_id", "customer_id"), indexes=("(customer_id)",)
)

Events = CustomerEvent | LeadEvent | OpportunityEvent | OrderEvent | PaymentEvent | TicketEvent
TELLS_WHOSE = (
    OpportunityOpened
    | CustomerIdentified
    | LeadConverted
    | OrderPlaced
    | PaymentReceived
    | CreditNoteIssued
    | TicketOpened
    | TicketCustomerIdentified
)


def apply(rows: Rows, recorded: Recorded) -> None:
    """Add the event to its stream's line, and say whose line that is once it is known."""
    event = recorded.event
    rows.add(
        ENTRIES,
        EntryRow(
            recorded.stream_id,
            recorded.version,
            recorded.position,
            recorded.occurred_at,
            recorded.recorded_at,
            recorded.stream_type,
            recorded.type,
            recorded.actor,
            event.shown(),
        ),
    )
    customer_id = None
    if isinstance(event, TELLS_WHOSE):
        customer_id = event.customer_id
    if customer_id is not None:
        link = rows.get(LINKS, recorded.stream_id, customer_id)
        link.version, link.position = recorded.version, recorded.position
        link.occurred_at = recorded.occurred_at


MODEL = ReadModel("timeline", (ENTRIES, LINKS), Events, apply)


class AskTimeline(ListedAt):
    """What may be asked of a customer's timeline."""

    type: Annotated[Word, Where("type = %(type)s")] = None
    stream_type: Annotated[Word, Where("stream_type = %(stream_type)s")] = None
    actor: Annotated[Word, Where("actor = %(actor)s")] = None
    since: Annotated[Time, Where("occurred_at >= %(since)s")] = None
    until: Annotated[Time, Where("occurred_at < %(until)s")] = None


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


MINE = """
SELECT * FROM (
    SELECT e.* FROM (
        SELECT %(id)s::uuid AS stream_id
         UNION SELECT stream_id FROM timeline_links l WHERE customer_id = %(id)s AND {links}
    ) mine JOIN timeline_entries e USING (stream_id) WHERE {entries}
) x WHERE true
"""
WHOSE = """
SELECT FROM timeline_entries
 WHERE stream_id = %(id)s AND stream_type = 'customer'
   AND (%(known_at)s::int8 IS NULL OR position <= %(known_at)s) LIMIT 1
"""


STREAMS = "SELECT stream_id FROM timeline_links l WHERE customer_id = %(id)s AND {links}"


def streams_of(conn: Connection, customer_id: UUID, when: Moment) -> list[UUID]:
    """Every stream that was about a customer by a moment."""
    sql = STREAMS.format(links=when.counts("l"))
    values = {**when.values, "id": customer_id}
    return [customer_id, *(row[0] for row in conn.execute(sql.encode(), values))]


def select(when: Moment) -> str:
    """The events around a customer that count at a moment."""
    return MINE.format(entries=when.counts("e"), links=when.counts("l"))


LIST = Listing(
    path="/customers/{id}/timeline",
    name="customer_timeline",
    tag="customers",
    says="Every event around a customer, latest first.",
    asks=AskTimeline,
    shape=EntryShape,
    needs=(MODEL,),
    select=select,
    order=(By("occurred_at"), By("position")),
    is_descending=True,
    whose=WHOSE,
)
QUESTIONS = (LIST.question(),)
