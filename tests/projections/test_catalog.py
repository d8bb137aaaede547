"""The catalog of questions is held against the read models when it is built."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Any
from uuid import UUID

import pytest

import projections
from events.lead import LeadEvent
from projections import customers, leads, tickets
from projections.asking.listing import By, Listed, Listing, Question, Where
from projections.asking.parameters import Word
from projections.catalog import MODELS, QUESTIONS, check
from projections.engine.model import ReadModel
from projections.engine.tables import Row, Sums, Table


@dataclass(slots=True)
class SightingRow(Row):
    sighting_id: UUID


def sightings(table: str) -> ReadModel:
    return ReadModel(
        "sightings", (Table(table, SightingRow, key=("sighting_id",)),), LeadEvent, leads.apply
    )


def asking(listing: Listing[Any, Any]) -> tuple[Question[Any, Any], ...]:
    return (listing.question(),)


def test_every_list_says_what_it_reads() -> None:
    read = [question.reads for question in QUESTIONS]
    assert len([one for one in read if one is not None]) >= 8
    check(MODELS, QUESTIONS)


def test_a_list_that_joins_a_read_model_must_need_it() -> None:
    hasty = asking(replace(tickets.LIST, needs=(tickets.MODEL,)))
    said = (
        f"{tickets.LIST.name} reads the table customers of the read model customers: "
        r"add that model to its `needs` in projections/tickets\.py"
    )
    with pytest.raises(TypeError, match=said):
        check(MODELS, hasty)
    check(MODELS, asking(tickets.LIST))


def test_a_read_model_that_only_the_past_reads_is_needed_too() -> None:
    hasty = replace(
        leads.LIST,
        select=lambda when: leads.SELECT if when.is_live else f"{leads.SELECT} -- JOIN tickets",
    )
    with pytest.raises(TypeError, match="reads the table tickets of the read model tickets"):
        check(MODELS, asking(hasty))


def test_a_read_model_that_only_a_filter_reads_is_needed_too() -> None:
    class AskLeadsOf(Listed):
        tag: Annotated[
            Word, Where("customer_id IN (SELECT customer_id FROM customers WHERE name = %(tag)s)")
        ] = None

    listing: Any = leads.LIST
    hasty = replace(listing, asks=AskLeadsOf)
    with pytest.raises(TypeError, match="reads the table customers"):
        check(MODELS, asking(hasty))
    check(MODELS, asking(replace(hasty, needs=(leads.MODEL, customers.MODEL))))


def test_a_read_model_that_is_needed_must_be_built() -> None:
    with pytest.raises(TypeError, match=r"needs the read model sightings, .* projections/catalog"):
        check(MODELS, asking(replace(leads.LIST, needs=(leads.MODEL, sightings("sightings")))))


def test_two_read_models_have_no_table_of_one_name() -> None:
    with pytest.raises(TypeError, match="leads and sightings both have a table leads"):
        check((*MODELS, sightings("leads")), QUESTIONS)


@dataclass(slots=True)
class PartyRow(Row):
    host: str
    count: int = 0


def parties(of: str) -> ReadModel:
    sums = Sums("parties", PartyRow, key=("host",), select="", of=(of,))
    tables = (Table("sightings", SightingRow, key=("sighting_id",)), sums)
    return ReadModel("sightings", tables, LeadEvent, leads.apply)


def test_sums_follow_columns_of_their_read_model() -> None:
    check((*MODELS, parties("sightings.sighting_id")), QUESTIONS)
    with pytest.raises(TypeError, match=r"follow sightings\.seer, which is no column of it"):
        check((*MODELS, parties("sightings.seer")), QUESTIONS)


def test_sums_that_follow_themselves_are_refused() -> None:
    assert [table.name for level in parties("sightings.sighting_id").sums for table in level] == [
        "parties"
    ]
    with pytest.raises(TypeError, match="The sums parties follow each other in a circle"):
        assert parties("parties.host").sums


def test_sums_over_sums_follow_these_alone() -> None:
    low = Sums("parties", PartyRow, key=("host",), select="", of=("sightings.sighting_id",))
    sightings = Table("sightings", SightingRow, key=("sighting_id",))

    def made(*of: str) -> ReadModel:
        high = Sums("halls", PartyRow, key=("host",), select="", of=of)
        return ReadModel("sightings", (sightings, low, high), LeadEvent, leads.apply)

    check((*MODELS, made("parties.host")), QUESTIONS)
    with pytest.raises(TypeError, match=r"halls .* follow sightings\.sighting_id beside other"):
        check((*MODELS, made("parties.host", "sightings.sighting_id")), QUESTIONS)


def test_a_list_is_ordered_by_what_is_never_null_so_that_no_page_loses_a_row() -> None:
    with pytest.raises(TypeError, match="list_leads is ordered by claimed_at, which may be null"):
        replace(leads.LIST, order=(By("claimed_at"), By("lead_id", "id")))
    with pytest.raises(TypeError, match="is ordered by colour, which is no field of LeadShape"):
        replace(leads.LIST, order=(By("colour"), By("lead_id", "id")))


def test_a_filter_takes_its_own_value() -> None:
    class AskLeadsOf(Listed):
        campaign: Annotated[Word, Where("campaign = %(champaign)s")] = None

    listing: Any = leads.LIST
    with pytest.raises(TypeError, match=r"filter campaign of list_leads takes %\(champaign\)s"):
        replace(listing, asks=AskLeadsOf)


def test_every_list_and_question_that_is_written_is_asked() -> None:
    told = {question.name for question in QUESTIONS}
    for one in iter_modules(projections.__path__):
        module = import_module(f"projections.{one.name}")
        for found in vars(module).values():
            if isinstance(found, Listing | Question):
                assert found.name in told, (
                    f"{module.__name__} has {found.name}, which nobody can ask: add it to its "
                    "QUESTIONS, and these to the others in projections/catalog.py"
                )


def test_two_questions_have_neither_a_name_nor_a_path_in_common() -> None:
    twice = (leads.LIST.question(), replace(tickets.LIST.question(), path="/leads"))
    with pytest.raises(TypeError, match=r"^2 questions have the path /leads:"):
        check(MODELS, twice)
    named = (leads.LIST.question(), replace(tickets.LIST.question(), name=leads.LIST.name))
    with pytest.raises(TypeError, match=rf"^2 questions have the name {leads.LIST.name}:"):
        check(MODELS, named)
