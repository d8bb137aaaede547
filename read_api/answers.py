"""Representations of answers: JSON, CSV, Parquet, and problems as in RFC 9457."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from http import HTTPStatus
from typing import Any, get_args
from uuid import UUID

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from psycopg import OperationalError
from psycopg_pool import PoolTimeout
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from events.values import Money
from projections.asking.clocks import Unanswerable
from projections.asking.money import Balance
from projections.asking.rows import plain
from projections.asking.shape import Shape
from projections.engine.folding import Poison
from read_api.reading import NotThereYet

PROBLEM = "application/problem+json"
PARQUET = "application/vnd.apache.parquet"
COLUMNS = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    Decimal: pa.decimal128(38, 6),
    date: pa.date32(),
    datetime: pa.timestamp("us", tz="UTC"),
}
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _fields_of(value)
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(type(value).__name__)


def _fields_of(part: BaseModel) -> dict[str, Any]:
    """A part's fields, by the names that answers give them."""
    fields = part.__dict__
    aliases = _aliases(type(part))
    return {aliases.get(n, n): v for n, v in fields.items()} if aliases else fields


@lru_cache(1_000)
def _aliases(kind: type[BaseModel]) -> dict[str, str]:
    return {name: field.alias for name, field in kind.model_fields.items() if field.alias}


def _json(value: Any) -> str:
    return orjson.dumps(value, default=_plain, option=orjson.OPT_UTC_Z).decode()


def as_json(body: Any, *, etag: int | None = None) -> Response:
    """A JSON answer; times as ISO 8601 in UTC, decimals as strings."""
    headers = {} if etag is None else {"ETag": f'"{etag}"'}
    content = orjson.dumps(body, default=_plain, option=orjson.OPT_UTC_Z)
    return Response(content, media_type="application/json", headers=headers)


def told(request: Request, page: Any, *, is_ranked: bool = False) -> Response:
    """A page of rows: JSON with a ``next`` link, or CSV or Parquet with a ``Link`` header.

    Args:
        page: an answer with ``items`` and, as ``next``, a cursor.
        is_ranked: whether the cursor is a place and no key, so that the next page is to be one of
            the very same list: of what was known at this one's position.
    """
    link = None
    if page.next is not None:
        pinned = {"known_at": page.position} if is_ranked else {}
        again = request.url.include_query_params(cursor=page.next, **pinned)
        link = str(again.remove_query_params("count"))
    answer = {**_fields_of(page), "next": link}
    return _as_table(request, answer, page.items, link) or as_json(answer)


def answered(request: Request, answer: Shape) -> Response:
    """An answer of one row: JSON, CSV or Parquet."""
    return _as_table(request, _fields_of(answer), [answer], None) or as_json(answer)


def _as_table(
    request: Request, head: Mapping[str, Any], items: Sequence[Any], link: str | None
) -> Response | None:
    """The rows in the form that was asked for, None where that is JSON."""
    accepted = request.headers.get("accept", "")
    headers = {
        f"Pledge-{name.title().replace('_', '-')}": str(head[name])
        for name in ("position", "as_of", "known_at", "count")
        if head.get(name) is not None
    }
    if link is not None:
        headers["Link"] = f'<{link}>; rel="next"'
    if PARQUET not in accepted and "text/csv" not in accepted:
        return None
    model = request.scope["route"].response_model
    if "items" in model.model_fields:
        [model] = get_args(model.model_fields["items"].annotation)
    if PARQUET in accepted:
        return Response(as_parquet(items, model), media_type=PARQUET, headers=headers)
    body = "\ufeff" + as_csv(items, model)
    return Response(body, media_type="text/csv; charset=utf-8", headers=headers)


def as_parquet(items: Iterable[Any], model: Any) -> bytes:
    """Rows with the columns of their CSV: numbers are numbers, ids and lists are text.

    Args:
        model: of one row; gives the columns, so that an empty answer has them too.
    """
    rows = [dict(_flat(item)) for item in items]
    schema = pa.schema([*_fields(model)])
    arrays = [
        pa.array([_typed(row.get(field.name), field.type) for row in rows], field.type)
        for field in schema
    ]
    out = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays, schema=schema), out, compression="zstd")
    return bytes(out.getvalue())


def _fields(model: Any, prefix: str = "") -> Iterator[pa.Field]:
    for name, field in model.model_fields.items():
        kind = plain(field.annotation)
        column = prefix + (field.alias or name)
        if kind in (Money, Balance):
            yield pa.field(f"{column}.amount", pa.decimal128(38, 4))
            yield pa.field(f"{column}.currency", pa.string())
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, f"{column}.")
        else:
            yield pa.field(column, COLUMNS.get(kind, pa.string()))


def _typed(value: Any, kind: pa.DataType) -> Any:
    if value is None or not pa.types.is_string(kind) or isinstance(value, str):
        return value
    is_text = isinstance(value, UUID | date | Decimal)
    return str(value) if is_text else _json(value)


def as_csv(items: Iterable[Any], model: Any) -> str:
    """Rows with a column a field, nested ones as ``a.b``; nothing that a sheet would compute.

    Args:
        model: of one row; gives the columns, which so are the same whatever is null.
    """
    rows = [dict(_flat(item)) for item in items]
    told = [field.name for field in _fields(model)]
    parents = {name.rpartition(".")[0] for name in told}
    columns = told + [name for name in _columns(rows) if name not in {*told, *parents}]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])
    return out.getvalue()


def _columns(rows: Iterable[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    parents = {name.rpartition(".")[0] for name in columns}
    return [name for name in columns if name not in parents]


def _flat(item: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in (item if isinstance(item, dict) else _fields_of(item)).items():
        if isinstance(value, Money | Balance):
            yield f"{prefix}{name}.amount", Decimal(value.amount)
            yield f"{prefix}{name}.currency", value.currency
        elif isinstance(value, dict | BaseModel):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | bool):
        return _json(value)
    text = _json(value)[1:-1] if isinstance(value, datetime) else str(value)
    return "'" + text if isinstance(value, str) and text.startswith(FORMULA) else text


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

    @app.exception_handler(Poison)
    async def poisoned(_: Request, error: Poison) -> Response:
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "event-cannot-be-taken", str(error))

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

    @app.exception_handler(Exception)
    async def unexpected(_: Request, __: Exception) -> Response:
        detail = "Something failed on our side. The log says what."
        return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail)
