"""The read API: thin routes over the read models' own queries."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, FastAPI, Request, Response

from projections import (
    customers,
    leads,
    opportunities,
    orders,
    payments,
    promises,
    receivables,
    tickets,
    timeline,
)
from projections.asking.clocks import Moment
from projections.asking.pages import LIMIT, MAX_LIMIT
from projections.asking.past import past
from projections.catalog import MODELS
from projections.engine.tables import Connection
from read_api import audit, evidence, health, money, purchase_figures, sales_figures, service
from read_api.answers import as_json, found_or_404, handle_problems, listed
from read_api.parameters import (
    INVALID,
    MISSING,
    AsOf,
    Cursor,
    Day,
    KnownAt,
    Limit,
    MinPosition,
    Position,
    Time,
    Word,
)
from read_api.reading import Reader
from read_api.shapes import (
    CustomerShape,
    CustomerView,
    EntryShape,
    Funnel,
    LeadDetail,
    LeadShape,
    OpportunityDetail,
    OpportunityShape,
    Page,
    Promises,
    RecordedShape,
    RefusalShape,
)
from read_api.waiting import waiting_route


def router(reader: Reader) -> APIRouter:
    """The routes of the read models and of the audit."""
    routes = APIRouter(responses=INVALID, route_class=waiting_route(reader))

    @routes.get("/customers", tags=["customers"], response_model=Page[CustomerShape])
    def list_customers(
        request: Request,
        name: Word = None,
        kind: Word = None,
        owner: Word = None,
        in_public_sea: bool | None = None,
        region: Word = None,
        industry: Word = None,
        tag: Word = None,
        min_position: MinPosition = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """Customers by the time of their registration."""
        with reader.view(customers.MODEL, min_position=min_position) as view:
            items, more = customers.customers(
                view.conn,
                name=name,
                kind=kind,
                owner=owner,
                in_public_sea=in_public_sea,
                region=region,
                industry=industry,
                tag=tag,
                cursor=cursor,
                limit=limit,
            )
            return listed(request, view.head(), items, more)

    @routes.get(
        "/customers/{id}", tags=["customers"], response_model=CustomerView, responses=MISSING
    )
    def one_customer(
        id: UUID, as_of: AsOf = None, known_at: KnownAt = None, min_position: MinPosition = None
    ) -> Response:
        """Everything known of a customer, now or at any moment of either clock."""
        models = [
            module.MODEL
            for module in (
                *(customers, leads, opportunities, orders, payments, promises, tickets, timeline),
            )
        ]
        replay = as_of is not None or known_at is not None
        with reader.view(
            *models, min_position=min_position, as_of=as_of, known_at=known_at, past=replay
        ) as view:
            if replay:
                streams = timeline.streams_of(view.conn, id)
                owing = _money(view.conn, id, view.when)
                with past(view.conn, reader.keyring, MODELS, streams, view.when):
                    found = _whole(view.conn, id, view.when, owing)
            else:
                owing = _money(view.conn, id, view.when)
                found = _whole(view.conn, id, view.when, owing)
            whole = {**view.clocks(), **found_or_404(found)}
        return as_json({**whole, "rfm": reader.standing(id, view.when)})

    @routes.get("/customers/{id}/timeline", tags=["customers"], response_model=Page[EntryShape])
    def customer_timeline(
        request: Request,
        id: UUID,
        type: Word = None,
        stream_type: Word = None,
        actor: Word = None,
        since: Time = None,
        until: Time = None,
        min_position: MinPosition = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """Everything around a customer, latest first."""
        with reader.view(timeline.MODEL, min_position=min_position) as view:
            items, more = timeline.timeline(
                view.conn,
                id,
                type=type,
                stream_type=stream_type,
                actor=actor,
                since=since,
                until=until,
                cursor=cursor,
                limit=limit,
            )
            return listed(request, view.head(), items, more)

    @routes.get("/leads", tags=["leads"], response_model=Page[LeadShape])
    def list_leads(
        request: Request,
        status: Literal["open", "qualified", "disqualified", "converted"] | None = None,
        owner: Word = None,
        in_pool: bool | None = None,
        source: Word = None,
        region: Word = None,
        industry: Word = None,
        captured_from: Time = None,
        captured_to: Time = None,
        min_position: MinPosition = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """Leads by the time of their capture."""
        with reader.view(leads.MODEL, min_position=min_position) as view:
            items, more = leads.leads(
                view.conn,
                status=status,
                owner=owner,
                in_pool=in_pool,
                source=source,
                region=region,
                industry=industry,
                captured_from=captured_from,
                captured_to=captured_to,
                cursor=cursor,
                limit=limit,
            )
            return listed(request, view.head(), items, more)

    @routes.get("/leads/{id}", tags=["leads"], response_model=LeadDetail, responses=MISSING)
    def one_lead(id: UUID, min_position: MinPosition = None) -> Response:
        """One lead; its ETag is its version."""
        with reader.view(leads.MODEL, min_position=min_position) as view:
            found = found_or_404(leads.lead(view.conn, id))
            return as_json({**view.head(), **found}, etag=found["version"])

    @routes.get("/opportunities", tags=["opportunities"], response_model=Page[OpportunityShape])
    def list_opportunities(
        request: Request,
        owner: Word = None,
        customer_id: UUID | None = None,
        pipeline: Word = None,
        stage: Word = None,
        kind: Literal["open", "won", "lost"] | None = None,
        product: Word = None,
        opened_from: Time = None,
        opened_to: Time = None,
        closed_from: Time = None,
        closed_to: Time = None,
        min_position: MinPosition = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """Deals by the time of their opening."""
        with reader.view(opportunities.MODEL, customers.MODEL, min_position=min_position) as view:
            items, more = opportunities.opportunities(
                view.conn,
                owner=owner,
                customer_id=customer_id,
                pipeline=pipeline,
                stage=stage,
                kind=kind,
                product=product,
                opened_from=opened_from,
                opened_to=opened_to,
                closed_from=closed_from,
                closed_to=closed_to,
                cursor=cursor,
                limit=limit,
            )
            return listed(request, view.head(), items, more)

    @routes.get(
        "/opportunities/{id}",
        tags=["opportunities"],
        response_model=OpportunityDetail,
        responses=MISSING,
    )
    def one_opportunity(id: UUID, min_position: MinPosition = None) -> Response:
        """One deal with every stage it stood in and every quote; its ETag is its version."""
        with reader.view(opportunities.MODEL, customers.MODEL, min_position=min_position) as view:
            found = found_or_404(opportunities.opportunity(view.conn, id))
            return as_json({**view.head(), **found}, etag=found["version"])

    @routes.get("/funnel", tags=["opportunities"], response_model=Funnel)
    def funnel(
        pipeline: Word = None,
        owner: Word = None,
        product: Word = None,
        as_of: AsOf = None,
        known_at: KnownAt = None,
        min_position: MinPosition = None,
    ) -> Response:
        """How many deals stand in each stage, and what they are worth; of all pipelines or one."""
        with reader.view(
            opportunities.MODEL, min_position=min_position, as_of=as_of, known_at=known_at
        ) as view:
            stages = opportunities.funnel(
                view.conn, view.when, pipeline=pipeline, owner=owner, product=product
            )
            return as_json({**view.clocks(), "pipeline": pipeline, "stages": stages})

    @routes.get("/promises", tags=["promises"], response_model=Promises)
    def list_promises(
        request: Request,
        customer_id: UUID | None = None,
        promised_by: Word = None,
        status: Literal["open", "kept", "broken", "withdrawn"] | None = None,
        topic: Word = None,
        overdue: bool | None = None,
        contradicting: bool | None = None,
        due_from: Day = None,
        due_to: Day = None,
        as_of: AsOf = None,
        known_at: KnownAt = None,
        min_position: MinPosition = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """Who promised what to which customer, until when, and where promises contradict."""
        with reader.view(
            promises.MODEL,
            customers.MODEL,
            min_position=min_position,
            as_of=as_of,
            known_at=known_at,
        ) as view:
            items, more = promises.promises(
                view.conn,
                view.when,
                customer_id=customer_id,
                promised_by=promised_by,
                status=status,
                topic=topic,
                overdue=overdue,
                contradicting=contradicting,
                due_from=due_from,
                due_to=due_to,
                cursor=cursor,
                limit=limit,
            )
            return listed(request, view.clocks(), items, more)

    for family in (money, service, purchase_figures, sales_figures, evidence):
        family.add_routes(routes, reader)
    _audit(routes, reader)
    return routes


def _audit(routes: APIRouter, reader: Reader) -> None:
    @routes.get("/audit/events", tags=["audit"], response_model=Page[RecordedShape])
    def audit_events(
        request: Request,
        type: Word = None,
        stream_type: Word = None,
        stream_id: UUID | None = None,
        actor: Word = None,
        correlation_id: UUID | None = None,
        after: Position = None,
        until: Position = None,
        recorded_from: Time = None,
        recorded_to: Time = None,
        occurred_from: Time = None,
        occurred_to: Time = None,
        order: Literal["newest", "oldest"] = "newest",
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """Every event with who, when, why; ``after`` and ``until`` are positions."""
        audit.refuse_backwards(recorded_from, recorded_to, "recorded_to")
        audit.refuse_backwards(occurred_from, occurred_to, "occurred_to")
        with reader.connection() as conn:
            head = {"position": audit.head(conn), "parked": []}
            items, more = audit.events(
                conn,
                reader.keyring,
                type=type,
                stream_type=stream_type,
                stream_id=stream_id,
                actor=actor,
                correlation_id=correlation_id,
                after=after,
                until=until,
                recorded_from=recorded_from,
                recorded_to=recorded_to,
                occurred_from=occurred_from,
                occurred_to=occurred_to,
                newest_first=order == "newest",
                cursor=cursor,
                limit=limit,
            )
            return listed(request, head, items, more)

    @routes.get("/audit/streams/{id}", tags=["audit"], response_model=Page[RecordedShape])
    def audit_stream(
        request: Request, id: UUID, cursor: Cursor = None, limit: Limit = LIMIT
    ) -> Response:
        """One stream from its first event on."""
        with reader.connection() as conn:
            head = {"position": audit.head(conn), "parked": []}
            items, more = audit.stream(conn, reader.keyring, id, cursor=cursor, limit=limit)
            return listed(request, head, items, more)

    @routes.get("/audit/refusals", tags=["audit"], response_model=Page[RefusalShape])
    def audit_refusals(
        request: Request,
        actor: Word = None,
        rule: Word = None,
        stream_id: UUID | None = None,
        command: Word = None,
        recorded_from: Time = None,
        recorded_to: Time = None,
        cursor: Cursor = None,
        limit: Limit = LIMIT,
    ) -> Response:
        """Who tried what in vain, at which version, and which rule said no; newest first."""
        audit.refuse_backwards(recorded_from, recorded_to, "recorded_to")
        with reader.connection() as conn:
            head = {"position": audit.head(conn), "parked": []}
            items, more = audit.refusals(
                conn,
                actor=actor,
                rule=rule,
                stream_id=stream_id,
                command=command,
                recorded_from=recorded_from,
                recorded_to=recorded_to,
                cursor=cursor,
                limit=limit,
            )
            return listed(request, head, items, more)


def _money(conn: Connection, customer_id: UUID, when: Moment) -> dict[str, Any]:
    """Orders and accounts from the facts of everybody: others may pay for a customer."""
    bought, _ = orders.orders(conn, when, customer_id=customer_id, limit=MAX_LIMIT)
    accounts, _, _ = receivables.receivables(conn, when, customer_id=customer_id)
    for account in accounts:
        del account["customer"]
    return {"orders": bought, "accounts": accounts}


def _whole(
    conn: Connection, customer_id: UUID, when: Moment, owing: dict[str, Any]
) -> dict[str, Any] | None:
    found = customers.customer(conn, customer_id)
    if found is None:
        return None
    found["promises"], _ = promises.promises(
        conn, _present(when), customer_id=customer_id, limit=MAX_LIMIT
    )
    found["opportunities"], _ = opportunities.opportunities(
        conn, customer_id=customer_id, limit=MAX_LIMIT
    )
    found["quotes"] = opportunities.quotes(conn, [deal["id"] for deal in found["opportunities"]])
    found["leads"], _ = leads.leads(conn, customer_id=customer_id, limit=MAX_LIMIT)
    present = _present(when)
    found |= owing
    found["payments"], _ = payments.payments(conn, customer_id=customer_id, limit=MAX_LIMIT)
    found["tickets"], _ = tickets.tickets(conn, present, customer_id=customer_id, limit=MAX_LIMIT)
    found["timeline"], _ = timeline.timeline(conn, customer_id)
    return found


def _present(when: Moment) -> Moment:
    """The same "today", for tables that hold only what counts already."""
    return Moment(None, None, when.now, when.today)


def install(app: FastAPI, reader: Reader) -> None:
    """Give an application the read API, its health checks and its problems."""
    app.include_router(router(reader))
    app.include_router(health.router(reader))
    handle_problems(app)
