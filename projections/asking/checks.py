"""What a list is held against when it is declared."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import NoneType
from typing import get_args

from events.values import EARLIEST
from projections.asking.clocks import Moment
from projections.asking.pages import Part
from projections.asking.shape import Shape
from projections.asking.sorting import kind_of

NOW = Moment(None, None, EARLIEST, EARLIEST.date())
"""A moment at which everything counts, for SQL that is looked at and not run."""
CLOCKS = frozenset(NOW.values)
"""Values of the moment, which every query may take."""
PLACEHOLDER = re.compile(r"%\((\w+)\)s")


def faults_of_order(
    name: str, shape: type[Shape], order: Iterable[Part], select: str
) -> Iterator[str]:
    """Why pages in this order could not be made, or would lose rows."""
    for by in order:
        field = shape.model_fields.get(by.name)
        if field is None and by.kind is None:
            yield (
                f"{name} is ordered by {by.name}, which is no field of {shape.__name__}: give By "
                "the name of the column and, if no field shows it, its type, as in "
                f"By({by.sql!r}, {by.name!r}, kind=datetime)."
            )
        is_said = f"{by.sql} IS NOT NULL" in select
        if field is not None and NoneType in get_args(field.annotation) and not is_said:
            yield (
                f"{name} is ordered by {by.name}, which may be null, and pages lose rows without "
                f"one: write {by.sql} IS NOT NULL into the query's WHERE where there are none, or "
                f"order by coalesce({by.sql}, …), a column of the query's."
            )


def faults_of_sorts(
    name: str, asks: str, shape: type[Shape], columns: Collection[str]
) -> Iterator[str]:
    """Why a list could not be sorted as it is declared to be."""
    if not columns:
        yield (
            f"{name} does not say by what it may be sorted: write sort: Annotated[Word, "
            f'Sorts("{next(iter(shape.model_fields))}")] = None into {asks}.'
        )
    for column in columns:
        if kind_of(shape, column) is None:
            yield (
                f"{name} is said to be sorted by {column}, which is no field of {shape.__name__} "
                "that has an order: name fields with a text, number, amount or time, and a part "
                "of a part with a dot, as in customer.name."
            )


def faults_of_filters(name: str, filters: Mapping[str, str]) -> Iterator[str]:
    """Which filters take a value that nobody gives."""
    for parameter, sql in filters.items():
        strange = sorted({*PLACEHOLDER.findall(sql)} - {parameter, "id", *CLOCKS})
        if strange:
            yield (
                f"The filter {parameter} of {name} takes %({strange[0]})s, which nobody gives: "
                f"its value is %({parameter})s."
            )
