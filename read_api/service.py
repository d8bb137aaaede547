"""Service: what customers need of us, and how far it is."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response

from projections import customers, tickets
from projections.asking.pages import LIMIT
from read_api.answers import as_json, found_or_404, listed
from read_api.parameters import MISSING, AsOf, Cursor, KnownAt, Limit, MinPosition, Time, Word
from read_api.reading import Reader
from read_api.shapes import TicketDetail, Tickets

STATUS = Literal["open", "waiting", "resolved", "closed"]
DISPATCH = Literal["undispatched", "unconfirmed", "confirmed"]


def add_routes(routes: APIRouter, reader: Reader) -> None:
    """The routes of tickets."""

    @routes.get("/tickets", tags=["tickets"], response_model=Tickets)
    def list_tickets(
        request: Request,
        status: STATUS | None = None,
        dispatch: DISPATCH | None = None,
        technician: Word = None,
        kind: Word = None,
        priority: Word = None,
        customer_id: UUID | None = None,
        number: Word = None,
        escalated: bool | None = None,
        opened_from: Time = None,
        opened_to: Time = None,
        as_of: AsOf = None,
        known_at: KnownAt = None,
        min_position: MinPosition = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """Tickets by the time of their opening, with who has them and how long they take."""
        with reader.view(
            tickets.MODEL,
            customers.MODEL,
            min_position=min_position,
            as_of=as_of,
            known_at=known_at,
        ) as view:
            items, more = tickets.tickets(
                view.conn,
                view.when,
                status=status,
                dispatch=dispatch,
                technician=technician,
                kind=kind,
                priority=priority,
                customer_id=customer_id,
                number=number,
                escalated=escalated,
                opened_from=opened_from,
                opened_to=opened_to,
                cursor=cursor,
                limit=limit,
            )
            return listed(request, view.clocks(), items, more)

    @routes.get("/tickets/{id}", tags=["tickets"], response_model=TicketDetail, responses=MISSING)
    def one_ticket(
        id: UUID, as_of: AsOf = None, known_at: KnownAt = None, min_position: MinPosition = None
    ) -> Response:
        """One ticket with all that was done and written; now, its ETag is its version."""
        with reader.view(
            tickets.MODEL,
            customers.MODEL,
            min_position=min_position,
            as_of=as_of,
            known_at=known_at,
        ) as view:
            found = found_or_404(tickets.ticket(view.conn, id, view.when))
            etag = found["version"] if view.when.is_live else None
            return as_json({**view.clocks(), **found}, etag=etag)
