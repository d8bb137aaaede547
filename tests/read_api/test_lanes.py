"""Lanes: which one a question is in, how many wait there, and what becomes of those left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import duckdb
import pytest
from fastapi import APIRouter, FastAPI, Query, Request, Response
from pydantic import BaseModel

from analytics.rfm import AskScores
from events.ledger.keys import Keyring
from projections.asking.breaking_off import BrokenOff, Work, interruptible
from projections.asking.listing import Asked, AskedAt, ListedAt
from projections.leads import AskLeads
from read_api.answers import handle_problems
from read_api.audit import AskEvents
from read_api.door import door
from read_api.lanes import Busy, Lane, Workers, lane_of
from read_api.reading import Reader

ENDLESS = "SELECT count(*) FROM range(1000000000000) a, range(1000) b"


@pytest.fixture
def reader() -> Iterator[Reader]:
    """A reader without a database."""
    made = Reader("", Keyring(bytes(32)))
    yield made
    made.close()


def asked(what: BaseModel | None, *, file: bool = False, operators: bool = False) -> Lane:
    return lane_of(what, is_whole_file=file, is_of_operators=operators)


def test_the_lane_follows_from_what_is_asked() -> None:
    assert asked(AskLeads()) is Lane.LIVE
    assert asked(AskedAt()) is Lane.LIVE
    assert asked(Asked(min_position=7)) is Lane.LIVE
    assert asked(None) is Lane.LIVE
    assert asked(AskLeads(), file=True) is Lane.FILES
    assert asked(AskedAt(as_of="2026-01-01")) is Lane.PAST
    assert asked(AskedAt(known_at="7")) is Lane.PAST
    assert asked(ListedAt(known_at="7"), file=True) is Lane.PAST
    assert asked(AskScores()) is Lane.FIGURES
    assert asked(AskScores(as_of="2026-01-01"), file=True) is Lane.FIGURES
    assert asked(AskEvents()) is Lane.LEDGER
    assert asked(AskEvents(), file=True) is Lane.FILES
    assert asked(None, operators=True) is Lane.OPERATIONS


def test_a_full_queue_refuses_and_goes_on_where_somebody_leaves(reader: Reader) -> None:
    workers: Workers = reader.lanes[Lane.FILES]
    held, begun = threading.Event(), threading.Semaphore(0)

    def task() -> None:
        begun.release()
        held.wait(60)

    working = [workers.submit(task, Work()) for _ in range(2)]
    for _ in working:
        assert begun.acquire(timeout=60)
    waiting = [workers.submit(task, Work()) for _ in range(6)]
    with pytest.raises(Busy, match="whole lists as files"):
        workers.submit(task, Work())
    workers.leave(waiting[0])
    assert waiting[0].cancelled()
    last = workers.submit(lambda: "answered", Work())
    held.set()
    assert last.result(60) == "answered"
    for future in (*working, *waiting[1:]):
        future.result(60)


def test_what_was_broken_off_does_not_begin() -> None:
    work, called = Work(), []
    with work.interruptible(lambda: called.append(1)):
        work.break_off()
    work.break_off()
    assert called == [1]  # behind its block it is interrupted no more
    with pytest.raises(BrokenOff), work.interruptible(lambda: None):
        pass


def endless(begun: threading.Event, ended: threading.Event) -> Any:
    def answer(asked: Annotated[Asked, Query()]) -> Response:  # noqa: ARG001 - as the door asks
        try:
            with duckdb.connect() as conn, interruptible(conn.interrupt):
                begun.set()
                conn.execute(ENDLESS)
        finally:
            ended.set()
        return Response()

    return answer


@pytest.mark.timeout(60)
def test_a_figure_is_broken_off_when_its_asker_leaves(reader: Reader) -> None:
    begun, ended = threading.Event(), threading.Event()
    app = FastAPI()
    routes = APIRouter(route_class=door(reader))
    routes.add_api_route("/endless", endless(begun, ended))
    app.include_router(routes)
    handle_problems(app)
    sent: list[Any] = []

    async def ask() -> None:
        loop, first = asyncio.get_running_loop(), True

        async def receive() -> Any:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": b"", "more_body": False}
            await loop.run_in_executor(None, begun.wait)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/endless", "query_string": b""}
        await app({**scope, "headers": [], "app": app, "root_path": ""}, receive, send)
        await loop.run_in_executor(None, ended.wait)

    asyncio.run(ask())
    assert ended.is_set()
    assert sent[0]["status"] == 503  # to nobody


def test_a_route_that_takes_something_else_is_no_question(reader: Reader) -> None:
    routes = APIRouter(route_class=door(reader))

    def odd(request: Request, name: str) -> Response:  # noqa: ARG001
        return Response()

    with pytest.raises(TypeError, match="takes more than request, id and what is asked"):
        routes.add_api_route("/odd", odd)
