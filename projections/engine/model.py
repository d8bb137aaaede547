"""What a read model is: its tables and how an event changes their rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from events.base import Event
from events.envelope import Recorded
from events.ledger.codec import READING
from projections.engine.tables import Rows, Sums, Table


@dataclass(frozen=True, eq=False)
class ReadModel:
    """One read model.

    Attributes:
        name: also of its schema, ``view_{name}``.
        events: the union of event classes that it listens to.
        apply: changes rows by one event; total, and without clock, chance or look-ups elsewhere.
        critical: a poison event halts it; otherwise only that event's stream is parked.
        revision: raised when ``apply`` changes its meaning, so that the model is rebuilt.
    """

    name: str
    tables: tuple[Table[Any], ...]
    events: Any
    apply: Callable[[Rows, Recorded], None]
    critical: bool = False
    revision: int = 1

    @cached_property
    def types(self) -> frozenset[str]:
        """The names of the events that it listens to."""
        members: tuple[type[Event], ...] = get_args(self.events) or (self.events,)
        return frozenset(member.event_type for member in members)

    @cached_property
    def sums(self) -> tuple[tuple[Sums[Any], ...], ...]:
        """Its tables of sums: those over other rows, then those over such sums, and so on.

        Raises:
            TypeError: when sums follow each other in a circle.
        """
        left = [table for table in self.tables if isinstance(table, Sums)]
        levels = []
        while left:
            names = {table.name for table in left}
            level = [t for t in left if names.isdisjoint(of.split(".")[0] for of in t.of)]
            if not level:
                raise TypeError(
                    f"The sums {', '.join(sorted(names))} follow each other in a circle."
                )
            left = [table for table in left if table not in level]
            levels.append(tuple(level))
        return tuple(levels)

    @cached_property
    def shape(self) -> str:
        """Changes when the tables, the revision or the reading of events do: it is then rebuilt."""
        parts = [str(self.revision), str(READING)]
        for table in self.tables:
            parts += [table.ddl(), *table.index_ddl()]
            if isinstance(table, Sums):
                parts += [table.select, *table.of, "hangs on", *table.hangs_on]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @property
    def schema(self) -> str:
        """Where its tables live."""
        return f"view_{self.name}"

    @property
    def next_schema(self) -> str:
        """Where a new build of its tables grows."""
        return f"view_{self.name}_next"
