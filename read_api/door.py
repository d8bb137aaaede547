"""The one door of all questions: what is asked, in which lane, for how long it is waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, get_type_hints
from uuid import UUID

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Cookie, Header, Path
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError

from projections.asking.breaking_off import Work
from projections.asking.clocks import Unanswerable
from read_api import reading
from read_api.answers import wants_whole_file
from read_api.lanes import Busy, lane_of
from read_api.reading import NotThereYet, Reader
from read_api.waiting import Watch

UUIDS = TypeAdapter(UUID)
ELSEWHERE = Path | Header | Cookie
"""Parameters that do not stand in the query."""
OPERATIONS = "operations"
"""The tag of the questions of operators."""
QUEUE_SECONDS = 8.0
"""How long a question waits for its turn; with what it takes then, no asker waits for long."""
AGAIN_SECONDS = 0.2
"""How long after an interrupt a question that goes on is interrupted again."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def door(reader: Reader) -> type[APIRoute]:
    """Routes whose questions are answered in their lanes, and broken off when their askers leave.

    A question is asked again once the read models have come far enough, until time is up.

    Parameters that a route does not know are refused, for a misspelt filter would answer
    everything; and so is one that is given twice, for only one of its values would count.
    """
    watch = Watch(reader)

    class Door(APIRoute):
        def get_route_handler(self) -> Handler:
            handle, endpoint = super().get_route_handler(), self.endpoint
            if iscoroutinefunction(endpoint):
                return handle
            given = _reading(endpoint, self.dependant)
            known = _parameters(self.dependant)
            is_of_operators = OPERATIONS in self.tags

            async def ask(request: Request) -> Response:
                _refuse_unknown(request, known)
                try:
                    what = given(request)
                except ValidationError:
                    return await handle(request)  # which says what does not fit
                asked = what.get("asked")
                lane = lane_of(
                    asked,
                    is_whole_file=asked is not None and wants_whole_file(request),
                    is_of_operators=is_of_operators,
                )
                attended = Attended(request)
                deadline = time.monotonic() + reading.WAIT_SECONDS
                try:
                    while True:
                        try:
                            return await attended.done(reader, lane, partial(endpoint, **what))
                        except NotThereYet as error:
                            left = deadline - time.monotonic()
                            if error.is_final or left <= 0:
                                raise
                            await watch.reached(error, left)
                except BaseException:
                    if attended.is_left:
                        return attended.nothing()
                    raise
                finally:
                    attended.end()

            return ask

    return Door


class Attended:
    """A question whose asker is watched: when they leave, it is broken off."""

    def __init__(self, request: Request) -> None:
        self.is_left = False
        self._work = Work()
        self._task = asyncio.current_task()
        self._leave: Callable[[], object] | None = None
        self._future: Any = None
        self._watching = asyncio.create_task(self._watch(request))

    async def done(self, reader: Reader, lane: Any, task: Callable[[], Response]) -> Response:
        """The answer, made in a lane.

        Raises:
            Busy: when too many wait there, or it has not begun after ``QUEUE_SECONDS``.
        """
        workers = reader.lanes[lane]
        self._future = workers.submit(task, self._work)
        self._leave = partial(workers.leave, self._future)
        self._aside = reader.aside
        answered: asyncio.Future[Response] = asyncio.wrap_future(self._future)
        done, _ = await asyncio.wait((answered,), timeout=QUEUE_SECONDS)
        if not done and workers.leave(self._future):
            raise Busy(lane.value.about)
        return await answered

    def end(self) -> None:
        """Watch no longer; what goes on in vain is interrupted until it ends."""
        if not self.is_left:
            self._watching.cancel()

    def nothing(self) -> Response:
        """What is answered to nobody."""
        assert self._task is not None
        self._task.uncancel()
        return Response(status_code=503)

    async def _watch(self, request: Request) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.is_left = True
        if self._leave is not None:
            self._leave()
        assert self._task is not None
        self._task.cancel()
        loop = asyncio.get_running_loop()
        while self._future is not None and not self._future.done():
            await loop.run_in_executor(self._aside, self._work.break_off)
            await asyncio.sleep(AGAIN_SECONDS)


def _reading(
    endpoint: Callable[..., Any], dependant: Dependant
) -> Callable[[Request], dict[str, Any]]:
    """What reads a function's arguments from a request, without FastAPI's search for dependencies.

    Raises:
        TypeError: when it takes more than request, id and what is asked, or gives no response.
    """
    kinds = get_type_hints(endpoint)
    gives, asks = kinds.pop("return", None), kinds.get("asked", BaseModel)
    fits = (
        gives is Response
        and not dependant.dependencies
        and kinds.keys() <= {"request", "id", "asked"}
        and kinds.get("id", UUID) is UUID
    )
    if not (fits and isinstance(asks, type) and issubclass(asks, BaseModel)):
        raise TypeError(f"{endpoint.__name__} takes more than request, id and what is asked")

    def read(request: Request) -> dict[str, Any]:
        given: dict[str, Any] = {"request": request} if "request" in kinds else {}
        if "asked" in kinds:
            given["asked"] = asks.model_validate(dict(request.query_params))
        for name, one in request.path_params.items():
            given[name] = UUIDS.validate_python(one)
        return given

    return read


def _parameters(dependant: Dependant) -> set[str]:
    """The names of what a question takes."""
    every = get_flat_params(dependant)
    return {field.alias for field in every if not isinstance(field.field_info, ELSEWHERE)}


def _refuse_unknown(request: Request, known: set[str]) -> None:
    seen = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            raise Unanswerable(name[:200], f"is no parameter of this question; there are: {there}")
        if name in seen:
            raise Unanswerable(name, "is given more than once")
        seen.add(name)
