"""Routes made of declared figures, and of the state of the facts that answer them."""

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from analytics.facts.asking import NotAnswerable, Snapshot
from analytics.facts.store import Manifest
from analytics.figure import Figure
from events.ledger import ledger
from projections.asking.clocks import Moment, moment
from projections.asking.listing import Asked, AskedAt
from projections.asking.shape import Shape
from projections.asking.view import Caller
from read_api.answers import answer, form_of, list_answer, row_answer
from read_api.reading import NotThereYet, Reader, caller_of
from read_api.shapes import FILES, NOT_ACCEPTABLE


class FactTableShape(Shape):
    """One kind of fact."""

    table: str
    files: list[str] = Field(description="Their names under `PLEDGE_FACTS`.")
    rows: int


class FactsState(Shape):
    """How far the facts are, and which files hold them.

    While they are being written anew, ``rewritten_to`` says how far the new ones are; until these
    have reached ``position`` the old ones answer.
    """

    position: int
    head: int
    halted: str | None
    rewritten_to: int | None
    tables: list[FactTableShape]


ROWS_AT_ONCE = 100_000
"""Of a file; each time the whole figure is computed."""


def add_routes(routes: APIRouter, reader: Reader, figures: Sequence[Figure[Any, Any]]) -> None:
    """The routes of figures."""

    @routes.get(
        "/analytics",
        tags=["analytics"],
        response_model=FactsState,
        responses={**FILES, **NOT_ACCEPTABLE},
    )
    def facts(request: Request, asked: Annotated[Asked, Query()]) -> Response:
        """How far the facts are, and the Parquet files that hold them."""
        form = form_of(request)
        with reader.connection() as conn:
            head = ledger.head(conn)
        every = reader.facts.latest()
        wanted = asked.min_position or 0
        found = _reached(every, wanted) if wanted else every.answering or Manifest()
        tables = [
            FactTableShape(
                table=table,
                files=[name for name, _ in files],
                rows=sum(rows for _, rows in files),
            )
            for table, files in sorted(found.files.items())
        ]
        return answer(
            request,
            form,
            FactsState(
                position=found.position,
                head=max(head, found.position),
                halted=every.halted,
                rewritten_to=None if every.is_whole else every.position,
                tables=tables,
            ),
        )

    for figure in figures:
        _add(routes, reader, figure)


def _add(routes: APIRouter, reader: Reader, figure: Figure[Any, Any]) -> None:
    def route(request: Request, asked: Any) -> Response:
        asked.check()
        form = form_of(request)
        on, position = _snapshot(reader, caller_of(request), asked)
        try:
            found = figure.asked(on, asked, position)
        except NotAnswerable as error:
            raise NotThereYet(str(error), (), position + 1) from error
        if figure.is_one:
            return row_answer(form, found)

        def following(cursor: str) -> Any:
            after = asked.model_copy(update={"cursor": cursor, "limit": ROWS_AT_ONCE})
            return figure.asked(on, after, position)

        return list_answer(
            request, form, found, following, pin="known_at" if figure.is_ranked else None
        )

    route.__annotations__["asked"] = Annotated[figure.asks, Query()]
    routes.add_api_route(
        f"/analytics/{figure.name}",
        route,
        name=figure.operation,
        description=figure.says,
        tags=["analytics"],
        response_model=figure.shape,
        responses={**FILES, **NOT_ACCEPTABLE},
    )


def _snapshot(reader: Reader, _: Caller, asked: AskedAt) -> tuple[Snapshot, int]:
    """The facts as they are asked about, and the position that they reflect."""
    with reader.connection() as conn:
        when = moment(conn, asked.as_of, asked.known_at)
        is_empty = ledger.head(conn) == 0
    every = reader.facts.latest()
    found = _reached(every, max(asked.min_position or 0, when.known_at or 0))
    if found.position == 0 and not is_empty and when.known_at != 0:
        raise NotThereYet("the facts are being written", (), 1, is_final=found.halted is not None)

    @cache
    def another(as_of: str) -> Moment:
        with reader.connection() as conn:
            return moment(conn, as_of, asked.known_at)

    on = Snapshot(reader.facts, found, when, another)
    return on, found.position if when.known_at is None else when.known_at


def _reached(every: Manifest, wanted: int) -> Manifest:
    """The facts that answer, once they are as far as that.

    Raises:
        NotThereYet: while they are not, or when they stand still.
    """
    found = every.answering
    if found is not None and found.position >= wanted:
        return found
    if every.halted is not None:
        raise NotThereYet(f"the facts halted: {every.halted}", (), wanted, is_final=True)
    if found is None:
        told = f"the facts are being written: {every.position} of {every.goal} events are read"
        raise NotThereYet(told, (), every.goal)
    raise NotThereYet(f"position {wanted} is not reached yet; this is {found.position}", (), wanted)
