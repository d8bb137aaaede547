"""A figure says what it reads, and a figure that does not is refused when it is declared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analytics.catalog import BY_NAME


def test_a_figure_needs_facts_that_there_are() -> None:
    said = "The figure leads needs the facts lead, which there are not; analytics/facts/tables.py"
    with pytest.raises(TypeError, match=said):
        replace(BY_NAME["leads"], tables=("lead", "deals"))


def test_a_figure_without_tables_is_one_of_purchases() -> None:
    with pytest.raises(TypeError, match="AskLeads is no subclass of OfPurchases or OfLives"):
        replace(BY_NAME["leads"], tables=())
