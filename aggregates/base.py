"""What aggregates share: how a command is refused, and the rules that belong to no noun alone."""

from __future__ import annotations

from typing import ClassVar


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
