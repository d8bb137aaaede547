from datetime import date
from decimal import Decimal
from functools import reduce
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aggregates.base import Refused
from aggregates.company import Company, PipelineUnknown, StageCloses, StageUnknown
from aggregates.opportunity import (
    Opportunity,
    OpportunityClosed,
    OpportunityHasCustomer,
    OpportunityStillOpen,
    QuoteExists,
)
from commands.base import Command
from commands.catalog import CATALOG
from commands.lines import AskedLine
from commands.opportunity import (
    GiveQuote,
    IdentifyCustomer,
    LoseOpportunity,
    MoveStage,
    OpenOpportunity,
    ReopenOpportunity,
    WinOpportunity,
)
from events.company import PipelineDefined, Stage
from events.lines import PricedLine
from events.opportunity import (
    CustomerIdentified,
    OpportunityLost,
    OpportunityOpened,
    OpportunityReopened,
    OpportunityWon,
    QuoteGiven,
    StageMoved,
)
from events.values import Money, StageKind
from tests.aggregates.scenario import context, eur, fold, fresh, given

ACME, OTHER, QUOTE = UUID(int=90), UUID(int=91), UUID(int=92)

opened = OpportunityOpened(title="Pumps", pipeline="sales", stage="discovery", owner="ada")
proposed = StageMoved(previous_stage="discovery", stage="proposal")
won = OpportunityWon(stage="won")
lost = OpportunityLost(stage="lost", reason="price")
acmes = CustomerIdentified(customer_id=ACME)
line = {"product": "pump", "quantity": "3", "unit_price": {"amount": "10.50", "currency": "EUR"}}
closed = pytest.mark.parametrize("how", [won, lost], ids=lambda event: event.event_type)
simplified = PipelineDefined(
    name="sales",
    stages=(
        Stage(key="talks", name="talks", kind=StageKind.OPEN),
        Stage(key="yes", name="yes", kind=StageKind.WON),
        Stage(key="no", name="no", kind=StageKind.LOST),
    ),
)


def test_a_deal_begins_in_the_first_stage_and_belongs_to_the_actor() -> None:
    given().when(OpenOpportunity(title="Pumps"), by="ada").then(opened)


def test_a_deal_is_opened_with_all_that_is_known() -> None:
    fields: dict[str, Any] = {
        "title": "Pumps",
        "pipeline": "contract",
        "stage": "negotiation",
        "customer_id": ACME,
        "owner": "bob",
        "product": "pump",
        "amount": eur("5000.00"),
        "expected_close": date(2026, 6, 30),
    }
    given().when(OpenOpportunity(**fields)).then(OpportunityOpened(**fields))


def test_a_deal_follows_the_pipeline_in_force() -> None:
    given().under(simplified).when(OpenOpportunity(title="Pumps"), by="ada").then(
        opened.model_copy(update={"stage": "talks"})
    )


def test_a_deal_cannot_be_opened_in_an_unknown_pipeline() -> None:
    given().when(OpenOpportunity(title="P", pipeline="space")).refused(PipelineUnknown)


def test_a_deal_cannot_be_opened_in_an_unknown_stage() -> None:
    given().when(OpenOpportunity(title="P", stage="orbit")).refused(StageUnknown)


@pytest.mark.parametrize("stage", ["won", "lost"])
def test_a_deal_cannot_be_opened_closed(stage: str) -> None:
    given().when(OpenOpportunity(title="P", stage=stage)).refused(StageCloses)


def test_a_deals_customer_becomes_known() -> None:
    given(opened).when(IdentifyCustomer(customer_id=ACME)).then(acmes)


def test_a_deals_customer_can_still_become_known_after_it_closed() -> None:
    given(opened, won).when(IdentifyCustomer(customer_id=ACME)).then(acmes)


def test_naming_the_customer_again_changes_nothing() -> None:
    given(opened, acmes).when(IdentifyCustomer(customer_id=ACME)).nothing()


def test_a_deal_does_not_change_its_customer() -> None:
    given(opened, acmes).when(IdentifyCustomer(customer_id=OTHER)).refused(OpportunityHasCustomer)


def test_a_deal_opened_for_a_customer_stays_theirs() -> None:
    theirs = opened.model_copy(update={"customer_id": ACME})
    given(theirs).when(IdentifyCustomer(customer_id=OTHER)).refused(OpportunityHasCustomer)


def test_a_deal_moves_to_another_open_stage() -> None:
    given(opened).when(MoveStage(stage="proposal")).then(proposed)


def test_a_deal_moves_back_too() -> None:
    given(opened, proposed).when(MoveStage(stage="discovery")).then(
        StageMoved(previous_stage="proposal", stage="discovery")
    )


def test_moving_to_where_the_deal_stands_changes_nothing() -> None:
    given(opened, proposed).when(MoveStage(stage="proposal")).nothing()


def test_a_deal_cannot_move_to_an_unknown_stage() -> None:
    given(opened).when(MoveStage(stage="orbit")).refused(StageUnknown)


@pytest.mark.parametrize("stage", ["won", "lost"])
def test_a_deal_is_not_won_or_lost_by_moving(stage: str) -> None:
    given(opened).when(MoveStage(stage=stage)).refused(StageCloses)


@closed
def test_a_closed_deal_does_not_move(how: Any) -> None:
    given(opened, how).when(MoveStage(stage="proposal")).refused(OpportunityClosed)


def test_a_quote_holds_the_total_of_each_line_and_of_all() -> None:
    command = GiveQuote(
        lines=[
            line,
            {**line, "product": "seal", "quantity": "0.333", "discount": "12.5"},
        ],
        valid_until=date(2026, 5, 1),
    )
    lines = (
        PricedLine(**line, total=eur("31.50")),
        PricedLine(
            product="seal",
            quantity=Decimal("0.333"),
            unit_price=eur("10.50"),
            discount=Decimal("12.5"),
            total=eur("3.06"),
        ),
    )
    given(opened).when(command).then(
        QuoteGiven(quote_id=fresh(1), lines=lines, total=eur("34.56"), valid_until=date(2026, 5, 1))
    )


def test_half_a_cent_is_rounded_up() -> None:
    half = AskedLine(product="x", quantity="0.5", unit_price=eur("0.01"))
    assert half.priced().total == eur("0.01")


def test_a_quote_may_be_free_of_charge() -> None:
    free = AskedLine(product="x", quantity="1", unit_price=eur("9"), discount="100")
    assert free.priced().total == eur("0.00")


def test_a_quotes_id_is_taken_once() -> None:
    earlier = QuoteGiven(quote_id=QUOTE, lines=(), total=eur("1.00"))
    command = GiveQuote(quote_id=QUOTE, lines=[line])
    given(opened, earlier).when(command).refused(QuoteExists)


@closed
def test_no_quote_is_given_on_a_closed_deal(how: Any) -> None:
    given(opened, how).when(GiveQuote(lines=[line])).refused(OpportunityClosed)


def test_a_quote_of_two_currencies_is_malformed() -> None:
    dollars = {**line, "unit_price": {"amount": "1", "currency": "USD"}}
    with pytest.raises(ValidationError, match="one currency"):
        GiveQuote(lines=[line, dollars])


@pytest.mark.parametrize(
    ("quantity", "price"),
    [("1", "999999999999999.99"), ("2", "999999999999999.99"), ("999999999999", "999999999999999")],
    ids=["the dearest", "twice the dearest", "beyond all decimals"],
)
def test_a_quote_too_dear_to_be_written_down_never_gets_that_far(quantity: str, price: str) -> None:
    try:
        command = GiveQuote(
            lines=[{"product": "x", "quantity": quantity, "unit_price": eur(price)}]
        )
    except ValidationError:
        return
    decided = given(opened).when(command)
    if decided.refusal is None:
        decided.then(*(decided.events or ()))


def test_a_deal_is_won_with_its_final_amount() -> None:
    given(opened, proposed).when(WinOpportunity(amount=eur("4800"))).then(
        OpportunityWon(stage="won", amount=eur("4800.00"))
    )


def test_a_deal_may_be_won_without_an_amount() -> None:
    given(opened).when(WinOpportunity()).then(won)


def test_a_won_deal_stands_in_its_pipelines_winning_stage() -> None:
    given(opened).under(simplified).when(WinOpportunity()).then(OpportunityWon(stage="yes"))


def test_a_deal_is_lost_with_a_reason() -> None:
    given(opened).when(LoseOpportunity(reason="price", comment="20 % above the others")).then(
        OpportunityLost(stage="lost", reason="price", comment="20 % above the others")
    )


def test_a_lost_deal_stands_in_its_pipelines_losing_stage() -> None:
    given(opened).under(simplified).when(LoseOpportunity(reason="price")).then(
        OpportunityLost(stage="no", reason="price")
    )


@closed
@pytest.mark.parametrize(
    "command", [WinOpportunity(), LoseOpportunity(reason="price")], ids=["won", "lost"]
)
def test_a_deal_is_closed_once(how: Any, command: Command[Any, Any]) -> None:
    given(opened, how).when(command).refused(OpportunityClosed)


@closed
def test_a_reopened_deal_goes_on_where_it_last_stood(how: Any) -> None:
    given(opened, proposed, how).when(ReopenOpportunity(reason="they called")).then(
        OpportunityReopened(stage="proposal", reason="they called")
    )


@closed
def test_a_deal_can_be_reopened_in_another_stage(how: Any) -> None:
    command = ReopenOpportunity(reason="they called", stage="discovery")
    given(opened, proposed, how).when(command).then(
        OpportunityReopened(stage="discovery", reason="they called")
    )


def test_a_reopened_deal_can_be_won() -> None:
    again = OpportunityReopened(stage="discovery", reason="they called")
    given(opened, lost, again).when(WinOpportunity()).then(won)


def test_an_open_deal_cannot_be_reopened() -> None:
    given(opened).when(ReopenOpportunity(reason="they called")).refused(OpportunityStillOpen)


def test_a_deal_is_not_reopened_in_an_unknown_stage() -> None:
    command = ReopenOpportunity(reason="they called", stage="orbit")
    given(opened, lost).when(command).refused(StageUnknown)


def test_a_deal_is_not_reopened_in_a_closing_stage() -> None:
    command = ReopenOpportunity(reason="they called", stage="won")
    given(opened, lost).when(command).refused(StageCloses)


def test_a_deal_whose_stage_is_gone_is_reopened_in_a_named_one_only() -> None:
    past = given(opened, lost).under(simplified)
    past.when(ReopenOpportunity(reason="they called")).refused(StageUnknown)
    past.when(ReopenOpportunity(reason="they called", stage="talks")).then(
        OpportunityReopened(stage="talks", reason="they called")
    )


commands = st.one_of(
    st.builds(MoveStage, stage=st.sampled_from(["discovery", "proposal"])),
    st.just(WinOpportunity()),
    st.just(LoseOpportunity(reason="price")),
    st.just(ReopenOpportunity(reason="they called")),
    st.just(GiveQuote(lines=[line])),
    st.builds(IdentifyCustomer, customer_id=st.sampled_from([ACME, OTHER])),
)


@settings(deadline=None)
@for_all(st.lists(commands, max_size=40))
def test_only_reopening_leads_out_of_a_closed_deal(asked: list[Any]) -> None:
    streams = CATALOG["opportunities"]
    pipeline = Company().pipeline("sales")
    deal: Opportunity = fold(streams, [opened])
    for command in asked:
        try:
            decided = command.decide(deal, context(streams))
        except Refused:
            continue
        after = reduce(streams.evolve, decided, deal)
        if deal.kind is not StageKind.OPEN and after.kind is not deal.kind:
            assert isinstance(decided[0], OpportunityReopened)
        kinds = {stage.name: stage.kind for stage in pipeline.stages}
        assert kinds[after.stage] is after.kind
        assert kinds[after.open_stage] is StageKind.OPEN
        assert deal.customer_id in (None, after.customer_id)
        deal = after


@settings(deadline=None)
@for_all(
    st.lists(
        st.tuples(
            st.decimals("0.001", "9999", places=3),
            st.decimals("0", "99999", places=2),
            st.none() | st.decimals("0", "100", places=2),
        ),
        min_size=1,
        max_size=10,
    )
)
def test_a_quotes_total_is_the_sum_of_what_its_lines_say(
    asked: list[tuple[Decimal, Decimal, Decimal | None]],
) -> None:
    lines = tuple(
        AskedLine(product="x", quantity=q, unit_price=Money(amount=p, currency="EUR"), discount=d)
        for q, p, d in asked
    )
    streams = CATALOG["opportunities"]
    (event,) = GiveQuote(lines=lines).decide(fold(streams, [opened]), context(streams))
    assert event.total.amount == sum(each.total.amount for each in event.lines)
    for each in event.lines:
        full = each.unit_price.amount * each.quantity
        assert each.total.amount <= full + Decimal("0.005")
