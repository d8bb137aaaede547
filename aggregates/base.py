"""What aggregates share: who decides when, and every way in which a command can be refused."""

from __future__ import annotations

from typing import ClassVar


class Refused(Exception):
    """A rule said no. The class is the rule's name, its docstring what the caller is told.

    Attributes:
        fields: the names of the command's fields that the rule looked at.
    """

    fields: ClassVar[tuple[str, ...]] = ()

    @property
    def rule(self) -> str:
        """The rule's name, as stored and answered."""
        return type(self).__name__

    @property
    def detail(self) -> str:
        """The rule in one sentence."""
        return (type(self).__doc__ or self.rule).strip()


class Unknown(Refused):
    """There is no such thing."""


class IdTaken(Refused):
    """This id belongs to a stream of another kind."""

    fields = ("id",)


class CompanyUnknown(Unknown):
    """There is one company; its id is 00000000-0000-0000-0000-000000000001."""


class PipelineUnknown(Refused):
    """The company has no pipeline of this name."""

    fields = ("pipeline",)


class StageUnknown(Refused):
    """The pipeline has no stage of this name."""

    fields = ("stage",)


class StageCloses(Refused):
    """A deal is closed with win or lose, not by moving it to a won or lost stage."""

    fields = ("stage",)


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


class QuoteExists(Refused):
    """A quote with this id was given already."""

    fields = ("quote_id",)


class OrderUnknown(Unknown):
    """There is no order with this id."""


class OrderExists(Refused):
    """An order with this id was placed already."""

    fields = ("id",)


class OrderIsCancelled(Refused):
    """The order was cancelled; nothing more happens to it."""


class OrderIsComplete(Refused):
    """The order is complete."""


class OrderInOrder(Refused):
    """The order is neither on hold nor disputed."""


class CurrencyDiffers(Refused):
    """The amount's currency differs from that of the order or payment."""

    fields = ("amount",)


class AmountTooLarge(Refused):
    """The amount is too large."""

    fields = ("amount",)


class OrderInOtherCurrency(Refused):
    """The order is in another currency; only amounts of its own can be allocated to it."""

    fields = ("order_id",)


class PlanDoesNotAddUp(Refused):
    """The instalments must add up to what is billed for the order."""

    fields = ("instalments",)


class ReturnTooLarge(Refused):
    """The returned amount exceeds what is billed for the order."""

    fields = ("amount",)


class PaymentUnknown(Unknown):
    """There is no payment with this id."""


class PaymentExists(Refused):
    """A payment with this id was received already."""

    fields = ("id",)


class AllocationTooLarge(Refused):
    """The allocation exceeds what is left of the payment."""

    fields = ("allocations",)


class ReleaseTooLarge(Refused):
    """Less than that is allocated to this order."""

    fields = ("amount",)


class RefundTooLarge(Refused):
    """The refund exceeds what is allocated to the order, or the credit."""

    fields = ("amount",)


class TicketUnknown(Unknown):
    """There is no ticket with this id."""


class TicketExists(Refused):
    """A ticket with this id was opened already."""

    fields = ("id",)


class TicketIsClosed(Refused):
    """The ticket is closed; reopen it first."""


class TicketStillOpen(Refused):
    """The ticket was neither resolved nor closed."""


class TicketUnresolved(Refused):
    """Only a ticket that was resolved or closed can be rated."""


class TicketUndispatched(Refused):
    """The ticket is not dispatched to anybody."""


class TicketElsewhere(Refused):
    """The ticket is dispatched to another technician."""


class ComplaintUnresolved(Refused):
    """A complaint stays open until it is resolved."""
