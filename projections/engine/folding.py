"""From ledger rows to a read model's rows, and what happens at an event that cannot be taken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import inf
from uuid import UUID

from events.base import UnknownEventType
from events.envelope import Recorded
from events.ledger import codec
from events.ledger.keys import Keyring
from events.ledger.ledger import Stored
from projections.engine.model import ReadModel
from projections.engine.tables import Connection, Rows


class Poison(Exception):
    """An event that a read model cannot take.

    Attributes:
        fatal: whether nobody knows its type, so that no read model may pass it.
    """

    def __init__(
        self, position: int, stream_id: UUID, type: str, cause: Exception, *, fatal: bool = False
    ) -> None:
        super().__init__(f"{type} at position {position}: {cause.__class__.__name__}: {cause}")
        self.position = position
        self.stream_id = stream_id
        self.type = type
        self.fatal = fatal


Parked = dict[UUID, int]
"""Streams set aside, each with the position from which on its events are left out."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of the ledger's events, in order, and what is wrong with those that are unreadable."""

    events: list[Recorded]
    broken: dict[int, Poison]

    @classmethod
    def of(cls, parts: Sequence[Batch]) -> Batch:
        """Several batches as one."""
        if len(parts) == 1:
            return parts[0]
        broken = {p: poison for part in parts for p, poison in part.broken.items()}
        return cls([recorded for part in parts for recorded in part.events], broken)

    def holds(self, position: int) -> bool:
        """Whether the event at this position is one of them."""
        return position in self.broken or any(r.position == position for r in self.events)

    def between(self, after: int, before: float = inf) -> Batch:
        """The part above one position and below another."""
        return Batch(
            [recorded for recorded in self.events if after < recorded.position < before],
            {p: poison for p, poison in self.broken.items() if after < p < before},
        )


def readable(conn: Connection, keyring: Keyring, rows: Sequence[Stored]) -> Batch:
    """The events that these ledger rows hold."""
    try:
        return Batch(codec.decode_all(conn, keyring, rows), {})
    except (LookupError, ValueError):
        pass
    events: list[Recorded] = []
    broken: dict[int, Poison] = {}
    for row in rows:
        try:
            events += codec.decode_all(conn, keyring, [row])
        except (LookupError, ValueError) as error:
            fatal = isinstance(error, UnknownEventType)
            poison = Poison(row.position, row.stream_id, row.type, error, fatal=fatal)
            broken[row.position] = poison
    return Batch(events, broken)


def fold(
    model: ReadModel,
    blank: Callable[[], Rows],
    batch: Batch,
    parked: Parked,
    skipped: Collection[int],
) -> tuple[Rows, dict[UUID, Poison]]:
    """Apply a batch to rows that ``blank`` makes; the rows, and the streams newly set aside.

    A poison event sets its stream aside: that event and all later ones of the stream are left out,
    those before it count.

    Raises:
        Poison: at an event that this read model must not pass.
    """
    parking: dict[UUID, Poison] = {}
    while True:
        aside = {**parked, **{stream: poison.position for stream, poison in parking.items()}}
        rows = blank()
        try:
            _raise_unreadable(model, batch, aside, skipped)
            _apply_all(model, rows, batch, aside, skipped)
        except Poison as poison:
            if poison.fatal or model.critical:
                raise
            parking[poison.stream_id] = poison
        else:
            return rows, parking


def _raise_unreadable(
    model: ReadModel, batch: Batch, aside: Parked, skipped: Collection[int]
) -> None:
    for position, poison in sorted(batch.broken.items()):
        concerns = poison.fatal or poison.type in model.types
        if concerns and position not in skipped and position < aside.get(poison.stream_id, inf):
            raise poison


def _apply_all(
    model: ReadModel, rows: Rows, batch: Batch, aside: Parked, skipped: Collection[int]
) -> None:
    types, apply = model.types, model.apply
    for recorded in batch.events:
        if recorded.type not in types or recorded.position in skipped:
            continue
        if aside and recorded.position >= aside.get(recorded.stream_id, inf):
            continue
        try:
            apply(rows, recorded)
        except Exception as error:
            raise Poison(recorded.position, recorded.stream_id, recorded.type, error) from error
