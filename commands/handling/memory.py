"""What a process remembers of streams between groups of commands."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aggregates.company import Company
from commands.catalog import BY_TYPE
from commands.handling.request import Request
from events.company import COMPANY
from events.ledger import ledger
from events.ledger.codec import decode_sealed
from events.ledger.ledger import Connection


@dataclass(slots=True)
class Known:
    """A stream folded: what it is, how far it is, and its state."""

    stream_type: str
    version: int
    state: Any


class Memory:
    """Folded streams, and of many more what never changes. The states are only a guess.

    Args:
        remembered: how many folded streams to keep; 0 for none.

    Attributes:
        types: of streams that exist.
        currencies: of streams that take amounts of one currency only.
        settings: the company's, or None when they must be loaded.
    """

    def __init__(self, remembered: int) -> None:
        self._remembered = remembered
        self.known: OrderedDict[UUID, Known] = OrderedDict()
        self.types: OrderedDict[UUID, str] = OrderedDict()
        self.currencies: OrderedDict[UUID, str] = OrderedDict()
        self.settings: Known | None = None

    def forget(self) -> None:
        """Drop everything; another database may answer from now on."""
        self.known.clear()
        self.types.clear()
        self.currencies.clear()
        self.settings = None

    def mistrust(self, request: Request) -> None:
        """Drop the state of a request's stream."""
        self.known.pop(request.stream_id, None)
        if request.stream_id == COMPANY:
            self.settings = None

    def remember(self, request: Request, version: int, state: Any) -> None:
        """Keep the state that a request left."""
        known = Known(request.streams.stream_type, version, state)
        if request.stream_id == COMPANY:
            self.settings = known
        self.known[request.stream_id] = known
        self.known.move_to_end(request.stream_id)
        if version > 0:
            self._note(request.stream_id, known)

    def trim(self) -> None:
        """Drop the oldest of what is too much."""
        while len(self.known) > self._remembered:
            self.known.popitem(last=False)
        for noted in (self.types, self.currencies):
            while len(noted) > 10 * self._remembered:
                noted.popitem(last=False)

    def load(self, conn: Connection, requests: Iterable[Request]) -> Known:
        """Fetch what deciding needs and is not remembered; the settings in force."""
        streams: set[UUID] = set()
        begun: set[UUID] = set()
        mentioned: set[UUID] = set()
        compared: set[UUID] = set()
        for request in requests:
            if request.creates and request.attempts == 0:
                begun.add(request.stream_id)
            elif request.stream_id not in begun:
                streams.add(request.stream_id)
            if request.command.refers:
                for referred in request.command.referred():
                    of_any = referred.currency is None
                    (mentioned if of_any else compared).add(referred.stream_id)
        compared = {stream for stream in compared if not self._knows_currency(stream)}
        streams = {stream for stream in streams if stream not in self.known} | compared
        if self.settings is None:
            streams.add(COMPANY)
        loaded = _fold(ledger.load(conn, streams)) if streams else {}
        settings = self.settings or loaded.get(COMPANY) or Known("company", 0, Company())
        self.known.update(loaded)
        for stream_id, known in loaded.items():
            self._note(stream_id, known)
        # What was to be loaded and is not there is missing: the append confirms just that.
        mentioned = {s for s in mentioned if s not in self.types and s not in compared}
        if mentioned:
            self.types.update(ledger.stream_types(conn, mentioned))
        self.settings = settings
        return settings

    def _knows_currency(self, stream_id: UUID) -> bool:
        if stream_id not in self.currencies and stream_id in self.known:
            self._note(stream_id, self.known[stream_id])
        return stream_id in self.currencies

    def _note(self, stream_id: UUID, known: Known) -> None:
        self.types[stream_id] = known.stream_type
        streams = BY_TYPE.get(known.stream_type)
        if streams is not None and streams.other_currency is not None:
            self.currencies[stream_id] = known.state.currency


def _fold(rows: Iterable[tuple[UUID, int, str, str, int, bytes]]) -> dict[UUID, Known]:
    loaded: dict[UUID, Known] = {}
    for stream_id, version, stream_type, name, schema_version, payload in rows:
        streams = BY_TYPE.get(stream_type)
        if streams is None:
            loaded[stream_id] = Known(stream_type, version, None)
            continue
        known = loaded.get(stream_id)
        if known is None:
            known = loaded[stream_id] = Known(stream_type, 0, streams.blank)
        known.state = streams.evolve(known.state, decode_sealed(name, schema_version, payload))
        known.version = version
    return loaded
