"""Which facts a question is about: what may be asked of figures, family by family."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from events.currencies import COINS
from projections.asking.clocks import Unanswerable
from projections.asking.listing import AskedAt, Paged
from projections.asking.parameters import Day, Word
from projections.asking.shape import Shape

Basis = Literal["ordered", "received", "net"]
Month = Annotated[
    str,
    Field(
        pattern=r"^(19|20|21)[0-9]{2}-(0[1-9]|1[0-2])(-[0-9]{2})?$",
        examples=["2026-03"],
        description="A month, or any day of it.",
    ),
]
Group = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00]*$",
        description="The group, as the figure names it; without it, the group without a name.",
    ),
]


class Scope(AskedAt):
    """Whose facts.

    Attributes:
        owner: the rep; of tickets the technician.
        region: of the customer.
        channel: by which the customer came.
    """

    owner: Word = None
    region: Word = None
    channel: Word = None

    @property
    def start(self) -> date | None:
        """The window's first business day, if it has one."""
        return None

    @property
    def end(self) -> date | None:
        """The business day after the window's last one, if it has one."""
        return None

    def told(self) -> dict[str, Any]:
        """What was asked, defaults filled in, without what every question takes."""
        fields = parameters(type(self)).model_fields
        return {name: self.__dict__[name] for name in fields if name != "time_zone"}


class Windowed(Scope):
    """Whose facts, of which days."""

    from_: Annotated[Day, Field(alias="from", description="The window's first day.")] = None
    to: Annotated[Day, Field(description="The day after the window's last one.")] = None

    @property
    def start(self) -> date | None:
        """See ``Scope``."""
        return self.from_

    @property
    def end(self) -> date | None:
        """See ``Scope``."""
        return self.to

    def check(self) -> None:
        """See ``Asked``."""
        super().check()
        if self.from_ is not None and self.to is not None and self.from_ > self.to:
            raise Unanswerable("to", "must not lie before from")


class OfCustomers(Scope):
    """Whose facts, of customers with which tag, about which product.

    Attributes:
        product: of a purchase: on one of the order's lines.
    """

    product: Word = None
    tag: Word = None


class OfMoney(OfCustomers):
    """The same, with amounts of which currency."""

    currency: Annotated[
        str | None,
        Field(
            pattern="^[A-Z]{3}$",
            examples=["EUR"],
            description="Required where amounts are in several currencies.",
        ),
    ] = None

    def check(self) -> None:
        """See ``Asked``."""
        super().check()
        if self.currency is not None and self.currency not in COINS:
            raise Unanswerable("currency", "is no currency of ISO 4217")


class OfLeads(Windowed):
    """Which leads."""


class OfTickets(Windowed, OfCustomers):
    """Which tickets."""


class OfSales(Windowed, OfMoney):
    """Which deals."""


class OfOrders(OfSales):
    """Which orders, and what was paid for them.

    Attributes:
        order_region: of the order, beside that of its customer.
    """

    order_region: Word = None


class OfPurchases(OfOrders):
    """Which purchases, and what counts as one.

    Attributes:
        basis: what a purchase's amount is: ``ordered``, what the order came to; ``received``, what
            was paid for it; ``net``, what was ordered less what came back, be it goods or money,
            and less credit notes, each of which counts for one purchase (``asking.CREDITED``).
    """

    merge_by_day: Annotated[
        bool, Field(description="Count a customer's purchases of one day as one.")
    ] = False
    basis: Annotated[
        Basis,
        Field(description="Which amount counts: ordered, received, or net of returns and credit."),
    ] = "ordered"


class OfLives(OfMoney):
    """Which purchases a model knows: a customer's days of purchase from the first one on."""

    order_region: Word = None

    basis: Annotated[
        Basis,
        Field(description="Which amount counts: ordered, received, or net of returns and credit."),
    ] = "ordered"

    def purchases(self) -> OfPurchases:
        """The same purchases, by day."""
        asked = {name: self.__dict__[name] for name in OfLives.model_fields}
        return OfPurchases(merge_by_day=True, **asked)


FAMILIES = (OfLeads, OfTickets, OfSales, OfOrders, OfPurchases, OfLives)
_PARAMETERS: dict[type[BaseModel], type[Shape]] = {}
ALSO_TOLD = frozenset({"pipeline", "by"})
"""Parameters of single figures that answers repeat among those of their family."""


def parameters(asks: type[BaseModel]) -> type[Shape]:
    """The shape in which an answer repeats what was asked."""
    found = _PARAMETERS.get(asks)
    if found is None:
        theirs = {n for family in FAMILIES if issubclass(asks, family) for n in family.model_fields}
        named = {
            name: (field.annotation, Field(alias=field.alias))
            for name, field in asks.model_fields.items()
            if name in theirs | ALSO_TOLD
            and name not in {*AskedAt.model_fields, *Paged.model_fields}
        }
        fields: Any = {**named, "time_zone": (str, ...)}
        doc = "What was asked, defaults filled in."
        found = create_model(f"{asks.__name__}Parameters", __base__=Shape, __doc__=doc, **fields)
        _PARAMETERS[asks] = found
    return found
