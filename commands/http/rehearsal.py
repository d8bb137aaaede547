"""A rehearsal: lines decided in memory, as far as they alone tell what the service would say."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from uuid_utils.compat import uuid7

from aggregates.base import Refused
from aggregates.company import Company
from commands.base import Context
from commands.handling.memory import Known
from commands.handling.request import Request
from commands.http.wire import from_line
from events.company import COMPANY
from events.envelope import Actor

REMEMBERED = 50_000
"""How many streams are followed; the oldest of more are passed over."""


class Rehearsal:
    """Decides lines in their order, on streams that begin among them.

    It says nothing of a stream that began elsewhere, of references, and of rules that depend on
    the company's settings: the service may know more.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[UUID, Known] = OrderedDict()
        self._settings = Known("company", 0, Company())

    def refusal(self, line: bytes) -> str | None:
        """The rule that refuses a line after all the lines before it, or None."""
        request = from_line(line, Actor("import", "import"))
        known = self._of(request)
        if known is None:
            return None
        if request.creates and known.version > 0:
            exists = request.streams.exists
            return None if exists is None else _told(exists())
        settings = _Watched(self._settings.state)
        context = Context(
            request.stream_id,
            request.occurred_at or datetime.now(UTC),
            request.actor,
            request.rep,
            cast("Company", settings),
            uuid7,
            _keyed_hash,
            _keyed_hash,
        )
        try:
            for event in request.command.decide(known.state, context):
                known.state = request.streams.evolve(known.state, event)
                known.version += 1
        except Refused as refusal:
            if settings.asked or request.stream_id == COMPANY:
                self.pass_over(line)
                return None
            return _told(refusal)
        return None

    def pass_over(self, line: bytes) -> None:
        """Note a line that the service knows already: its stream has a history of its own."""
        self._known.pop(from_line(line, Actor("import", "import")).stream_id, None)

    def _of(self, request: Request) -> Known | None:
        if request.stream_id == COMPANY:
            return self._settings
        known = self._known.get(request.stream_id)
        if known is None and request.creates:
            known = Known(request.streams.stream_type, 0, request.streams.blank)
            self._known[request.stream_id] = known
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return known if known and known.stream_type == request.streams.stream_type else None


class _Watched:
    """Settings that note whether a decision asked for them."""

    def __init__(self, settings: Company) -> None:
        self._settings = settings
        self.asked = False

    def __getattr__(self, name: str) -> Any:
        self.asked = True
        return getattr(self._settings, name)


def _keyed_hash(text: str, subject: UUID) -> str:
    """Nothing is kept of a rehearsal, so a hash without a key serves."""
    return f"{subject} {' '.join(text.casefold().split())}"


def _told(refusal: Refused) -> str:
    return f"would be refused by {refusal.rule}: {refusal.detail}"
