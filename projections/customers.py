"""Read model ``customers``: records, contacts, owners and interactions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, assert_never
from uuid import UUID

from pydantic import Field

from events.customer import (
    ContactAdded,
    ContactChanged,
    ContactRemoved,
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
    PromiseHandedOver,
    PromiseKept,
    PromiseMade,
    PromiseWithdrawn,
)
from events.envelope import Recorded
from events.values import StoredMoney
from projections import timeline
from projections.asking.clocks import Moment
from projections.asking.listing import By, Counted, Listing, Where
from projections.asking.parameters import Ids, Time, Word, containing, each
from projections.asking.shape import Shape
from projections.asking.sorting import Sorts
from projections.customers_then import customers_then
from projections.engine.model import ReadModel
from projections.engine.tables import Row, Rows, Table
from projections.facts.customers import DETAILS, AccountFact, ContactFact, facts


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
    registered_position: int = 0
    last_contact_at: datetime | None = None
    changed_at: datetime | None = None


@dataclass(slots=True)
class ContactRow(Row):
    """A contact person of the customer."""

    customer_id: UUID
    contact_id: UUID
    version: int = 0
    name: str | None = None
    email: str | None = None
    phone: str | None = None
    title: str | None = None
    role: str | None = None
    added_at: datetime | None = None
    removed_at: datetime | None = None


@dataclass(slots=True)
class InteractionRow(Row):
    """An interaction with the customer: a call, a mail, a meeting."""

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


CUSTOMERS = Table(
    "customers",
    CustomerRow,
    key=("customer_id",),
    indexes=(
        "(registered_at, customer_id)",
        "(owner)",
        "(region)",
        "(position)",
        "USING gin (tags)",
        "USING gin (to_tsvector('simple', coalesce(name, '')))",
    ),
)
CONTACTS = Table("contacts", ContactRow, key=("customer_id", "contact_id"))
INTERACTIONS = Table(
    "interactions",
    InteractionRow,
    key=("customer_id", "version"),
    indexes=("(occurred_at, position)",),
    facts=True,
)
FACTS = Table(
    "account_facts",
    AccountFact,
    key=("customer_id", "version"),
    indexes=("(customer_id, version) WHERE name IS NOT NULL",),
    facts=True,
)
CONTACT_FACTS = Table("contact_facts", ContactFact, key=("customer_id", "version"), facts=True)


def apply(rows: Rows, recorded: Recorded) -> None:
    """Change the customer's rows by one event."""
    event: CustomerEvent = recorded.event  # type: ignore[assignment]  # the model names its events
    customer = rows.get(CUSTOMERS, recorded.stream_id)
    customer.version, customer.position = recorded.version, recorded.position
    customer.changed_at = recorded.occurred_at
    match event:
        case CustomerRegistered():
            customer.registered_at = recorded.occurred_at
            customer.registered_position = recorded.position
            customer.owner = event.owner
            _fill_in(customer, event)
        case CustomerDetailsChanged():
            _fill_in(customer, event)
        case ContactAdded():
            contact = rows.get(CONTACTS, recorded.stream_id, event.contact_id)
            contact.version, contact.added_at = recorded.version, recorded.occurred_at
            contact.removed_at = None
            contact.name, contact.email, contact.phone = event.name, event.email, event.phone
            contact.title, contact.role = event.title, event.role
        case ContactChanged():
            contact = rows.get(CONTACTS, recorded.stream_id, event.contact_id)
            for name in ("name", "email", "phone", "title", "role"):
                if getattr(event, name) is not None:
                    setattr(contact, name, getattr(event, name))
        case ContactRemoved():
            removed = rows.get(CONTACTS, recorded.stream_id, event.contact_id)
            removed.removed_at = recorded.occurred_at
        case CustomerClaimed() | CustomerHandedOver():
            customer.owner = event.owner
        case CustomerReleased():
            customer.owner = None
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
                    str(event.channel),
                    event.summary,
                    event.contact_id,
                    event.inbound,
                    event.minutes,
                ),
            )
        case (
            PromiseMade()
            | PromiseHandedOver()
            | PromiseKept()
            | PromiseBroken()
            | PromiseWithdrawn()
        ):
            pass
        case _:
            assert_never(event)
    for fact in facts(recorded):
        if isinstance(fact, AccountFact):
            rows.add(FACTS, fact)
        else:
            rows.add(CONTACT_FACTS, fact)


def _fill_in(customer: CustomerRow, event: CustomerRegistered | CustomerDetailsChanged) -> None:
    given = event.__dict__
    for name in DETAILS:
        if given[name] is not None:
            setattr(customer, name, given[name])
    if event.kind is not None:
        customer.kind = str(event.kind)
    if event.annual_revenue is not None:
        customer.annual_revenue = event.annual_revenue.amount
        customer.annual_revenue_currency = event.annual_revenue.currency


TABLES: tuple[Table[Any], ...] = (CUSTOMERS, CONTACTS, INTERACTIONS, FACTS, CONTACT_FACTS)
MODEL = ReadModel("customers", TABLES, CustomerEvent, apply)


def in_digits(number: str) -> str:
    """A phone number without what people put between its digits."""
    return re.sub(r"[^0-9]", "", number).removeprefix("00") or "-"


def reached_by(condition: str) -> str:
    """That a condition holds of the customer or of one of its contacts, as ``{0}``."""
    of_contact = condition.format("contacts")
    return (
        f"({condition.format('customers')} OR customer_id IN (SELECT contacts.customer_id "
        f"FROM contacts WHERE removed_at IS NULL AND {of_contact}))"
    )


SAME_MAIL = "lower({0}.email) = lower(%(email)s)"
SAME_NUMBER = "regexp_replace({0}.phone, '^00|[^0-9]', '', 'g') = %(phone)s"


class AskCustomers(Counted):
    """What may be asked of customers.

    ``name`` finds any part of a name; ``email`` and ``phone`` those of the customer or of a
    contact, in any way of writing them.
    """

    ids: Annotated[Ids, Where("customer_id = ANY (%(ids)s)", each)] = None
    name: Annotated[Word, Where("name ILIKE %(name)s", containing)] = None
    kind: Annotated[Word, Where("kind = %(kind)s")] = None
    owner: Annotated[Word, Where("owner = %(owner)s")] = None
    in_public_sea: Annotated[bool | None, Where("(owner IS NULL) = %(in_public_sea)s")] = None
    region: Annotated[Word, Where("region = %(region)s")] = None
    industry: Annotated[Word, Where("industry = %(industry)s")] = None
    tag: Annotated[Word, Where("tags ? %(tag)s")] = None
    source: Annotated[Word, Where("source = %(source)s")] = None
    email: Annotated[Word, Where(reached_by(SAME_MAIL))] = None
    phone: Annotated[Word, Where(reached_by(SAME_NUMBER), in_digits)] = None
    registered_from: Annotated[Time, Where("registered_at >= %(registered_from)s")] = None
    registered_to: Annotated[Time, Where("registered_at < %(registered_to)s")] = None
    contacted_from: Annotated[Time, Where("last_contact_at >= %(contacted_from)s")] = None
    contacted_to: Annotated[Time, Where("last_contact_at < %(contacted_to)s")] = None
    not_contacted_since: Annotated[
        Time,
        Where("(last_contact_at IS NULL OR last_contact_at < %(not_contacted_since)s)"),
    ] = None
    sort: Annotated[
        Word,
        Sorts(
            *("registered_at", "changed_at", "last_contact_at", "name", "kind", "owner"),
            *("region", "industry", "source", "parent", "founded", "employees", "annual_revenue"),
        ),
    ] = None


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
    owner: str | None = Field(description="The rep who owns the customer; null in the public sea.")
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
    annual_revenue: StoredMoney | None
    tags: list[str]
    registered_at: datetime | None
    last_contact_at: datetime | None
    changed_at: datetime | None


SELECT = """
SELECT customer_id AS id, version, name, kind, owner, email, phone, address, note, industry, region,
       website, source, parent, founded, employees, annual_revenue,
       annual_revenue_currency AS "annual_revenue.currency", tags, registered_at, last_contact_at,
       changed_at
  FROM customers WHERE registered_at IS NOT NULL
"""
PAST_NAME = """
coalesce(
    (SELECT n.name FROM account_facts n
      WHERE n.customer_id = {alias}.customer_id AND n.name IS NOT NULL AND {facts}
      ORDER BY n.version DESC LIMIT 1),
    (SELECT n.name FROM account_facts n
      WHERE n.customer_id = {alias}.customer_id AND n.name IS NOT NULL AND {known}
      ORDER BY n.version LIMIT 1)
)
"""


def name_at(when: Moment, alias: str) -> str:
    """An expression for the customer's name at a moment, of a row with a ``customer_id``.

    Before it had one, for history may be entered of a customer that was registered later, it is the
    first one that was known. Live it reads the table ``customers`` as ``c``.
    """
    if when.is_live:
        return "c.name"
    known = replace(when, as_of=None)
    return PAST_NAME.format(alias=alias, facts=when.counts("n"), known=known.counts("n"))


def select(when: Moment) -> str:
    """Every customer of whom anything had happened by a moment, as they were then."""
    return SELECT if when.is_live else f"WITH {customers_then(when, CUSTOMERS, FACTS)} {SELECT}"


LIST = Listing(
    path="/customers",
    name="list_customers",
    tag="customers",
    says="Customers, in the order of their registration.",
    asks=AskCustomers,
    shape=CustomerShape,
    needs=(MODEL, timeline.MODEL),
    select=select,
    order=(By("registered_at"), By("customer_id", "id")),
)


QUESTIONS = (LIST.question(),)
