"""Routes made of declared questions: JSON, CSV and Parquet, pages and their links, refusals."""

from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException

from projections.asking.listing import Asked, Question
from projections.asking.shape import Page
from projections.asking.view import View
from read_api.answers import answered as tell
from read_api.answers import told
from read_api.reading import Reader, caller_of
from read_api.shapes import MISSING

ROWS_AT_ONCE = 5_000
"""Of a file."""


def add(routes: APIRouter, reader: Reader, question: Question[Any, Any]) -> None:
    """Give the routes one that answers the question."""

    def answered(request: Request, asked: Asked, *about: UUID) -> Response:
        asked.check()
        with reader.view(caller_of(request), question.needs, asked) as view:
            found = question.answer(view, *about, asked)
            if found is None:
                raise missing()
            if isinstance(found, Page):
                return told(request, found, partial(following, question, view, about, asked))
            etag = getattr(found, "version", None) if view.when.is_live else None
            return tell(request, found, etag=etag)

    def about_one(request: Request, id: UUID, asked: Any) -> Response:
        return answered(request, asked, id)

    def about_all(request: Request, asked: Any) -> Response:
        return answered(request, asked)

    route: Callable[..., Response] = about_one if question.is_about_one else about_all
    route.__annotations__["asked"] = Annotated[question.asks, Query()]
    routes.add_api_route(
        question.path,
        route,
        name=question.name,
        description=question.says,
        tags=[question.tag],
        response_model=question.shape,
        responses=MISSING if question.is_about_one else None,
    )


def following(
    question: Question[Any, Any], view: View, about: Sequence[UUID], asked: Asked, cursor: str
) -> Any:
    """The page of a cursor, of the same view; a large one, for files."""
    after = {"cursor": cursor, "limit": ROWS_AT_ONCE, "count": False}
    known = {name: value for name, value in after.items() if name in type(asked).model_fields}
    return question.answer(view, *about, asked.model_copy(update=known))


def missing() -> HTTPException:
    """What is answered where there is no such thing."""
    return HTTPException(HTTPStatus.NOT_FOUND, "There is no such thing with this id.")
