"""Orders and money: who bought what, who paid what, who still owes what."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from events.payment import PaymentKind
from projections import customers, orders, payments
from projections import receivables as owed
from projections.asking.clocks import Unanswerable
from projections.asking.pages import LIMIT
from read_api.answers import as_json, found_or_404, listed
from read_api.parameters import (
    MISSING,
    AsOf,
    Cursor,
    KnownAt,
    Limit,
    MinPosition,
    Time,
    Word,
)
from read_api.reading import Reader, View
from read_api.shapes import (
    Ageing,
    ByPeriod,
    ByRep,
    OrderDetail,
    Orders,
    Page,
    PaymentDetail,
    PaymentShape,
    Receivables,
)

MODELS = (orders.MODEL, payments.MODEL, customers.MODEL)
Currency = Annotated[str | None, Query(pattern="^[A-Z]{3}$", examples=["EUR"])]
Buckets = Annotated[
    str,
    Query(
        pattern=r"^[0-9]{1,4}(,[0-9]{1,4}){0,9}$",
        description="The last day of each bucket but the last one, rising.",
    ),
]
STATUS = Literal["placed", "shipped", "held", "disputed", "resolved", "completed", "cancelled"]


def add_routes(routes: APIRouter, reader: Reader) -> None:
    """The routes of orders and payments."""

    @routes.get("/orders", tags=["orders"], response_model=Orders)
    def list_orders(
        request: Request,
        customer_id: UUID | None = None,
        owner: Word = None,
        status: STATUS | None = None,
        number: Word = None,
        opportunity_id: UUID | None = None,
        placed_from: Time = None,
        placed_to: Time = None,
        as_of: AsOf = None,
        known_at: KnownAt = None,
        min_position: MinPosition = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """Orders by the time of their placing, with what is billed and paid."""
        with _view(reader, min_position, as_of, known_at) as view:
            items, more = orders.orders(
                view.conn,
                view.when,
                customer_id=customer_id,
                owner=owner,
                status=status,
                number=number,
                opportunity_id=opportunity_id,
                placed_from=placed_from,
                placed_to=placed_to,
                cursor=cursor,
                limit=limit,
            )
            return listed(request, view.clocks(), items, more)

    @routes.get("/orders/{id}", tags=["orders"], response_model=OrderDetail, responses=MISSING)
    def one_order(
        id: UUID, as_of: AsOf = None, known_at: KnownAt = None, min_position: MinPosition = None
    ) -> Response:
        """One order with lines, plan, history and payments; now, its ETag is its version."""
        with _view(reader, min_position, as_of, known_at) as view:
            found = found_or_404(orders.order(view.conn, id, view.when))
            etag = found["version"] if view.when.is_live else None
            return as_json({**view.clocks(), **found}, etag=etag)

    @routes.get("/payments", tags=["payments"], response_model=Page[PaymentShape])
    def list_payments(
        request: Request,
        customer_id: UUID | None = None,
        kind: PaymentKind | None = None,
        reference: Word = None,
        with_credit: bool | None = None,
        received_from: Time = None,
        received_to: Time = None,
        min_position: MinPosition = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """Payments and credit notes by the time they came in."""
        with reader.view(payments.MODEL, customers.MODEL, min_position=min_position) as view:
            items, more = payments.payments(
                view.conn,
                customer_id=customer_id,
                kind=kind,
                reference=reference,
                with_credit=with_credit,
                received_from=received_from,
                received_to=received_to,
                cursor=cursor,
                limit=limit,
            )
            return listed(request, view.head(), items, more)

    @routes.get("/payments/receivables", tags=["payments"], response_model=Receivables)
    def receivables(
        request: Request,
        customer_id: UUID | None = None,
        currency: Currency = None,
        owing: bool | None = None,
        as_of: AsOf = None,
        known_at: KnownAt = None,
        min_position: MinPosition = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """What each customer owes in each currency, the largest first."""
        with _view(reader, min_position, as_of, known_at) as view:
            items, more, total = owed.receivables(
                view.conn,
                view.when,
                customer_id=customer_id,
                currency=currency,
                owing=owing,
                cursor=cursor,
                limit=limit,
            )
            return listed(request, {**view.clocks(), "total": total}, items, more)

    @routes.get("/payments/ageing", tags=["payments"], response_model=Ageing)
    def ageing(
        customer_id: UUID | None = None,
        currency: Currency = None,
        buckets: Buckets = "30,60,90",
        as_of: AsOf = None,
        known_at: KnownAt = None,
        min_position: MinPosition = None,
    ) -> Response:
        """What is owed by days past due, by customer and in all."""
        edges = [int(part) for part in buckets.split(",")]
        if edges != sorted(set(edges)) or edges[0] == 0:
            raise Unanswerable("buckets", "must rise, like 30,60,90")
        with _view(reader, min_position, as_of, known_at) as view:
            items, total = owed.ageing(
                view.conn,
                view.when,
                buckets=edges,
                customer_id=customer_id,
                currency=currency,
            )
            return as_json({**view.clocks(), "items": items, "total": total})

    @routes.get("/payments/by-rep", tags=["payments"], response_model=ByRep)
    def by_rep(
        as_of: AsOf = None, known_at: KnownAt = None, min_position: MinPosition = None
    ) -> Response:
        """Orders, billed, received and receivable of each rep, the largest first."""
        with _view(reader, min_position, as_of, known_at) as view:
            return as_json({**view.clocks(), "items": owed.by_rep(view.conn, view.when)})

    @routes.get("/payments/by-period", tags=["payments"], response_model=ByPeriod)
    def by_period(
        period: Literal["day", "week", "month", "quarter", "year"] = "month",
        as_of: AsOf = None,
        known_at: KnownAt = None,
        min_position: MinPosition = None,
    ) -> Response:
        """What was billed, received and refunded, period by period."""
        with _view(reader, min_position, as_of, known_at) as view:
            items = owed.by_period(view.conn, view.when, period)
            return as_json({**view.clocks(), "period": period, "items": items})

    # After the fixed names, which would otherwise be taken for ids.
    @routes.get(
        "/payments/{id}", tags=["payments"], response_model=PaymentDetail, responses=MISSING
    )
    def one_payment(id: UUID, min_position: MinPosition = None) -> Response:
        """One payment with all that became of it; its ETag is its version."""
        with reader.view(payments.MODEL, customers.MODEL, min_position=min_position) as view:
            found = found_or_404(payments.payment(view.conn, id))
            return as_json({**view.head(), **found}, etag=found["version"])


def _view(
    reader: Reader, min_position: int | None, as_of: str | None, known_at: str | None
) -> AbstractContextManager[View]:
    return reader.view(*MODELS, min_position=min_position, as_of=as_of, known_at=known_at)
