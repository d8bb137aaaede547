"""Types of what may be asked for, and what is made of it for SQL."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from events import values
from events.values import Instant

Word = Annotated[
    str | None,
    Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$"),
    BeforeValidator(values.tidied),
]
Amount = Annotated[Decimal | None, Field(ge=0, lt=10**18, max_digits=24, decimal_places=6)]
Days = Annotated[int | None, Field(ge=0, le=36_600)]
Time = Instant | None
Day = values.Day | None
UUID_TEXT = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
UUIDS = f"{UUID_TEXT}(,{UUID_TEXT}){{0,99}}"


def _uuids(text: str) -> str:
    if not re.fullmatch(UUIDS, text):
        raise PydanticCustomError("ids", "must be 1 to 100 ids with commas between them")
    return text


Ids = Annotated[
    Annotated[
        str, AfterValidator(_uuids), WithJsonSchema({"type": "string", "pattern": f"^{UUIDS}$"})
    ]
    | None,
    Field(description="Only these, with commas between them; at most a hundred."),
]


def each(ids: str) -> list[UUID]:
    """The ids that a text names."""
    return [UUID(one) for one in ids.split(",")]


def containing(text: str) -> str:
    """A pattern of LIKE that finds any part of a text."""
    return "%" + re.sub(r"([\\%_])", r"\\\1", text) + "%"
