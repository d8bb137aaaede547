"""Read model ``customers``: the record, the contacts, the owners and every interaction."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, assert_never
from uuid import UUID

from events.customer import (
    ContactAdded,
    CustomerClaimed,
    CustomerDetailsChanged,
    CustomerEvent,
    CustomerHandedOver,
    CustomerRegistered,
    CustomerReleased,
    CustomerTagged,
    CustomerUntagged,
    InteractionLogged,
    PromiseBroken,
    PromiseKept,
    PromiseMade,
    PromiseWithdrawn,
)
from events.envelope import Recorded
from projections.asking.money import money
from projections.asking.pages import LIMIT, Filter, fetch, page
from projections.engine.model import ReadModel
from projections.engine.tables import Connection, Row, Rows, Table


@dataclass(slots=True)
class CustomerRow(Row):
    """A customer as they stand."""

    customer_id: UUID
    version: int = 0
    position: int = 0
    name: str | None = None
    kind: str = "customer"
    owner: str | None = None
    email: str | None = None
    phone: str | None = None
    address: str | None = None
    note: str | None = None
    industry: str | None = None
    region: str | None = None
    website: str | None = None
    source: str | None = None
    parent: str | None = None
    founded: int | None = None
    employees: int | None = None
    annual_revenue: Decimal | None = None
    annual_revenue_currency: str | None = None
    tags: list[str] = field(default_factory=list)
    registered_at: datetime | None = None
    last_contact_at: datetime | None = None
    changed_at: datetime | None = None


@dataclass(slots=True)
class ContactRow(Row):
    """A person who speaks for the customer."""

    customer_id: UUID
    contact_id: UUID
    version: int = 0
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    title: str | None = None
    role: str | None = None
    added_at: datetime | None = None


@dataclass(slots=True)
class InteractionRow(Row):
    """Once that somebody of ours was in touch."""

    customer_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    actor: str | None = None
    channel: str | None = None
    summary: str | None = None
    contact_id: UUID | None = None
    inbound: bool = False
    minutes: int | None = None


@dataclass(slots=True)
class OwnerRow(Row):
    """A fact, never changed: from here on this rep, or nobody, answered for the customer."""

    customer_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    owner: str | None = None
    actor: str | None = None
    reason: str | None = None


@dataclass(slots=True)
class NameRow(Row):
    """A fact, never changed: from here on the customer bore this name."""

    customer_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    name: str | None = None


CUSTOMERS = Table(
    "customers",
    CustomerRow,
    key=("customer_id",),
    indexes=(
        "(registered_at, customer_id)",
        "(owner)",
        "(region)",
        "USING gin (tags)",
        "USING gin (to_tsvector('simple', coalesce(name, '')))",
    ),
)
CONTACTS = Table("contacts", ContactRow, key=("customer_id", "contact_id"))
INTERACTIONS = Table("interactions", InteractionRow, key=("customer_id", "version"), facts=True)
OWNERS = Table("owners", OwnerRow, key=("customer_id", "version"), facts=True)
NAMES = Table("customer_names", NameRow, key=("customer_id", "version"), facts=True)

DETAILS = (
    "name",
    "kind",
    "email",
    "phone",
    "address",
    "note",
    "industry",
    "region",
    "website",
    "source",
    "parent",
    "founded",
    "employees",
)


def apply(rows: Rows, recorded: Recorded) -> None:
    """Change the customer's rows by one event."""
    event: CustomerEvent = recorded.event  # type: ignore[assignment]  # the model names its events
    customer = rows.get(CUSTOMERS, recorded.stream_id)
    customer.version, customer.position = recorded.version, recorded.position
    customer.changed_at = recorded.occurred_at
    match event:
        case CustomerRegistered():
            customer.registered_at = recorded.occurred_at
            _fill_in(customer, event)
            _bear(rows, recorded, event.name)
            if event.owner is not None:
                _own(rows, recorded, customer, event.owner, None)
        case CustomerDetailsChanged():
            _fill_in(customer, event)
            if event.name is not None:
                _bear(rows, recorded, event.name)
        case ContactAdded():
            contact = rows.get(CONTACTS, recorded.stream_id, event.contact_id)
            contact.version, contact.added_at = recorded.version, recorded.occurred_at
            contact.name, contact.email, contact.phone = event.name, event.email, event.phone
            contact.title, contact.role = event.title, event.role
        case CustomerClaimed():
            _own(rows, recorded, customer, event.owner, None)
        case CustomerReleased():
            _own(rows, recorded, customer, None, event.reason)
        case CustomerHandedOver():
            _own(rows, recorded, customer, event.owner, event.reason)
        case CustomerTagged():
            customer.tags = sorted({*customer.tags, event.tag})
        case CustomerUntagged():
            customer.tags = [tag for tag in customer.tags if tag != event.tag]
        case InteractionLogged():
            if customer.last_contact_at is None or customer.last_contact_at < recorded.occurred_at:
                customer.last_contact_at = recorded.occurred_at
            rows.add(
                INTERACTIONS,
                InteractionRow(
                    recorded.stream_id,
                    recorded.version,
                    recorded.position,
                    recorded.occurred_at,
                    recorded.actor,
                    event.channel.value,
                    event.summary,
                    event.contact_id,
                    event.inbound,
                    event.minutes,
                ),
            )
        case PromiseMade() | PromiseKept() | PromiseBroken() | PromiseWithdrawn():
            pass
        case _:
            assert_never(event)


def _fill_in(customer: CustomerRow, event: CustomerRegistered | CustomerDetailsChanged) -> None:
    given = event.__dict__
    for name in DETAILS:
        value = given[name]
        if value is not None:
            setattr(customer, name, str(value) if name == "kind" else value)
    if event.annual_revenue is not None:
        customer.annual_revenue = event.annual_revenue.amount
        customer.annual_revenue_currency = event.annual_revenue.currency


def _bear(rows: Rows, recorded: Recorded, name: str) -> None:
    rows.add(
        NAMES,
        NameRow(
            recorded.stream_id, recorded.version, recorded.position, recorded.occurred_at, name
        ),
    )


def _own(
    rows: Rows, recorded: Recorded, customer: CustomerRow, owner: str | None, reason: str | None
) -> None:
    customer.owner = owner
    rows.add(
        OWNERS,
        OwnerRow(
            recorded.stream_id,
            recorded.version,
            recorded.position,
            recorded.occurred_at,
            owner,
            recorded.actor,
            reason,
        ),
    )


MODEL = ReadModel(
    "customers", (CUSTOMERS, CONTACTS, INTERACTIONS, OWNERS, NAMES), CustomerEvent, apply
)


def customers(
    conn: Connection,
    *,
    name: str | None = None,
    kind: str | None = None,
    owner: str | None = None,
    in_public_sea: bool | None = None,
    region: str | None = None,
    industry: str | None = None,
    tag: str | None = None,
    cursor: str | None = None,
    limit: int = LIMIT,
) -> tuple[list[dict[str, Any]], str | None]:
    """Customers by the time of their registration; ``name`` finds any part of a name."""
    pattern = None if name is None else "%" + re.sub(r"([\\%_])", r"\\\1", name) + "%"
    return page(
        conn,
        "SELECT * FROM customers",
        [
            Filter("registered_at IS NOT NULL AND %s", (True,)),
            Filter("name ILIKE %s", (pattern,)),
            Filter("kind = %s", (kind,)),
            Filter("owner = %s", (owner,)),
            Filter("(owner IS NULL) = %s", (in_public_sea,)),
            Filter("region = %s", (region,)),
            Filter("industry = %s", (industry,)),
            Filter("tags ? %s", (tag,)),
        ],
        ("registered_at", "customer_id"),
        cursor,
        limit,
        shape=shown,
    )


def customer(conn: Connection, customer_id: UUID) -> dict[str, Any] | None:
    """One customer's record with contacts, owners and the latest interactions, or None."""
    rows = fetch(
        conn,
        "SELECT * FROM customers WHERE customer_id = %s AND registered_at IS NOT NULL",
        (customer_id,),
    )
    if not rows:
        return None
    found = shown(rows[0])
    found["contacts"] = fetch(
        conn,
        "SELECT contact_id AS id, name, email, phone, title, role, added_at FROM contacts "
        "WHERE customer_id = %s ORDER BY version",
        (customer_id,),
    )
    found["owners"] = fetch(
        conn,
        "SELECT owner, occurred_at AS since, actor, reason FROM owners "
        "WHERE customer_id = %s ORDER BY version",
        (customer_id,),
    )
    found["interactions"] = fetch(
        conn,
        "SELECT version, occurred_at, actor, channel, summary, contact_id, inbound, minutes "
        "FROM interactions WHERE customer_id = %s ORDER BY occurred_at DESC, version DESC LIMIT 50",
        (customer_id,),
    )
    return found


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A customer as the API shows it."""
    del row["position"]
    row["id"] = row.pop("customer_id")
    row["annual_revenue"] = money(row["annual_revenue"], row.pop("annual_revenue_currency"))
    return row
