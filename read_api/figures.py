"""What all figures share: their parameters, and the session on facts that answers them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Query

from analytics.facts.asking import Basis, Scope, Session, facts, session
from analytics.facts.store import Manifest
from events.ledger import ledger
from events.values import COINS
from projections.asking.clocks import Unanswerable, moment, time_zone
from read_api.parameters import AsOf, Day, KnownAt, MinPosition, Word
from read_api.reading import NotThereYet, Reader

Currency = Annotated[
    str | None,
    Query(pattern="^[A-Z]{3}$", examples=["EUR"], description="Needed where there are several."),
]
From = Annotated[Day, Query(alias="from", description="The window's first day.")]
To = Annotated[Day, Query(description="The day after the window's last one.")]
Place = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description="From a next link.")]
Told = Callable[[], dict[str, Any]]
"""What to say at the head of an answer, once it is computed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters that figures share.

    Attributes:
        scope: of those that this kind of figure takes, by their names in ``Scope``.
    """

    scope: dict[str, Any]
    as_of: str | None
    known_at: str | None
    min_position: int | None

    def at(self, as_of: str) -> Asked:
        """The same as of another moment."""
        return replace(self, as_of=as_of)


class Clocks(NamedTuple):
    """When a question is asked of."""

    as_of: str | None
    known_at: str | None
    min_position: int | None


def clocks(
    as_of: AsOf = None, known_at: KnownAt = None, min_position: MinPosition = None
) -> Clocks:
    """Both clocks, and the position to wait for."""
    return Clocks(as_of, known_at, min_position)


def window(from_: From = None, to: To = None) -> dict[str, Any]:
    """Which business days."""
    if from_ is not None and to is not None and from_ > to:
        raise Unanswerable("to", "must not lie before from")
    return {"start": from_, "end": to}


def amounts(currency: Currency = None) -> dict[str, Any]:
    """Amounts of which currency."""
    if currency is not None and currency not in COINS:
        raise Unanswerable("currency", "is no currency of ISO 4217")
    return {"currency": currency}


def whose(owner: Word = None, region: Word = None, channel: Word = None) -> dict[str, Any]:
    """Whose customers."""
    return {"owner": owner, "region": region, "channel": channel}


def tagged(whose: Annotated[dict[str, Any], Depends(whose)], tag: Word = None) -> dict[str, Any]:
    """Whose customers, and with which tag; leads have none."""
    return {**whose, "tag": tag}


At = Annotated[Clocks, Depends(clocks)]
Within = Annotated[dict[str, Any], Depends(window)]
Amounts = Annotated[dict[str, Any], Depends(amounts)]
Whose = Annotated[dict[str, Any], Depends(whose)]
Tagged = Annotated[dict[str, Any], Depends(tagged)]
BasisOf = Annotated[Basis, Query(description="What a purchase's amount is.")]


def of_purchases(
    within: Within,
    amounts: Amounts,
    whose: Tagged,
    at: At,
    *,
    merge_by_day: Annotated[
        bool, Query(description="Count a customer's purchases of one day as one.")
    ] = False,
    basis: BasisOf = "ordered",
    product: Word = None,
) -> Asked:
    """The parameters of figures over purchases."""
    own = {"merge_by_day": merge_by_day, "basis": basis, "product": product}
    return Asked({**within, **amounts, **whose, **own}, *at)


def of_lives(
    amounts: Amounts, whose: Tagged, at: At, basis: BasisOf = "ordered", product: Word = None
) -> Asked:
    """The parameters of models, which know a customer's days of purchase from the first one on."""
    own = {"merge_by_day": True, "basis": basis, "product": product}
    return Asked({**amounts, **whose, **own}, *at)


def of_sales(
    within: Within, amounts: Amounts, whose: Tagged, at: At, product: Word = None
) -> Asked:
    """The parameters of figures over deals and receipts."""
    return Asked({**within, **amounts, **whose, "product": product}, *at)


def of_leads(within: Within, whose: Whose, at: At) -> Asked:
    """The parameters of figures over leads."""
    return Asked({**within, **whose}, *at)


def of_tickets(within: Within, whose: Tagged, at: At, product: Word = None) -> Asked:
    """The parameters of figures over tickets, whose owner is the technician."""
    return Asked({**within, **whose, "product": product}, *at)


Purchased = Annotated[Asked, Depends(of_purchases)]
Lived = Annotated[Asked, Depends(of_lives)]
Sold = Annotated[Asked, Depends(of_sales)]
Captured = Annotated[Asked, Depends(of_leads)]
Served = Annotated[Asked, Depends(of_tickets)]


@contextmanager
def on_purchases(reader: Reader, asked: Asked) -> Iterator[tuple[Told, Session]]:
    """What to say at the head of the answer, and the session that computes it."""
    found, scope = _begin(reader, asked)
    with session(reader.facts, found, scope) as opened:
        yield (lambda: _head(found, opened, opened.scope.told())), opened


@contextmanager
def on_facts(
    reader: Reader, asked: Asked, tables: Sequence[str], **more: Any
) -> Iterator[tuple[Told, Session]]:
    """The same on other tables of facts; ``more`` are parameters of this figure alone."""
    found, scope = _begin(reader, asked)
    with facts(reader.facts, found, scope, tables) as opened:

        def told() -> dict[str, Any]:
            parameters = opened.scope.told()
            del parameters["merge_by_day"], parameters["basis"]
            return _head(found, opened, {**parameters, **more})

        yield told, opened


def _begin(reader: Reader, asked: Asked) -> tuple[Manifest, Scope]:
    with reader.connection() as conn:
        when = moment(conn, asked.as_of, asked.known_at)
        zone = time_zone(conn, when.known_at).key
        is_empty = ledger.head(conn) == 0
    found = reached(reader, max(asked.min_position or 0, when.known_at or 0))
    if found.position == 0 and not is_empty and when.known_at != 0:
        raise NotThereYet("the facts are being written", (), 1, is_final=found.halted is not None)
    return found, Scope(when, zone, **asked.scope)


def _head(found: Manifest, opened: Session, parameters: dict[str, Any]) -> dict[str, Any]:
    when = opened.scope.when
    return {
        "position": found.position if when.known_at is None else when.known_at,
        "as_of": when.as_of,
        "known_at": when.known_at,
        "today": when.today,
        "parameters": parameters,
    }


def reached(reader: Reader, wanted: int) -> Manifest:
    """The facts, once they are as far as that.

    Raises:
        NotThereYet: while they are not, or when they stand still.
    """
    found = reader.facts.latest()
    if found.position >= wanted:
        return found
    if found.halted is not None:
        raise NotThereYet(f"the facts halted: {found.halted}", (), wanted, is_final=True)
    raise NotThereYet(f"position {wanted} is not reached yet; this is {found.position}", (), wanted)
