"""Quotes that were given for deals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from events.values import Money
from projections.asking.rows import fetch
from projections.asking.shape import Shape
from projections.engine.tables import Connection


class QuoteShape(Shape):
    """A quote given."""

    id: UUID
    opportunity_id: UUID
    version: int
    occurred_at: datetime
    given_by: str
    total: Money
    valid_until: date | None
    lines: list[dict[str, Any]]


QUOTES_OF = """
SELECT quote_id AS id, opportunity_id, version, occurred_at, given_by, total, currency, valid_until,
       lines
  FROM quotes WHERE opportunity_id = ANY (%(ids)s) ORDER BY occurred_at, opportunity_id, version
"""


def quotes(conn: Connection, opportunity_ids: Sequence[UUID]) -> list[QuoteShape]:
    """Every quote given for these deals, oldest first."""
    return fetch(conn, QuoteShape, QUOTES_OF, {"ids": list(opportunity_ids)})
