"""Quotes that were given for deals."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any
from uuid import UUID

from events.values import StoredMoney
from projections.asking.clocks import Moment
from projections.asking.rows import fetch, send
from projections.asking.shape import Shape
from projections.engine.tables import Connection


class QuoteShape(Shape):
    """A quote given."""

    id: UUID
    opportunity_id: UUID
    version: int
    occurred_at: datetime
    given_by: str
    total: StoredMoney
    valid_until: date | None
    lines: list[dict[str, Any]]


QUOTES = """
SELECT quote_id AS id, opportunity_id, version, occurred_at, given_by, total, currency, valid_until,
       lines
  FROM quotes s WHERE opportunity_id {which} ORDER BY {order}
"""
OF_DEAL = QUOTES.format(which="= %(id)s AND {facts}", order="occurred_at, version")
OF_CUSTOMER = QUOTES.format(
    which="IN (SELECT opportunity_id FROM opportunities WHERE customer_id = %(id)s)",
    order="occurred_at DESC, opportunity_id DESC, version DESC",
)


def quotes(conn: Connection, opportunity_id: UUID, when: Moment) -> list[QuoteShape]:
    """Every quote that was given for a deal by a moment, oldest first."""
    of = {**when.values, "id": opportunity_id}
    return fetch(conn, QuoteShape, OF_DEAL.format(facts=when.counts("s")), of)


def send_of_customer(conn: Connection, customer_id: UUID) -> Callable[[], list[QuoteShape]]:
    """Ask for every quote given for a customer's deals, latest first."""
    return send(conn, QuoteShape, OF_CUSTOMER, {"id": customer_id})
