from functools import reduce
from typing import Any
from uuid import UUID

from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from aggregates.base import Refused
from aggregates.lead import (
    Lead,
    LeadAlreadyQualified,
    LeadClosed,
    LeadNotQualified,
    LeadOwned,
    LeadUnowned,
    Status,
)
from commands.catalog import CATALOG
from commands.lead import (
    CaptureLead,
    ClaimLead,
    ConvertLead,
    DisqualifyLead,
    QualifyLead,
    ReturnLead,
)
from events.lead import (
    LeadCaptured,
    LeadClaimed,
    LeadConverted,
    LeadDisqualified,
    LeadQualified,
    LeadReturned,
)
from tests.aggregates.scenario import context, eur, fold, fresh, given

CUSTOMER = UUID(int=77)
DEAL = UUID(int=78)

captured = LeadCaptured(name="Grace Hopper")
claimed = LeadClaimed(owner="ada")
qualified = LeadQualified(budget=eur("1000.00"))
disqualified = LeadDisqualified(reason="no budget")
converted = LeadConverted(
    customer_id=CUSTOMER, new_customer=False, opportunity_id=fresh(1), new_opportunity=True
)
in_the_pool = [captured]
owned = [captured, claimed]
worth_a_deal = [*owned, qualified]
given_up = [*owned, disqualified]
won = [*worth_a_deal, converted]


def test_a_lead_is_captured_with_all_that_is_known_of_it() -> None:
    details = {
        "name": "Grace Hopper",
        "email": "grace@example.com",
        "phone": "+1 555 0100",
        "need": "A compiler\nby Friday",
        "company": "Navy",
        "source": "fair",
        "campaign": "spring",
        "region": "east",
        "industry": "defence",
        "owner": "ada",
    }
    given().when(CaptureLead(**details)).then(LeadCaptured(**details))


def test_a_lead_captured_without_an_owner_lies_in_the_pool() -> None:
    given().when(CaptureLead(name="Grace Hopper")).then(captured)
    assert fold(CATALOG["leads"], in_the_pool).owner is None


def test_whoever_claims_a_lead_from_the_pool_owns_it() -> None:
    given(*in_the_pool).when(ClaimLead(), by="ada").then(claimed)


def test_claiming_ones_own_lead_changes_nothing() -> None:
    given(*owned).when(ClaimLead(), by="ada").nothing()


def test_a_lead_of_another_rep_cannot_be_claimed() -> None:
    given(*owned).when(ClaimLead(), by="bob").refused(LeadOwned)


def test_a_lead_captured_for_a_rep_is_theirs_from_the_start() -> None:
    given(LeadCaptured(name="G", owner="bob")).when(ClaimLead(), by="ada").refused(LeadOwned)


def test_a_lead_given_up_cannot_be_claimed() -> None:
    given(*given_up).when(ClaimLead(), by="ada").refused(LeadClosed)


def test_a_converted_lead_cannot_be_claimed() -> None:
    given(*won).when(ClaimLead(), by="bob").refused(LeadClosed)


def test_a_lead_returns_to_the_pool_with_a_reason() -> None:
    given(*owned).when(ReturnLead(reason="on leave")).then(
        LeadReturned(previous_owner="ada", reason="on leave")
    )


def test_a_returned_lead_can_be_claimed_by_another() -> None:
    back = LeadReturned(previous_owner="ada", reason="on leave")
    given(*owned, back).when(ClaimLead(), by="bob").then(LeadClaimed(owner="bob"))


def test_a_lead_in_the_pool_cannot_be_returned() -> None:
    given(*in_the_pool).when(ReturnLead(reason="on leave")).refused(LeadUnowned)


def test_a_closed_lead_cannot_be_returned() -> None:
    given(*given_up).when(ReturnLead(reason="on leave")).refused(LeadClosed)


def test_an_owned_lead_is_qualified_with_its_budget() -> None:
    command = QualifyLead(budget=eur("1000"), note="signed off by finance")
    given(*owned).when(command).then(
        LeadQualified(budget=eur("1000.00"), note="signed off by finance")
    )


def test_a_lead_may_be_qualified_before_its_budget_is_known() -> None:
    given(*owned).when(QualifyLead()).then(LeadQualified())


def test_a_lead_without_an_owner_cannot_be_qualified() -> None:
    given(*in_the_pool).when(QualifyLead()).refused(LeadUnowned)


def test_a_lead_is_qualified_once() -> None:
    given(*worth_a_deal).when(QualifyLead()).refused(LeadAlreadyQualified)


def test_a_closed_lead_cannot_be_qualified() -> None:
    given(*given_up).when(QualifyLead()).refused(LeadClosed)


def test_a_lead_is_given_up_with_a_reason() -> None:
    command = DisqualifyLead(reason="no budget", note="call again next year")
    given(*worth_a_deal).when(command).then(
        LeadDisqualified(reason="no budget", note="call again next year")
    )


def test_a_lead_in_the_pool_can_be_given_up() -> None:
    given(*in_the_pool).when(DisqualifyLead(reason="no budget")).then(disqualified)


def test_a_lead_is_given_up_once() -> None:
    given(*given_up).when(DisqualifyLead(reason="no budget")).refused(LeadClosed)


def test_a_converted_lead_cannot_be_given_up() -> None:
    given(*won).when(DisqualifyLead(reason="no budget")).refused(LeadClosed)


def test_a_qualified_lead_becomes_a_new_customer_with_a_deal() -> None:
    given(*worth_a_deal).when(ConvertLead()).then(
        LeadConverted(
            customer_id=fresh(1), new_customer=True, opportunity_id=fresh(2), new_opportunity=True
        )
    )


def test_a_qualified_lead_becomes_a_deal_of_a_known_customer() -> None:
    given(*worth_a_deal).when(ConvertLead(customer_id=CUSTOMER)).then(converted)


def test_a_qualified_lead_becomes_part_of_a_deal_known_already() -> None:
    given(*worth_a_deal).when(ConvertLead(customer_id=CUSTOMER, opportunity_id=DEAL)).then(
        LeadConverted(
            customer_id=CUSTOMER, new_customer=False, opportunity_id=DEAL, new_opportunity=False
        )
    )


def test_a_lead_that_is_not_qualified_cannot_be_converted() -> None:
    given(*owned).when(ConvertLead()).refused(LeadNotQualified)


def test_a_lead_is_converted_once() -> None:
    given(*won).when(ConvertLead()).refused(LeadClosed)


def test_a_lead_given_up_cannot_be_converted() -> None:
    given(*given_up).when(ConvertLead()).refused(LeadClosed)


commands = st.sampled_from(
    [
        ClaimLead(),
        ReturnLead(reason="on leave"),
        QualifyLead(),
        DisqualifyLead(reason="no budget"),
        ConvertLead(),
    ]
)


@settings(deadline=None)
@for_all(st.lists(st.tuples(commands, st.sampled_from(["ada", "bob"])), max_size=30))
def test_nothing_more_ever_happens_to_a_closed_lead(asked: list[tuple[Any, str]]) -> None:
    streams = CATALOG["leads"]
    lead: Lead = fold(streams, in_the_pool)
    for command, by in asked:
        closed = lead.status in (Status.DISQUALIFIED, Status.CONVERTED)
        try:
            decided = command.decide(lead, context(streams, by))
        except Refused:
            continue
        assert not closed
        assert len(decided) <= 1
        lead = reduce(streams.evolve, decided, lead)
