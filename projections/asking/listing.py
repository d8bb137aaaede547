"""A question, and a list, declared once: what may be asked, the SQL, the shape of the answer.

Routes, OpenAPI, the refusal of unknown parameters, pages, JSON, CSV and Parquet are made from the
declarations (``read_api.listing``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from projections.asking.checks import NOW, faults_of_filters, faults_of_order, faults_of_sorts
from projections.asking.clocks import Moment, Unanswerable
from projections.asking.pages import LIMIT, MAX_LIMIT, Pages, Part
from projections.asking.parameters import Word
from projections.asking.shape import CountedPage, Page, PageAt, Shape
from projections.asking.sorting import SORTED_BY, Column, sorts_of
from projections.asking.view import View
from projections.engine.model import ReadModel
from projections.engine.tables import Connection


@dataclass(frozen=True, slots=True)
class Where:
    """The condition that a parameter adds to a list's query, while it is given.

    Attributes:
        sql: with the parameter's value as ``%(name)s``.
        value: makes the value that SQL takes; by default it is the parameter's own.
    """

    sql: str
    value: Callable[[Any], Any] | None = None


class Asked(BaseModel):
    """What may be asked of every question."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_position: Annotated[
        int | None,
        Field(ge=0, le=2**62, description="Wait until the answer reflects this position."),
    ] = None

    def check(self) -> None:
        """Refuse what no answer could be given to, before anything is waited for or read.

        Raises:
            Unanswerable: naming the parameter.
        """


class AskedAt(Asked):
    """What may be asked of every question about a moment."""

    as_of: Annotated[
        str | None,
        Field(
            max_length=40,
            description="Business time: what occurred before an instant, or up to a date's end.",
            examples=["2026-06-30", "2026-06-30T12:00:00Z"],
        ),
    ] = None
    known_at: Annotated[
        str | None,
        Field(
            max_length=40,
            description="Only what the ledger knew then: a position, an instant or a date.",
            examples=["1284", "2026-06-30"],
        ),
    ] = None


class Paged(BaseModel):
    """What may be asked of everything that comes page by page."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cursor: Annotated[
        str | None,
        Field(
            max_length=2_000,
            pattern=r"^[\w-]*$",
            description="The cursor of the next page, from a page's `next`.",
        ),
    ] = None
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = LIMIT


class Listed(Asked, Paged):
    """What may be asked of every list."""


class Sorted(Asked):
    """What may be asked of lists that are tables to look at.

    A list marks with ``Sorts`` by which of its columns.
    """

    sort: Annotated[Word, Field(description="By a column; with - the other way round.")] = None


class Turned(Sorted):
    """What may be asked of lists that begin with what came first."""

    newest_first: Annotated[bool, Field(description="The other way round: the latest first.")] = (
        False
    )

    def check(self) -> None:
        """See ``Asked``."""
        if self.newest_first and self.sort is not None:
            raise Unanswerable("newest_first", f"goes without sort: write sort=-{self.sort}")


class ListedAt(Listed, AskedAt):
    """What may be asked of every list about a moment."""


class TurnedAt(ListedAt, Turned):
    """What may be asked of such lists about a moment."""


class Counted(TurnedAt):
    """What may be asked of every list that is cheap to count."""

    count: Annotated[bool, Field(description="Also give the number of all items of the list.")] = (
        False
    )


Q = TypeVar("Q", bound=Asked)
L = TypeVar("L", bound=Listed)
S = TypeVar("S", bound=Shape)
A = TypeVar("A", bound=Shape)


@dataclass(frozen=True, kw_only=True)
class Question(Generic[Q, A]):
    """Something that may be asked with GET.

    Attributes:
        path: with ``{id}`` where it is about one thing.
        name: of the operation in the OpenAPI document.
        tag: its chapter there.
        says: one sentence about the answer.
        asks: what may be asked.
        shape: of the answer.
        needs: the read models that it reads.
        answer: called with the view, then the id where the path has one, then what was asked;
            None where there is no such thing.
        reads: the SQL that the answer may run, where it is known before it is asked; the catalog
            holds it against ``needs``.
    """

    path: str
    name: str
    tag: str
    says: str
    asks: type[Q]
    shape: type[A]
    needs: tuple[ReadModel, ...]
    answer: Callable[..., A | None]
    reads: Callable[[Moment], str] | None = None

    @property
    def is_about_one(self) -> bool:
        """Whether the path holds an id."""
        return "{id}" in self.path


class By(NamedTuple):
    """A part of a list's order.

    Attributes:
        sql: the expression that is compared.
        column: of the rows, with its value; by default called as the end of the expression.
        kind: of its values; by default that of the shape's field.
    """

    sql: str
    column: str = ""
    kind: type | None = None

    @property
    def name(self) -> str:
        """The column."""
        return self.column or self.sql.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Listing(Generic[L, S]):
    """A list, page by page.

    Attributes:
        path, name, tag, says, asks, needs: as of ``Question``.
        shape: of one item.
        select: the query up to and with a WHERE; made anew for each moment.
        order: two expressions, of which the second is unique.
        whose: a query that is empty where there is no such thing as a path's id names.

    Raises:
        TypeError: when the order or a filter does not fit; it says what to write.
    """

    path: str
    name: str
    tag: str
    says: str
    asks: type[L]
    shape: type[S]
    needs: tuple[ReadModel, ...]
    select: Callable[[Moment], str]
    order: tuple[By, By]
    is_descending: bool = False
    whose: str | None = None

    def __post_init__(self) -> None:
        """Refuse an order that would lose rows, and filters whose SQL takes unknown values."""
        select, wheres = self.select(NOW), _wheres(self.asks)
        faults = [
            *faults_of_order(self.name, self.shape, self.order, select),
            *faults_of_filters(self.name, {name: where.sql for name, where in wheres.items()}),
        ]
        if issubclass(self.asks, Sorted):
            sorts = sorts_of(self.asks)
            faults += faults_of_sorts(self.name, self.asks.__name__, self.shape, sorts)
        if faults:
            raise TypeError("\n".join(faults))

    @property
    def _has_clocks(self) -> bool:
        return issubclass(self.asks, AskedAt)

    def page(self, view: View, *about: UUID | L) -> Page[S] | None:
        """One page; ``next`` is the cursor of the next one.

        Args:
            about: the id where the path has one, then what was asked.

        Raises:
            Unanswerable: when the cursor is none of this list.
        """
        *ids, asked = about
        assert isinstance(asked, self.asks)
        of = {"id": ids[0]} if ids else {}
        if self.whose is not None:
            given = {**view.when.values, **of}
            found = view.conn.execute(self.whose.encode(), given).fetchone()
            if found is None:
                return None
        items, more = self.rows(view.conn, view.when, asked, **of)
        if isinstance(asked, Counted) and asked.count:
            count = self.count(view.conn, view.when, asked, **of)
            return CountedPage.of(view.head_at, items=items, next=more, count=count)
        if self._has_clocks:
            return PageAt.of(view.head_at, items=items, next=more)
        return Page.of(view.head, items=items, next=more)

    def count(self, conn: Connection, when: Moment, asked: L, **of: Any) -> int:
        """How many items there are on all pages."""
        conditions, given = chosen(asked)
        every = " AND ".join([self.select(when), *conditions])
        sql = f"SELECT count(*) FROM ({every}) every"
        row = conn.execute(sql.encode(), {**when.values, **of, **given}).fetchone()
        assert row is not None
        return int(row[0])

    def rows(
        self, conn: Connection, when: Moment, asked: L, **of: Any
    ) -> tuple[list[S], str | None]:
        """The items of one page, and the cursor of the next one, or None at the end."""
        return self.send(conn, when, asked, **of)()

    def send(
        self, conn: Connection, when: Moment, asked: L, **of: Any
    ) -> Callable[[], tuple[list[S], str | None]]:
        """Send the query for a page; what is returned waits for it, as of ``rows``."""
        conditions, given = chosen(asked)
        select = " AND ".join([self.select(when), *conditions])
        values = {**when.values, **of, **given}
        is_turned = isinstance(asked, Turned) and asked.newest_first
        sort = _sort(asked)
        name = f"{self.name} turned" if is_turned else self.name
        if sort is None:
            is_descending = self.is_descending or is_turned
            pages = Pages(name, self.shape, self.order, is_descending=is_descending)
        else:
            select, pages = self._sorted(select, sort)
        return pages.send(conn, select, values, asked, when.pin)

    def _sorted(self, select: str, sort: str) -> tuple[str, Pages[S]]:
        """The query and its pages by one of its columns, then by what is unique in its order."""
        name, is_descending = sort.removeprefix("-"), sort.startswith("-")
        of, last = f"{self.name} by {sort}", self.order[1]
        if name == self.order[0].name:  # which has an index, and is never null
            return select, Pages(of, self.shape, self.order, is_descending=is_descending)
        by = Column.of(self.shape, name)
        order: tuple[Part, Part] = (by, By(f'x."{last.name}"', last.name, last.kind))
        query = f'SELECT x.*, {by.sql} AS "{SORTED_BY}" FROM ({select}) x WHERE true'
        return query, Pages(of, self.shape, order, is_descending=is_descending, may_lack=True)

    def question(self) -> Question[L, Page[S]]:
        """The list as a question."""
        pages: Any = PageAt if self._has_clocks else Page
        if issubclass(self.asks, Counted):
            pages = CountedPage
        return Question(
            path=self.path,
            name=self.name,
            tag=self.tag,
            says=self.says,
            asks=self.asks,
            shape=pages[self.shape],
            needs=self.needs,
            answer=self.page,
            reads=self._sql,
        )

    def _sql(self, when: Moment) -> str:
        """The list's SQL with the condition of every parameter."""
        conditions = [where.sql for where in _wheres(self.asks).values()]
        return " AND ".join([self.select(when), *conditions, self.whose or ""])


def _sort(asked: Asked) -> str | None:
    return asked.sort if isinstance(asked, Sorted) else None


def chosen(asked: BaseModel) -> tuple[list[str], dict[str, Any]]:
    """The conditions of the parameters that are given, and those parameters' values by name."""
    conditions, given = [], {}
    for name, where in _wheres(type(asked)).items():
        value = asked.__dict__[name]
        if value is not None:
            conditions.append(where.sql)
            given[name] = value if where.value is None else where.value(value)
    return conditions, given


@lru_cache
def _wheres(asks: type[BaseModel]) -> Mapping[str, Where]:
    return {
        name: mark
        for name, field in asks.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Where)
    }
