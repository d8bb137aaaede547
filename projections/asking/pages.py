"""Pages of a query, and cursors: where the next page begins, as a text that only its list takes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import orjson

from events.values import EARLIEST, LATEST
from projections.asking.clocks import FOREVER, Pin, Unanswerable
from projections.asking.rows import columns_of, maker, plain
from projections.asking.shape import Shape
from projections.engine.tables import Connection

S = TypeVar("S", bound=Shape)

LIMIT = 50
MAX_LIMIT = 1_000
DECIMAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,10})?")
STRANGE = "is not one that this list gave"


def closed(of: str, key: Sequence[Any], pin: Pin | None = None) -> str:
    """The cursor behind the row with this key.

    Args:
        of: the list; another one refuses the cursor.
        pin: what the page knew, and the next one is to know.
    """
    content = orjson.dumps([of, None if pin is None else list(pin), *key], default=str)
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def opened(of: str, cursor: str, kinds: Sequence[type], *, may_lack: bool = False) -> list[Any]:
    """The key that a cursor holds.

    Args:
        kinds: of its values: datetime, date, UUID, bool, int, Decimal or str.
        may_lack: whether the first one may be None.

    Raises:
        Unanswerable: when the cursor is none that this list gave.
    """
    try:
        whose, _, *key = _content(cursor)
        found = [
            None if may_lack and place == 0 and part is None else _part(part, kind)
            for place, (part, kind) in enumerate(zip(key, kinds, strict=True))
        ]
    except (ValueError, TypeError):
        whose, found = None, []
    if whose != of:
        raise Unanswerable("cursor", STRANGE)
    return found


def pin_of(cursor: str) -> Pin | None:
    """What the page that gave a cursor knew; None where it did not say.

    Raises:
        Unanswerable: when no list gave the cursor.
    """
    try:
        _, pin, *_ = _content(cursor)
        found = None if pin is None else Pin(_part(pin[0], int), _part(pin[1], date))
    except (ValueError, TypeError, LookupError) as error:
        raise Unanswerable("cursor", STRANGE) from error
    days = EARLIEST.date(), LATEST.date()
    if found is not None and (found.position < 0 or not days[0] <= found.today < days[1]):
        raise Unanswerable("cursor", STRANGE)
    return found


def _content(cursor: str) -> list[Any]:
    try:
        content = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except binascii.Error as error:
        raise ValueError(cursor) from error
    if not isinstance(content, list):
        raise TypeError(cursor)
    return content


def _part(part: Any, kind: type) -> Any:
    if kind is bool and type(part) is bool:
        return part
    if kind is int and type(part) is int and -FOREVER <= part <= FOREVER:
        return part
    if kind is date and isinstance(part, str):
        return date.fromisoformat(part)
    if kind is UUID and isinstance(part, str):
        return UUID(part)
    if kind is str and isinstance(part, str) and "\0" not in part:
        part.encode()  # a lone surrogate is no text
        return part
    if kind is Decimal and isinstance(part, str) and DECIMAL.fullmatch(part):
        return Decimal(part)
    if kind is datetime and isinstance(part, str):
        moment = datetime.fromisoformat(part)
        if moment.tzinfo is not None and EARLIEST <= moment < LATEST:
            return moment
    raise ValueError(part)


class Part(Protocol):
    """A part of an order."""

    @property
    def sql(self) -> str:
        """The expression that is compared."""

    @property
    def name(self) -> str:
        """The column with its value."""

    @property
    def kind(self) -> Any:
        """The type of its values; by default that of the shape's field."""


@dataclass(frozen=True)
class Pages(Generic[S]):
    """How a query's rows are given out page by page.

    Attributes:
        of: the list; its cursors bear that name.
        shape: of one item.
        order: two expressions, of which the second is unique.
        may_lack: whether the first may be null; rows without it come last, in either direction.
    """

    of: str
    shape: type[S]
    order: tuple[Part, Part]
    is_descending: bool = False
    may_lack: bool = False

    def one(
        self, conn: Connection, select: str, values: Mapping[str, Any], asked: Any
    ) -> tuple[list[S], str | None]:
        """The items of one page, and the cursor of the next one, or None at the end.

        Args:
            select: the query up to and with a WHERE.

        Raises:
            Unanswerable: when the cursor is none of this list.
        """
        return self.send(conn, select, values, asked)()

    def send(
        self,
        conn: Connection,
        select: str,
        values: Mapping[str, Any],
        asked: Any,
        pin: Pin | None = None,
    ) -> Callable[[], tuple[list[S], str | None]]:
        """Send the query; what is returned waits for the page, as of ``one``.

        Args:
            asked: with a cursor and a limit.
            pin: what this page knows, and the next one is to know.

        Raises:
            Unanswerable: when the cursor is none of this list.
        """
        first, second = self.order
        given = {**values, "limit": asked.limit + 1}
        if asked.cursor is not None:
            kinds = [self._kind(by) for by in self.order]
            given["first"], given["second"] = opened(
                self.of, asked.cursor, kinds, may_lack=self.may_lack
            )
            select += f" AND {self._beyond(is_lacking=given['first'] is None)}"
        direction = "DESC" if self.is_descending else "ASC"
        last = " NULLS LAST" if self.may_lack else ""
        select += (
            f" ORDER BY {first.sql} {direction}{last}, {second.sql} {direction} LIMIT %(limit)s"
        )
        cursor = conn.execute(select.encode(), given, prepare=conn.prepare_threshold is not None)

        def page() -> tuple[list[S], str | None]:
            found = cursor.fetchall()
            columns = columns_of(cursor)
            make = maker(self.shape, columns, tuple(by.name for by in self.order))
            more = None
            if len(found) > asked.limit:
                end = found[asked.limit - 1]
                more = closed(self.of, [end[columns.index(by.name)] for by in self.order], pin)
            return [make(row) for row in found[: asked.limit]], more

        return page

    def _kind(self, by: Part) -> Any:
        return by.kind or plain(self.shape.model_fields[by.name].annotation)

    def _beyond(self, *, is_lacking: bool) -> str:
        """The condition of what comes after a cursor, whose first value may be lacking."""
        (first, second), than = self.order, "<" if self.is_descending else ">"
        if is_lacking:
            return f"({first.sql} IS NULL AND {second.sql} {than} %(second)s)"
        beyond = f"({first.sql}, {second.sql}) {than} (%(first)s, %(second)s)"
        return f"({beyond} OR {first.sql} IS NULL)" if self.may_lack else beyond
