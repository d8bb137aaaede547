"""The catalog of events is checked when it is built: every stored version can be read."""

from __future__ import annotations

import pytest

from events.base import REGISTRY, Event
from events.catalog import EVENTS, check
from events.upcasters import UPCASTERS


def test_a_version_to_which_no_upcaster_leads_is_refused_with_the_place_to_add_it() -> None:
    said = (
        r"lead\.converted has a version 2, to which nothing leads from version 1: "
        r'add UPCASTERS\[\("lead\.converted", 1\)\] to events/upcasters\.py'
    )
    check(EVENTS, UPCASTERS)
    with pytest.raises(TypeError, match=said):
        check(EVENTS, {})


@pytest.mark.parametrize("step", [("lead.convertd", 1), ("lead.converted", 2), ("lead.claimed", 1)])
def test_an_upcaster_that_leads_nowhere_is_refused(step: tuple[str, int]) -> None:
    with pytest.raises(TypeError, match="leads to a version that no event has"):
        check(EVENTS, {**UPCASTERS, step: dict})


def test_an_event_type_begins_with_the_noun_of_its_module() -> None:
    class CustomerVisited(Event, type="customer.visited-by-a-lead"):
        """An event of leads that bears the name of another stream's."""

        __module__ = "events.lead"

    try:
        with pytest.raises(TypeError, match=r"events/lead\.py has the type .*: begin it with 'lea"):
            check([*EVENTS, CustomerVisited], UPCASTERS)
    finally:
        del REGISTRY["customer.visited-by-a-lead"]
