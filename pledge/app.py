"""The applications: both sides as one, or each in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from threading import Lock
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline

from commands.catalog import CATALOG
from commands.handling.writer import Writer
from commands.http.openapi import catalog, document
from commands.http.problems import problem, stopping
from commands.http.routes import Receive, Scope, Send, WriteApi, respond, takes
from pledge import catalogs
from pledge.gate import refusal
from pledge.settings import Settings
from read_api import operating, pages
from read_api.answers import as_json, handle_problems
from read_api.app import install
from read_api.reading import Reader

ABOUT = """
An event-sourced CRM: who promised what to which customer, and the evidence for it.

Commands are `POST`; each answer carries the ledger's `position`. Give it to a query as
`min_position` to read your own writes. Queries about a moment take `as_of` (business time) and
`known_at` (what the ledger knew).
"""


CHECK = "/commands/check"
ONLY_POST = problem(
    HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed", f"{CHECK} takes POST alone."
)
"""To other methods; no query has this path."""
ELSEWHERE = problem(
    HTTPStatus.METHOD_NOT_ALLOWED,
    "commands-elsewhere",
    "This process answers questions only. Send commands to one that runs: pledge commands",
)


class Pledge:
    """The product, or one side of it, as one ASGI application.

    Args:
        writer: decides commands; None where another process does.
        reads: answers everything else.
    """

    def __init__(self, writer: Writer | None, reads: FastAPI) -> None:
        self._writes = None if writer is None else WriteApi(writer)
        self._reads = reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the server's life cycle."""
        if scope["type"] != "http":
            await self._reads(scope, receive, send)
            return
        is_command = scope["method"] == "POST" and takes(scope["path"])
        refused = refusal(scope, takes_body=is_command)
        if refused is not None:
            await respond(send, refused)
        elif scope["path"] == CHECK and not is_command:
            await respond(send, ONLY_POST)
        elif not is_command:
            await self._read(scope, receive, send)
        elif self._writes is None:
            await respond(send, ELSEWHERE)
        else:
            await self._writes(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        if scope["method"] == "HEAD":  # as GET; the server leaves the body out
            scope = {**scope, "method": "GET"}

        async def send_noting(message: Any) -> None:
            nonlocal begun
            begun = True
            if message.get("status") == HTTPStatus.METHOD_NOT_ALLOWED:
                message["headers"] = [
                    (name, self._allowed(scope["path"], value) if name == b"allow" else value)
                    for name, value in message["headers"]
                ]
            await send(message)

        try:
            await self._reads(scope, receive, send_noting)
        except asyncio.CancelledError:
            # The server stops and waits no longer; whoever still waits gets an answer.
            if not begun:
                await respond(send, stopping())

    def _allowed(self, path: str, methods: bytes) -> bytes:
        found = [b"GET", b"HEAD"] if b"GET" in methods else [methods]
        return b", ".join([*found, b"POST"] if self._writes and takes(path) else found)


def _say_how_problems_look(document: dict[str, Any]) -> None:
    """FastAPI documents every answer as JSON; ours are problems above 399."""
    for item in document["paths"].values():
        for operation in item.values():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {})
                if int(status) >= HTTPStatus.BAD_REQUEST and "application/json" in content:
                    content["application/problem+json"] = content.pop("application/json")


def whole(writer: Writer, reader: Reader, settings: Settings) -> Pledge:
    """The whole product."""
    return Pledge(writer, _questions(reader, settings))


def questions_only(reader: Reader, settings: Settings) -> Pledge:
    """The read side, with the OpenAPI document of both; refuses commands, saying where to go."""
    return Pledge(None, _questions(reader, settings))


def commands_only(writer: Writer, reader: Reader) -> Pledge:
    """The write side, with what operators and a load balancer ask of it."""
    app = _application(reader)
    app.include_router(operating.write_router(reader))
    handle_problems(app)
    return Pledge(writer, app)


def openapi_of(reader: Reader) -> dict[str, Any]:
    """The OpenAPI document of both sides; nothing is connected to."""
    return _questions(reader, Settings()).openapi()


def _questions(reader: Reader, settings: Settings) -> FastAPI:
    app = _application(reader)
    app.state.public_url = settings.public_url or ""
    catalogs.check(CATALOG, install(app, reader))
    pages.install(app, reader, settings.address)
    return app


def _application(reader: Reader) -> FastAPI:
    @asynccontextmanager
    async def life(_: Any) -> AsyncIterator[None]:
        reader.open()
        yield
        reader.close()

    app: FastAPI = FastAPIOffline(
        title="Pledge",
        version=version("pledge-crm"),
        description=ABOUT,
        lifespan=life,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )

    every_command = cache(catalog)

    @app.get("/commands", tags=["commands"], response_model=list[dict[str, Any]])
    def commands() -> Response:
        """Everything that can be asked, with the JSON Schema of its data."""
        return as_json(every_command())

    @cache
    def openapi() -> dict[str, Any]:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        paths, schemas = document()
        for path, item in paths.items():
            made["paths"].setdefault(path, {}).update(item)
        made["components"]["schemas"].update(schemas)
        _say_how_problems_look(made)
        return made

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it
    _serve_once_made(app, "/openapi.json", lambda: as_json(app.openapi()))
    return app


def _serve_once_made(app: FastAPI, path: str, make: Callable[[], Response]) -> None:
    """Answer this path in a thread, and with the same bytes from then on: they take seconds."""
    app.router.routes = [one for one in app.routes if getattr(one, "path", None) != path]
    once, lock = cache(make), Lock()

    @app.get(path, include_in_schema=False)
    def made() -> Response:
        with lock:
            return once()
