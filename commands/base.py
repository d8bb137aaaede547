"""What a command is: a validated wish, decided on by one aggregate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from aggregates.company import Company
from events.envelope import Actor

A = TypeVar("A")
E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Reference:
    """Marks a field that holds the id of another stream, which must exist."""

    stream_type: str


@dataclass(frozen=True, slots=True)
class Context:
    """What deciding needs and purity forbids to fetch.

    Attributes:
        stream_id: the stream that the command is about.
        settings: the company's settings in force.
        fresh_id: makes a new id, another at each call.
    """

    stream_id: UUID
    occurred_at: datetime
    actor: Actor
    settings: Company
    fresh_id: Callable[[], UUID]


class Command(BaseModel, Generic[A, E]):
    """Something asked of one aggregate ``A``, whose answer is events ``E`` or a refusal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    references: ClassVar[dict[str, str]]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        """Note which fields refer to other streams."""
        super().__pydantic_init_subclass__(**kwargs)
        cls.references = {
            name: mark.stream_type
            for name, field in cls.model_fields.items()
            for mark in field.metadata
            if isinstance(mark, Reference)
        }

    def decide(self, state: A, context: Context, /) -> list[E]:
        """The events that follow; none when what is asked is so already.

        Raises:
            Refused: when a rule says no.
        """
        raise NotImplementedError
