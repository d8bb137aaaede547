from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from events.base import Event, Personal
from events.values import (
    AsWritten,
    Marks,
    PersonalSince2,
    PersonalText,
    PersonalTextOrNone,
    StoredMoney,
)


class CustomerKind(StrEnum):
    """The kind of a customer."""

    CUSTOMER = "customer"
    COMPETITOR = "competitor"
    PARTNER = "partner"
    STORE = "store"


class Channel(StrEnum):
    """The channel of an interaction."""

    CALL = "call"
    EMAIL = "email"
    CHAT = "chat"
    VISIT = "visit"
    MEETING = "meeting"
    LETTER = "letter"
    OTHER = "other"


class CustomerRegistered(Event, type="customer.registered", version=2):
    """The customer was registered."""

    name: PersonalText
    kind: Annotated[CustomerKind, AsWritten()] = CustomerKind.CUSTOMER
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
    annual_revenue: StoredMoney | None = None
    owner: str | None = None
    marks: Marks = None


class CustomerDetailsChanged(Event, type="customer.details-changed", version=2):
    """The details that are given changed; the others stay as they were."""

    name: PersonalTextOrNone = None
    kind: Annotated[CustomerKind, AsWritten()] | None = None
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
    annual_revenue: StoredMoney | None = None
    marks: Marks = None


class ContactAdded(Event, type="customer.contact-added", version=2):
    """A contact person was added to the customer."""

    contact_id: UUID
    name: Annotated[str, Personal(of="contact_id")]
    email: Annotated[str | None, Personal(of="contact_id")] = None
    phone: Annotated[str | None, Personal(of="contact_id")] = None
    title: str | None = None
    role: str | None = None
    marks: Marks = None


class ContactChanged(Event, type="customer.contact-changed", version=2):
    """Details of a contact person were changed; a null means that the detail stayed as it was."""

    contact_id: UUID
    name: Annotated[str | None, Personal(of="contact_id")] = None
    email: Annotated[str | None, Personal(of="contact_id")] = None
    phone: Annotated[str | None, Personal(of="contact_id")] = None
    title: str | None = None
    role: str | None = None
    marks: Marks = None


class ContactRemoved(Event, type="customer.contact-removed"):
    """A contact person was removed from the customer: they left, or were one by mistake."""

    contact_id: UUID


class CustomerClaimed(Event, type="customer.claimed"):
    """A rep took the customer from the public sea."""

    owner: str


class CustomerReleased(Event, type="customer.released", version=2):
    """The customer went back to the public sea, where any rep may claim it."""

    previous_owner: str
    reason: Annotated[str, PersonalSince2]


class CustomerHandedOver(Event, type="customer.handed-over", version=2):
    """The customer was handed over to another rep."""

    previous_owner: str
    owner: str
    reason: Annotated[str | None, PersonalSince2] = None


class CustomerTagged(Event, type="customer.tagged"):
    """The customer was tagged."""

    tag: str


class CustomerUntagged(Event, type="customer.untagged"):
    """A tag was removed from the customer."""

    tag: str


class InteractionLogged(Event, type="customer.interaction-logged"):
    """An interaction with the customer took place: a call, a mail, a meeting."""

    channel: Annotated[Channel, AsWritten()]
    summary: PersonalText
    contact_id: UUID | None = None
    inbound: bool = False
    minutes: int | None = None


class PromiseMade(Event, type="customer.promise-made", version=2):
    """Somebody of the company promised the customer something."""

    promise_id: UUID
    promised_by: str
    what: PersonalText
    due: date | None = None
    topic: Annotated[str | None, PersonalSince2] = None
    amount: StoredMoney | None = None
    contact_id: UUID | None = None


class PromiseHandedOver(Event, type="customer.promise-handed-over"):
    """Somebody else answers for the promise from now on; who made it stays on record."""

    promise_id: UUID
    previous_owner: str
    owner: str
    reason: PersonalTextOrNone = None


class PromiseKept(Event, type="customer.promise-kept"):
    """The promise was kept."""

    promise_id: UUID
    note: PersonalTextOrNone = None


class PromiseBroken(Event, type="customer.promise-broken"):
    """The promise was broken: it will not be kept, or was kept too late."""

    promise_id: UUID
    reason: PersonalText


class PromiseWithdrawn(Event, type="customer.promise-withdrawn"):
    """The promise was withdrawn before it fell due, and the customer knows."""

    promise_id: UUID
    reason: PersonalText


CustomerEvent = (
    CustomerRegistered
    | CustomerDetailsChanged
    | ContactAdded
    | ContactChanged
    | ContactRemoved
    | CustomerClaimed
    | CustomerReleased
    | CustomerHandedOver
    | CustomerTagged
    | CustomerUntagged
    | InteractionLogged
    | PromiseMade
    | PromiseHandedOver
    | PromiseKept
    | PromiseBroken
    | PromiseWithdrawn
)
