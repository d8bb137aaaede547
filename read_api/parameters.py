"""What many questions take: filters, pages, positions and the two clocks."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from events import values
from events.values import Instant
from projections.asking.pages import MAX_LIMIT
from read_api.shapes import Problem

Word = Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Cursor = Annotated[
    str | None, Query(max_length=500, pattern=r"^[\w-]*$", description="From a page's next link.")
]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
MinPosition = Annotated[
    int | None,
    Query(ge=0, le=2**62, description="Wait until the answer reflects this position."),
]
Position = Annotated[int | None, Query(ge=0, le=2**62)]
AsOf = Annotated[
    str | None,
    Query(
        max_length=40,
        description="Business time: what occurred before an instant, or up to a date's end.",
        examples=["2026-06-30", "2026-06-30T12:00:00Z"],
    ),
]
KnownAt = Annotated[
    str | None,
    Query(
        max_length=40,
        description="Only what the ledger knew then: a position, an instant or a date.",
        examples=["1284", "2026-06-30"],
    ),
]
Time = Annotated[Instant | None, Query()]
Day = Annotated[values.Day | None, Query()]

INVALID: dict[int | str, dict[str, Any]] = {
    422: {"model": Problem, "description": "A parameter is wrong; the problem names it."},
    503: {
        "model": Problem,
        "description": "The position asked for is not reached yet, or the database is away.",
    },
}
MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such thing."}
}
