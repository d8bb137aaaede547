"""A question about facts: over what, as of when, and the DuckDB session that answers it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

import duckdb

from analytics.store import Manifest, Store
from analytics.tables import TABLES
from projections.asking import Moment, Unanswerable

THREADS = 2
Basis = Literal["ordered", "received", "net"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which purchases a question is about, and what counts as one.

    Attributes:
        when: the two clocks.
        zone: of business days, by its IANA name.
        start: the window's first business day, if it has one.
        end: the business day after the window's last one, if it has one.
        merge_by_day: whether a customer's purchases of one day count as one.
        basis: what a purchase's amount is: ``ordered``, what the order came to; ``received``, what
            was paid for it; ``net``, what was ordered less what came back, be it goods or money.
        currency: of amounts; None where the purchases have but one.
        owner: the rep of the order.
        product: on one of the order's lines.
    """

    when: Moment
    zone: str = "UTC"
    start: date | None = None
    end: date | None = None
    merge_by_day: bool = False
    basis: Basis = "ordered"
    currency: str | None = None
    owner: str | None = None
    product: str | None = None

    def told(self) -> dict[str, Any]:
        """The parameters as an answer names them."""
        return {
            "from": self.start,
            "to": self.end,
            "merge_by_day": self.merge_by_day,
            "basis": self.basis,
            "currency": self.currency,
            "owner": self.owner,
            "product": self.product,
            "time_zone": self.zone,
        }


class Session:
    """DuckDB on the files of one manifest, with ``bought``, the purchases that the scope wants.

    ``bought`` has one row for each: customer_id, day (of business), amount (of the basis), n (how
    many orders it merges), position (of the first of them), in_window.
    """

    def __init__(self, conn: duckdb.DuckDBPyConnection, scope: Scope) -> None:
        self._conn = conn
        self.scope = scope

    def run(self, statement: str, values: dict[str, Any] | None = None) -> None:
        """Do what has no answer."""
        self._conn.execute(statement, values or {})

    def rows(self, query: str, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """All rows of an answer, by column."""
        found = self._conn.execute(query, values or {})
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def row(self, query: str, values: dict[str, Any] | None = None) -> dict[str, Any]:
        """The one row of an answer."""
        [found] = self.rows(query, values)
        return found


@contextmanager
def session(store: Store, manifest: Manifest, scope: Scope) -> Iterator[Session]:
    """A session for one question.

    Raises:
        Unanswerable: when amounts would be of several currencies.
    """
    with duckdb.connect() as conn:
        conn.execute(
            f"SET threads = {THREADS}; SET TimeZone = 'UTC'; SET enable_progress_bar = false"
        )
        if not store.is_local:
            conn.register_filesystem(store.fs)
        for table in TABLES:
            files = [store.url(name) for name, _ in manifest.files.get(table.name, ())]
            conn.execute(_facts(table.name, files, scope.when))
        chosen = _with_one_currency(conn, scope)
        conn.execute(_kept(chosen))
        conn.execute(_bought(chosen))
        yield Session(conn, chosen)


def _facts(name: str, files: Sequence[str], when: Moment) -> str:
    """The facts that count at the moment, as a view."""
    if not files:
        schema = next(table.schema for table in TABLES if table.name == name)
        columns = ", ".join(f"NULL::{_type(field.type)} AS {field.name}" for field in schema)
        return f"CREATE VIEW {name} AS SELECT {columns} WHERE false"
    listed = ", ".join(map(_text, files))
    bounds = []
    if when.known_at is not None:
        bounds.append(f"position <= {when.known_at}")
    if when.as_of is not None:
        bounds.append(f"occurred_at < TIMESTAMPTZ '{when.as_of.isoformat()}'")
    where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
    return f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{listed}]){where}"


def _type(type: Any) -> str:
    text = str(type)
    if text.startswith("decimal128"):
        return text.replace("decimal128", "DECIMAL")
    return {"int64": "BIGINT", "string": "VARCHAR"}.get(text, "TIMESTAMPTZ")


def _with_one_currency(conn: duckdb.DuckDBPyConnection, scope: Scope) -> Scope:
    if scope.currency is not None:
        return scope
    found = conn.execute("SELECT DISTINCT currency FROM purchases ORDER BY 1").fetchall()
    if len(found) > 1:
        there = ", ".join(row[0] for row in found)
        raise Unanswerable("currency", f"must be named, for there are purchases in {there}")
    return replace(scope, currency=found[0][0] if found else None)


def _kept(scope: Scope) -> str:
    """The orders that are purchases, each with its business day and the amount of the basis."""
    chosen = ["is_cancelled IS NOT TRUE"]
    if scope.currency is not None:
        chosen.append(f"currency = {_text(scope.currency)}")
    if scope.owner is not None:
        chosen.append(f"owner = {_text(scope.owner)}")
    if scope.product is not None:
        lines = f"SELECT order_id FROM purchase_lines WHERE product = {_text(scope.product)}"
        chosen.append(f"order_id IN ({lines})")
    window = ["true"]
    if scope.start is not None:
        window.append(f"day >= DATE '{scope.start}'")
    if scope.end is not None:
        window.append(f"day < DATE '{scope.end}'")
    placed = "0" if scope.basis == "received" else "purchases.amount"
    kinds, change = CHANGES[scope.basis]
    return f"""
CREATE VIEW kept AS
SELECT *, {" AND ".join(window)} AS in_window
  FROM (SELECT position, order_id, customer_id, {_day(scope.zone)} AS day,
               {placed} + coalesce(change, 0) AS amount
          FROM purchases LEFT JOIN (
               SELECT order_id, bool_or(kind = 'cancelled') AS is_cancelled, {change} AS change
                 FROM purchase_changes WHERE kind IN {("cancelled", *kinds)} GROUP BY order_id
          ) USING (order_id)
         WHERE {" AND ".join(chosen)})
"""


def _bought(scope: Scope) -> str:
    """The table that questions ask."""
    if not scope.merge_by_day:
        return """
CREATE VIEW bought AS
SELECT customer_id, day, amount, 1 AS n, position, in_window FROM kept
"""
    return """
CREATE VIEW bought AS
SELECT customer_id, day, sum(amount) AS amount, count(*)::INTEGER AS n, min(position) AS position,
       any_value(in_window) AS in_window
  FROM kept GROUP BY customer_id, day
"""


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _day(zone: str) -> str:
    if zone == "UTC":
        return "DATE '1970-01-01' + (epoch_us(occurred_at) // 86400000000)::INTEGER"
    return f"timezone({_text(zone)}, occurred_at)::DATE"


LINES_ADDED = "coalesce(sum(amount) FILTER (kind = 'line-added'), 0)"
RECEIVED = "sum(CASE kind WHEN 'allocated' THEN amount WHEN 'released' THEN -amount END)"
CAME_BACK = """
greatest(sum(amount) FILTER (kind = 'returned'), sum(amount) FILTER (kind = 'refunded'), 0)
"""
CHANGES: dict[Basis, tuple[tuple[str, ...], str]] = {
    "ordered": (("line-added",), LINES_ADDED),
    "received": (("allocated", "released"), RECEIVED),
    "net": (("line-added", "returned", "refunded"), f"{LINES_ADDED} - {CAME_BACK}"),
}
"""By basis, the kinds of changes that count, and by how much they change an order's amount."""
