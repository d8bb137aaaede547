"""Rows of a read model as they stood at a moment, made of append-only facts.

A common table expression takes the name of the live table, so that the list's own query, its
filters and its order read the past without another word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from projections.asking.clocks import Moment
from projections.engine.tables import Table

EVERY = {
    "version": "max(s.version)",
    "position": "max(s.position)",
    "changed_at": "(array_agg(s.occurred_at ORDER BY s.version DESC))[1]",
}
"""Aggregates for columns of these names: every event has its fact."""


def latest(what: str, among: str) -> str:
    """An aggregate over facts ``s``: what the last of those says that a condition selects."""
    return f"(array_agg({what} ORDER BY s.version DESC) FILTER (WHERE {among}))[1]"


def last_said(*columns: str) -> dict[str, str]:
    """By column, an aggregate over facts ``s``: the last value that one of them names."""
    return {name: latest(f"s.{name}", f"s.{name} IS NOT NULL") for name in columns}


def stood(
    when: Moment,
    table: Table[Any],
    facts: Table[Any],
    said: Mapping[str, str],
    *,
    counts: str,
    there: str,
) -> str:
    """A common table expression for the rows of a table at a moment that is not the present.

    Of what is known at a position alone, a row that no event has changed since is as it was; an
    index on ``position`` finds the others.

    Args:
        facts: whose key begins with that of the table.
        said: by column, an aggregate over the facts ``s`` of a row; other columns never change.
        counts: which facts count.
        there: which rows ``t`` of the table there were.
    """
    same = " AND ".join(
        f"s.{of} = t.{name}" for of, name in zip(facts.key, table.key, strict=False)
    )
    changing = {name: sql for name, sql in EVERY.items() if name in table.columns} | {**said}
    columns = ", ".join(f"{'f' if name in changing else 't'}.{name}" for name in table.columns)
    aggregates = ", ".join(f"{sql} AS {name}" for name, sql in changing.items())
    folded = (
        f"SELECT {columns} FROM {table.name} t CROSS JOIN LATERAL (SELECT {aggregates} "
        f"FROM {facts.name} s WHERE {same} AND {counts}) f WHERE {there}"
    )
    if when.as_of is None:
        # The planner looks into a part of a union, for its indexes, when it has no WHERE.
        every = ", ".join(table.columns)
        folded = (
            f"SELECT {every} FROM (SELECT true AS is_kept, {every} FROM {table.name} UNION ALL "
            f"SELECT false, {folded.removeprefix('SELECT')} AND t.position > %(known_at)s) every "
            "WHERE NOT is_kept OR position <= %(known_at)s"
        )
    return f"{table.name} AS NOT MATERIALIZED ({folded})"
