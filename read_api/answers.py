"""Answers in the form that was asked for, JSON or a file; problems as in RFC 9457."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from http import HTTPStatus
from tempfile import SpooledTemporaryFile
from typing import IO, Any, get_args
from urllib.parse import quote, urlencode

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from psycopg import OperationalError
from psycopg_pool import PoolTimeout
from starlette.exceptions import HTTPException

from analytics.facts.engine import SpillFull, TooLarge
from analytics.facts.store import Damaged
from events.ledger.steps import OTHER_VERSION
from projections.asking.breaking_off import go_on
from projections.asking.clocks import Unanswerable
from projections.asking.shape import Shape
from projections.engine.folding import Poison
from read_api.files import (
    FORMS,
    NDJSON,
    Pages,
    TooLongForASheet,
    fields_of,
    json_default,
    rows_of,
    unrolled,
)
from read_api.lanes import Busy
from read_api.reading import NotThereYet

log = structlog.get_logger()

PROBLEM = "application/problem+json"
JSON = "application/json"
IN_MEMORY = 4_000_000
"""Bytes of a file that is held in memory on its way out."""
PIECE = 262_144

More = Callable[[str], Any]
"""Gives the page of a cursor."""


class NotAcceptable(ValueError):
    """A form was asked for that the answer has not; the message names those that it has."""


def as_json(body: Any, *, etag: int | None = None) -> Response:
    """A JSON answer; times as ISO 8601 in UTC, decimals as strings."""
    headers = {} if etag is None else {"ETag": f'"{etag}"'}
    content = orjson.dumps(body, default=json_default, option=orjson.OPT_UTC_Z)
    return Response(content, media_type=JSON, headers=headers)


def form_of(request: Request, *, is_table: bool = True) -> str:
    """The form in which an answer is wanted; to be asked before anything is read.

    Args:
        is_table: whether the answer has rows, which a file can hold.

    Raises:
        NotAcceptable: when it does not come in any form that was asked for.
    """
    offers = (JSON, *FORMS) if is_table else (JSON,)
    return accepted(_accept(request), offers)


def wants_whole_file(request: Request) -> bool:
    """Whether all pages of a list, if it is one, are wanted as one file."""
    header = _accept(request)
    if not header or header == "*/*" or "limit" in request.query_params:
        return False
    try:
        return accepted(header, (JSON, *FORMS)) != JSON
    except NotAcceptable:
        return False


def _accept(request: Request) -> str:
    return ", ".join(request.headers.getlist("accept"))


def list_answer(
    request: Request, form: str, page: Any, more: More, *, pin: str | None = None
) -> Response:
    """A page of rows as JSON with a ``next`` link; or a file of the whole list.

    Whoever asks for a ``limit`` gets a page as a file, with a ``Link`` to the next one.

    Args:
        page: an answer with ``items`` and, as ``next``, a cursor.
        more: gives the pages that follow, of the same moment.
        pin: the parameter that holds the next page to the position of this one, where the cursor
            does not.
    """
    is_whole = form != JSON and "limit" not in request.query_params
    link = None
    if page.next is not None and not is_whole:
        pinned = {} if pin is None else {pin: page.position}
        given = {**request.query_params, "cursor": page.next, **pinned}
        given.pop("count", None)
        link = address(request, f"{quote(request.scope['path'])}?{urlencode(given)}")
    if form == JSON:
        return as_json({**fields_of(page), "next": link})
    [model] = get_args(_shape(request).model_fields["items"].annotation)
    return _file(form, page, _pages(page, more) if is_whole else [page.items], model, link)


def address(request: Request, path: str) -> str:
    """A link to a path of this service: at its public address, or else relative.

    Never at the one that the request names: whoever asks may name any.
    """
    public: str = getattr(request.app.state, "public_url", "")
    return public + path


def answer(request: Request, form: str, found: Shape, *, etag: int | None = None) -> Response:
    """An answer that is no list: JSON, or a file of the rows that it has."""
    rows = rows_of(_shape(request))
    if form == JSON or rows is None:
        return as_json(found, etag=etag)
    field, model = rows
    parts = getattr(found, field)
    if form != NDJSON:
        parts, model = unrolled(parts, model)
    return _file(form, found, [parts], model)


def row_answer(form: str, row: Shape) -> Response:
    """An answer that is one row: JSON, or a file of that row."""
    return as_json(row) if form == JSON else _file(form, row, [[row]], type(row))


def accepted(header: str, offers: Sequence[str]) -> str:
    """The form of those offered that a header ``Accept`` likes best (RFC 9110, 12.5.1).

    Of equally liked ones that which is named more exactly, then the one named first.

    Raises:
        NotAcceptable: when it takes none.
    """
    ranges = [_range(part) for part in header.split(",") if part.strip()] or [("*/*", 1.0)]
    best: tuple[tuple[float, int, int], str] | None = None
    for offer in offers:
        fits = [
            (offer != media, media == "*/*", place, quality)
            for place, (media, quality) in enumerate(ranges)
            if media in (offer, f"{offer.partition('/')[0]}/*", "*/*")
        ]
        if not fits:
            continue
        is_vague, is_any, place, quality = min(fits)
        rank = quality, -is_vague - is_any, -place
        if quality > 0 and (best is None or rank > best[0]):
            best = rank, offer
    if best is None:
        raise NotAcceptable(f"This answer comes as {', '.join(offers)}.")
    return best[1]


def _range(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            with suppress(ValueError):
                quality = float(value)
    return media, quality


def _pages(page: Any, more: More) -> Iterator[Sequence[Any]]:
    yield page.items
    while page.next is not None:
        go_on()
        page = more(page.next)
        yield page.items


def _shape(request: Request) -> Any:
    return request.scope["route"].response_model


def _file(media: str, answer: Any, pages: Pages, model: Any, link: str | None = None) -> Response:
    """The rows as a file, written before it is sent: a slow reader holds no connection."""
    head = answer.__dict__
    headers = {
        f"Pledge-{name.title().replace('_', '-')}": str(head[name])
        for name in ("position", "as_of", "known_at", "count")
        if head.get(name) is not None
    }
    if link is not None:
        headers["Link"] = f'<{link}>; rel="next"'
    form = FORMS[media]
    file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed once it is sent
    try:
        form.write(file, pages, model)
    except BaseException as error:
        file.close()
        if not isinstance(error, TooLongForASheet):
            raise
        raise NotAcceptable(f"{error}, which no workbook holds: ask for CSV.") from error
    headers["Content-Length"] = str(file.tell())
    file.seek(0)
    return StreamingResponse(_sent(file), media_type=f"{media}{form.charset}", headers=headers)


def _sent(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE):
            yield piece


def problem(
    status: HTTPStatus, kind: str, detail: str, errors: list[dict[str, str]] | None = None
) -> Response:
    """An RFC 9457 problem."""
    body: dict[str, Any] = {
        "type": f"/problems/{kind}",
        "title": kind.replace("-", " ").capitalize(),
        "status": status.value,
        "detail": detail,
    }
    if errors is not None:
        body["errors"] = errors
    headers = {"Retry-After": "1"} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    return Response(orjson.dumps(body), status.value, headers, PROBLEM)


def handle_problems(app: FastAPI) -> None:
    """Let every error of the read side leave as a problem."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        errors = [
            {"field": ".".join(map(str, item["loc"][1:])), "message": item["msg"]}
            for item in error.errors()
        ]
        detail = "; ".join(f"{e['field']}: {e['message']}" for e in errors[:3])
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail, errors)

    @app.exception_handler(Unanswerable)
    async def unanswerable(_: Request, error: Unanswerable) -> Response:
        errors = [{"field": error.field, "message": str(error)}]
        detail = f"{error.field} {error}"
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail, errors)

    @app.exception_handler(NotAcceptable)
    async def not_acceptable(_: Request, error: NotAcceptable) -> Response:
        return problem(HTTPStatus.NOT_ACCEPTABLE, "not-acceptable", str(error))

    @app.exception_handler(TooLarge)
    async def too_large(_: Request, error: TooLarge) -> Response:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "question-too-large", str(error))

    @app.exception_handler(Damaged)
    async def damaged(_: Request, error: Damaged) -> Response:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "facts-damaged", str(error))

    @app.exception_handler(SpillFull)
    async def spill_full(_: Request, error: SpillFull) -> Response:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "disk-full", str(error))

    @app.exception_handler(Poison)
    async def poisoned(_: Request, error: Poison) -> Response:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "event-cannot-be-taken", str(error))

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> Response:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", str(error))

    @app.exception_handler(NotThereYet)
    async def not_there_yet(_: Request, error: NotThereYet) -> Response:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "not-there-yet", str(error))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        status = HTTPStatus(error.status_code)
        kind = status.phrase.lower().replace(" ", "-")
        detail = str(error.detail)
        if detail == HTTPStatus.NOT_FOUND.phrase:
            detail = "There is nothing here. GET /commands lists what can be asked, /docs the rest."
        answer = problem(status, kind, detail)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeout)
    async def away(_: Request, __: Exception) -> Response:
        detail = "The database does not answer. Try again."
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "database-away", detail)

    async def other_version(_: Request, error: Exception) -> Response:
        why = str(error).partition("\n")[0]
        log.error("the ledger is of another version", why=why)
        detail = (
            f"The ledger is of another version of Pledge than this process: {why}. Ask a process "
            "of that version."
        )
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "other-version", detail)

    for kind in OTHER_VERSION:
        app.add_exception_handler(kind, other_version)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, __: Exception) -> Response:
        detail = "Something failed on our side. The log says what."
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail)
