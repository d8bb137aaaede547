"""A figure, declared once: what may be asked, the facts, the typed rows, how it is drawn.

Routes, OpenAPI, JSON, CSV, Parquet, the command line and charts are made from the declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from types import GenericAlias
from typing import Any, Generic, TypeVar, get_args

from pydantic import create_model
from pydantic.fields import FieldInfo

from analytics.facts.asking import Session, Snapshot, facts, purchases
from analytics.facts.scope import OfLives, OfPurchases, Scope, parameters
from analytics.facts.tables import TABLES
from projections.asking.listing import Paged
from projections.asking.rows import plain
from projections.asking.shape import Shape, made

Q = TypeVar("Q", bound=Scope)
S = TypeVar("S", bound=Shape)

NAMES = frozenset(table.name for table in TABLES)
"""Of the tables of facts."""


@dataclass(frozen=True, slots=True)
class Chart:
    """How a figure is drawn: its rows, what stands along it, what is measured.

    Attributes:
        rows: where in the answer the rows are.
        by: the other axis of a map of shades; None for bars.
    """

    x: str
    y: tuple[str, ...]
    rows: tuple[str, ...] = ("items",)
    by: str | None = None


class Told(Shape):
    """What every figure says of itself, beside its parameters."""

    position: int
    as_of: datetime | None
    known_at: int | None
    today: date


@dataclass(frozen=True, kw_only=True)
class Figure(Generic[Q, S]):
    """A figure, or the list behind one.

    Attributes:
        name: under ``/analytics/``, and on the command line.
        operation: its name in the OpenAPI document.
        says: one sentence about the answer.
        asks: what may be asked.
        row: the shape of a row; of the whole answer where ``is_one``.
        answer: called with a session and what was asked: the rows; with the cursor of the next page
            where it is a list; the one row where ``is_one``.
        tables: the facts that it needs; without them it is one of purchases, whose session has the
            views ``kept`` and ``bought``.
        head: what the answer says before its rows, beside ``Told`` and the parameters.
        heads: makes that.
        is_one: whether the answer is one row.
        is_ranked: whether a cursor is a place and no key, so that the next page is to be one of the
            very same list.
    """

    name: str
    operation: str
    says: str
    asks: type[Q]
    row: type[S]
    answer: Callable[..., Any]
    tables: tuple[str, ...] = ()
    head: type[Shape] | None = None
    heads: Callable[..., Shape] | None = None
    is_one: bool = False
    is_ranked: bool = False
    chart: Chart | None = None

    def __post_init__(self) -> None:
        """Check what the declaration says of the facts that are read.

        Raises:
            TypeError: saying what does not fit.
        """
        strange = sorted({*self.tables} - NAMES)
        if strange:
            raise TypeError(
                f"The figure {self.name} needs the facts {', '.join(strange)}, which there are "
                f"not; analytics/facts/tables.py has {', '.join(sorted(NAMES))}."
            )
        if not self.tables and not issubclass(self.asks, OfPurchases | OfLives):
            raise TypeError(
                f"The figure {self.name} names no tables, so it is one of purchases, and "
                f"{self.asks.__name__} is no subclass of OfPurchases or OfLives: "
                "name the facts that it reads in `tables`."
            )
        if self.chart is not None:
            self._check(self.chart)

    def _check(self, chart: Chart) -> None:
        row = self.shape
        for name in chart.rows:
            held = plain(self._field(row, name).annotation)
            [row] = get_args(held) or [held]
        for name in (chart.x, *chart.y, *([chart.by] if chart.by else [])):
            at: Any = row
            for part in name.split("."):
                at = plain(self._field(at, part).annotation)

    def _field(self, shape: Any, name: str) -> FieldInfo:
        fields: dict[str, FieldInfo] = getattr(shape, "model_fields", {})
        found = {held.alias or own: held for own, held in fields.items()}.get(name)
        if found is None:
            raise TypeError(
                f"The chart of {self.name} draws {name}, which is no field of {shape.__name__}: "
                "name fields of its rows, those inside others with a dot, as in amount.amount."
            )
        return found

    @cached_property
    def shape(self) -> type[Shape]:
        """Of the whole answer."""
        name = "".join(word.title() for word in self.operation.split("_"))
        told = create_model(f"{name}Told", __base__=Told, parameters=(parameters(self.asks), ...))
        # The fields of the last base come first.
        bases: tuple[type[Shape], ...] = (*([self.head] if self.head else []), told)
        fields: dict[str, Any] = {}
        if self.is_one:
            bases = (self.row, *bases)
        else:
            fields = {"items": (GenericAlias(list, self.row), ...), "next": (str | None, ...)}
        return create_model(f"{name}Figure", __base__=bases, __doc__=self.says, **fields)

    def asked(self, on: Snapshot, asked: Q, position: int) -> Shape:
        """The whole answer; ``next`` is the cursor of the next page.

        Args:
            position: that the answer reflects.

        Raises:
            Unanswerable: when the question cannot be answered as put.
        """
        asked.check()
        with self._session(on, asked) as session:
            found = self.answer(session, asked)
            head = [] if self.heads is None else [self.heads(session, asked)]
            told = made(
                Told,
                {
                    "position": position,
                    "as_of": on.when.as_of,
                    "known_at": on.when.known_at,
                    "today": on.when.today,
                },
            )
            settled = {"currency": getattr(session.scope, "currency", None)}
            given = {n: settled.get(n, value) for n, value in asked.told().items()}
            more: dict[str, Any] = {
                "parameters": made(parameters(self.asks), {**given, "time_zone": str(on.when.zone)})
            }
        if self.is_one:
            return self.shape.of(told, *head, found, **more)
        items, cursor = found if Paged in self.asks.__mro__ else (found, None)
        return self.shape.of(told, *head, **more, items=items, next=cursor)

    @contextmanager
    def _session(self, on: Snapshot, asked: Q) -> Iterator[Session[Any]]:
        if self.tables:
            with facts(on, asked, self.tables) as opened:
                yield opened
            return
        assert isinstance(asked, OfPurchases | OfLives)
        scope = asked.purchases() if isinstance(asked, OfLives) else asked
        with purchases(on, scope) as bought:
            yield bought
