"""A story of two years told as commands: by working day, in the order in which it was entered."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson

DAYS = 520
"""Working days in two years; the story's days are 0 to this, fractions are hours."""
OPENS_AT = 8
HOURS = 9


class NotYet(Exception):
    """What would come next lies behind the story's end."""


class Line(NamedTuple):
    """A command as a line of NDJSON, and the rule that will refuse it, if one will."""

    raw: bytes
    refused_by: str | None


class _Told(NamedTuple):
    entered: float
    command: str
    stream_id: UUID
    moment: datetime
    actor: str
    data: dict[str, Any]
    refused_by: str | None


class Telling:
    """Collects what happened in any order.

    Args:
        name: of the story; the same name gives the same ids.
        until: the day before which it ends.
    """

    def __init__(self, name: str, until: date) -> None:
        self.name = name
        self._space = uuid5(NAMESPACE_URL, f"pledge:{name}")
        last = until - timedelta(days=1)
        self._last = last - timedelta(days=max(0, last.weekday() - 4))
        self._told: list[_Told] = []

    def id_of(self, thing: str) -> UUID:
        """The id that this story always gives to this thing."""
        return uuid5(self._space, thing)

    def date_of(self, day: float) -> date:
        """The date of a working day; one behind the story's end may be asked for too."""
        weekday = self._last.weekday()
        weeks, rest = divmod(int(day // 1) - (DAYS - 1) + weekday, 5)
        return self._last + timedelta(days=7 * weeks + rest - weekday)

    def tell(
        self,
        day: float,
        actor: str,
        command: str,
        stream: str,
        *,
        entered: float | None = None,
        refused_by: str | None = None,
        **data: Any,
    ) -> None:
        """Somebody did this then; ``entered`` is when they told the ledger, if that was later.

        Raises:
            NotYet: when it would be entered after the story's end; nothing was told.
        """
        entered = day if entered is None else entered
        if entered >= DAYS:
            raise NotYet
        morning = datetime.combine(self.date_of(day), time(OPENS_AT), UTC)
        moment = morning + timedelta(seconds=round((day % 1) * HOURS * 3600))
        given = {name: value for name, value in data.items() if value is not None}
        self._told.append(
            _Told(entered, command, self.id_of(stream), moment, actor, given, refused_by)
        )

    def lines(self, key: str) -> list[Line]:
        """All that was told, by the time it was entered; keys are ``key`` and a number, or last."""
        told_in_order = sorted(self._told, key=lambda told: told.entered)
        last = len(told_in_order) - 1
        return [
            Line(
                orjson.dumps(
                    {
                        "command": told.command,
                        "id": told.stream_id,
                        "key": f"{key}:{number if number < last else 'last'}",
                        "occurred_at": told.moment,
                        "actor": told.actor,
                        "data": told.data,
                    }
                ),
                told.refused_by,
            )
            for number, told in enumerate(told_in_order)
        ]
