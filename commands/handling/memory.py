"""What a process remembers of streams between groups of commands."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
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


class Fixed(NamedTuple):
    """What never changes of a stream that exists.

    Attributes:
        currency: the only one that it takes amounts of; None where it takes any, or it is not known
            yet.
    """

    stream_type: str
    currency: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the currency is known, or there is none to know."""
        return self.currency is not None or not _takes_one_currency(self.stream_type)


class Memory:
    """The latest folded streams, and the type and currency of many more.

    A folded state is only a guess: another process may have changed the stream since.

    Args:
        remembered: how many folded streams to keep; 0 for none.

    Attributes:
        fixed: of streams that exist.
        settings: the company's, or None when they must be loaded.
    """

    def __init__(self, remembered: int) -> None:
        self._remembered = remembered
        self.known: OrderedDict[UUID, Known] = OrderedDict()
        self.fixed: OrderedDict[UUID, Fixed] = OrderedDict()
        self.settings: Known | None = None

    def forget(self) -> None:
        """Drop everything; another database may answer from now on."""
        self.known.clear()
        self.fixed.clear()
        self.settings = None

    def mistrust(self, request: Request) -> None:
        """Drop the state of a request's stream, and of the one that it is held against."""
        self.known.pop(request.stream_id, None)
        if request.held_against is not None:
            self.known.pop(request.held_against.stream_id, None)
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
        while len(self.fixed) > 10 * self._remembered:
            self.fixed.popitem(last=False)

    def load(self, conn: Connection, requests: Iterable[Request]) -> Known:
        """Fetch what deciding needs and is not remembered; the settings in force."""
        streams: set[UUID] = set()
        begun: set[UUID] = set()
        mentioned: set[UUID] = set()
        compared: set[UUID] = set()
        held: set[UUID] = set()
        for request in requests:
            if request.creates and request.attempts == 0:
                begun.add(request.stream_id)
            elif request.stream_id not in begun:
                streams.add(request.stream_id)
            for referred in request.referred:
                of_any = referred.currency is None
                (mentioned if of_any else compared).add(referred.stream_id)
            if request.held_against is not None:
                held.add(request.held_against.stream_id)
        for stream in held & self.known.keys():
            self._note(stream, self.known[stream])
        compared = {stream for stream in compared if not self._is_whole(stream)}
        streams = {stream for stream in streams | held if stream not in self.known} | compared
        if self.settings is None:
            streams.add(COMPANY)
        loaded = _fold(ledger.load(conn, streams)) if streams else {}
        settings = self.settings or loaded.get(COMPANY) or Known("company", 0, Company())
        self.known.update(loaded)
        for stream_id, known in loaded.items():
            self._note(stream_id, known)
        # A stream of which loading found nothing does not exist; the append confirms that.
        mentioned = {s for s in mentioned if s not in self.fixed and s not in compared | held}
        if mentioned:
            found = ledger.stream_types(conn, mentioned)
            self.fixed.update((stream_id, Fixed(name)) for stream_id, name in found.items())
        self.settings = settings
        return settings

    def _is_whole(self, stream_id: UUID) -> bool:
        if stream_id in self.known:
            self._note(stream_id, self.known[stream_id])
        return stream_id in self.fixed and self.fixed[stream_id].is_whole

    def _note(self, stream_id: UUID, known: Known) -> None:
        takes_one = _takes_one_currency(known.stream_type)
        currency = known.state.currency if takes_one else None
        self.fixed[stream_id] = Fixed(known.stream_type, currency)


def _takes_one_currency(stream_type: str) -> bool:
    return stream_type in BY_TYPE and BY_TYPE[stream_type].other_currency is not None


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
