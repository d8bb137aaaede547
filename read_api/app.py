"""The read API: routes made of the catalog of questions, and the few written by hand."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from analytics.catalog import FIGURES
from projections.catalog import QUESTIONS
from read_api import audit, customer, figures, listing, operating
from read_api.answers import handle_problems
from read_api.door import door
from read_api.reading import Reader
from read_api.shapes import INVALID


def router(reader: Reader) -> APIRouter:
    """The routes of the read models, of figures and of the audit."""
    routes = APIRouter(responses=INVALID, route_class=door(reader))
    customer.add_routes(routes, reader)
    # A fixed path comes before one with an id, which would take its last word for the id.
    for question in sorted(QUESTIONS, key=lambda question: question.is_about_one):
        listing.add(routes, reader, question)
    figures.add_routes(routes, reader, FIGURES)
    audit.add_routes(routes, reader)
    return routes


def install(app: FastAPI, reader: Reader) -> Sequence[BaseRoute]:
    """Give an application the read API, its health checks and its problems.

    Returns:
        The routes of the questions.
    """
    questions = router(reader)
    app.include_router(questions)
    app.include_router(operating.router(reader))
    handle_problems(app)
    return questions.routes
