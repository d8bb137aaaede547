"""What every fact begins with, and what its columns may say of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from events.envelope import Recorded


@dataclass(frozen=True, slots=True)
class Digits:
    """How many digits a decimal has that is no amount of money, and how many after the point."""

    precision: int
    scale: int


def head(recorded: Recorded) -> tuple[UUID, int, int, datetime, datetime]:
    """Stream, version, position and both clocks: the first columns of every fact."""
    return (
        recorded.stream_id,
        recorded.version,
        recorded.position,
        recorded.occurred_at,
        recorded.recorded_at,
    )


def kind(recorded: Recorded) -> str:
    """The event's name without that of its stream, as ``stage-moved``."""
    return recorded.type.partition(".")[2]
