"""Every read model, and every question that read models answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from events.values import EARLIEST
from projections import (
    customers,
    funnel,
    interactions,
    leads,
    opportunities,
    orders,
    payments,
    promises,
    receivables,
    settings,
    tickets,
    timeline,
    turnover,
    waits,
)
from projections.asking.clocks import Moment
from projections.asking.listing import Question
from projections.engine.model import ReadModel
from projections.engine.tables import Sums

MODELS: tuple[ReadModel, ...] = (
    customers.MODEL,
    leads.MODEL,
    opportunities.MODEL,
    orders.MODEL,
    payments.MODEL,
    promises.MODEL,
    settings.MODEL,
    tickets.MODEL,
    timeline.MODEL,
)
BY_NAME = {model.name: model for model in MODELS}
SEARCH_PATH = ", ".join(model.schema for model in MODELS)
"""Where queries find the live tables; temporary tables of the same name come before them."""
QUESTIONS: tuple[Question[Any, Any], ...] = (
    *customers.QUESTIONS,
    *timeline.QUESTIONS,
    *interactions.QUESTIONS,
    *leads.QUESTIONS,
    *opportunities.QUESTIONS,
    *funnel.QUESTIONS,
    *promises.QUESTIONS,
    *orders.QUESTIONS,
    *receivables.QUESTIONS,
    *turnover.QUESTIONS,
    *payments.QUESTIONS,
    *waits.QUESTIONS,
    *tickets.QUESTIONS,
    *settings.QUESTIONS,
)

READ = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)", re.IGNORECASE)
MOMENTS = (
    Moment(None, None, EARLIEST, EARLIEST.date()),
    Moment(EARLIEST, 0, EARLIEST, EARLIEST.date()),
)
"""The present and a past: the SQL of a list may differ between them."""


def check(models: tuple[ReadModel, ...], questions: tuple[Question[Any, Any], ...]) -> None:
    """Hold the declarations against each other.

    Raises:
        TypeError: saying what does not fit, and what to put where.
    """
    faults = [*_faults_of_tables(models), *_faults_of_sums(models)]
    faults += _faults_of_questions(models, questions)
    if faults:
        raise TypeError("\n".join(faults))


def _faults_of_tables(models: tuple[ReadModel, ...]) -> Iterator[str]:
    owners: dict[str, str] = {}
    for model in models:
        for table in model.tables:
            other = owners.setdefault(table.name, model.name)
            if other != model.name:
                yield (
                    f"The read models {other} and {model.name} both have a table {table.name}: "
                    "give one of them another name, for queries name tables without a schema."
                )


def _faults_of_sums(models: tuple[ReadModel, ...]) -> Iterator[str]:
    for model in models:
        columns = {f"{table.name}.{name}" for table in model.tables for name in table.columns}
        for table in model.tables:
            names = (*table.of, *table.hangs_on) if isinstance(table, Sums) else ()
            for name in names:
                if name not in columns:
                    yield (
                        f"The sums {table.name} of the read model {model.name} follow {name}, "
                        "which is no column of it: name a table and a column, as in "
                        "orders.order_id."
                    )
        for below, level in pairwise(model.sums):
            names = tuple(table.name for table in below)
            for table in level:
                for name in table.of:
                    if name.split(".")[0] not in names:
                        yield (
                            f"The sums {table.name} of the read model {model.name} follow {name} "
                            f"beside other sums: let them follow {' or '.join(names)} alone."
                        )


def _faults_of_questions(
    models: tuple[ReadModel, ...], questions: tuple[Question[Any, Any], ...]
) -> Iterator[str]:
    owners = {table.name: model for model in models for table in model.tables}
    names = Counter(f"name {question.name}" for question in questions)
    paths = Counter(f"path {question.path}" for question in questions)
    for what, number in (names + paths).items():
        if number > 1:
            yield f"{number} questions have the {what}: change one of them."
    for question in questions:
        for model in question.needs:
            if model not in models:
                yield (
                    f"{question.name} needs the read model {model.name}, which nobody builds: "
                    "add it to MODELS in projections/catalog.py."
                )
        read = question.reads
        texts = [] if read is None else [read(when) for when in MOMENTS]
        for table in sorted({name for text in texts for name in READ.findall(text)}):
            owner = owners.get(table)
            if owner is not None and owner not in question.needs:
                file = question.asks.__module__.replace(".", "/")
                yield (
                    f"{question.name} reads the table {table} of the read model {owner.name}: "
                    f"add that model to its `needs` in {file}.py, so that answers wait for it."
                )


check(MODELS, QUESTIONS)
