from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, assert_never
from uuid import UUID

from aggregates.base import Refused, Unknown, stands, told
from aggregates.company import Pipeline
from events.opportunity import (
    CustomerIdentified,
    OpportunityDetailsChanged,
    OpportunityEvent,
    OpportunityHandedOver,
    OpportunityLost,
    OpportunityOpened,
    OpportunityReopened,
    OpportunityWon,
    QuoteGiven,
    StageMoved,
)
from events.values import Money, StageKind


class OpportunityUnknown(Unknown):
    """There is no opportunity with this id."""


class OpportunityExists(Refused):
    """An opportunity with this id was opened already."""

    fields = ("id",)


class OpportunityClosed(Refused):
    """The opportunity was won or lost; reopen it first."""


class OpportunityStillOpen(Refused):
    """The opportunity is open."""


class OpportunityHasCustomer(Refused):
    """The opportunity belongs to another customer."""

    fields = ("customer_id",)


class OpportunityOfAnotherCustomer(Refused):
    """The opportunity is another customer's; an order names one of its own customer's."""

    fields = ("opportunity_id",)


class OpportunityIsLost(Refused):
    """The opportunity was lost; reopen it before an order names it."""

    fields = ("opportunity_id",)


class QuoteExists(Refused):
    """A quote with this id was given already."""

    fields = ("quote_id",)


BESIDES = frozenset({"pipeline", "stage", "owner", "customer_id"})


@dataclass(frozen=True, slots=True)
class Opportunity:
    """A deal to win.

    Attributes:
        titled_for: the customer that was known when the title was last told: it bears their mark.
        details: title, product, amount and expected close as they stand; of the title the mark.
        stage: the key of the stage in which the deal stands.
        open_stage: of the one in which it stood when it was last open.
    """

    pipeline: str = ""
    owner: str | None = None
    stage: str = ""
    open_stage: str = ""
    kind: StageKind = StageKind.OPEN
    customer_id: UUID | None = None
    quotes: frozenset[UUID] = frozenset()
    details: Mapping[str, Any] = field(default_factory=dict)
    titled_for: UUID | None = None

    def open(self, details: OpportunityOpened) -> list[OpportunityEvent]:
        """Open the opportunity."""
        return [details]

    def change_details(
        self, changes: OpportunityDetailsChanged, as_titled: OpportunityDetailsChanged
    ) -> list[OpportunityEvent]:
        """Change details; nothing happens when all of them stand so already.

        Args:
            as_titled: the same, with the marks of ``titled_for``.

        Raises:
            OpportunityClosed: when it was won or lost.
        """
        self._refuse_if_closed()
        return [] if stands(self.details, told(as_titled, BESIDES)) else [changes]

    def hand_over(self, owner: str, reason: str | None) -> list[OpportunityEvent]:
        """Hand the opportunity over to another rep; nothing happens when it is theirs already.

        Raises:
            OpportunityClosed: when it was won or lost; that stays whose it was.
        """
        if self.owner == owner:
            return []
        self._refuse_if_closed()
        return [
            OpportunityHandedOver(
                previous_owner=self.owner, owner=owner, reason=reason, customer_id=self.customer_id
            )
        ]

    def follow_customer(
        self, previous_owner: str, owner: str, reason: str | None
    ) -> list[OpportunityEvent]:
        """Go to another rep along with the customer; a closed or somebody else's deal stays."""
        if self.kind is not StageKind.OPEN or self.owner != previous_owner:
            return []
        return self.hand_over(owner, reason)

    def identify_customer(self, customer_id: UUID) -> list[OpportunityEvent]:
        """Name the customer.

        Raises:
            OpportunityHasCustomer: when it is known to be another's.
        """
        if self.customer_id == customer_id:
            return []
        if self.customer_id is not None:
            raise OpportunityHasCustomer
        return [CustomerIdentified(customer_id=customer_id)]

    def admit_order(self, customer_id: UUID) -> None:
        """Let an order of this customer name the deal; one without a customer is anybody's.

        Raises:
            OpportunityOfAnotherCustomer: when it is known to be another's.
            OpportunityIsLost: when it is lost now.
        """
        if self.customer_id not in (None, customer_id):
            raise OpportunityOfAnotherCustomer
        if self.kind is StageKind.LOST:
            raise OpportunityIsLost

    def move_stage(self, stage: str, pipeline: Pipeline) -> list[OpportunityEvent]:
        """Move to another open stage of the pipeline.

        Raises:
            OpportunityClosed: when it was won or lost.
            StageUnknown: when the pipeline has no such stage.
            StageCloses: when the stage is one of won or lost.
        """
        self._refuse_if_closed()
        stage = pipeline.open_stage(stage)
        if stage == self.stage:
            return []
        return [StageMoved(previous_stage=self.stage, stage=stage)]

    def quote(self, quote: QuoteGiven) -> list[OpportunityEvent]:
        """Give a quote.

        Raises:
            OpportunityClosed: when it was won or lost.
            QuoteExists: when the id is taken.
        """
        self._refuse_if_closed()
        if quote.quote_id in self.quotes:
            raise QuoteExists
        return [quote]

    def win(self, amount: Money | None, pipeline: Pipeline) -> list[OpportunityEvent]:
        """Close as won.

        Raises:
            OpportunityClosed: when it was won or lost.
        """
        self._refuse_if_closed()
        return [OpportunityWon(stage=pipeline.closing(StageKind.WON), amount=amount)]

    def lose(self, reason: str, comment: str | None, pipeline: Pipeline) -> list[OpportunityEvent]:
        """Close as lost.

        Raises:
            OpportunityClosed: when it was won or lost.
        """
        self._refuse_if_closed()
        stage = pipeline.closing(StageKind.LOST)
        customer_id = self.customer_id
        return [
            OpportunityLost(stage=stage, reason=reason, comment=comment, customer_id=customer_id)
        ]

    def reopen(self, stage: str | None, reason: str, pipeline: Pipeline) -> list[OpportunityEvent]:
        """Reopen, in the last open stage or in the stage given.

        Raises:
            OpportunityStillOpen: when it is not closed.
            StageUnknown: when the pipeline has no such stage.
            StageCloses: when the stage is one of won or lost.
        """
        if self.kind is StageKind.OPEN:
            raise OpportunityStillOpen
        back_to = pipeline.open_stage(stage) if stage else pipeline.open_key(self.open_stage)
        return [OpportunityReopened(stage=back_to, reason=reason, customer_id=self.customer_id)]

    def evolve(self, event: OpportunityEvent) -> Opportunity:
        """The opportunity after the event."""
        match event:
            case OpportunityOpened():
                return replace(
                    self,
                    pipeline=event.pipeline,
                    owner=event.owner,
                    stage=event.stage,
                    open_stage=event.stage,
                    customer_id=event.customer_id,
                    details=told(event, BESIDES),
                    titled_for=event.customer_id,
                )
            case OpportunityDetailsChanged():
                is_titled = event.title is not None
                return replace(
                    self,
                    details={**self.details, **told(event, BESIDES)},
                    titled_for=event.customer_id if is_titled else self.titled_for,
                )
            case OpportunityHandedOver():
                return replace(self, owner=event.owner)
            case CustomerIdentified():
                return replace(self, customer_id=event.customer_id)
            case StageMoved():
                return replace(self, stage=event.stage, open_stage=event.stage)
            case QuoteGiven():
                details = {**self.details, "amount": event.total}
                return replace(self, quotes=self.quotes | {event.quote_id}, details=details)
            case OpportunityWon():
                details = {**self.details, **told(event, BESIDES)}
                return replace(self, stage=event.stage, kind=StageKind.WON, details=details)
            case OpportunityLost():
                return replace(self, stage=event.stage, kind=StageKind.LOST)
            case OpportunityReopened():
                return replace(self, stage=event.stage, open_stage=event.stage, kind=StageKind.OPEN)
            case _:
                assert_never(event)

    def _refuse_if_closed(self) -> None:
        if self.kind is not StageKind.OPEN:
            raise OpportunityClosed
