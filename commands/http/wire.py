"""What callers send: a command's body over HTTP, or a line of many; validated once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Union
from uuid import UUID

import jiter
import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    create_model,
)
from uuid_utils.compat import uuid7

from aggregates.base import CurrencyDiffers
from commands.base import Command
from commands.catalog import CATALOG, Streams
from commands.handling.request import Request
from commands.http.problems import KEY, LONGEST_NAME, Answer, invalid, unprocessable
from events.currencies import WITHDRAWN
from events.envelope import Actor
from events.values import ActorId, Instant

USER = "user"
"""The kind of actor that is a person, and so may be a rep."""
CLOCK_SKEW = timedelta(minutes=5)
"""How far ahead of our clock a caller's may be."""

MAX_FIELDS = 20_000
"""Of one command, nested ones too: what many cost holds up everybody else."""
REPEATED = re.compile(r'Detected duplicate key "(?P<key>.*)" at line', re.DOTALL)
"""How jiter says so."""

Key = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=KEY)]
Version = Annotated[int, Field(ge=0, strict=True)]


class Unprocessable(Exception):
    """What was sent cannot be a command; carries the answer that says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body["detail"])
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Entry:
    """One command of the catalog with the model of its HTTP body.

    Attributes:
        body: the command's own model, with ``occurred_at`` and, where it creates, ``id``.
    """

    name: str
    streams: Streams[Any, Any]
    command: type[Command[Any, Any]]
    creates: bool
    body: type[Command[Any, Any]]

    @property
    def path(self) -> str:
        """The route, as in OpenAPI."""
        plural, verb = self.name.split("/")
        return f"/{plural}" if self.creates else f"/{plural}/{{id}}/{verb}"


def _entry(plural: str, verb: str, streams: Streams[Any, Any]) -> Entry:
    command = streams.commands[verb]
    creates = verb == streams.creates
    extra: dict[str, Any] = {
        "occurred_at": (
            Instant | None,
            Field(None, description="When it happened, if not now (business time)."),
        )
    }
    if creates:
        extra["id"] = (
            UUID | None,
            Field(None, description="The id of the new stream; without it one is made."),
        )
    return Entry(
        f"{plural}/{verb}",
        streams,
        command,
        creates,
        create_model(f"{command.__name__}Body", __base__=command, __doc__=command.__doc__, **extra),
    )


ENTRIES: Mapping[str, Entry] = {
    entry.name: entry
    for plural, streams in CATALOG.items()
    for verb in streams.commands
    for entry in [_entry(plural, verb, streams)]
}
"""The catalog by name, like ``leads/claim``."""


class LineBase(BaseModel):
    """One command among many."""

    model_config = ConfigDict(extra="forbid")

    key: Key
    if_match: Version | None = None
    occurred_at: Instant | None = None
    actor: ActorId | None = None


def _line(entry: Entry) -> type[LineBase]:
    needs_data = any(field.is_required() for field in entry.command.model_fields.values())
    fields: dict[str, Any] = {
        "command": (Literal[entry.name], ...),
        "id": (UUID | None, None) if entry.creates else (UUID, ...),
        "data": (entry.command, ... if needs_data else Field(default_factory=entry.command)),
    }
    return create_model(
        f"{entry.command.__name__}Line", __base__=LineBase, __doc__=entry.command.__doc__, **fields
    )


LINES: list[type[LineBase]] = [_line(entry) for entry in ENTRIES.values()]
LINE: TypeAdapter[Any] = TypeAdapter(
    Annotated[Union[tuple(LINES)], Field(discriminator="command")]  # type: ignore[arg-type]  # noqa: UP007 - made of a list
)


def from_body(
    entry: Entry,
    stream_id: UUID | None,
    raw: bytes,
    actor: Actor,
    *,
    key: str | None,
    if_match: int | None,
    correlation_id: UUID | None = None,
) -> Request:
    """The request that an HTTP body asks for.

    Raises:
        Unprocessable: when the body is not what the command's model says.
    """
    _refuse_repeated_keys(raw)
    try:
        command = entry.body.__pydantic_validator__.validate_json(raw or b"{}")
    except ValidationError as error:
        raise Unprocessable(invalid(error)) from None
    fields = command.__dict__
    occurred_at = _not_ahead(fields["occurred_at"])
    _refuse_withdrawn(entry, command, occurred_at)
    target = stream_id or fields.get("id") or uuid7()
    command_id = uuid7()
    place = entry.name if stream_id is None else f"{entry.name} {stream_id}"
    return Request(
        name=entry.name,
        streams=entry.streams,
        command=command,
        stream_id=target,
        actor=actor,
        key=key or str(command_id),
        body_hash=hashlib.sha256(place.encode() + b"\n" + raw).digest(),
        command_id=command_id,
        correlation_id=correlation_id or command_id,
        occurred_at=occurred_at,
        if_match=if_match,
        rep=actor.id if actor.kind == USER else None,
    )


def from_line(raw: bytes, actor: Actor) -> Request:
    """The request that a line of NDJSON asks for; its own actor counts before ``actor``.

    Raises:
        Unprocessable: when the line is not what its command's model says.
    """
    _refuse_repeated_keys(raw)
    try:
        line = LINE.validate_json(raw)
    except ValidationError as error:
        raise Unprocessable(invalid(error, skip=1)) from None
    entry = ENTRIES[line.command]
    occurred_at = _not_ahead(line.occurred_at)
    _refuse_withdrawn(entry, line.data, occurred_at, "data.")
    command_id = uuid7()
    return Request(
        name=line.command,
        streams=entry.streams,
        command=line.data,
        stream_id=line.id or uuid7(),
        actor=Actor(line.actor, actor.kind) if line.actor else actor,
        key=line.key,
        body_hash=hash_of(raw),
        command_id=command_id,
        correlation_id=command_id,
        occurred_at=occurred_at,
        if_match=line.if_match,
        rep=_rep(line.actor, actor),
    )


def key_of(raw: bytes, actor: Actor) -> tuple[str, str] | None:
    """The actor and the idempotency key under which a line's outcome would stand, if it has any."""
    try:
        line = orjson.loads(raw)
        key, by = line["key"], line.get("actor") or actor.id
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    if not (isinstance(key, str) and isinstance(by, str)) or "\0" in by + key:
        return None
    return by, key


def hash_of(raw: bytes) -> bytes:
    """What tells a repeated line from another one with its key."""
    return hashlib.sha256(raw).digest()


def _rep(named: str | None, sender: Actor) -> str | None:
    """The person who acts in a line: the one it names, or else the sender, unless that is none."""
    if named is not None and named != sender.id:
        return named
    return sender.id if sender.kind == USER else None


def check_line(raw: bytes) -> list[str]:
    """What is wrong with a line, as sentences; nothing when it could be sent."""
    try:
        from_line(raw, Actor("check"))
    except Unprocessable as error:
        return [f"{e['field']}: {e['message']}" for e in error.answer.body["errors"]]
    return []


def _refuse_repeated_keys(raw: bytes) -> None:
    """Refuse a JSON object that gives a field twice: pydantic would take the last one.

    What else is wrong with the JSON is for the model to say.
    """
    if len(raw) > MAX_FIELDS and raw.count(b":") > MAX_FIELDS:
        raise Unprocessable(unprocessable("body", f"has more than {MAX_FIELDS} fields"))
    try:
        jiter.from_json(raw, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as error:
        if found := REPEATED.match(str(error)):
            field = found["key"][:LONGEST_NAME]
            raise Unprocessable(unprocessable(field, "is given more than once")) from None


def _refuse_withdrawn(
    entry: Entry, command: Command[Any, Any], occurred_at: datetime | None, within: str = ""
) -> None:
    """Refuse to bring in money of a currency that was withdrawn by then.

    What moves the amounts of an order or a payment that is there has to be in its currency,
    whenever that is.
    """
    if not entry.creates and CurrencyDiffers in command.rules:
        return
    for place, money in command.amounts():
        last = WITHDRAWN.get(money.currency)
        if last is not None and (occurred_at or datetime.now(UTC)).date() > last:
            message = f"was withdrawn on {last}; history has an occurred_at of its time"
            raise Unprocessable(unprocessable(f"{within}{place}.currency", message))


def _not_ahead(occurred_at: datetime | None) -> datetime | None:
    if occurred_at is not None and occurred_at > datetime.now(UTC) + CLOCK_SKEW:
        raise Unprocessable(
            unprocessable("occurred_at", "lies in the future; a fact has happened already")
        )
    return occurred_at
