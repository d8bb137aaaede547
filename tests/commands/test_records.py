"""What a command records is compared with its fields when its class is made."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar
from uuid import UUID

import pytest
from pydantic import BaseModel

from aggregates.lead import Lead
from commands.base import Command, Context, Records, Reference
from commands.catalog import CATALOG
from events.lead import LeadClaimed, LeadEvent
from events.values import Line, Money

EVERY = [command for streams in CATALOG.values() for command in streams.commands.values()]


def made(records: Records[Any], **fields: Any) -> type[Command[Lead, LeadEvent]]:
    """A command of this name and these fields."""

    def decide(_self: Any, _lead: Lead, _context: Context, /) -> list[LeadEvent]:
        return []

    annotations = {"recorded": ClassVar, **fields}
    members = {"decide": decide, "recorded": records, "__annotations__": annotations}
    return type("MarkLead", (Command[Lead, LeadEvent],), {"__module__": __name__, **members})


def test_fields_that_correspond_are_recorded() -> None:
    command: Any = made(Records(LeadClaimed), owner=Line)
    assert command.recorded.of(command(owner="ada")) == LeadClaimed(owner="ada")


def test_a_field_that_the_event_does_not_have_is_refused_with_the_place_to_add_it() -> None:
    said = r"MarkLead\.colour is no field of LeadClaimed: add it there \(events/lead\.py\), or name"
    with pytest.raises(TypeError, match=said):
        made(Records(LeadClaimed), owner=Line, colour=Line)


def test_a_field_that_is_said_to_be_left_out_is_not_recorded() -> None:
    command: Any = made(Records(LeadClaimed, without=("colour",)), owner=Line, colour=Line)
    assert command.recorded.of(command(owner="ada", colour="red")) == LeadClaimed(owner="ada")


def test_a_required_field_that_the_command_does_not_have_is_refused() -> None:
    said = r"LeadClaimed\.owner is required, and MarkLead has no field owner: add it, or name it"
    with pytest.raises(TypeError, match=said):
        made(Records(LeadClaimed))


def test_a_required_field_may_be_derived_and_must_then_be_given() -> None:
    command: Any = made(Records(LeadClaimed, derived=("owner",)))
    assert command.recorded.of(command(), owner="bo") == LeadClaimed(owner="bo")
    with pytest.raises(TypeError, match=r"MarkLead gives LeadClaimed the fields \[\]"):
        command.recorded.of(command())


def test_a_required_field_is_not_recorded_from_one_that_may_be_null() -> None:
    said = r"MarkLead\.owner may be null, which LeadClaimed\.owner does not take"
    with pytest.raises(TypeError, match=said):
        made(Records(LeadClaimed), owner=Line | None)


def test_fields_of_one_name_are_of_one_type() -> None:
    with pytest.raises(TypeError, match=r"MarkLead\.owner may be UUID, which LeadClaimed\.owner"):
        made(Records(LeadClaimed), owner=UUID)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (Records(LeadClaimed, without=("colour",)), "leaves colour out .* has no field colour"),
        (Records(LeadClaimed, derived=("colour",)), "derives LeadClaimed.colour, but LeadClaimed"),
        (Records(LeadClaimed, without=("owner",)), "leaves owner out, but LeadClaimed has"),
    ],
)
def test_a_declaration_names_fields_that_there_are(records: Records[Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        made(records, owner=Line)


@pytest.mark.parametrize("command", EVERY, ids=lambda command: command.__name__)
def test_no_command_records_all_its_fields_without_a_declaration(
    command: type[Command[Any, Any]],
) -> None:
    assert "__dict__" not in command.decide.__code__.co_names


def test_a_reference_names_a_currency_that_is_there() -> None:
    class Part(BaseModel):
        order_id: Annotated[UUID, Reference("order", currency_of="amunt")]
        amount: Money

    with pytest.raises(TypeError, match=r"Part\.order_id must be in the currency of 'amunt'"):

        class PayParts(Command[Any, Any]):
            parts: list[Part]

            def decide(self, _state: Any, _context: Context, /) -> list[Any]:
                return []
