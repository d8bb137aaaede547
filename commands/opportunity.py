from __future__ import annotations

from typing import Annotated, ClassVar, Self
from uuid import UUID

from pydantic import Field, model_validator

from aggregates.company import LossReasonNotListed, PipelineUnknown, StageCloses, StageUnknown
from aggregates.opportunity import (
    Opportunity,
    OpportunityClosed,
    OpportunityHasCustomer,
    OpportunityStillOpen,
    QuoteExists,
)
from commands.base import Command, Context, Records, Reference, refuse_no_change
from commands.lines import AskedLine, priced
from events.company import ListName
from events.opportunity import (
    OpportunityDetailsChanged,
    OpportunityEvent,
    OpportunityOpened,
    QuoteGiven,
)
from events.values import ActorId, Day, Line, Money, Text


class OpenOpportunity(Command[Opportunity, OpportunityEvent]):
    """Open an opportunity; its owner is the actor unless another is named.

    A service or an import that acts for nobody is no owner.
    """

    rules = (PipelineUnknown, StageCloses, StageUnknown)
    opened: ClassVar = Records(OpportunityOpened, derived=("stage", "owner"))

    title: Line
    customer_id: Annotated[UUID | None, Reference("customer")] = None
    pipeline: Line = "sales"
    stage: Line | None = None
    owner: ActorId | None = None
    product: Line | None = None
    amount: Money | None = None
    expected_close: Day | None = None

    def decide(self, opportunity: Opportunity, context: Context, /) -> list[OpportunityEvent]:
        pipeline = context.settings.pipeline(self.pipeline)
        stage = pipeline.open_stage(self.stage) if self.stage else pipeline.first()
        owner = self.owner or context.rep
        return opportunity.open(context.marked(self.opened.of(self, stage=stage, owner=owner)))


class ChangeOpportunityDetails(Command[Opportunity, OpportunityEvent]):
    """Change an opportunity's details; what is not given stays as it is."""

    rules = (OpportunityClosed,)
    changed: ClassVar = Records(OpportunityDetailsChanged, derived=("customer_id",))

    title: Line | None = None
    product: Line | None = None
    amount: Money | None = None
    expected_close: Day | None = None

    @model_validator(mode="after")
    def _something_to_change(self) -> Self:
        refuse_no_change(self)
        return self

    def decide(self, opportunity: Opportunity, context: Context, /) -> list[OpportunityEvent]:
        changes, as_titled = (
            context.marked(self.changed.of(self, customer_id=customer_id))
            for customer_id in (opportunity.customer_id, opportunity.titled_for)
        )
        return opportunity.change_details(changes, as_titled)


class HandOverOpportunity(Command[Opportunity, OpportunityEvent]):
    """Hand an opportunity over to another rep."""

    rules = (OpportunityClosed,)

    owner: ActorId
    reason: Line | None = None

    def decide(self, opportunity: Opportunity, context: Context, /) -> list[OpportunityEvent]:
        return opportunity.hand_over(self.owner, self.reason)


class FollowCustomer(Command[Opportunity, OpportunityEvent]):
    """Hand an opportunity over along with its customer, if it is open and still the former owner's.

    A policy does so when a customer is handed over.
    """

    previous_owner: ActorId
    owner: ActorId
    reason: Line | None = None

    def decide(self, opportunity: Opportunity, context: Context, /) -> list[OpportunityEvent]:
        return opportunity.follow_customer(self.previous_owner, self.owner, self.reason)


class IdentifyCustomer(Command[Opportunity, OpportunityEvent]):
    """Name the customer of an opportunity."""

    rules = (OpportunityHasCustomer,)

    customer_id: Annotated[UUID, Reference("customer")]

    def decide(self, opportunity: Opportunity, context: Context, /) -> list[OpportunityEvent]:
        return opportunity.identify_customer(self.customer_id)


class MoveStage(Command[Opportunity, OpportunityEvent]):
    """Move an opportunity to another open stage of its pipeline."""

    rules = (OpportunityClosed, StageCloses, StageUnknown)

    stage: Line

    def decide(self, opportunity: Opportunity, context: Context, /) -> list[OpportunityEvent]:
        return opportunity.move_stage(self.stage, context.settings.pipeline(opportunity.pipeline))


class GiveQuote(Command[Opportunity, OpportunityEvent]):
    """Give a quote."""

    rules = (OpportunityClosed, QuoteExists)
    given: ClassVar = Records(QuoteGiven, derived=("quote_id", "lines", "total"))

    quote_id: UUID | None = None
    lines: Annotated[tuple[AskedLine, ...], Field(min_length=1, max_length=500)]
    valid_until: Day | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        priced(self.lines)
        return self

    def decide(self, opportunity: Opportunity, context: Context, /) -> list[OpportunityEvent]:
        lines, total = priced(self.lines)
        quote_id = self.quote_id or context.fresh_id()
        return opportunity.quote(self.given.of(self, quote_id=quote_id, lines=lines, total=total))


class WinOpportunity(Command[Opportunity, OpportunityEvent]):
    """Close an opportunity as won."""

    rules = (OpportunityClosed,)

    amount: Money | None = None

    def decide(self, opportunity: Opportunity, context: Context, /) -> list[OpportunityEvent]:
        return opportunity.win(self.amount, context.settings.pipeline(opportunity.pipeline))


class LoseOpportunity(Command[Opportunity, OpportunityEvent]):
    """Close an opportunity as lost; what `other` is, the comment says."""

    rules = (LossReasonNotListed, OpportunityClosed)

    reason: Line
    comment: Text | None = None

    def decide(self, opportunity: Opportunity, context: Context, /) -> list[OpportunityEvent]:
        pipeline = context.settings.pipeline(opportunity.pipeline)
        context.check_listed(ListName.LOSS_REASONS, self.reason)
        return opportunity.lose(self.reason, self.comment, pipeline)


class ReopenOpportunity(Command[Opportunity, OpportunityEvent]):
    """Reopen a closed opportunity, in its last open stage or in the stage given."""

    rules = (OpportunityStillOpen, StageCloses, StageUnknown)

    reason: Line
    stage: Line | None = None

    def decide(self, opportunity: Opportunity, context: Context, /) -> list[OpportunityEvent]:
        pipeline = context.settings.pipeline(opportunity.pipeline)
        return opportunity.reopen(self.stage, self.reason, pipeline)
