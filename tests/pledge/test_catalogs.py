"""What can be created can be read; a question that is missing is said when the product starts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, cast

import pytest
from fastapi import FastAPI

from commands.catalog import CATALOG
from pledge.catalogs import check
from read_api.app import install
from read_api.reading import Reader


@cache
def routes() -> list[Any]:
    """Those of the read API, as no reader answers them."""
    return list(install(FastAPI(), cast("Reader", None)))


def test_every_kind_of_stream_can_be_read() -> None:
    check(CATALOG, routes())


def test_a_kind_of_stream_without_a_question_is_refused_with_the_place_to_add_it() -> None:
    sightings = replace(CATALOG["leads"], stream_type="sighting")
    said = (
        r"GET /sightings/\{id\} has to be a question named 'one_sighting', .*, and is None: "
        r"add it to QUESTIONS in projections/sightings\.py\."
    )
    with pytest.raises(TypeError, match=said):
        check({**CATALOG, "sightings": sightings}, routes())


def test_the_question_has_the_name_that_answers_link_to() -> None:
    named = replace(CATALOG["leads"], stream_type="prospect")
    with pytest.raises(TypeError, match=r"'one_prospect', .* and is 'one_lead'"):
        check({**CATALOG, "leads": named}, routes())
