"""The 360° view: everything known of a customer in one answer, now or at a past moment."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from projections import (
    customers,
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
from projections.catalog import MODELS
from projections.customers import Card
from projections.leads import LeadShape
from projections.opportunities import OpportunityShape
from projections.orders import OrderShape
from projections.payments import PaymentShape
from projections.promises import PromiseShape
from projections.quotes import QuoteShape
from projections.receivables import Sums
from projections.tickets import TicketShape
from projections.timeline import EntryShape
from read_api.answers import as_json
from read_api.listing import missing
from read_api.reading import Reader, caller_of
from read_api.shapes import MISSING
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
        "/customers/{id}", tags=["customers"], response_model=CustomerView, responses=MISSING
    )
    def one_customer(request: Request, id: UUID, asked: Annotated[AskedAt, Query()]) -> Response:
        """Everything known of a customer, now or at any moment of either clock."""
        replay = asked.as_of is not None or asked.known_at is not None
        with reader.view(caller_of(request), MODELS, asked, past=replay) as view:
            # Orders and accounts are from the facts of everybody: others may pay for a customer.
            owing = _owing(view, id)
            if replay:
                streams = timeline.streams_of(view.conn, id)
                with past(view.conn, reader.keyring, MODELS, streams, view.when):
                    found = _whole(view, id, owing)
            else:
                found = _whole(view, id, owing)
        if found is None:
            raise missing()
        found.rfm = reader.standing(id, view.when)
        return as_json(found)


def _owing(view: View, customer_id: UUID) -> dict[str, Any]:
    bought, _ = orders.LIST.rows(
        view.conn, view.when, orders.AskOrders(customer_id=customer_id, limit=MAX_LIMIT)
    )
    accounts = receivables.of_customer(view.conn, view.when, customer_id)
    return {"orders": bought, "accounts": accounts}


def _whole(view: View, customer_id: UUID, owing: dict[str, Any]) -> CustomerView | None:
    conn, present = view.conn, _present(view.when)
    found = customers.card(conn, customer_id)
    if found is None:
        return None
    its = {"customer_id": customer_id, "limit": MAX_LIMIT}
    deals, _ = opportunities.LIST.rows(conn, present, opportunities.AskOpportunities(**its))
    return CustomerView.of(
        view.head_at,
        found,
        promises=promises.LIST.rows(conn, present, promises.AskPromises(**its))[0],
        opportunities=deals,
        quotes=quotes.quotes(conn, [deal.id for deal in deals]),
        leads=leads.of_customer(conn, customer_id, MAX_LIMIT),
        **owing,
        payments=payments.LIST.rows(conn, present, payments.AskPayments(**its))[0],
        tickets=tickets.LIST.rows(conn, present, tickets.AskTickets(**its))[0],
        timeline=timeline.LIST.rows(conn, present, timeline.AskTimeline(), id=customer_id)[0],
        rfm=None,
    )


def _present(when: Moment) -> Moment:
    """The same "today", for tables that hold only what counts already."""
    return Moment(None, None, when.now, when.today, when.zone)
