"""The tables of facts about deals, leads, tickets, money and the customers themselves."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from analytics.facts.fact import AMOUNT, TEXT, Facts, FactTable, columns, worth
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
    LeadDisqualified,
    LeadQualified,
    LeadReturned,
)
from events.opportunity import (
    CustomerIdentified,
    OpportunityLost,
    OpportunityOpened,
    OpportunityReopened,
    OpportunityWon,
    QuoteGiven,
    StageMoved,
)
from events.order import PaymentsPlanned
from events.payment import CreditNoteIssued, PaymentReceived, PaymentRefunded
from events.ticket import (
    DispatchConfirmed,
    DispatchDeclined,
    TicketClassified,
    TicketDispatched,
    TicketOpened,
    TicketRated,
    TicketReplied,
    WorkLogged,
)

PROBABILITY = pa.decimal128(5, 4)
TICKET_KINDS = (
    "opened",
    "classified",
    "dispatched",
    "dispatch-confirmed",
    "dispatch-declined",
    "replied",
    "work-logged",
    "waiting",
    "escalated",
    "resolved",
    "closed",
    "reopened",
    "rated",
)


def _kind(recorded: Recorded) -> str:
    return recorded.type.partition(".")[2]


def _row(names: tuple[str, ...], recorded: Recorded, **given: Any) -> tuple[Any, ...]:
    """A fact with the event's stream and kind first, and None for what it does not say."""
    return (str(recorded.stream_id), _kind(recorded), *(given.get(name) for name in names))


DEAL = (
    "pipeline",
    "stage",
    "customer_id",
    "owner",
    "product",
    "reason",
    "amount",
    "currency",
    "expected_close",
)


def _deals(recorded: Recorded) -> Facts:
    event = recorded.event
    given: dict[str, Any] = {}
    match event:
        case OpportunityOpened():
            given = {
                "pipeline": event.pipeline,
                "stage": event.stage,
                "customer_id": event.customer_id and str(event.customer_id),
                "owner": event.owner,
                "product": event.product,
                "expected_close": event.expected_close,
            }
            given["amount"], given["currency"] = worth(event.amount)
        case CustomerIdentified():
            given = {"customer_id": str(event.customer_id)}
        case StageMoved():
            given = {"stage": event.stage}
        case OpportunityReopened():
            given = {"stage": event.stage, "reason": event.reason}
        case QuoteGiven():
            given["amount"], given["currency"] = worth(event.total)
        case OpportunityWon():
            given = {"stage": event.stage}
            given["amount"], given["currency"] = worth(event.amount)
        case OpportunityLost():
            given = {"stage": event.stage, "reason": event.reason}
        case _:
            return
    yield _row(DEAL, recorded, **given)


LEAD = (
    "source",
    "campaign",
    "region",
    "industry",
    "owner",
    "reason",
    "customer_id",
    "opportunity_id",
)


def _leads(recorded: Recorded) -> Facts:
    event = recorded.event
    given: dict[str, Any] = {}
    match event:
        case LeadCaptured():
            given = {name: getattr(event, name) for name in LEAD[:5]}
        case LeadClaimed():
            given = {"owner": event.owner}
        case LeadReturned() | LeadDisqualified():
            given = {"reason": event.reason}
        case LeadConverted():
            given = {
                "customer_id": str(event.customer_id),
                "opportunity_id": str(event.opportunity_id),
            }
        case LeadQualified():
            pass
        case _:
            return
    yield _row(LEAD, recorded, **given)


TICKET = (
    "customer_id",
    "channel",
    "topic",
    "priority",
    "product",
    "technician",
    "minutes",
    "score",
    "inbound",
)


def _tickets(recorded: Recorded) -> Facts:
    event = recorded.event
    given: dict[str, Any] = {}
    match event:
        case TicketOpened():
            given = {
                "customer_id": event.customer_id and str(event.customer_id),
                "channel": event.channel.value,
                "topic": event.kind and event.kind.value,
                "priority": event.priority.value,
                "product": event.product,
            }
        case TicketClassified():
            given = {
                "topic": event.kind and event.kind.value,
                "priority": event.priority and event.priority.value,
                "product": event.product,
            }
        case TicketDispatched() | DispatchConfirmed() | DispatchDeclined():
            given = {"technician": event.technician}
        case TicketReplied():
            given = {"inbound": event.inbound}
        case WorkLogged():
            given = {"minutes": event.minutes}
        case TicketRated():
            given = {"score": event.score}
        case _:
            pass
    yield _row(TICKET, recorded, **given)


def _receipts(recorded: Recorded) -> Facts:
    event = recorded.event
    if isinstance(event, PaymentReceived | PaymentRefunded):
        yield str(recorded.stream_id), _kind(recorded), event.amount.amount, event.amount.currency


def _credits(recorded: Recorded) -> Facts:
    event = recorded.event
    if isinstance(event, CreditNoteIssued):
        yield (
            str(recorded.stream_id),
            str(event.customer_id),
            event.amount.amount,
            event.amount.currency,
        )


def _instalments(recorded: Recorded) -> Facts:
    event = recorded.event
    if isinstance(event, PaymentsPlanned):
        for number, part in enumerate(event.instalments, 1):
            yield (
                str(recorded.stream_id),
                number,
                part.due,
                part.amount.amount,
                part.amount.currency,
            )


ACCOUNT = ("account_kind", "region", "industry", "source", "owner")


def _accounts(recorded: Recorded) -> Facts:
    event = recorded.event
    match event:
        case CustomerRegistered() | CustomerDetailsChanged():
            given = {name: getattr(event, name) for name in ("region", "industry", "source")}
            owner = event.owner if isinstance(event, CustomerRegistered) else None
            kind = event.kind and event.kind.value
            yield _row(ACCOUNT, recorded, account_kind=kind, owner=owner, **given)
        case CustomerClaimed() | CustomerHandedOver():
            yield _row(ACCOUNT, recorded, owner=event.owner)
        case CustomerReleased():
            yield _row(ACCOUNT, recorded)
        case _:
            pass


def _tags(recorded: Recorded) -> Facts:
    event = recorded.event
    if isinstance(event, CustomerTagged | CustomerUntagged):
        yield str(recorded.stream_id), _kind(recorded), event.tag


def _pipelines(recorded: Recorded) -> Facts:
    event = recorded.event
    if isinstance(event, PipelineDefined):
        for place, stage in enumerate(event.stages):
            yield event.name, place, stage.name, stage.kind.value, stage.probability


def _types(stream: str, *kinds: str) -> frozenset[str]:
    return frozenset(f"{stream}.{kind}" for kind in kinds)


DEALS = FactTable(
    "deals",
    columns(
        ("deal_id", TEXT),
        ("kind", TEXT),
        ("pipeline", TEXT),
        ("stage", TEXT),
        ("customer_id", TEXT),
        ("owner", TEXT),
        ("product", TEXT),
        ("reason", TEXT),
        ("amount", AMOUNT),
        ("currency", TEXT),
        ("expected_close", pa.date32()),
    ),
    _types(
        "opportunity",
        "opened",
        "customer-identified",
        "stage-moved",
        "quote-given",
        "won",
        "lost",
        "reopened",
    ),
    _deals,
)
LEADS = FactTable(
    "leads",
    columns(("lead_id", TEXT), ("kind", TEXT), *((name, TEXT) for name in LEAD)),
    _types("lead", "captured", "claimed", "returned", "qualified", "disqualified", "converted"),
    _leads,
)
TICKETS = FactTable(
    "tickets",
    columns(
        ("ticket_id", TEXT),
        ("kind", TEXT),
        ("customer_id", TEXT),
        ("channel", TEXT),
        ("topic", TEXT),
        ("priority", TEXT),
        ("product", TEXT),
        ("technician", TEXT),
        ("minutes", pa.int32()),
        ("score", pa.int32()),
        ("inbound", pa.bool_()),
    ),
    _types("ticket", *TICKET_KINDS),
    _tickets,
)
RECEIPTS = FactTable(
    "receipts",
    columns(("payment_id", TEXT), ("kind", TEXT), ("amount", AMOUNT), ("currency", TEXT)),
    _types("payment", "received", "refunded"),
    _receipts,
)
CREDITS = FactTable(
    "credits",
    columns(("payment_id", TEXT), ("customer_id", TEXT), ("amount", AMOUNT), ("currency", TEXT)),
    _types("payment", "credit-note-issued"),
    _credits,
)
INSTALMENTS = FactTable(
    "instalments",
    columns(
        ("order_id", TEXT),
        ("number", pa.int32()),
        ("due", pa.date32()),
        ("amount", AMOUNT),
        ("currency", TEXT),
    ),
    _types("order", "payments-planned"),
    _instalments,
)
ACCOUNTS = FactTable(
    "accounts",
    columns(("customer_id", TEXT), ("kind", TEXT), *((name, TEXT) for name in ACCOUNT)),
    _types("customer", "registered", "details-changed", "claimed", "released", "handed-over"),
    _accounts,
)
TAGS = FactTable(
    "tags",
    columns(("customer_id", TEXT), ("kind", TEXT), ("tag", TEXT)),
    _types("customer", "tagged", "untagged"),
    _tags,
)
PIPELINES = FactTable(
    "pipelines",
    columns(
        ("pipeline", TEXT),
        ("place", pa.int32()),
        ("stage", TEXT),
        ("kind", TEXT),
        ("probability", PROBABILITY),
    ),
    _types("company", "pipeline-defined"),
    _pipelines,
)
TABLES = (DEALS, LEADS, TICKETS, RECEIPTS, CREDITS, INSTALMENTS, ACCOUNTS, TAGS, PIPELINES)
