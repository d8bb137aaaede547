"""The facts of every noun, by the type of its streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from events.envelope import Recorded
from projections.engine.tables import Row
from projections.facts import (
    companies,
    customers,
    leads,
    opportunities,
    orders,
    payments,
    tickets,
)

FACTS: dict[str, Callable[[Recorded], Sequence[Row]]] = {
    "company": companies.facts,
    "customer": customers.facts,
    "lead": leads.facts,
    "opportunity": opportunities.facts,
    "order": orders.facts,
    "payment": payments.facts,
    "ticket": tickets.facts,
}


def facts(recorded: Recorded) -> Sequence[Row]:
    """What an event says, in rows of its noun."""
    return FACTS[recorded.stream_type](recorded)
