from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, assert_never
from uuid import UUID

from aggregates.base import Refused, Unknown, stands, told
from events.lead import (
    LeadCaptured,
    LeadClaimed,
    LeadConverted,
    LeadDetailsChanged,
    LeadDisqualified,
    LeadEvent,
    LeadHandedOver,
    LeadQualified,
    LeadReopened,
    LeadReturned,
)
from events.values import Money


class LeadUnknown(Unknown):
    """There is no lead with this id."""


class LeadExists(Refused):
    """A lead with this id was captured already."""

    fields = ("id",)


class LeadClosed(Refused):
    """The lead is closed: disqualified or converted."""


class LeadOwned(Refused):
    """Another rep owns this lead."""


class LeadUnowned(Refused):
    """The lead has no owner; it is in the pool."""


class LeadAlreadyQualified(Refused):
    """The lead was qualified already."""


class LeadNotQualified(Refused):
    """Only a qualified lead can be converted."""


class LeadNotDisqualified(Refused):
    """Only a disqualified lead can be reopened."""


class Status(StrEnum):
    """How far a lead has come."""

    OPEN = "open"
    QUALIFIED = "qualified"
    DISQUALIFIED = "disqualified"
    CONVERTED = "converted"


OWNER = frozenset({"owner"})


@dataclass(frozen=True, slots=True)
class Lead:
    """Somebody who may become a customer, and whose chance it is to win them.

    Attributes:
        details: by field, as they stand; of personal ones the marks.
    """

    status: Status = Status.OPEN
    owner: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def capture(self, details: LeadCaptured) -> list[LeadEvent]:
        """Capture the lead."""
        return [details]

    def change_details(self, changes: LeadDetailsChanged) -> list[LeadEvent]:
        """Change details, also of a lead that is closed: what was mistyped is corrected.

        Nothing happens when all of them stand so already.
        """
        return [] if stands(self.details, told(changes)) else [changes]

    def hand_over(self, owner: str, reason: str | None) -> list[LeadEvent]:
        """Hand the lead over to a rep, or assign it from the pool.

        Raises:
            LeadClosed: when nothing can come of it any more.
        """
        self._refuse_if_closed()
        if self.owner == owner:
            return []
        return [LeadHandedOver(previous_owner=self.owner, owner=owner, reason=reason)]

    def reopen(self, reason: str) -> list[LeadEvent]:
        """Reopen the lead; it is to be qualified again.

        Raises:
            LeadNotDisqualified: when it was not given up.
        """
        if self.status is not Status.DISQUALIFIED:
            raise LeadNotDisqualified
        return [LeadReopened(reason=reason)]

    def claim(self, owner: str) -> list[LeadEvent]:
        """Claim the lead; nothing happens when it is one's own already.

        Raises:
            LeadClosed: when nothing can come of it any more.
            LeadOwned: when another rep was first.
        """
        self._refuse_if_closed()
        if self.owner == owner:
            return []
        if self.owner is not None:
            raise LeadOwned
        return [LeadClaimed(owner=owner)]

    def put_back(self, reason: str) -> list[LeadEvent]:
        """Return the lead to the pool.

        Raises:
            LeadClosed: when nothing can come of it any more.
            LeadUnowned: when it lies there already.
        """
        self._refuse_if_closed()
        if self.owner is None:
            raise LeadUnowned
        return [LeadReturned(previous_owner=self.owner, reason=reason)]

    def qualify(self, budget: Money | None, note: str | None) -> list[LeadEvent]:
        """Qualify the lead.

        Raises:
            LeadClosed: when nothing can come of it any more.
            LeadUnowned: when nobody answers for that judgement.
            LeadAlreadyQualified: when it was judged so before.
        """
        self._refuse_if_closed()
        if self.owner is None:
            raise LeadUnowned
        if self.status is Status.QUALIFIED:
            raise LeadAlreadyQualified
        return [LeadQualified(budget=budget, note=note)]

    def disqualify(self, reason: str, note: str | None) -> list[LeadEvent]:
        """Disqualify the lead.

        Raises:
            LeadClosed: when it was given up or converted already.
        """
        self._refuse_if_closed()
        return [LeadDisqualified(reason=reason, note=note)]

    def convert(
        self,
        customer_id: UUID,
        opportunity_id: UUID,
        *,
        new_customer: bool,
        new_opportunity: bool,
    ) -> list[LeadEvent]:
        """Convert the lead into a customer and an opportunity.

        Raises:
            LeadClosed: when it was given up or converted already.
            LeadNotQualified: when nobody judged it worth a deal.
        """
        self._refuse_if_closed()
        if self.status is not Status.QUALIFIED:
            raise LeadNotQualified
        return [
            LeadConverted(
                customer_id=customer_id,
                new_customer=new_customer,
                opportunity_id=opportunity_id,
                new_opportunity=new_opportunity,
            )
        ]

    def evolve(self, event: LeadEvent) -> Lead:
        """The lead after the event."""
        match event:
            case LeadCaptured():
                return replace(self, owner=event.owner, details=told(event, OWNER))
            case LeadClaimed() | LeadHandedOver():
                return replace(self, owner=event.owner)
            case LeadDetailsChanged():
                return replace(self, details={**self.details, **told(event)})
            case LeadReturned():
                return replace(self, owner=None)
            case LeadReopened():
                return replace(self, status=Status.OPEN)
            case LeadQualified():
                return replace(self, status=Status.QUALIFIED)
            case LeadDisqualified():
                return replace(self, status=Status.DISQUALIFIED)
            case LeadConverted():
                return replace(self, status=Status.CONVERTED)
            case _:
                assert_never(event)

    def _refuse_if_closed(self) -> None:
        if self.status in (Status.DISQUALIFIED, Status.CONVERTED):
            raise LeadClosed
