"""The answer to a question that cannot be answered."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from projections.asking.shape import Shape
from read_api.files import FORMS


class Problem(BaseModel):
    """RFC 9457: what is wrong, and what to do."""

    type: str = Field(examples=["/problems/invalid"])
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None


class FieldError(Shape):
    """What is wrong with one field."""

    field: str
    message: str


INVALID: dict[int | str, dict[str, Any]] = {
    422: {"model": Problem, "description": "A parameter is wrong; the problem names it."},
    503: {
        "model": Problem,
        "description": "The position asked for is not reached yet, too many questions of this "
        "kind wait, or the database is away.",
    },
}
MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such thing."}
}
NOT_ACCEPTABLE: dict[int | str, dict[str, Any]] = {
    406: {"model": Problem, "description": "The answer does not come in the form asked for."}
}
FILES: dict[int | str, dict[str, Any]] = {
    200: {"content": {media: {"schema": {"type": "string"}} for media in FORMS}}
}
"""The forms of a table beside JSON."""
