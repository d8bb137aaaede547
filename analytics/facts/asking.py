"""A question about facts: over what, as of when, and the DuckDB session that answers it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import duckdb

from analytics.facts.scope import Basis, OfMoney, OfPurchases, Scope
from analytics.facts.store import Manifest, Store
from analytics.facts.tables import COLUMNS, SHAPE, TABLES
from projections.asking.breaking_off import interruptible
from projections.asking.clocks import Moment, Unanswerable
from projections.asking.listing import Paged
from projections.asking.pages import closed, opened

NUMBERED = frozenset({"position", "place", "rank"})
"""Keys of lists that are whole numbers; the others are texts."""
OF_PURCHASES = ("purchase_changes", "purchase_lines", "credits", "accounts", "tags")
WHENEVER = frozenset({"pipelines", "credits"})
"""What counts as known, whenever it occurred: deals may be imported that are older than a pipeline,
and that a payment is a credit note is so whatever is said to have happened first."""
SQL_TYPES = {
    "int64": "BIGINT",
    "int32": "INTEGER",
    "string": "VARCHAR",
    "bool": "BOOLEAN",
    "date32[day]": "DATE",
    "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
}
Q = TypeVar("Q", bound=Scope)

SCOPED = ("owner", "region", "order_region", "channel", "product", "tag", "currency")
OF_CUSTOMERS = {
    "region": "SELECT customer_id FROM accounts GROUP BY 1 "
    "HAVING arg_max(region, position) = asked().region",
    "channel": "SELECT customer_id FROM accounts GROUP BY 1 "
    "HAVING arg_max(source, position) = asked().channel",
    "tag": "SELECT customer_id FROM tags WHERE tag = asked().tag GROUP BY 1 "
    "HAVING arg_max(kind, position) = 'tagged'",
}
"""By what is asked for, the customers of whom it is true."""
OF_ORDERS = {
    "owner": "order_id IN (SELECT order_id FROM (SELECT order_id, owner, position FROM purchases "
    "UNION ALL SELECT order_id, owner, position FROM purchase_changes WHERE kind = 'handed-over') "
    "GROUP BY 1 HAVING arg_max(owner, position) = asked().owner)",
    "order_region": "region = asked().order_region",
    "product": "order_id IN (SELECT order_id FROM purchase_lines WHERE product = asked().product)",
}
"""By what is asked for, the orders of which it is true."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Facts as they are asked about.

    Attributes:
        manifest: the files that are read.
        when: the two clocks.
        moment: what a caller means by another ``as_of``.
    """

    store: Store
    manifest: Manifest
    when: Moment
    moment: Callable[[str], Moment] | None = None

    def at(self, as_of: str) -> Snapshot:
        """The same facts as of another moment.

        Raises:
            Unanswerable: when that cannot be read.
        """
        assert self.moment is not None
        return replace(self, when=self.moment(as_of))


class NotAnswerable(RuntimeError):
    """Older code wrote the facts, and they lack what the question needs."""


class Session(Generic[Q]):
    """DuckDB on the files of one manifest, as they were at a moment.

    A session on purchases has ``bought``, the purchases that the scope wants, one row for each:
    customer_id, day (of business), amount (of the basis), n (how many orders it merges), position
    (of the first of them), in_window.

    SQL takes a question's own values as parameters, and those of the scope from ``asked()``.

    Attributes:
        scope: what was asked; with its currency, once that is settled.
    """

    def __init__(self, conn: duckdb.DuckDBPyConnection, on: Snapshot, scope: Q) -> None:
        self.conn = conn
        self.on = on
        self.ask(scope)

    def ask(self, scope: Q) -> None:
        """Let this be the scope."""
        self.scope = scope
        when = self.when
        clocks = {"zone": str(when.zone), "as_of": when.as_of, "known_at": when.known_at}
        window = {"start": scope.start, "until": scope.end}
        self.let("asked", {name: getattr(scope, name, None) for name in SCOPED} | window | clocks)

    def let(self, variable: str, value: Any) -> None:
        """Set a variable of the session, for views."""
        self.run(f"SET VARIABLE {variable} = $value", {"value": value})

    @property
    def when(self) -> Moment:
        """The two clocks."""
        return self.on.when

    def run(self, statement: str, values: dict[str, Any] | None = None) -> None:
        """Do what has no answer."""
        self.conn.execute(statement, values or {})

    def rows(self, query: str, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """All rows of an answer, by column."""
        found = self.conn.execute(query, values or {})
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def columns(self, query: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
        """All of an answer as arrays, by column."""
        return self.conn.execute(query, values or {}).fetchnumpy()

    def row(self, query: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
        """The one row of an answer."""
        [found] = self.rows(query, values)
        return found

    def page(
        self, query: str, key: str, asked: Paged, values: dict[str, Any] | None = None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Rows of an answer in the order of a unique column, and the cursor of the next page.

        Raises:
            Unanswerable: when the cursor is none that this kind of question gave.
        """
        of, after = type(asked).__name__, None
        kind = int if key in NUMBERED else str
        if asked.cursor is not None:
            [after] = opened(of, asked.cursor, [kind])
        rows = self.rows(
            f"SELECT * FROM ({query}) WHERE $after IS NULL OR {key} > $after "
            f"ORDER BY {key} LIMIT $limit",
            {**(values or {}), "after": after, "limit": asked.limit + 1},
        )
        more = closed(of, [rows[asked.limit - 1][key]]) if len(rows) > asked.limit else None
        return rows[: asked.limit], more


@contextmanager
def purchases(on: Snapshot, scope: OfPurchases) -> Iterator[Session[OfPurchases]]:
    """A session for one question about purchases.

    Raises:
        Unanswerable: when amounts would be of several currencies.
    """
    with facts(on, scope, ("purchases", *OF_PURCHASES)) as opened:
        settle_currency(opened, "purchases")
        has_notes = opened.row("SELECT count(*) AS n FROM credits")["n"] > 0
        opened.run(_kept(opened, has_notes=has_notes))
        opened.run(_bought(opened.scope))
        yield opened


@contextmanager
def facts(on: Snapshot, scope: Q, tables: Sequence[str]) -> Iterator[Session[Q]]:
    """A session on the facts of these tables that count at the moment.

    Raises:
        NotAnswerable: when code of another version wrote them, and they lack a column.
        TooLarge: when the question takes more than the bounds.
        Damaged: when a file of the facts is.
    """
    if on.manifest.shape != SHAPE:
        _refuse_lacking(on, tables)
    on.store.check(on.manifest, known=False)
    try:
        with on.store.engine.session() as conn, interruptible(conn.interrupt):
            opened = Session(conn, on, scope)
            for table in tables:
                files = [on.store.url(name) for name, _ in on.manifest.files.get(table, ())]
                opened.let(f"files_of_{table}", files)
                opened.run(_facts(table, on.when, is_empty=not files))
            yield opened
    except duckdb.Error:
        on.store.check(on.manifest)
        raise


def _refuse_lacking(on: Snapshot, tables: Sequence[str]) -> None:
    held = on.store.columns(on.manifest)
    for table in tables:
        lacking = {*COLUMNS[table]} - {*held.get(table, COLUMNS[table])}
        if lacking or (on.manifest.columns and table not in held):
            raise NotAnswerable(f"the facts are being written anew, for {table} has changed")


M = TypeVar("M", bound=OfMoney)


def settle_currency(session: Session[M], *tables: str) -> None:
    """Where the scope names no currency, let it be the one that all amounts of the tables have.

    Raises:
        Unanswerable: when they have several.
    """
    if session.scope.currency is not None:
        return
    found = _currencies(session, *tables)
    if len(found) > 1:
        raise Unanswerable("currency", f"must be named, for there are {', '.join(found)}")
    settled = {"currency": found[0] if found else None}
    session.ask(session.scope.model_copy(update=settled))


def currencies(on: Snapshot) -> list[str]:
    """Those in which anything was bought."""
    with facts(on, OfPurchases(), ("purchases",)) as opened:
        return _currencies(opened, "purchases")


def _currencies(session: Session[Any], *tables: str) -> list[str]:
    every = " UNION ALL ".join(f"SELECT currency FROM {table}" for table in tables)
    query = f"SELECT DISTINCT currency FROM ({every}) WHERE currency IS NOT NULL ORDER BY 1"
    return [row["currency"] for row in session.rows(query)]


def _facts(name: str, when: Moment, *, is_empty: bool) -> str:
    """The facts that count at the moment, as a view."""
    if is_empty:
        schema = next(table.schema for table in TABLES if table.name == name)
        columns = ", ".join(f"NULL::{_type(field.type)} AS {field.name}" for field in schema)
        return f"CREATE TEMP VIEW {name} AS SELECT {columns} WHERE false"
    bounds = ["true"]
    if when.known_at is not None:
        bounds.append("position <= asked().known_at")
    if name not in WHENEVER:
        bounds.append("happened(occurred_at)")
    files = f"read_parquet(getvariable('files_of_{name}'))"
    return f"CREATE TEMP VIEW {name} AS SELECT * FROM {files} WHERE {' AND '.join(bounds)}"


def _type(type: Any) -> str:
    text = str(type)
    if text.startswith("decimal128"):
        return text.replace("decimal128", "DECIMAL")
    return SQL_TYPES[text]


def _kept(session: Session[OfPurchases], *, has_notes: bool) -> str:
    """The orders that are purchases, each with its business day and the amount of the basis."""
    scope = session.scope
    chosen = [
        *("is_cancelled IS NOT TRUE", "fits(currency, asked().currency)"),
        *conditions(OF_ORDERS, scope),
        *of_customers(scope),
    ]
    placed = "0" if scope.basis == "received" else "purchases.amount"
    kinds, change = CHANGES[scope.basis]
    notes = "payment_id IN (SELECT payment_id FROM credits)" if has_notes else "false"
    # What is allocated has the order's currency since that is a rule; older events may not.
    select = f"""
SELECT *, in_window(day) AS in_window
  FROM (SELECT position, occurred_at, order_id, customer_id, business_day(occurred_at) AS day,
               {placed} + coalesce(change, 0) AS amount
          FROM purchases LEFT JOIN (
               SELECT order_id, bool_or(kind = 'cancelled') AS is_cancelled, {change} AS change
                 FROM (SELECT *, coalesce({notes}, false) AS is_note FROM purchase_changes)
                WHERE kind IN {("cancelled", *kinds)}
                  AND (currency IS NULL OR fits(currency, asked().currency))
                GROUP BY order_id
          ) USING (order_id)
         WHERE {" AND ".join(chosen)})
"""
    # What of a credit note is for no order is of no one rep's or product's orders either.
    is_of_orders = bool(conditions(OF_ORDERS, scope))
    if scope.basis != "net" or not has_notes or is_of_orders or scope.currency is None:
        return f"CREATE TEMP VIEW kept AS {select}"
    return f"CREATE TEMP VIEW sold AS {select}; {CREDITED}"


def _bought(scope: OfPurchases) -> str:
    """The table that questions ask."""
    if not scope.merge_by_day:
        return """
CREATE TEMP VIEW bought AS
SELECT customer_id, day, amount, 1 AS n, position, in_window FROM kept
"""
    return """
CREATE TEMP VIEW bought AS
SELECT customer_id, day, sum(amount) AS amount, count(*)::INTEGER AS n, min(position) AS position,
       any_value(in_window) AS in_window
  FROM kept GROUP BY customer_id, day
"""


def conditions(known: Mapping[str, str], scope: Scope) -> list[str]:
    """Of some conditions, by what they are about, those that the scope asks for."""
    return [sql for name, sql in known.items() if getattr(scope, name, None) is not None]


def of_customers(scope: Scope) -> list[str]:
    """That a row's customer is one whom the scope wants."""
    return [f"customer_id IN ({query})" for query in conditions(OF_CUSTOMERS, scope)]


CREDITED = """
CREATE TEMP VIEW kept AS
WITH moment AS (
    SELECT customer_id, occurred_at, max(position) AS position FROM sold GROUP BY ALL
), begun AS (
    SELECT customer_id, arg_min(position, occurred_at) AS position FROM moment GROUP BY ALL
), used AS (
    SELECT payment_id, sum(CASE kind WHEN 'allocated' THEN amount ELSE -amount END) AS amount
      FROM purchase_changes WHERE kind IN ('allocated', 'released') GROUP BY payment_id
), rest AS (
    SELECT customer_id, occurred_at, c.amount - coalesce(used.amount, 0) AS amount
      FROM credits c LEFT JOIN used USING (payment_id)
     WHERE currency = asked().currency AND happened(occurred_at)
), credited AS (
    SELECT coalesce(moment.position, begun.position) AS position, sum(rest.amount) AS credit
      FROM rest ASOF LEFT JOIN moment
           ON rest.customer_id = moment.customer_id AND rest.occurred_at >= moment.occurred_at
      JOIN begun ON begun.customer_id = rest.customer_id
     GROUP BY ALL
)
SELECT sold.* REPLACE (amount - coalesce(credit, 0) AS amount)
  FROM sold LEFT JOIN credited USING (position)
"""
"""A credit note makes the orders less that it is for; what of it is for none, the purchase that it
followed, or else the customer's first one."""
LINES_ADDED = "coalesce(sum(amount) FILTER (kind = 'line-added'), 0)"
ALLOCATED = "CASE kind WHEN 'allocated' THEN amount WHEN 'released' THEN -amount END"
CAME_BACK = """
greatest(sum(amount) FILTER (kind = 'returned'),
         sum(amount) FILTER (kind = 'refunded' AND NOT is_note), 0)
"""
NOTED = f"coalesce(sum({ALLOCATED}) FILTER (is_note), 0)"
CHANGES: dict[Basis, tuple[tuple[str, ...], str]] = {
    "ordered": (("line-added",), LINES_ADDED),
    "received": (("allocated", "released"), f"sum({ALLOCATED}) FILTER (NOT is_note)"),
    "net": (
        ("line-added", "returned", "refunded", "allocated", "released"),
        f"{LINES_ADDED} - {CAME_BACK} - {NOTED}",
    ),
}
"""By basis, the kinds of changes that count, and by how much they change an order's amount."""
