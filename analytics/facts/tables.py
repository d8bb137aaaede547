"""The tables of facts in Parquet, whose columns readers may rely on.

A fact is added and never changed. It holds no personal data: erasing somebody leaves it as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from analytics.facts.fact import FactTable
from analytics.facts.store import described
from events.company import PipelineDefined
from events.customer import (
    CustomerClaimed,
    CustomerDetailsChanged,
    CustomerHandedOver,
    CustomerRegistered,
    CustomerReleased,
    CustomerTagged,
    CustomerUntagged,
)
from events.envelope import Recorded
from events.lead import (
    LeadCaptured,
    LeadClaimed,
    LeadConverted,
    LeadDetailsChanged,
    LeadDisqualified,
    LeadHandedOver,
    LeadQualified,
    LeadReopened,
    LeadReturned,
)
from events.ledger.codec import READING
from events.opportunity import (
    CustomerIdentified,
    OpportunityDetailsChanged,
    OpportunityHandedOver,
    OpportunityLost,
    OpportunityOpened,
    OpportunityReopened,
    OpportunityWon,
    QuoteGiven,
    StageMoved,
)
from events.order import (
    GoodsReturned,
    OrderCancelled,
    OrderHandedOver,
    OrderLineAdded,
    OrderPlaced,
    PaymentsPlanned,
)
from events.payment import (
    AllocationReleased,
    CreditNoteIssued,
    PaymentAllocated,
    PaymentReceived,
    PaymentRefunded,
)
from events.ticket import (
    DispatchConfirmed,
    DispatchDeclined,
    TicketClassified,
    TicketClosed,
    TicketCustomerIdentified,
    TicketDispatched,
    TicketEscalated,
    TicketOpened,
    TicketRated,
    TicketReopened,
    TicketReplied,
    TicketResolved,
    TicketWaiting,
    WorkLogged,
)
from projections.facts.catalog import facts
from projections.facts.companies import StageFact
from projections.facts.customers import AccountFact
from projections.facts.leads import LeadFact
from projections.facts.opportunities import DealFact
from projections.facts.orders import InstalmentFact, LineFact, OrderFact
from projections.facts.payments import PaymentFact
from projections.facts.tickets import TicketFact

PURCHASES = FactTable(
    "purchases",
    ("order_id", "customer_id", "owner", "amount", "currency", "region"),
    {OrderFact: (OrderPlaced,)},
)
CHANGES = FactTable(
    "purchase_changes",
    ("order_id", "kind", "amount", "currency", "payment_id", "owner"),
    {
        OrderFact: (OrderHandedOver, OrderLineAdded, OrderCancelled, GoodsReturned),
        PaymentFact: (PaymentAllocated, AllocationReleased, PaymentRefunded),
    },
)
LINES = FactTable(
    "purchase_lines",
    ("order_id", "number", "product", "quantity", "amount", "currency"),
    {LineFact: (OrderPlaced, OrderLineAdded)},
)
INSTALMENTS = FactTable(
    "instalments",
    ("order_id", "number", "due", "amount", "currency"),
    {InstalmentFact: (PaymentsPlanned,)},
)
RECEIPTS = FactTable(
    "receipts",
    ("payment_id", "kind", "amount", "currency"),
    {PaymentFact: (PaymentReceived, PaymentRefunded)},
)
CREDITS = FactTable(
    "credits",
    ("payment_id", "customer_id", "amount", "currency"),
    {PaymentFact: (CreditNoteIssued,)},
)
DEALS = FactTable(
    "deals",
    (
        *("deal_id", "kind", "pipeline", "stage", "customer_id", "owner", "product", "reason"),
        *("amount", "currency", "expected_close"),
    ),
    {
        DealFact: (
            *(OpportunityOpened, OpportunityDetailsChanged, OpportunityHandedOver),
            *(CustomerIdentified, StageMoved, QuoteGiven),
            *(OpportunityWon, OpportunityLost, OpportunityReopened),
        )
    },
)
LEADS = FactTable(
    "leads",
    (
        *("lead_id", "kind", "source", "campaign", "region", "industry", "owner", "reason"),
        *("customer_id", "opportunity_id"),
    ),
    {
        LeadFact: (
            *(LeadCaptured, LeadDetailsChanged, LeadClaimed, LeadHandedOver, LeadReturned),
            *(LeadQualified, LeadDisqualified, LeadReopened, LeadConverted),
        )
    },
)
TICKETS = FactTable(
    "tickets",
    (
        *("ticket_id", "kind", "customer_id", "channel", "topic", "priority", "product"),
        *("technician", "minutes", "score", "inbound"),
    ),
    {
        TicketFact: (
            *(TicketOpened, TicketCustomerIdentified, TicketClassified),
            *(TicketDispatched, DispatchConfirmed, DispatchDeclined),
            *(TicketReplied, WorkLogged, TicketWaiting, TicketEscalated),
            *(TicketResolved, TicketClosed, TicketReopened, TicketRated),
        )
    },
)
ACCOUNTS = FactTable(
    "accounts",
    ("customer_id", "kind", "account_kind", "region", "industry", "source", "owner"),
    {
        AccountFact: (
            *(CustomerRegistered, CustomerDetailsChanged),
            *(CustomerClaimed, CustomerReleased, CustomerHandedOver),
        )
    },
)
TAGS = FactTable(
    "tags", ("customer_id", "kind", "tag"), {AccountFact: (CustomerTagged, CustomerUntagged)}
)
PIPELINES = FactTable(
    "pipelines",
    ("pipeline", "place", "stage", "kind", "probability", "name"),
    {StageFact: (PipelineDefined,)},
)
TABLES = (
    *(PURCHASES, CHANGES, LINES, INSTALMENTS, RECEIPTS, CREDITS),
    *(DEALS, LEADS, TICKETS, ACCOUNTS, TAGS, PIPELINES),
)
TYPES = frozenset[str]().union(*(table.types for table in TABLES))
VERSION = 2
"""Of what an event adds; to be raised with every change that is no change of a schema."""
SHAPE = hashlib.sha256(
    f"{VERSION} {READING} {[(table.name, str(table.schema)) for table in TABLES]}".encode()
).hexdigest()[:16]
"""Of files that this code writes; others are written anew."""
COLUMNS = {table.name: described(table.schema) for table in TABLES}
"""What these files hold, as a manifest says it."""
TAKING = {
    (event, fact): [table for table in TABLES if event in table.types_of(fact)]
    for event in TYPES
    for fact in {fact for table in TABLES for fact in table.takes}
}
"""By event and fact, the tables that hold it."""


def rows_of(events: Iterable[Recorded]) -> Iterator[tuple[FactTable, pa.Table]]:
    """What these events add to each table, in the order of their positions."""
    added: dict[FactTable, list[Any]] = {table: [] for table in TABLES}
    for recorded in events:
        if recorded.type in TYPES:
            for fact in facts(recorded):
                for table in TAKING.get((recorded.type, type(fact)), ()):
                    if getattr(fact, table.columns[0]) is not None:
                        added[table].append(fact)
    for table, rows in added.items():
        if rows:
            yield table, table.made(rows)
