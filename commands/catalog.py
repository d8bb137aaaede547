"""The whole write API on one page: HTTP routes, OpenAPI, the CLI and bulk import follow from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aggregates import base
from aggregates.base import Refused, Unknown
from aggregates.company import Company, CompanyUnknown
from aggregates.customer import Customer, CustomerExists, CustomerUnknown
from aggregates.lead import Lead, LeadExists, LeadUnknown
from aggregates.opportunity import Opportunity, OpportunityExists, OpportunityUnknown
from aggregates.order import Order, OrderExists, OrderInOtherCurrency, OrderUnknown
from aggregates.payment import Payment, PaymentExists, PaymentUnknown
from aggregates.ticket import Ticket, TicketExists, TicketUnknown
from commands.base import Command
from commands.company import DefineList, DefinePipeline, SetTimeZone
from commands.customer import (
    AddContact,
    BreakPromise,
    ChangeContact,
    ChangeCustomerDetails,
    ClaimCustomer,
    HandOverCustomer,
    HandOverPromise,
    KeepPromise,
    LogInteraction,
    MakePromise,
    RegisterCustomer,
    ReleaseCustomer,
    RemoveContact,
    TagCustomer,
    UntagCustomer,
    WithdrawPromise,
)
from commands.lead import (
    CaptureLead,
    ChangeLeadDetails,
    ClaimLead,
    ConvertLead,
    DisqualifyLead,
    HandOverLead,
    QualifyLead,
    ReopenLead,
    ReturnLead,
)
from commands.opportunity import (
    ChangeOpportunityDetails,
    FollowCustomer,
    GiveQuote,
    HandOverOpportunity,
    IdentifyCustomer,
    LoseOpportunity,
    MoveStage,
    OpenOpportunity,
    ReopenOpportunity,
    WinOpportunity,
)
from commands.order import (
    AddOrderLine,
    CancelOrder,
    CompleteOrder,
    DisputeOrder,
    HandOverOrder,
    HoldOrder,
    PlaceOrder,
    PlanPayments,
    ResolveOrder,
    ReturnGoods,
    ShipOrder,
)
from commands.payment import (
    AllocatePayment,
    ReceivePayment,
    RefundPayment,
    ReleaseAllocation,
)
from commands.ticket import (
    ClassifyTicket,
    CloseTicket,
    ConfirmDispatch,
    DeclineDispatch,
    DispatchTicket,
    EscalateTicket,
    IdentifyTicketCustomer,
    LetTicketWait,
    LogWork,
    NoteOnTicket,
    OpenTicket,
    RateTicket,
    ReopenTicket,
    ReplyToTicket,
    ResolveTicket,
    TakeTicket,
)
from events.company import CompanyEvent
from events.customer import CustomerEvent
from events.lead import LeadEvent
from events.opportunity import OpportunityEvent
from events.order import OrderEvent
from events.payment import PaymentEvent
from events.ticket import TicketEvent

A = TypeVar("A")
E = TypeVar("E")


@dataclass(frozen=True)
class Streams(Generic[A, E]):
    """One kind of stream and what can be asked of it.

    Attributes:
        stream_type: the singular.
        blank: the state before the first event.
        evolve: the state after one more event.
        commands: by verb; the verb in ``creates`` begins a stream, all others need one.
        unknown: the refusal when there is no such stream.
        exists: the refusal when there is one already.
        other_currency: the refusal when an amount of another currency is meant for the stream;
            its state then has a ``currency``, which its first event settles for good.
    """

    stream_type: str
    blank: A
    evolve: Callable[[A, E], A]
    commands: Mapping[str, type[Command[A, E]]]
    unknown: type[Refused]
    creates: str | None = None
    exists: type[Refused] | None = None
    other_currency: type[Refused] | None = None

    @property
    def reading(self) -> str:
        """The name of the question ``GET /{plural}/{id}``, to which answers of commands link."""
        return f"one_{self.stream_type}"


def check(catalog: Mapping[str, Streams[Any, Any]]) -> None:
    """Hold the declarations against each other.

    Raises:
        TypeError: saying what does not fit, and what to put where.
    """
    faults = list(_faults(catalog))
    if faults:
        raise TypeError("\n".join(faults))


def _faults(catalog: Mapping[str, Streams[Any, Any]]) -> Iterator[str]:
    types = {streams.stream_type for streams in catalog.values()}
    priced = {s.stream_type for s in catalog.values() if s.other_currency is not None}
    places: dict[str, str] = {}
    for plural, streams in catalog.items():
        if streams.creates is not None and streams.creates not in streams.commands:
            yield (
                f"{plural} are created by {streams.creates!r}, which is none of their commands: "
                f"add it to the commands of {plural!r} in commands/catalog.py."
            )
        if (streams.creates is None) != (streams.exists is None):
            yield f"{plural} need both `creates` and `exists`, or neither, in commands/catalog.py."
        for verb, command in streams.commands.items():
            place = places.setdefault(command.__name__, f"{plural}/{verb}")
            if place != f"{plural}/{verb}":
                yield (
                    f"{command.__name__} is both {place} and {plural}/{verb}: write a class for "
                    "each, with a name of its own, for the API's schemas are named after them."
                )
            fields = {**command.references}
            for name, inner in command.nested.items():
                fields |= {f"{name}.{field}": reference for field, reference in inner.items()}
            for field, reference in fields.items():
                kind = reference.stream_type
                if kind not in types:
                    yield (
                        f"{command.__name__}.{field} refers to a stream of type {kind!r}, which "
                        f"commands/catalog.py does not have; it has {', '.join(sorted(types))}."
                    )
                elif reference.currency_of is not None and kind not in priced:
                    yield (
                        f"{command.__name__}.{field} must be in the currency of its {kind}, which "
                        "has no `other_currency` in commands/catalog.py to refuse others with."
                    )


CATALOG: Mapping[str, Streams[Any, Any]] = {
    "companies": Streams[Company, CompanyEvent](
        stream_type="company",
        blank=Company(),
        evolve=Company.evolve,
        unknown=CompanyUnknown,
        commands={
            "define-pipeline": DefinePipeline,
            "define-list": DefineList,
            "set-time-zone": SetTimeZone,
        },
    ),
    "customers": Streams[Customer, CustomerEvent](
        stream_type="customer",
        blank=Customer(),
        evolve=Customer.evolve,
        unknown=CustomerUnknown,
        creates="register",
        exists=CustomerExists,
        commands={
            "register": RegisterCustomer,
            "change-details": ChangeCustomerDetails,
            "add-contact": AddContact,
            "change-contact": ChangeContact,
            "remove-contact": RemoveContact,
            "claim": ClaimCustomer,
            "release": ReleaseCustomer,
            "hand-over": HandOverCustomer,
            "tag": TagCustomer,
            "untag": UntagCustomer,
            "log-interaction": LogInteraction,
            "make-promise": MakePromise,
            "hand-over-promise": HandOverPromise,
            "keep-promise": KeepPromise,
            "break-promise": BreakPromise,
            "withdraw-promise": WithdrawPromise,
        },
    ),
    "leads": Streams[Lead, LeadEvent](
        stream_type="lead",
        blank=Lead(),
        evolve=Lead.evolve,
        unknown=LeadUnknown,
        creates="capture",
        exists=LeadExists,
        commands={
            "capture": CaptureLead,
            "claim": ClaimLead,
            "return": ReturnLead,
            "hand-over": HandOverLead,
            "change-details": ChangeLeadDetails,
            "reopen": ReopenLead,
            "qualify": QualifyLead,
            "disqualify": DisqualifyLead,
            "convert": ConvertLead,
        },
    ),
    "opportunities": Streams[Opportunity, OpportunityEvent](
        stream_type="opportunity",
        blank=Opportunity(),
        evolve=Opportunity.evolve,
        unknown=OpportunityUnknown,
        creates="open",
        exists=OpportunityExists,
        commands={
            "open": OpenOpportunity,
            "change-details": ChangeOpportunityDetails,
            "hand-over": HandOverOpportunity,
            "follow-customer": FollowCustomer,
            "identify-customer": IdentifyCustomer,
            "move-stage": MoveStage,
            "quote": GiveQuote,
            "win": WinOpportunity,
            "lose": LoseOpportunity,
            "reopen": ReopenOpportunity,
        },
    ),
    "orders": Streams[Order, OrderEvent](
        stream_type="order",
        blank=Order(),
        evolve=Order.evolve,
        unknown=OrderUnknown,
        creates="place",
        exists=OrderExists,
        other_currency=OrderInOtherCurrency,
        commands={
            "place": PlaceOrder,
            "hand-over": HandOverOrder,
            "add-line": AddOrderLine,
            "plan-payments": PlanPayments,
            "ship": ShipOrder,
            "hold": HoldOrder,
            "dispute": DisputeOrder,
            "resolve": ResolveOrder,
            "complete": CompleteOrder,
            "cancel": CancelOrder,
            "return": ReturnGoods,
        },
    ),
    "payments": Streams[Payment, PaymentEvent](
        stream_type="payment",
        blank=Payment(),
        evolve=Payment.evolve,
        unknown=PaymentUnknown,
        creates="receive",
        exists=PaymentExists,
        commands={
            "receive": ReceivePayment,
            "allocate": AllocatePayment,
            "release": ReleaseAllocation,
            "refund": RefundPayment,
        },
    ),
    "tickets": Streams[Ticket, TicketEvent](
        stream_type="ticket",
        blank=Ticket(),
        evolve=Ticket.evolve,
        unknown=TicketUnknown,
        creates="open",
        exists=TicketExists,
        commands={
            "open": OpenTicket,
            "classify": ClassifyTicket,
            "identify-customer": IdentifyTicketCustomer,
            "dispatch": DispatchTicket,
            "confirm": ConfirmDispatch,
            "decline": DeclineDispatch,
            "take": TakeTicket,
            "reply": ReplyToTicket,
            "note": NoteOnTicket,
            "log-work": LogWork,
            "wait": LetTicketWait,
            "escalate": EscalateTicket,
            "resolve": ResolveTicket,
            "close": CloseTicket,
            "reopen": ReopenTicket,
            "rate": RateTicket,
        },
    ),
}
check(CATALOG)

BY_TYPE: Mapping[str, Streams[Any, Any]] = {
    streams.stream_type: streams for streams in CATALOG.values()
}
NAME_OF: Mapping[type[Command[Any, Any]], str] = {
    command: f"{plural}/{verb}"
    for plural, streams in CATALOG.items()
    for verb, command in streams.commands.items()
}
"""Each command's name, like ``leads/claim``."""


def rules() -> list[type[Refused]]:
    """Every rule that may refuse a command: those that nouns share, then each noun's own."""
    nouns = [inspect.getmodule(type(streams.blank)) for streams in CATALOG.values()]
    return [
        rule
        for module in (base, *nouns)
        for rule in vars(module).values()
        if inspect.isclass(rule)
        and issubclass(rule, Refused)
        and inspect.getmodule(rule) is module
        and rule not in (Refused, Unknown)
    ]
