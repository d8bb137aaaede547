"""What aggregates share: how a command is refused, and the rules that belong to no noun alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from events.base import Event


class Refused(Exception):
    """A rule said no. The class is the rule's name, its docstring what the caller is told.

    Attributes:
        fields: the names of the command's fields that the rule looked at.
    """

    fields: ClassVar[tuple[str, ...]] = ()

    @property
    def rule(self) -> str:
        """The rule's name, as stored and answered."""
        return type(self).__name__

    @property
    def detail(self) -> str:
        """The rule in one sentence."""
        return (type(self).__doc__ or self.rule).strip()


class Unknown(Refused):
    """There is no such thing."""


class IdTaken(Refused):
    """This id belongs to a stream of another kind."""

    fields = ("id",)


class CurrencyDiffers(Refused):
    """The amount's currency differs from that of the order or payment."""

    fields = ("amount",)


def told(event: Event, besides: frozenset[str] = frozenset()) -> dict[str, Any]:
    """What an event says, by field, without nulls: of a personal text its mark.

    A text of an older event has no mark: it stands as None, and is like no other.

    Args:
        besides: fields that say something else than what is compared.
    """
    fields = event.__dict__
    marks = fields.get("marks") or {}
    return {
        name: marks.get(name) if name in event.personal else value
        for name, value in fields.items()
        if value is not None and name != "marks" and name not in besides
    }


def stands(known: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    """Whether all that is said is so already."""
    return all(value is not None and known.get(name) == value for name, value in said.items())
