"""A command on its way to the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from commands.base import Command, Referred
from commands.catalog import Streams
from events.envelope import HISTORY, Actor


@dataclass(slots=True)
class Request:
    """One command, validated, with all that its handling needs.

    Attributes:
        name: as in the catalog, like ``leads/claim``.
        key: the idempotency key; a fresh id when the caller gave none.
        body_hash: of the raw body and path; tells a repeat from another use of the key.
        if_match: the stream version that the caller decided on.
        rep: the actor, if that is a person.
        referred: the streams that the command refers to.
        held_against: the one of them whose state may refuse it; none for what is imported.
        attempts: how often it was decided on a guess that proved wrong, or sent without an answer;
            from the first on nothing is guessed any more.
    """

    name: str
    streams: Streams[Any, Any]
    command: Command[Any, Any]
    stream_id: UUID
    actor: Actor
    key: str
    body_hash: bytes
    command_id: UUID
    correlation_id: UUID
    causation_id: UUID | None = None
    occurred_at: datetime | None = None
    if_match: int | None = None
    rep: str | None = None
    attempts: int = 0

    creates: bool = field(init=False)
    referred: tuple[Referred, ...] = field(init=False)
    held_against: Referred | None = field(init=False)

    def __post_init__(self) -> None:
        """Note whether the command begins its stream, and the streams that it refers to."""
        self.creates = self.name.rpartition("/")[2] == self.streams.creates
        self.referred = tuple(self.command.referred()) if self.command.refers else ()
        self.held_against = next(
            (one for one in self.referred if one.check and self.actor.kind not in HISTORY), None
        )
