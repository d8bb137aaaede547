"""What the events of a customer say of the account and of its contacts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from events.base import Personal
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
)
from events.envelope import Recorded
from events.values import PersonalTextOrNone
from projections.engine.tables import Row
from projections.facts.fact import head, kind


@dataclass(slots=True)
class AccountFact(Row):
    """A fact, never changed: what one event says of the account, and nothing of the others.

    Attributes:
        account_kind: the kind of customer.
    """

    customer_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    kind: str | None = None
    actor: str | None = None
    name: PersonalTextOrNone = None
    account_kind: str | None = None
    region: str | None = None
    industry: str | None = None
    source: str | None = None
    owner: str | None = None
    reason: PersonalTextOrNone = None
    tag: str | None = None
    email: PersonalTextOrNone = None
    phone: PersonalTextOrNone = None
    address: PersonalTextOrNone = None
    note: PersonalTextOrNone = None
    website: str | None = None
    parent: str | None = None
    founded: int | None = None
    employees: int | None = None
    annual_revenue: Decimal | None = None
    annual_revenue_currency: str | None = None


@dataclass(slots=True)
class ContactFact(Row):
    """A fact, never changed: how a contact is reached, or that it was removed."""

    customer_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    kind: str | None = None
    contact_id: UUID | None = None
    email: Annotated[str | None, Personal(of="contact_id")] = None
    phone: Annotated[str | None, Personal(of="contact_id")] = None


DETAILS = (
    *("name", "email", "phone", "address", "note", "industry", "region", "website", "source"),
    *("parent", "founded", "employees"),
)


def facts(recorded: Recorded) -> list[AccountFact | ContactFact]:
    """What an event says of its customer's account, and of a contact; each has a fact."""
    event: CustomerEvent = recorded.event  # type: ignore[assignment]  # of a customer's stream
    fact = AccountFact(*head(recorded), kind(recorded), recorded.actor)
    match event:
        case CustomerRegistered() | CustomerDetailsChanged():
            for name in DETAILS:
                setattr(fact, name, getattr(event, name))
            fact.account_kind = event.kind and str(event.kind)
            if event.annual_revenue is not None:
                fact.annual_revenue = event.annual_revenue.amount
                fact.annual_revenue_currency = event.annual_revenue.currency
            if isinstance(event, CustomerRegistered):
                fact.owner = event.owner
        case CustomerClaimed():
            fact.owner = event.owner
        case CustomerHandedOver():
            fact.owner, fact.reason = event.owner, event.reason
        case CustomerReleased():
            fact.reason = event.reason
        case CustomerTagged() | CustomerUntagged():
            fact.tag = event.tag
        case ContactAdded() | ContactChanged():
            its = event.contact_id, event.email, event.phone
            return [fact, ContactFact(*head(recorded), kind(recorded), *its)]
        case ContactRemoved():
            return [fact, ContactFact(*head(recorded), kind(recorded), event.contact_id)]
        case _:
            pass
    return [fact]
