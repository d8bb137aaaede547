"""What holds for every aggregate after any events whatever, also those no command would decide."""

from dataclasses import FrozenInstanceError, fields, is_dataclass
from functools import reduce
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from commands.catalog import CATALOG, Streams, rules
from events.base import Event
from events.catalog import EVENTS
from tests.aggregates.scenario import fold
from tests.events.examples import events_of

every_aggregate = pytest.mark.parametrize("plural", CATALOG)


def union_of(streams: Streams[Any, Any]) -> tuple[type[Event], ...]:
    """The events that a stream's evolve takes."""
    return get_args(get_type_hints(streams.evolve)["event"])


def histories(streams: Streams[Any, Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.one_of([events_of(cls) for cls in union_of(streams)]), max_size=12)


@every_aggregate
@settings(deadline=None, max_examples=30)
@for_all(st.data())
def test_evolve_takes_every_event_in_every_state(plural: str, data: st.DataObject) -> None:
    streams = CATALOG[plural]
    state = fold(streams, data.draw(histories(streams)))
    for cls in union_of(streams):
        after = streams.evolve(state, data.draw(events_of(cls)))
        assert type(after) is type(streams.blank)


@every_aggregate
@settings(deadline=None, max_examples=30)
@for_all(st.data())
def test_no_decision_rests_on_personal_data(plural: str, data: st.DataObject) -> None:
    streams = CATALOG[plural]
    history = data.draw(histories(streams))
    others = [
        event.model_copy(
            update={
                name: f"other than {value}"
                for name in event.personal
                if (value := getattr(event, name)) is not None
            }
        )
        for event in history
    ]
    assert fold(streams, others) == fold(streams, history)


@every_aggregate
@settings(deadline=None, max_examples=30)
@for_all(st.data())
def test_evolving_leaves_the_state_before_as_it_was(plural: str, data: st.DataObject) -> None:
    streams = CATALOG[plural]
    past, then = data.draw(histories(streams)), data.draw(histories(streams))
    state = fold(streams, past)
    reduce(streams.evolve, then, state)
    assert state == fold(streams, past)


def test_every_event_belongs_to_exactly_one_kind_of_stream() -> None:
    owned = [cls for streams in CATALOG.values() for cls in union_of(streams)]
    assert sorted(cls.event_type for cls in owned) == sorted(c.event_type for c in EVENTS)


@every_aggregate
def test_events_are_named_after_their_stream(plural: str) -> None:
    for cls in union_of(CATALOG[plural]):
        assert cls.event_type.partition(".")[0] == CATALOG[plural].stream_type


@every_aggregate
def test_a_state_cannot_be_changed_in_place(plural: str) -> None:
    blank = CATALOG[plural].blank
    assert is_dataclass(blank)
    with pytest.raises(FrozenInstanceError):
        setattr(blank, fields(blank)[0].name, None)


def test_every_refusal_says_why_in_one_sentence() -> None:
    assert len(rules()) > 20
    for rule in rules():
        assert rule.__doc__, rule.__name__
        assert rule().detail.endswith("."), rule.__name__
        assert rule().rule == rule.__name__
