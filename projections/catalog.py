"""Every read model, and every question that read models answer."""

from __future__ import annotations

from typing import Any

from projections import (
    customers,
    funnel,
    leads,
    opportunities,
    orders,
    payments,
    promises,
    receivables,
    tickets,
    timeline,
    turnover,
)
from projections.asking.listing import Question
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
QUESTIONS: tuple[Question[Any, Any], ...] = (
    *customers.QUESTIONS,
    *timeline.QUESTIONS,
    *leads.QUESTIONS,
    *opportunities.QUESTIONS,
    *funnel.QUESTIONS,
    *promises.QUESTIONS,
    *orders.QUESTIONS,
    *receivables.QUESTIONS,
    *turnover.QUESTIONS,
    *payments.QUESTIONS,
    *tickets.QUESTIONS,
)
