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
from read_api.answers import answer, form_of, list_answer
from read_api.files import rows_of
from read_api.reading import Reader, caller_of
from read_api.shapes import FILES, MISSING, NOT_ACCEPTABLE

ROWS_AT_ONCE = 5_000
"""Of a file."""


def add(routes: APIRouter, reader: Reader, question: Question[Any, Any]) -> None:
    """Give the routes one that answers the question."""
    is_list = "next" in question.shape.model_fields
    is_table = rows_of(question.shape) is not None and (is_list or not question.is_about_one)

    def answered(request: Request, asked: Asked, *about: UUID) -> Response:
        asked.check()
        form = form_of(request, is_table=is_table)
        with reader.view(caller_of(request), question.needs, asked) as view:
            found = question.answer(view, *about, asked)
            if found is None:
                raise missing()
            if isinstance(found, Page):
                more = partial(following, question, view, about, asked)
                return list_answer(request, form, found, more)
            etag = getattr(found, "version", None) if view.when.is_live else None
            return answer(request, form, found, etag=etag)

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
        responses={
            **(MISSING if question.is_about_one else {}),
            **(FILES if is_table else {}),
            **NOT_ACCEPTABLE,
        },
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
