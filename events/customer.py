from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from events.base import Event, Personal
from events.values import Money, PersonalText, PersonalTextOrNone


class CustomerKind(StrEnum):
    """What an account is to the company."""

    CUSTOMER = "customer"
    COMPETITOR = "competitor"
    PARTNER = "partner"
    STORE = "store"


class Channel(StrEnum):
    """The way in which one reaches the other."""

    CALL = "call"
    EMAIL = "email"
    CHAT = "chat"
    VISIT = "visit"
    MEETING = "meeting"
    LETTER = "letter"
    OTHER = "other"


class CustomerRegistered(Event, type="customer.registered"):
    """The company keeps a record of this customer from now on."""

    name: PersonalText
    kind: CustomerKind = CustomerKind.CUSTOMER
    email: PersonalTextOrNone = None
    phone: PersonalTextOrNone = None
    address: PersonalTextOrNone = None
    note: PersonalTextOrNone = None
    industry: str | None = None
    region: str | None = None
    website: str | None = None
    source: str | None = None
    parent: str | None = None
    founded: int | None = None
    employees: int | None = None
    annual_revenue: Money | None = None
    owner: str | None = None


class CustomerDetailsChanged(Event, type="customer.details-changed"):
    """The given details hold from now on; what is not given stays as it was."""

    name: PersonalTextOrNone = None
    kind: CustomerKind | None = None
    email: PersonalTextOrNone = None
    phone: PersonalTextOrNone = None
    address: PersonalTextOrNone = None
    note: PersonalTextOrNone = None
    industry: str | None = None
    region: str | None = None
    website: str | None = None
    source: str | None = None
    parent: str | None = None
    founded: int | None = None
    employees: int | None = None
    annual_revenue: Money | None = None


class ContactAdded(Event, type="customer.contact-added"):
    """This person speaks for the customer."""

    contact_id: UUID
    name: Annotated[str, Personal(of="contact_id")]
    email: Annotated[str | None, Personal(of="contact_id")] = None
    phone: Annotated[str | None, Personal(of="contact_id")] = None
    title: str | None = None
    role: str | None = None


class CustomerClaimed(Event, type="customer.claimed"):
    """A rep took the customer from the public sea."""

    owner: str


class CustomerReleased(Event, type="customer.released"):
    """The customer went back to the public sea, where any rep may claim it."""

    previous_owner: str
    reason: str


class CustomerHandedOver(Event, type="customer.handed-over"):
    """Another rep answers for the customer from now on."""

    previous_owner: str
    owner: str
    reason: str | None = None


class CustomerTagged(Event, type="customer.tagged"):
    """The customer was tagged."""

    tag: str


class CustomerUntagged(Event, type="customer.untagged"):
    """A tag was removed from the customer."""

    tag: str


class InteractionLogged(Event, type="customer.interaction-logged"):
    """Somebody of ours was in touch with the customer."""

    channel: Channel
    summary: PersonalText
    contact_id: UUID | None = None
    inbound: bool = False
    minutes: int | None = None


class PromiseMade(Event, type="customer.promise-made"):
    """Somebody of ours gave the customer their word."""

    promise_id: UUID
    promised_by: str
    what: PersonalText
    due: date | None = None
    topic: str | None = None
    amount: Money | None = None
    contact_id: UUID | None = None


class PromiseKept(Event, type="customer.promise-kept"):
    """What was promised was done."""

    promise_id: UUID
    note: PersonalTextOrNone = None


class PromiseBroken(Event, type="customer.promise-broken"):
    """What was promised will not be done, or was done too late to count."""

    promise_id: UUID
    reason: PersonalText


class PromiseWithdrawn(Event, type="customer.promise-withdrawn"):
    """The promise was taken back before it fell due, and the customer knows."""

    promise_id: UUID
    reason: PersonalText


CustomerEvent = (
    CustomerRegistered
    | CustomerDetailsChanged
    | ContactAdded
    | CustomerClaimed
    | CustomerReleased
    | CustomerHandedOver
    | CustomerTagged
    | CustomerUntagged
    | InteractionLogged
    | PromiseMade
    | PromiseKept
    | PromiseBroken
    | PromiseWithdrawn
)
