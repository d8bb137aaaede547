"""What a command is: a validated wish, decided on by one aggregate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Generic, TypeVar, get_args
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from aggregates.base import Refused
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
    """Something asked of one aggregate ``A``, whose answer is events ``E`` or a refusal.

    Attributes:
        rules: those that ``decide`` may refuse by, for the API's documents; a test finds a history
            for each, and no other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: ClassVar[tuple[type[Refused], ...]] = ()
    references: ClassVar[dict[str, str]]
    nested: ClassVar[dict[str, dict[str, str]]]
    refers: ClassVar[bool]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        """Note which fields refer to other streams, in the command itself and in its lists."""
        super().__pydantic_init_subclass__(**kwargs)
        cls.references = _references(cls)
        cls.nested = {
            name: found
            for name, field in cls.model_fields.items()
            for item in get_args(field.annotation)
            if isinstance(item, type)
            and issubclass(item, BaseModel)
            and (found := _references(item))
        }
        cls.refers = bool(cls.references or cls.nested)

    def referred(self) -> Iterator[tuple[str, str, UUID]]:
        """Each stream that the command refers to: the field, the stream's type and its id."""
        fields = self.__dict__
        for name, stream_type in self.references.items():
            if fields[name] is not None:
                yield name, stream_type, fields[name]
        for name, inner in self.nested.items():
            for place, item in enumerate(fields[name]):
                for field, stream_type in inner.items():
                    yield f"{name}.{place}.{field}", stream_type, getattr(item, field)

    @abstractmethod
    def decide(self, state: A, context: Context, /) -> list[E]:
        """The events that follow; none when what is asked is so already.

        Raises:
            Refused: when a rule says no.
        """


def _references(model: type[BaseModel]) -> dict[str, str]:
    return {
        name: mark.stream_type
        for name, field in model.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Reference)
    }
