"""Rows as every kind of file gives them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from events.texts import tidy


class Inexact(str):
    """A number of more digits than a workbook keeps."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its first line in the file, 1-based, and its cells by column, without margins.

    `read` is the part of the file that has been read with it, 0 to 1; `swallowed` the number of
    lines within its cells that look like rows of their own; `inexact` are numbers, by column, that
    the file does not hold exactly.
    """

    line: int
    read: float
    cells: Mapping[str, str]
    swallowed: int = 0
    inexact: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row that is not as wide as the header, or not text of this encoding."""

    line: int
    read: float
    cells: Sequence[str]
    reason: str


def fits(cells: Sequence[str], width: int) -> bool:
    """Whether these are the cells of a row so wide; empty ones may follow."""
    return len(cells) >= width and not any(map(tidy, cells[width:]))


def row_of(
    line: int, read: float, columns: Sequence[str], cells: Sequence[str], swallowed: int = 0
) -> Row | UnreadableRow:
    """The row with these cells, or why it cannot be one."""
    if not fits(cells, len(columns)):
        reason = f"has {len(cells)} cells where there are {len(columns)} columns"
        return UnreadableRow(line, read, cells, reason)
    named = {name: cell for name, cell in zip(columns, cells, strict=False) if name}
    inexact = {name: cell for name, cell in named.items() if type(cell) is Inexact}
    tidied = {name: tidy(cell) for name, cell in named.items()}
    return Row(line, read, tidied, swallowed, inexact or None)
