"""The envelope of an event: its actor, time, stream and cause."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from pydantic import TypeAdapter

from events.base import Event
from events.values import ActorId

_ACTOR_ID: TypeAdapter[str] = TypeAdapter(ActorId)

HISTORY = frozenset({"import", "library"})
"""Kinds of actors that bring history along: what should follow has happened, or will never, and a
rule of today need not have been one then."""


class Actor(NamedTuple):
    """The actor of a command: ``kind`` is user, service, policy or import."""

    id: str
    kind: str = "user"


class Recorded(NamedTuple):
    """An event as the ledger holds it; every field but the event is a column of its own.

    Attributes:
        position: its gapless number in the whole ledger, from 1; the order of commits.
        version: its gapless number in the stream, from 1.
        occurred_at: business time, as the caller gave it, in UTC.
        recorded_at: when the ledger recorded it, in UTC; never falls as the position rises.
    """

    position: int
    event_id: UUID
    stream_type: str
    stream_id: UUID
    version: int
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    actor_kind: str
    command_id: UUID
    correlation_id: UUID
    causation_id: UUID | None
    type: str
    schema_version: int
    event: Event


def actor_named(header: bytes) -> str:
    """The id of the actor that a header names, in UTF-8 or, if it is not that, in Latin-1.

    Raises:
        ValueError: when it cannot be an actor's.
    """
    try:
        text = header.decode()
    except UnicodeDecodeError:
        text = header.decode("latin-1")
    return _ACTOR_ID.validate_python(text)
