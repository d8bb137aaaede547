"""Where projectors take events from: the ledger itself, or the topic that carries it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from events.ledger import ledger
from events.ledger.checkpoints import LEDGER, Checkpoint
from events.ledger.following import rest
from events.ledger.ledger import Stored
from projections.engine.tables import Connection

POLL_SECONDS = 0.01


class Piece(NamedTuple):
    """What one partition brought.

    Attributes:
        rows: each position above the one before.
        offset: in a topic, from where on to read next time; None of the ledger, and where nothing
            could be taken.
        watermark: in a topic, up to where nothing of this partition is missing; None of the ledger.
        strange: why checkpoints that are not as far as ``strange_up_to`` cannot go on.
    """

    partition: int
    rows: list[Stored]
    offset: int | None = None
    watermark: int | None = None
    strange: str | None = None
    strange_up_to: int = 0

    def is_behind(self, checkpoint: Checkpoint) -> bool:
        """Whether it brings nothing that the checkpoint does not have."""
        if self.strange is not None:
            return checkpoint.taken >= self.strange_up_to
        last = max(self.rows[-1].position if self.rows else 0, self.watermark or 0)
        if last > checkpoint.taken:
            return False
        return self.offset is None or self.offset <= (checkpoint.offset or 0)


class Source(Protocol):
    """A source of events in partitions; all events of a stream are in one, in order.

    Attributes:
        id: what checkpoints call it.
        partitions: how many there are.
    """

    id: str
    partitions: int

    def open(self, conn: Connection) -> None:
        """Begin, with a session on the ledger.

        Raises:
            KafkaAway: when the source does not answer, here and in everything below.
        """

    def close(self) -> None:
        """Let go of what was opened, if anything was."""

    def assigned(self) -> frozenset[int] | None:
        """The partitions that are this process's to read, if that is news; None if not.

        After news the caller seeks all of them before it reads.
        """

    def seek(self, wanted: Mapping[int, Sequence[Checkpoint]]) -> None:
        """Read next what any of a partition's checkpoints lacks; nothing of those not named."""

    def read(self, limit: int) -> list[Piece]:
        """What comes next, none or more of it; at most so many events.

        After a strange piece the caller seeks anew.
        """

    def rest(self, stop: threading.Event) -> None:
        """Wait a little, after nothing came."""


class FromLedger:
    """The ledger, one partition."""

    id = LEDGER
    partitions = 1

    def __init__(self) -> None:
        self._is_news = False
        self._after: int | None = None
        self._read_at = 0.0

    def open(self, conn: Connection) -> None:
        """See ``Source``."""
        self._conn = conn
        self._is_news = True

    def close(self) -> None:
        """See ``Source``."""

    def assigned(self) -> frozenset[int] | None:
        """See ``Source``."""
        if not self._is_news:
            return None
        self._is_news = False
        return frozenset([0])

    def seek(self, wanted: Mapping[int, Sequence[Checkpoint]]) -> None:
        """See ``Source``."""
        found = wanted.get(0, ())
        self._after = min((checkpoint.position for checkpoint in found), default=None)

    def read(self, limit: int) -> list[Piece]:
        """See ``Source``."""
        if self._after is None:
            return []
        rows = ledger.read(self._conn, self._after, limit)
        if not rows:
            return []
        self._after = rows[-1].position
        self._read_at = time.monotonic()
        return [Piece(0, rows)]

    def rest(self, stop: threading.Event) -> None:
        """See ``Source``."""
        rest(stop, POLL_SECONDS, self._read_at)
