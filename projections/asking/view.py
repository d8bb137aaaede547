"""What a question works with: a consistent look at the read models, on behalf of a caller."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from projections.asking.clocks import Moment
from projections.asking.shape import Head, HeadAt, made
from projections.engine.tables import Connection


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        actor: their id.
    """

    actor: str


@dataclass(frozen=True, slots=True)
class View:
    """A snapshot of some read models.

    Attributes:
        caller: who sees it.
        when: the moment that is asked about.
        position: everything up to it is included; later events may be.
        parked: streams whose later events are missing.
    """

    conn: Connection
    caller: Caller
    when: Moment
    position: int
    parked: list[UUID]

    @property
    def head(self) -> Head:
        """What an answer about the present begins with."""
        return made(Head, {"position": self.position, "parked": self.parked})

    @property
    def head_at(self) -> HeadAt:
        """What an answer about a moment begins with."""
        when = self.when
        head = {"position": self.position, "as_of": when.as_of, "known_at": when.known_at}
        return made(HeadAt, {**head, "parked": self.parked})
