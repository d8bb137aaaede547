from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from events.base import REGISTRY, Event, Personal, UnknownEventType
from events.catalog import class_of
from events.lead import LeadCaptured, LeadClaimed

pytestmark = pytest.mark.usefixtures("registry")


def test_an_event_is_found_by_its_name() -> None:
    class PumpStarted(Event, type="pump.started", version=3):
        """It runs."""

    assert class_of("pump.started") is PumpStarted
    assert PumpStarted.event_type == "pump.started"
    assert PumpStarted.schema_version == 3


def test_an_unknown_name_is_an_error_of_its_own() -> None:
    with pytest.raises(UnknownEventType, match=r"pump\.exploded"):
        class_of("pump.exploded")


def test_an_event_without_a_name_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="PumpStarted needs type="):

        class PumpStarted(Event):
            """It runs."""


@pytest.mark.parametrize(
    "name",
    [
        "",
        "pump",
        "Pump.started",
        "pump.Started",
        "pump_x.started",
        "pump.started.twice",
        "pump.",
        ".started",
        "pump.started\n",
        "pump started",
        "1pump.started",
        "pümp.started",
    ],
)
def test_a_malformed_name_is_a_type_error(name: str) -> None:
    with pytest.raises(TypeError, match="needs type="):

        class PumpStarted(Event, type=name):
            """It runs."""

    assert name not in REGISTRY


def test_a_name_is_claimed_once() -> None:
    with pytest.raises(TypeError, match=r"both claim 'lead\.claimed'"):

        class Stolen(Event, type="lead.claimed"):
            """Not this one."""

    assert REGISTRY["lead.claimed"] is LeadClaimed


def test_a_name_is_claimed_once_also_by_a_namesake_elsewhere() -> None:
    body = {"__module__": "elsewhere", "__qualname__": "LeadClaimed", "__annotations__": {}}
    with pytest.raises(TypeError, match="both claim"):
        type(Event)("LeadClaimed", (Event,), body, type="lead.claimed")
    assert REGISTRY["lead.claimed"] is LeadClaimed


def test_a_subclass_of_an_event_needs_a_name_too() -> None:
    with pytest.raises(TypeError, match="needs type="):

        class LeadClaimedTwice(LeadClaimed):
            """A fact of its own has a name of its own."""


@pytest.mark.parametrize("kind", [int, int | None, bytes, UUID, list[str], dict[str, str]])
def test_only_a_text_can_be_personal(kind: Any) -> None:
    with pytest.raises(TypeError, match="size is personal, so it must be a text"):
        type(Event)(
            "ShoeSold",
            (Event,),
            {"__module__": __name__, "__annotations__": {"size": Annotated[kind, Personal()]}},
            type="shoe.sold",
        )


@pytest.mark.parametrize("kind", [str, str | None])
def test_a_text_can_be_personal(kind: Any) -> None:
    sold: Any = type(Event)(
        "ShoeSold",
        (Event,),
        {"__module__": __name__, "__annotations__": {"buyer": Annotated[kind, Personal()]}},
        type="shoe.sold",
    )
    assert sold.personal == {"buyer": None}


def test_a_subject_must_be_a_field_of_the_event() -> None:
    with pytest.raises(TypeError, match="names no field as its subject: 'buyer_id'"):

        class ShoeSold(Event, type="shoe.sold"):
            """To somebody."""

            buyer: Annotated[str, Personal(of="buyer_id")]


def test_a_refused_class_leaves_no_trace() -> None:
    with pytest.raises(TypeError):

        class ShoeSold(Event, type="shoe.sold"):
            """To somebody."""

            size: Annotated[int, Personal()]

    assert "shoe.sold" not in REGISTRY


def test_personal_fields_are_known_by_their_subject() -> None:
    class ShoeSold(Event, type="shoe.sold"):
        """To somebody."""

        buyer_id: UUID
        buyer: Annotated[str, Personal(of="buyer_id")]
        note: Annotated[str | None, Personal()] = None
        size: str

    assert ShoeSold.personal == {"buyer": "buyer_id", "note": None}


def test_a_fact_does_not_change() -> None:
    fact: Any = LeadClaimed(owner="ada")
    with pytest.raises(ValidationError, match="frozen"):
        fact.owner = "bob"


def test_fields_of_a_newer_writer_are_ignored() -> None:
    read = LeadCaptured.model_validate_json('{"name": "Grace", "shoe_size": 38}')
    assert read == LeadCaptured(name="Grace")
    assert "shoe_size" not in read.model_dump()


def test_a_fact_of_validated_values_equals_the_validated_fact() -> None:
    values = {"name": "Grace Hopper", "email": "grace@example.org", "occurred_at": "not a field"}
    fact = LeadCaptured.of(values, source="fair")
    assert fact == LeadCaptured(name="Grace Hopper", email="grace@example.org", source="fair")
    assert (
        fact.model_dump_json() == LeadCaptured.model_validate(fact.model_dump()).model_dump_json()
    )


def test_a_fact_without_a_needed_value_is_not_made() -> None:
    with pytest.raises(KeyError, match="LeadCaptured needs name"):
        LeadCaptured.of({"email": "grace@example.org"})


def test_a_fact_is_not_made_of_what_it_has_no_field_for() -> None:
    with pytest.raises(TypeError, match="LeadCaptured has no field shoe_size"):
        LeadCaptured.of({"name": "Grace Hopper"}, shoe_size=38)
