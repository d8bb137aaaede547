"""Cells of a workbook whose number format shows leading zeros: what is seen is what is meant.

calamine gives values without formats, so the few cells whose format is nothing but zeros are looked
up in the file (ECMA-376, part 1: 18.3.1.4, 18.8.10, 18.8.30).
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, iterparse

Zeros = dict[tuple[int, int], int]
"""By row and column, from 1, to how many digits a number is filled up."""

SUFFIXES = frozenset({".xlsx", ".xlsm"})
ZEROS = re.compile(r"(0{2,})(;.*)?")
CELL = re.compile(r"([A-Z]+)([0-9]+)")


def leading_zeros(path: Path, sheet: str) -> Zeros:
    """The cells of a sheet whose format fills numbers up with zeros; none of other formats.

    None either of a file that is built otherwise than the standard says.
    """
    if path.suffix.lower() not in SUFFIXES:
        return {}
    try:
        with zipfile.ZipFile(path) as book:
            widths = _widths(book)
            return dict(_cells(book, _part(book, sheet), widths)) if widths else {}
    except (LookupError, SyntaxError, ValueError, zipfile.BadZipFile):
        return {}


def _elements(book: zipfile.ZipFile, part: str, name: str) -> Iterator[Element]:
    with book.open(part) as opened:
        for _, element in iterparse(opened):  # noqa: S314 - expat refuses what grows beyond its input
            if element.tag.endswith(f"}}{name}"):
                yield element


def _widths(book: zipfile.ZipFile) -> dict[str, int]:
    """By the index of a style, to how many digits it fills up."""
    part = "xl/styles.xml"
    if part not in book.namelist():
        return {}
    codes = {
        one.get("numFmtId"): one.get("formatCode", "") for one in _elements(book, part, "numFmt")
    }
    for styles in _elements(book, part, "cellXfs"):
        found = (
            (n, ZEROS.fullmatch(codes.get(s.get("numFmtId"), ""))) for n, s in enumerate(styles)
        )
        return {str(n): len(zeros[1]) for n, zeros in found if zeros}
    return {}


def _part(book: zipfile.ZipFile, sheet: str) -> str:
    """The part of the file that holds a sheet."""
    sheets = _elements(book, "xl/workbook.xml", "sheet")
    relation = next((_relation(one) for one in sheets if one.get("name") == sheet), None)
    for one in _elements(book, "xl/_rels/workbook.xml.rels", "Relationship"):
        if one.get("Id") == relation:
            target = one.get("Target", "")
            return target[1:] if target.startswith("/") else f"xl/{target}"
    raise KeyError(f"there is no sheet {sheet!r}")


def _relation(sheet: Element) -> str | None:
    """The id of a sheet's part; in one of two namespaces."""
    return next((value for name, value in sheet.items() if name.endswith("relationships}id")), None)


def _cells(
    book: zipfile.ZipFile, part: str, widths: dict[str, int]
) -> Iterator[tuple[tuple[int, int], int]]:
    for row in _elements(book, part, "row"):
        for cell in row:
            width = widths.get(cell.get("s", ""))
            place = CELL.fullmatch(cell.get("r", ""))
            if width is not None and place is not None:
                column = 0
                for letter in place[1]:
                    column = column * 26 + ord(letter) - ord("A") + 1
                yield (int(place[2]), column), width
        row.clear()
