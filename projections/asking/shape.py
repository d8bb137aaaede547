"""What answers are made of: typed parts, whose OpenAPI schemas follow from them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

_FIELDS = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_EXTRA = BaseModel.__dict__["__pydantic_extra__"].__set__
_PRIVATE = BaseModel.__dict__["__pydantic_private__"].__set__


def made(cls: type[M], fields: dict[str, Any]) -> M:
    """A model of values that are known to fit, without a second look at them."""
    one = cls.__new__(cls)
    object.__setattr__(one, "__dict__", fields)
    _FIELDS(one, set())
    _EXTRA(one, None)
    _PRIVATE(one, None)
    return one


class Shape(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def of(cls, *parts: BaseModel, **more: Any) -> Self:
        """One that takes its fields from these parts, and more; values are not checked again.

        Raises:
            TypeError: when a field is missing, or something is no field.
        """
        wanted = cls.model_fields
        fields: dict[str, Any] = {}
        for part in parts:
            fields |= part.__dict__
        if fields.keys() - wanted.keys():
            fields = {name: value for name, value in fields.items() if name in wanted}
        fields |= more
        if fields.keys() != wanted.keys():
            strange = sorted(fields.keys() - wanted.keys())
            missing = [n for n in wanted.keys() - fields.keys() if wanted[n].is_required()]
            if strange or missing:
                raise TypeError(f"{cls.__name__} lacks {missing}, and has no {strange}")
        return made(cls, fields)


class Head(Shape):
    """What every answer begins with."""

    position: int
    parked: list[UUID] = Field(
        description="Streams that are parked: their later events are missing in this answer."
    )


class HeadAt(Head):
    """What every answer about a moment begins with."""

    as_of: datetime | None
    known_at: int | None


class Page(Head, Generic[T]):
    """One page of a list.

    ``position``: every event up to it is reflected; ``next``: where the list goes on.
    """

    items: list[T]
    next: str | None


class PageAt(Page[T], HeadAt, Generic[T]):
    """One page of a list, as it was at a moment."""


class CountedPage(PageAt[T], Generic[T]):
    """One page of a list that says how many there are in all, where that is asked."""

    count: int | None = None
