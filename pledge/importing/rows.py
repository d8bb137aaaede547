"""Rows as every kind of file gives them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from events.texts import tidy


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its first line in the file, 1-based, and its cells by column, without margins.

    `read` is the part of the file that has been read with it, 0 to 1.
    """

    line: int
    read: float
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row that is not as wide as the header, or not text of this encoding."""

    line: int
    read: float
    cells: Sequence[str]
    reason: str


def row_of(
    line: int, read: float, columns: Sequence[str], cells: Sequence[str]
) -> Row | UnreadableRow:
    """The row with these cells, or why it cannot be one."""
    if len(cells) < len(columns) or any(cells[len(columns) :]):
        reason = f"has {len(cells)} cells where there are {len(columns)} columns"
        return UnreadableRow(line, read, cells, reason)
    named = zip(columns, cells, strict=False)
    return Row(line, read, {name: tidy(cell) for name, cell in named if name})
