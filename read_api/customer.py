"""The 360° view: everything known of a customer in one answer, now or at a past moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from events.company import COMPANY
from events.ledger.keys import Keyring
from projections import (
    interactions,
    leads,
    opportunities,
    orders,
    payments,
    promises,
    quotes,
    receivables,
    tickets,
    timeline,
)
from projections.asking.clocks import Moment
from projections.asking.listing import AskedAt, ListedAt, Listing
from projections.asking.pages import MAX_LIMIT
from projections.asking.past import past
from projections.asking.shape import HeadAt, Shape
from projections.asking.view import View
from projections.card import Card, InteractionShape, send_card
from projections.catalog import MODELS
from projections.leads import LeadShape
from projections.opportunities import OpportunityShape
from projections.orders import OrderShape
from projections.payments import PaymentShape
from projections.promises import PromiseShape
from projections.quotes import QuoteShape
from projections.receivables import Sums
from projections.tickets import TicketShape
from projections.timeline import EntryShape
from read_api.answers import address, answer, form_of
from read_api.listing import missing
from read_api.reading import Reader, caller_of
from read_api.shapes import MISSING, NOT_ACCEPTABLE
from read_api.standing import Standing


class Rest(Shape):
    """Of a list that an answer cuts: how many items it has in all, and the page that follows."""

    count: int
    next: str


class CustomerView(Card, HeadAt):
    """All that is known of a customer, the latest first, but contacts and owners as they came."""

    interactions: list[InteractionShape]
    promises: list[PromiseShape]
    opportunities: list[OpportunityShape]
    quotes: list[QuoteShape]
    leads: list[LeadShape]
    orders: list[OrderShape]
    payments: list[PaymentShape]
    accounts: list[Sums] = Field(description="What the customer owes, by currency.")
    tickets: list[TicketShape]
    timeline: list[EntryShape] = Field(description="The latest 50 events.")
    more: dict[str, Rest] = Field(description="The rest of each list that is cut, by its name.")
    rfm: Standing | None = Field(
        description="The customer's RFM segments; null where there are no facts yet."
    )


def add_routes(routes: APIRouter, reader: Reader) -> None:
    """The route of the 360° view."""

    @routes.get(
        "/customers/{id}",
        tags=["customers"],
        response_model=CustomerView,
        responses={**MISSING, **NOT_ACCEPTABLE},
    )
    def one_customer(request: Request, id: UUID, asked: Annotated[AskedAt, Query()]) -> Response:
        """Everything known of a customer, now or at any moment of either clock."""
        form = form_of(request, is_table=False)
        replay = asked.as_of is not None or asked.known_at is not None
        with reader.view(caller_of(request), MODELS, asked, past=replay) as view:
            found = _past(view, id, reader.keyring) if replay else _whole(view, id)
        if found is None:
            raise missing()
        found.rfm = reader.standing(id, view.when)
        for rest in found.more.values():
            if rest.next is not None:
                rest.next = address(request, rest.next)
        return answer(request, form, found)


def _past(view: View, customer_id: UUID, keyring: Keyring) -> CustomerView | None:
    # Orders and accounts are from the facts of everybody: others may pay for a customer.
    bought, owed = _orders(view, customer_id), _owed(view, customer_id)
    asked = timeline.AskTimeline()
    entries = _send(view, timeline.LIST, asked, view.when, id=customer_id)
    kept = bought(), owed(), entries()
    streams = timeline.streams_of(view.conn, customer_id, view.when)
    with past(view.conn, keyring, MODELS, streams, view.when, customer_id, beside=[COMPANY]):
        return _whole(view, customer_id, kept)


Part = tuple[list[Any], Rest | None]
"""The latest items of a list, and the rest of it where there is more."""
Kept = tuple[Part, list[Sums], Part]
"""Orders, accounts and the timeline: what is asked of everybody's rows, also of the past."""


def _orders(view: View, customer_id: UUID) -> Callable[[], Part]:
    asked = orders.AskOrders(customer_id=customer_id, limit=MAX_LIMIT, newest_first=True)
    return _send(view, orders.LIST, asked, view.when)


def _owed(view: View, customer_id: UUID) -> Callable[[], list[Sums]]:
    return receivables.send_of_customer(view.conn, view.when, customer_id)


def _send(
    view: View, listing: Listing[Any, Any], asked: ListedAt, when: Moment, **of: UUID
) -> Callable[[], Part]:
    """Ask for the latest items of a list; what is returned waits for them."""
    page = listing.send(view.conn, when, asked, **of)

    def part() -> Part:
        items, cursor = page()
        if cursor is None:
            return items, None
        count = listing.count(view.conn, when, asked, **of)
        return items, Rest(count=count, next=_link(view, listing, asked, cursor, of))

    return part


def _link(
    view: View, listing: Listing[Any, Any], asked: ListedAt, cursor: str, of: Mapping[str, UUID]
) -> str:
    """Where a list goes on, at the same moment."""
    clocks = {"as_of": view.when.as_of and view.when.as_of.isoformat()}
    clocks["known_at"] = None if view.when.known_at is None else str(view.when.known_at)
    given = {**asked.model_dump(mode="json", exclude_defaults=True), **clocks, "cursor": cursor}
    query = urlencode({name: str(v) for name, v in given.items() if v is not None})
    return f"{listing.path.format(**of)}?{query}"


def _whole(view: View, customer_id: UUID, kept: Kept | None = None) -> CustomerView | None:
    """Everything there is of a customer: all is asked for before the first answer is waited for."""
    conn, present = view.conn, _present(view.when)
    its: dict[str, Any] = {"customer_id": customer_id, "limit": MAX_LIMIT}
    latest = {**its, "newest_first": True}
    lists: tuple[tuple[str, Listing[Any, Any], ListedAt], ...] = (
        ("opportunities", opportunities.LIST, opportunities.AskOpportunities(**latest)),
        ("promises", promises.LIST, promises.AskPromises(**latest)),
        ("leads", leads.LIST, leads.AskLeads(**latest)),
        ("payments", payments.LIST, payments.AskPayments(**latest)),
        ("tickets", tickets.LIST, tickets.AskTickets(**latest)),
        ("interactions", interactions.LIST, interactions.AskInteractions(**its | {"limit": 50})),
    )
    with conn.pipeline():
        card = send_card(conn, customer_id)
        its_quotes = quotes.send_of_customer(conn, customer_id)
        parts = {name: _send(view, listing, asked, present) for name, listing, asked in lists}
        if kept is None:
            entries = _send(view, timeline.LIST, timeline.AskTimeline(), present, id=customer_id)
            bought, owed = _orders(view, customer_id), _owed(view, customer_id)
            kept = bought(), owed(), entries()
        found = card()
        if found is None:
            return None
        told = {"orders": kept[0], "timeline": kept[2]} | {
            name: part() for name, part in parts.items()
        }
        items = {name: part[0] for name, part in told.items()}
        items["interactions"] = [InteractionShape.of(one) for one in items["interactions"]]
        return CustomerView.of(
            view.head_at,
            found,
            **items,
            more={name: rest for name, (_, rest) in told.items() if rest is not None},
            quotes=its_quotes(),
            accounts=kept[1],
            rfm=None,
        )


def _present(when: Moment) -> Moment:
    """The same "today", for tables that hold only what counts already."""
    return Moment(None, None, when.now, when.today, when.zone, when.as_of, when.pin)
