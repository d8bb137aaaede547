"""A figure says what it reads, and a figure that does not is refused when it is declared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analytics.catalog import BY_NAME, FIGURES, check
from analytics.figure import Chart


def test_a_figure_needs_facts_that_there_are() -> None:
    said = "The figure leads needs the facts lead, which there are not; analytics/facts/tables.py"
    with pytest.raises(TypeError, match=said):
        replace(BY_NAME["leads"], tables=("lead", "deals"))


def test_a_figure_without_tables_is_one_of_purchases() -> None:
    with pytest.raises(TypeError, match="AskLeads is no subclass of OfPurchases or OfLives"):
        replace(BY_NAME["leads"], tables=())


def test_two_figures_have_neither_a_name_nor_an_operation_in_common() -> None:
    check(FIGURES)
    twice = replace(BY_NAME["leads"], name="tickets")
    with pytest.raises(TypeError, match=r"^2 figures have the name tickets: change one of them"):
        check([twice, BY_NAME["tickets"]])
    twice = replace(BY_NAME["leads"], operation=BY_NAME["tickets"].operation)
    with pytest.raises(TypeError, match=r"^2 figures have the operation"):
        check([twice, BY_NAME["tickets"]])


@pytest.mark.parametrize(
    ("chart", "strange"),
    [
        (Chart("colour", ("leads",)), "colour"),
        (Chart("group", ("leeds",)), "leeds"),
        (Chart("group", ("leads.amount",)), "amount"),
        (Chart("group", ("leads",), by="month"), "month"),
        (Chart("group", ("leads",), rows=("rows",)), "rows"),
    ],
)
def test_a_chart_draws_fields_of_the_figures_rows(chart: Chart, strange: str) -> None:
    with pytest.raises(TypeError, match=f"chart of leads draws {strange}, which is no field of"):
        replace(BY_NAME["leads"], chart=chart)
