"""Every read model of the product."""

from __future__ import annotations

from projections import (
    customers,
    leads,
    opportunities,
    orders,
    payments,
    promises,
    tickets,
    timeline,
)
from projections.engine.model import ReadModel

MODELS: tuple[ReadModel, ...] = (
    customers.MODEL,
    leads.MODEL,
    opportunities.MODEL,
    orders.MODEL,
    payments.MODEL,
    promises.MODEL,
    tickets.MODEL,
    timeline.MODEL,
)
BY_NAME = {model.name: model for model in MODELS}
SEARCH_PATH = ", ".join(model.schema for model in MODELS)
"""Where queries find the live tables; temporary tables of the same name come before them."""
