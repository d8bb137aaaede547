"""The 360° view: everything known of a customer in one answer, now or at a past moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from events.company import COMPANY
from events.ledger.keys import Keyring
from projections import (
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
from projections.asking.listing import AskedAt
from projections.asking.pages import MAX_LIMIT
from projections.asking.past import past
from projections.asking.shape import HeadAt
from projections.asking.view import View
from projections.card import Card, send_card
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
from read_api.answers import answer, form_of
from read_api.listing import missing
from read_api.reading import Reader, caller_of
from read_api.shapes import MISSING, NOT_ACCEPTABLE
from read_api.standing import Standing


class CustomerView(Card, HeadAt):
    """Everything known of a customer, in one answer."""

    promises: list[PromiseShape]
    opportunities: list[OpportunityShape]
    quotes: list[QuoteShape]
    leads: list[LeadShape]
    orders: list[OrderShape]
    payments: list[PaymentShape]
    accounts: list[Sums] = Field(description="What the customer owes, by currency.")
    tickets: list[TicketShape]
    timeline: list[EntryShape] = Field(description="The latest 50 events.")
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
        return answer(request, form, found)


def _past(view: View, customer_id: UUID, keyring: Keyring) -> CustomerView | None:
    # Orders and accounts are from the facts of everybody: others may pay for a customer.
    bought, owed = _send_owing(view, customer_id)
    owing = bought(), owed()
    streams = timeline.streams_of(view.conn, customer_id)
    with past(view.conn, keyring, MODELS, streams, view.when, customer_id, beside=[COMPANY]):
        return _whole(view, customer_id, owing)


Orders = tuple[list[OrderShape], str | None]


def _send_owing(
    view: View, customer_id: UUID
) -> tuple[Callable[[], Orders], Callable[[], list[Sums]]]:
    asked = orders.AskOrders(customer_id=customer_id, limit=MAX_LIMIT)
    return (
        orders.LIST.send(view.conn, view.when, asked),
        receivables.send_of_customer(view.conn, view.when, customer_id),
    )


def _whole(
    view: View, customer_id: UUID, owing: tuple[Orders, list[Sums]] | None = None
) -> CustomerView | None:
    """Everything there is of a customer: all is asked for before the first answer is waited for."""
    conn, present = view.conn, _present(view.when)
    its = {"customer_id": customer_id, "limit": MAX_LIMIT}
    with conn.pipeline():
        card = send_card(conn, customer_id)
        deals = opportunities.LIST.send(conn, present, opportunities.AskOpportunities(**its))
        its_quotes = quotes.send_of_customer(conn, customer_id)
        its_promises = promises.LIST.send(conn, present, promises.AskPromises(**its))
        its_leads = leads.send_of_customer(conn, customer_id, MAX_LIMIT)
        paid = payments.LIST.send(conn, present, payments.AskPayments(**its))
        its_tickets = tickets.LIST.send(conn, present, tickets.AskTickets(**its))
        entries = timeline.LIST.send(conn, present, timeline.AskTimeline(), id=customer_id)
        if owing is None:
            bought, owed = _send_owing(view, customer_id)
            owing = bought(), owed()
        found = card()
        if found is None:
            return None
        return CustomerView.of(
            view.head_at,
            found,
            promises=its_promises()[0],
            opportunities=deals()[0],
            quotes=its_quotes(),
            leads=its_leads(),
            orders=owing[0][0],
            accounts=owing[1],
            payments=paid()[0],
            tickets=its_tickets()[0],
            timeline=entries()[0],
            rfm=None,
        )


def _present(when: Moment) -> Moment:
    """The same "today", for tables that hold only what counts already."""
    return Moment(None, None, when.now, when.today, when.zone)
