"""The catalog of commands is held against itself when it is built."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from inspect import isclass
from pkgutil import iter_modules
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel

import commands
from aggregates.lead import Lead
from commands.base import Command, Context, Reference
from commands.catalog import CATALOG, Streams, check
from commands.lead import ClaimLead
from events.lead import LeadEvent

LEADS: Streams[Any, Any] = CATALOG["leads"]


class Visited(BaseModel):
    """Somebody who was visited."""

    customer_id: Annotated[UUID, Reference("custmer")]


class VisitLead(Command[Lead, LeadEvent]):
    """Visit a lead."""

    rep_id: Annotated[UUID, Reference("rep")]
    visited: tuple[Visited, ...] = ()

    def decide(self, lead: Lead, context: Context, /) -> list[LeadEvent]:
        return lead.claim(context.actor.id)


def test_a_reference_leads_to_a_kind_of_stream_that_there_is() -> None:
    visiting = replace(LEADS, commands={**LEADS.commands, "visit": VisitLead})
    with pytest.raises(TypeError) as refused:
        check({**CATALOG, "leads": visiting})
    first, second = str(refused.value).splitlines()
    assert first.startswith("VisitLead.rep_id refers to a stream of type 'rep', which commands/")
    assert second.startswith("VisitLead.visited.customer_id refers to a stream of type 'custmer'")
    assert second.endswith(
        "it has " + ", ".join(sorted(s.stream_type for s in CATALOG.values())) + "."
    )


def test_what_must_be_in_a_streams_currency_has_a_rule_for_others() -> None:
    orders = replace(CATALOG["orders"], other_currency=None)
    with pytest.raises(TypeError) as refused:
        check({**CATALOG, "orders": orders})
    fields = [
        fault.partition(" must be in the currency of its order")[0]
        for fault in str(refused.value).splitlines()
    ]
    assert fields == ["ReceivePayment.allocations.order_id", "AllocatePayment.allocations.order_id"]


def test_what_creates_a_stream_is_one_of_its_commands() -> None:
    with pytest.raises(TypeError, match="leads are created by 'grow', which is none of their"):
        check({**CATALOG, "leads": replace(LEADS, creates="grow")})


def test_what_can_be_created_can_exist_already() -> None:
    with pytest.raises(TypeError, match="leads need both `creates` and `exists`"):
        check({**CATALOG, "leads": replace(LEADS, exists=None)})


def test_commands_of_two_nouns_have_two_names() -> None:
    class ClaimCustomer(ClaimLead):
        """Claim a lead, under the name of another command."""

    claiming = replace(LEADS, commands={**LEADS.commands, "claim": ClaimCustomer})
    with pytest.raises(TypeError, match="ClaimCustomer is both customers/claim and leads/claim"):
        check({**CATALOG, "leads": claiming})


def test_a_command_has_one_place() -> None:
    taking = replace(LEADS, commands={**LEADS.commands, "take": ClaimLead})
    with pytest.raises(TypeError, match="ClaimLead is both leads/claim and leads/take"):
        check({**CATALOG, "leads": taking})


def test_every_command_that_is_written_can_be_given() -> None:
    given = {command for streams in CATALOG.values() for command in streams.commands.values()}
    written = {
        found
        for one in iter_modules(commands.__path__)
        if one.name != "base"
        for found in vars(import_module(f"commands.{one.name}")).values()
        if isclass(found) and issubclass(found, Command) and found is not Command
    }
    left_out = {cls.__name__ for cls in written - given - {cls.__base__ for cls in written}}
    assert not left_out, f"add to commands/catalog.py: {', '.join(sorted(left_out))}"
