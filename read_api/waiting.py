"""A question waits for a position without holding a thread or a connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from inspect import iscoroutinefunction
from typing import Any, get_type_hints
from uuid import UUID

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Cookie, Header, Path
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from projections.asking.clocks import Unanswerable
from read_api import reading
from read_api.reading import NotThereYet, Reader

LOOK_SECONDS = 0.01
UUIDS = TypeAdapter(UUID)
ELSEWHERE = Path | Header | Cookie
"""Parameters that do not stand in the query."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def waiting_route(reader: Reader) -> type[APIRoute]:
    """Routes that ask again once the read models have come far enough, until time is up.

    Parameters that a route does not know are refused, for a misspelt filter would answer
    everything; and so is one that is given twice, for only one of its values would count.
    """
    watch = Watch(reader)

    class WaitingRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            handle = _straight(self.endpoint, self.dependant, super().get_route_handler())
            known = _parameters(self.dependant)

            async def ask(request: Request) -> Response:
                _refuse_unknown(request, known)
                deadline = time.monotonic() + reading.WAIT_SECONDS
                while True:
                    try:
                        return await handle(request)
                    except NotThereYet as error:
                        if error.is_final or time.monotonic() > deadline:
                            raise
                        await watch.reached(error, deadline)

            return ask

    return WaitingRoute


def _straight(endpoint: Callable[..., Any], dependant: Dependant, handle: Handler) -> Handler:
    """Call a plain question with what is asked, without FastAPI's search for dependencies.

    Plain is a function that gives a response of its own, and takes no more than request, id and
    what is asked.

    Args:
        handle: FastAPI's own handler, for all other routes, and to say what does not fit.
    """
    kinds = get_type_hints(endpoint)
    gives, asks = kinds.pop("return", None), kinds.get("asked")
    fits = (
        gives is Response
        and not iscoroutinefunction(endpoint)
        and not dependant.dependencies
        and kinds.keys() <= {"request", "id", "asked"}
        and kinds.get("id", UUID) is UUID
    )
    if not (fits and isinstance(asks, type) and issubclass(asks, BaseModel)):
        return handle

    async def go_straight(request: Request) -> Response:
        given: dict[str, Any] = {"request": request} if "request" in kinds else {}
        try:
            given["asked"] = asks.model_validate(dict(request.query_params))
            for name, one in request.path_params.items():
                given[name] = UUIDS.validate_python(one)
        except ValidationError:
            return await handle(request)
        return await run_in_threadpool(endpoint, **given)

    return go_straight


def _parameters(dependant: Dependant) -> set[str]:
    """The names of what a question takes."""
    every = get_flat_params(dependant)
    return {field.alias for field in every if not isinstance(field.field_info, ELSEWHERE)}


def _refuse_unknown(request: Request, known: set[str]) -> None:
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise Unanswerable(name, f"is no parameter of this question; there are: {there}")
        if name in seen:
            raise Unanswerable(name, "is given more than once")
        seen.add(name)


class Watch:
    """Looks how far the read models are, once for all that wait, and only while anybody does."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._looking = False
        self._looked_at = 0.0
        self._found: dict[str, int] = {}

    async def reached(self, wanted: NotThereYet, deadline: float) -> None:
        """Return when it pays to ask again, or when time is up."""
        while time.monotonic() <= deadline:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()
            if all(self._found.get(name, -1) >= wanted.position for name in wanted.models):
                return

    async def _look(self) -> None:
        if self._looking or time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looking = True
        try:
            loop = asyncio.get_running_loop()
            self._found = await loop.run_in_executor(self._reader.aside, self._reader.positions)
        finally:
            self._looking = False
            self._looked_at = time.monotonic()
