from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, assert_never
from uuid import UUID

from aggregates.base import Refused, Unknown, stands, told
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


class CustomerUnknown(Unknown):
    """There is no customer with this id."""


class CustomerExists(Refused):
    """A customer with this id is registered already."""

    fields = ("id",)


class CustomerOwned(Refused):
    """Another rep owns this customer."""


class CustomerUnowned(Refused):
    """The customer has no owner; it is in the public sea."""


class ContactExists(Refused):
    """The customer has a contact with this id already."""

    fields = ("contact_id",)


class ContactUnknown(Refused):
    """The customer has no contact with this id."""

    fields = ("contact_id",)


class PromiseExists(Refused):
    """A promise with this id was made to the customer already."""

    fields = ("promise_id",)


class PromiseUnknown(Refused):
    """No promise with this id was made to the customer."""

    fields = ("promise_id",)


class PromiseSettled(Refused):
    """The promise was kept, broken or withdrawn already."""

    fields = ("promise_id",)


OWNER = frozenset({"owner"})
CONTACT = frozenset({"contact_id"})


@dataclass(frozen=True, slots=True)
class Customer:
    """Somebody the company has given its word to, or may.

    Attributes:
        details: by field, as they stand; of personal ones the marks.
        contacts: by id, likewise the details of each.
        promises: by id, whether each is still open.
        answers: by id of a promise, who answers for it.
    """

    owner: str | None = None
    tags: frozenset[str] = frozenset()
    details: Mapping[str, Any] = field(default_factory=dict)
    contacts: Mapping[UUID, Mapping[str, Any]] = field(default_factory=dict)
    promises: Mapping[UUID, bool] = field(default_factory=dict)
    answers: Mapping[UUID, str] = field(default_factory=dict)

    def register(self, details: CustomerRegistered) -> list[CustomerEvent]:
        """Register the customer."""
        return [details]

    def change_details(self, changes: CustomerDetailsChanged) -> list[CustomerEvent]:
        """Change details; nothing happens when all of them stand so already."""
        return [] if stands(self.details, told(changes)) else [changes]

    def add_contact(self, contact: ContactAdded) -> list[CustomerEvent]:
        """Add a contact.

        Raises:
            ContactExists: when the id is taken.
        """
        if contact.contact_id in self.contacts:
            raise ContactExists
        return [contact]

    def change_contact(self, changes: ContactChanged) -> list[CustomerEvent]:
        """Change details of a contact; nothing happens when all of them stand so already.

        Raises:
            ContactUnknown: when the contact is not one of the customer's.
        """
        self._know(changes.contact_id)
        known = self.contacts[changes.contact_id]
        return [] if stands(known, told(changes, CONTACT)) else [changes]

    def remove_contact(self, contact_id: UUID) -> list[CustomerEvent]:
        """Remove a contact; what was talked about with them stays.

        Raises:
            ContactUnknown: when the contact is not one of the customer's.
        """
        self._know(contact_id)
        return [ContactRemoved(contact_id=contact_id)]

    def claim(self, owner: str) -> list[CustomerEvent]:
        """Claim the customer; nothing happens when it is one's own already.

        Raises:
            CustomerOwned: when another rep was first.
        """
        if self.owner == owner:
            return []
        if self.owner is not None:
            raise CustomerOwned
        return [CustomerClaimed(owner=owner)]

    def release(self, reason: str) -> list[CustomerEvent]:
        """Release the customer to the public sea.

        Raises:
            CustomerUnowned: when it lies there already.
        """
        if self.owner is None:
            raise CustomerUnowned
        return [CustomerReleased(previous_owner=self.owner, reason=reason)]

    def hand_over(self, owner: str, reason: str | None) -> list[CustomerEvent]:
        """Hand the customer over to another rep.

        Raises:
            CustomerUnowned: when nobody answers for it now.
        """
        if self.owner is None:
            raise CustomerUnowned
        if self.owner == owner:
            return []
        return [CustomerHandedOver(previous_owner=self.owner, owner=owner, reason=reason)]

    def tag(self, tag: str) -> list[CustomerEvent]:
        """Tag the customer; nothing happens when it has the tag."""
        return [] if tag in self.tags else [CustomerTagged(tag=tag)]

    def untag(self, tag: str) -> list[CustomerEvent]:
        """Remove a tag; nothing happens when the customer does not have it."""
        return [CustomerUntagged(tag=tag)] if tag in self.tags else []

    def log_interaction(self, interaction: InteractionLogged) -> list[CustomerEvent]:
        """Log an interaction.

        Raises:
            ContactUnknown: when the contact is not one of the customer's.
        """
        self._know(interaction.contact_id)
        return [interaction]

    def make_promise(self, promise: PromiseMade) -> list[CustomerEvent]:
        """Make a promise.

        Raises:
            PromiseExists: when the id is taken.
            ContactUnknown: when the contact is not one of the customer's.
        """
        if promise.promise_id in self.promises:
            raise PromiseExists
        self._know(promise.contact_id)
        return [promise]

    def hand_over_promise(
        self, promise_id: UUID, owner: str, reason: str | None
    ) -> list[CustomerEvent]:
        """Hand the promise over to somebody else; nothing happens when it is theirs already.

        Raises:
            PromiseUnknown: when it was never made.
            PromiseSettled: when it is not open any more.
        """
        self._refuse_unless_open(promise_id)
        before = self.answers[promise_id]
        if before == owner:
            return []
        return [
            PromiseHandedOver(
                promise_id=promise_id, previous_owner=before, owner=owner, reason=reason
            )
        ]

    def keep_promise(self, promise_id: UUID, note: str | None) -> list[CustomerEvent]:
        """Mark the promise as kept.

        Raises:
            PromiseUnknown: when it was never made.
            PromiseSettled: when it is not open any more.
        """
        self._refuse_unless_open(promise_id)
        return [PromiseKept(promise_id=promise_id, note=note)]

    def break_promise(self, promise_id: UUID, reason: str) -> list[CustomerEvent]:
        """Mark the promise as broken.

        Raises:
            PromiseUnknown: when it was never made.
            PromiseSettled: when it is not open any more.
        """
        self._refuse_unless_open(promise_id)
        return [PromiseBroken(promise_id=promise_id, reason=reason)]

    def withdraw_promise(self, promise_id: UUID, reason: str) -> list[CustomerEvent]:
        """Withdraw the promise, with the customer's knowledge.

        Raises:
            PromiseUnknown: when it was never made.
            PromiseSettled: when it is not open any more.
        """
        self._refuse_unless_open(promise_id)
        return [PromiseWithdrawn(promise_id=promise_id, reason=reason)]

    def evolve(self, event: CustomerEvent) -> Customer:
        """The customer after the event."""
        match event:
            case CustomerRegistered():
                return replace(self, owner=event.owner, details=told(event, OWNER))
            case CustomerDetailsChanged():
                return replace(self, details={**self.details, **told(event)})
            case CustomerClaimed() | CustomerHandedOver():
                return replace(self, owner=event.owner)
            case CustomerReleased():
                return replace(self, owner=None)
            case CustomerTagged():
                return replace(self, tags=self.tags | {event.tag})
            case CustomerUntagged():
                return replace(self, tags=self.tags - {event.tag})
            case ContactAdded() | ContactChanged():
                known = {**self.contacts.get(event.contact_id, {}), **told(event, CONTACT)}
                return replace(self, contacts={**self.contacts, event.contact_id: known})
            case PromiseMade():
                return replace(
                    self,
                    promises={**self.promises, event.promise_id: True},
                    answers={**self.answers, event.promise_id: event.promised_by},
                )
            case PromiseHandedOver():
                return replace(self, answers={**self.answers, event.promise_id: event.owner})
            case PromiseKept() | PromiseBroken() | PromiseWithdrawn():
                return replace(self, promises={**self.promises, event.promise_id: False})
            case ContactRemoved():
                left = {i: known for i, known in self.contacts.items() if i != event.contact_id}
                return replace(self, contacts=left)
            case InteractionLogged():
                return self
            case _:
                assert_never(event)

    def _know(self, contact_id: UUID | None) -> None:
        if contact_id is not None and contact_id not in self.contacts:
            raise ContactUnknown

    def _refuse_unless_open(self, promise_id: UUID) -> None:
        if promise_id not in self.promises:
            raise PromiseUnknown
        if not self.promises[promise_id]:
            raise PromiseSettled
