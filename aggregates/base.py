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
    """Something of another kind has this id already."""

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
    """Won and lost stages are reached by winning or losing, not by moving."""

    fields = ("stage",)


class CustomerUnknown(Unknown):
    """There is no customer with this id."""


class CustomerExists(Refused):
    """A customer with this id is registered already."""

    fields = ("id",)


class CustomerOwned(Refused):
    """Another rep owns this customer."""


class CustomerUnowned(Refused):
    """Nobody owns this customer; it lies in the public sea."""


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
    """The lead was disqualified or converted; nothing more happens to it."""


class LeadOwned(Refused):
    """Another rep owns this lead."""


class LeadUnowned(Refused):
    """Nobody owns this lead; it lies in the pool."""


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
    """It is known already that this is another customer's deal."""

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
    """The order is neither held nor disputed."""


class CurrencyDiffers(Refused):
    """The amount is in another currency than what it is an amount of."""

    fields = ("amount",)


class AmountTooLarge(Refused):
    """So large an amount cannot be written down."""

    fields = ("amount",)


class PlanDoesNotAddUp(Refused):
    """The instalments must add up to what is billed for the order."""

    fields = ("instalments",)


class ReturnTooLarge(Refused):
    """More would be given back than is billed for the order."""

    fields = ("amount",)


class PaymentUnknown(Unknown):
    """There is no payment with this id."""


class PaymentExists(Refused):
    """A payment with this id was received already."""

    fields = ("id",)


class AllocationTooLarge(Refused):
    """More would be allocated than is left of the payment."""

    fields = ("allocations",)


class ReleaseTooLarge(Refused):
    """The order has not so much of the payment."""

    fields = ("amount",)


class RefundTooLarge(Refused):
    """More would be refunded than the order, or the credit, has of the payment."""

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
    """No technician was named for this ticket."""


class TicketElsewhere(Refused):
    """Another technician was named for this ticket."""


class ComplaintUnresolved(Refused):
    """A complaint stays open until it is resolved."""
