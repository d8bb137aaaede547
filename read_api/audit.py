"""Audit queries. The ledger itself answers, never a read model that could lag or halt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from events.ledger import ledger
from events.ledger.ledger import Stored
from projections.asking.clocks import Unanswerable
from projections.asking.listing import By, Paged, Where, chosen
from projections.asking.pages import Pages
from projections.asking.parameters import Time, Word
from projections.asking.shape import Page, Shape
from projections.asking.view import View
from projections.engine.folding import Batch, readable
from read_api.answers import form_of, list_answer
from read_api.listing import ROWS_AT_ONCE
from read_api.reading import Reader, caller_of
from read_api.shapes import FILES, NOT_ACCEPTABLE

Position = Annotated[int | None, Field(ge=0, le=2**62)]


class AskStream(Paged):
    """What may be asked of one stream: only its pages."""


class AskEvents(Paged):
    """What may be asked of events; ``after`` and ``until`` are positions."""

    type: Annotated[Word, Where("type = %(type)s")] = None
    stream_type: Annotated[Word, Where("stream_type = %(stream_type)s")] = None
    stream_id: Annotated[UUID | None, Where("stream_id = %(stream_id)s")] = None
    actor: Annotated[Word, Where("normalize(actor) = %(actor)s")] = None
    correlation_id: Annotated[UUID | None, Where("correlation_id = %(correlation_id)s")] = None
    after: Annotated[Position, Where("position > %(after)s")] = None
    until: Annotated[Position, Where("position <= %(until)s")] = None
    recorded_from: Annotated[Time, Where("recorded_at >= %(recorded_from)s")] = None
    recorded_to: Annotated[Time, Where("recorded_at < %(recorded_to)s")] = None
    occurred_from: Annotated[Time, Where("occurred_at >= %(occurred_from)s")] = None
    occurred_to: Annotated[Time, Where("occurred_at < %(occurred_to)s")] = None
    order: Literal["newest", "oldest"] = "newest"


class AskRefusals(Paged):
    """What may be asked of refused commands."""

    actor: Annotated[Word, Where("normalize(actor) = %(actor)s")] = None
    rule: Annotated[Word, Where("rule = %(rule)s")] = None
    stream_id: Annotated[UUID | None, Where("stream_id = %(stream_id)s")] = None
    command: Annotated[Word, Where("command = %(command)s")] = None
    recorded_from: Annotated[Time, Where("recorded_at >= %(recorded_from)s")] = None
    recorded_to: Annotated[Time, Where("recorded_at < %(recorded_to)s")] = None


class Envelope(Shape):
    """What the ledger says of an event."""

    position: int
    event_id: UUID
    stream_type: str
    stream_id: UUID
    version: int
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    actor_kind: str
    command_id: UUID
    correlation_id: UUID
    causation_id: UUID | None
    type: str
    schema_version: int


class RecordedShape(Envelope):
    """An event with its whole envelope."""

    data: dict[str, Any] | None
    unreadable: str | None = None


class _Stored(Envelope):
    """A row of the ledger."""

    payload: bytes


class RefusalShape(Shape):
    """A command that a rule refused."""

    recorded_at: datetime
    occurred_at: datetime
    actor: str
    actor_kind: str
    command: str
    command_id: UUID
    correlation_id: UUID
    stream_type: str
    stream_id: UUID
    version: int
    rule: str
    detail: str
    fields: list[str]
    key: str
    position: int


EVENTS = f"SELECT {ledger.COLUMNS} FROM ledger.events WHERE true"
REFUSALS = """
SELECT recorded_at, occurred_at, actor, actor_kind, command, command_id, correlation_id,
       stream_type, stream_id, version, rule, detail,
       coalesce(fields, '{}') AS fields, key, after_position AS position
  FROM ledger.outcomes WHERE status = 'refused'
"""
BY_POSITION = (By("position"), By("version"))
BY_VERSION = (By("version"), By("position"))
BY_TIME = (By("recorded_at"), By("command_id"))


RESPONSES = {**FILES, **NOT_ACCEPTABLE}


def add_routes(routes: APIRouter, reader: Reader) -> None:
    """The routes of the audit."""
    of_audit: dict[str, Any] = {"tags": ["audit"], "responses": RESPONSES}
    events = partial(_readable, reader)

    @routes.get("/audit/events", response_model=Page[RecordedShape], **of_audit)
    def audit_events(request: Request, asked: Annotated[AskEvents, Query()]) -> Response:
        """Every event with who, when, why; ``after`` and ``until`` are positions."""
        _refuse_backwards(asked.recorded_from, asked.recorded_to, "recorded_to")
        _refuse_backwards(asked.occurred_from, asked.occurred_to, "occurred_to")
        pages = Pages("events", _Stored, BY_POSITION, is_descending=asked.order == "newest")
        conditions, values = chosen(asked)
        select = " AND ".join([EVENTS, *conditions])
        return _answer(request, reader, pages, select, values, asked, events)

    @routes.get("/audit/streams/{id}", response_model=Page[RecordedShape], **of_audit)
    def audit_stream(request: Request, id: UUID, asked: Annotated[AskStream, Query()]) -> Response:
        """One stream from its first event on."""
        pages = Pages("stream", _Stored, BY_VERSION)
        select = f"{EVENTS} AND stream_id = %(id)s"
        return _answer(request, reader, pages, select, {"id": id}, asked, events)

    @routes.get("/audit/refusals", response_model=Page[RefusalShape], **of_audit)
    def audit_refusals(request: Request, asked: Annotated[AskRefusals, Query()]) -> Response:
        """Refused commands, newest first, each with its sender, version and the rule."""
        _refuse_backwards(asked.recorded_from, asked.recorded_to, "recorded_to")
        pages = Pages("refusals", RefusalShape, BY_TIME, is_descending=True)
        conditions, values = chosen(asked)
        select = " AND ".join([REFUSALS, *conditions])
        return _answer(request, reader, pages, select, values, asked, _as_they_are)


S = TypeVar("S", bound=Shape)


def _answer(
    request: Request,
    reader: Reader,
    pages: Pages[S],
    select: str,
    values: dict[str, Any],
    asked: Paged,
    shown: Callable[[View, list[S]], list[Any]],
) -> Response:
    form = form_of(request)
    with reader.ledger(caller_of(request)) as view:

        def page(asked: Paged) -> Page[Any]:
            items, more = pages.one(view.conn, select, values, asked)
            return Page.of(view.head, items=shown(view, items), next=more)

        def following(cursor: str) -> Page[Any]:
            return page(asked.model_copy(update={"cursor": cursor, "limit": ROWS_AT_ONCE}))

        return list_answer(request, form, page(asked), following)


def _as_they_are(_: View, items: list[S]) -> list[S]:
    return items


def _readable(reader: Reader, view: View, stored: list[_Stored]) -> list[RecordedShape]:
    rows = [Stored(**row.__dict__) for row in stored]
    batch = readable(view.conn, reader.keyring, rows)
    plain = {one.position: one.event.shown() for one in batch.events}
    return [
        RecordedShape.of(row, data=plain.get(row.position), **_unreadable(batch, row.position))
        for row in stored
    ]


def _unreadable(batch: Batch, position: int) -> dict[str, str]:
    broken = batch.broken.get(position)
    return {} if broken is None else {"unreadable": str(broken)}


def _refuse_backwards(low: Any, high: Any, field: str) -> None:
    """Refuse an interval that ends before it begins.

    Raises:
        Unanswerable: naming the field.
    """
    if low is not None and high is not None and high < low:
        raise Unanswerable(field, "ends before it begins")
