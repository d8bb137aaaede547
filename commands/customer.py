from __future__ import annotations

from typing import Annotated, ClassVar, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StrictBool, model_validator

from aggregates.company import RegionNotListed, SourceNotListed, TagNotListed
from aggregates.customer import (
    ContactExists,
    ContactUnknown,
    Customer,
    CustomerOwned,
    CustomerUnowned,
    PromiseExists,
    PromiseSettled,
    PromiseUnknown,
)
from commands.base import Command, Context, Records, refuse_no_change
from events.company import ListName
from events.customer import (
    Channel,
    ContactAdded,
    ContactChanged,
    CustomerDetailsChanged,
    CustomerEvent,
    CustomerKind,
    CustomerRegistered,
    InteractionLogged,
    PromiseMade,
)
from events.values import ActorId, Day, Email, Line, Money, Text

TAG_LENGTH = 60


def _short(tag: str) -> str:
    if len(tag) > TAG_LENGTH:
        raise ValueError(f"must have at most {TAG_LENGTH} characters")
    return tag


Year = Annotated[int, Field(ge=1000, le=2200, strict=True)]
Count = Annotated[int, Field(ge=0, le=100_000_000, strict=True)]
Tag = Annotated[Line, AfterValidator(_short)]
Minutes = Annotated[int, Field(ge=0, le=100_000, strict=True)]


def _check_lists(context: Context, asked: RegisterCustomer | ChangeCustomerDetails) -> None:
    context.check_listed(ListName.REGIONS, asked.region)
    context.check_listed(ListName.SOURCES, asked.source)


class RegisterCustomer(Command[Customer, CustomerEvent]):
    """Register a customer."""

    rules = (RegionNotListed, SourceNotListed)
    registered: ClassVar = Records(CustomerRegistered)

    name: Line
    kind: CustomerKind = CustomerKind.CUSTOMER
    email: Email | None = None
    phone: Line | None = None
    address: Text | None = None
    note: Text | None = None
    industry: Line | None = None
    region: Line | None = None
    website: Line | None = None
    source: Line | None = None
    parent: Line | None = None
    founded: Year | None = None
    employees: Count | None = None
    annual_revenue: Money | None = None
    owner: ActorId | None = None

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        _check_lists(context, self)
        return customer.register(context.marked(self.registered.of(self)))


class ChangeCustomerDetails(Command[Customer, CustomerEvent]):
    """Change a customer's details; what is not given stays as it is."""

    rules = (RegionNotListed, SourceNotListed)
    changed: ClassVar = Records(CustomerDetailsChanged)

    name: Line | None = None
    kind: CustomerKind | None = None
    email: Email | None = None
    phone: Line | None = None
    address: Text | None = None
    note: Text | None = None
    industry: Line | None = None
    region: Line | None = None
    website: Line | None = None
    source: Line | None = None
    parent: Line | None = None
    founded: Year | None = None
    employees: Count | None = None
    annual_revenue: Money | None = None

    @model_validator(mode="after")
    def _something_to_change(self) -> Self:
        refuse_no_change(self)
        return self

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        _check_lists(context, self)
        return customer.change_details(context.marked(self.changed.of(self)))


class AddContact(Command[Customer, CustomerEvent]):
    """Add a contact to a customer."""

    rules = (ContactExists,)
    added: ClassVar = Records(ContactAdded, derived=("contact_id",))

    contact_id: UUID | None = None
    name: Line
    email: Email | None = None
    phone: Line | None = None
    title: Line | None = None
    role: Line | None = None

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        contact_id = self.contact_id or context.fresh_id()
        added = self.added.of(self, contact_id=contact_id)
        return customer.add_contact(context.marked(added))


class ChangeContact(Command[Customer, CustomerEvent]):
    """Change a contact's details; what is not given stays as it is."""

    rules = (ContactUnknown,)
    changed: ClassVar = Records(ContactChanged)

    contact_id: UUID
    name: Line | None = None
    email: Email | None = None
    phone: Line | None = None
    title: Line | None = None
    role: Line | None = None

    @model_validator(mode="after")
    def _something_to_change(self) -> Self:
        refuse_no_change(self, besides=("contact_id",))
        return self

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        return customer.change_contact(context.marked(self.changed.of(self)))


class RemoveContact(Command[Customer, CustomerEvent]):
    """Remove a contact; what was talked about with them stays."""

    rules = (ContactUnknown,)

    contact_id: UUID

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        return customer.remove_contact(self.contact_id)


class ClaimCustomer(Command[Customer, CustomerEvent]):
    """Claim a customer that has no owner (the public sea)."""

    rules = (CustomerOwned,)

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        return customer.claim(context.actor.id)


class ReleaseCustomer(Command[Customer, CustomerEvent]):
    """Release a customer to the public sea, where any rep may claim it."""

    rules = (CustomerUnowned,)

    reason: Line

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        return customer.release(self.reason)


class HandOverCustomer(Command[Customer, CustomerEvent]):
    """Hand a customer over to another rep."""

    rules = (CustomerUnowned,)

    owner: ActorId
    reason: Line | None = None

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        return customer.hand_over(self.owner, self.reason)


class TagCustomer(Command[Customer, CustomerEvent]):
    """Tag a customer, for instance as `value seeker`.

    A tag is no place for what is personal: it is stored in the clear and outlives an erasure.
    """

    rules = (TagNotListed,)

    tag: Tag

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        context.check_listed(ListName.TAGS, self.tag)
        return customer.tag(self.tag)


class UntagCustomer(Command[Customer, CustomerEvent]):
    """Remove a tag from a customer."""

    tag: Tag

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        return customer.untag(self.tag)


class LogInteraction(Command[Customer, CustomerEvent]):
    """Log an interaction with a customer: a call, a visit, a mail."""

    rules = (ContactUnknown,)
    logged: ClassVar = Records(InteractionLogged)

    channel: Channel
    summary: Text
    contact_id: UUID | None = None
    inbound: StrictBool = False
    minutes: Minutes | None = None

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        return customer.log_interaction(self.logged.of(self))


class MakePromise(Command[Customer, CustomerEvent]):
    """Make a promise to a customer; `promised_by` is the actor unless another is named.

    Promises on one `topic` are held against each other: two open ones that differ in amount or
    in due date contradict.
    """

    rules = (ContactUnknown, PromiseExists)
    made: ClassVar = Records(PromiseMade, derived=("promise_id", "promised_by"))

    promise_id: UUID | None = None
    promised_by: ActorId | None = None
    what: Text
    due: Day | None = None
    topic: Line | None = None
    amount: Money | None = None
    contact_id: UUID | None = None

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        return customer.make_promise(
            self.made.of(
                self,
                promise_id=self.promise_id or context.fresh_id(),
                promised_by=self.promised_by or context.actor.id,
            )
        )


class HandOverPromise(Command[Customer, CustomerEvent]):
    """Hand a promise over to somebody else; who made it stays on record."""

    rules = (PromiseSettled, PromiseUnknown)

    promise_id: UUID
    owner: ActorId
    reason: Line | None = None

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        return customer.hand_over_promise(self.promise_id, self.owner, self.reason)


class KeepPromise(Command[Customer, CustomerEvent]):
    """Mark a promise as kept."""

    rules = (PromiseSettled, PromiseUnknown)

    promise_id: UUID
    note: Text | None = None

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        return customer.keep_promise(self.promise_id, self.note)


class BreakPromise(Command[Customer, CustomerEvent]):
    """Mark a promise as broken."""

    rules = (PromiseSettled, PromiseUnknown)

    promise_id: UUID
    reason: Text

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        return customer.break_promise(self.promise_id, self.reason)


class WithdrawPromise(Command[Customer, CustomerEvent]):
    """Withdraw a promise, with the customer's knowledge."""

    rules = (PromiseSettled, PromiseUnknown)

    promise_id: UUID
    reason: Text

    def decide(self, customer: Customer, context: Context, /) -> list[CustomerEvent]:
        return customer.withdraw_promise(self.promise_id, self.reason)
