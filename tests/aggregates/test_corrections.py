"""What was recorded wrongly is corrected, and what somebody held is handed over."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from aggregates.company import RegionNotListed
from aggregates.customer import ContactUnknown
from aggregates.lead import LeadClosed, LeadNotDisqualified, LeadNotQualified
from aggregates.opportunity import OpportunityClosed
from aggregates.order import (
    OrderIsCancelled,
    OrderLineUnknown,
    ProductNotOrdered,
    ReturnedMoreThanOrdered,
    ReturnTooLarge,
)
from aggregates.ticket import TicketHasCustomer
from commands.customer import ChangeContact, LogInteraction, RemoveContact
from commands.lead import ChangeLeadDetails, ConvertLead, HandOverLead, QualifyLead, ReopenLead
from commands.lines import AskedLine, priced
from commands.opportunity import ChangeOpportunityDetails, FollowCustomer, HandOverOpportunity
from commands.order import HandOverOrder, PlaceOrder, ReturnedPart, ReturnGoods
from commands.ticket import IdentifyTicketCustomer
from events.company import ListDefined, ListName
from events.customer import ContactAdded, ContactChanged, ContactRemoved, CustomerRegistered
from events.lead import (
    LeadCaptured,
    LeadClaimed,
    LeadDetailsChanged,
    LeadDisqualified,
    LeadHandedOver,
    LeadQualified,
    LeadReopened,
)
from events.opportunity import (
    OpportunityDetailsChanged,
    OpportunityHandedOver,
    OpportunityLost,
    OpportunityOpened,
)
from events.order import (
    GoodsReturned,
    OrderCancelled,
    OrderCompleted,
    OrderHandedOver,
    OrderLineAdded,
    OrderPlaced,
    ReturnedLine,
)
from events.ticket import TicketCustomerIdentified, TicketOpened
from tests.aggregates.scenario import eur, given

ANN, BEN, CONTACT = UUID(int=1), UUID(int=2), UUID(int=3)
captured = LeadCaptured(name="Grace Hoper")
owned = [captured, LeadClaimed(owner="ada")]
given_up = [*owned, LeadQualified(), LeadDisqualified(reason="no budget")]
opened = OpportunityOpened(
    title="Lomms", pipeline="sales", stage="discovery", owner="ada", customer_id=ANN
)
lost = OpportunityLost(stage="lost", reason="price", customer_id=ANN)
known = [CustomerRegistered(name="Ann"), ContactAdded(contact_id=CONTACT, name="Bea")]


@pytest.mark.parametrize("history", [[captured], owned, given_up])
def test_a_leads_details_are_corrected_whatever_became_of_it(history: list[Any]) -> None:
    given(*history).when(ChangeLeadDetails(name="Grace Hopper", region="north")).then(
        LeadDetailsChanged(name="Grace Hopper", region="north")
    )


def test_a_lead_is_handed_over_or_assigned_from_the_pool() -> None:
    given(*owned).when(HandOverLead(owner="bob", reason="on leave")).then(
        LeadHandedOver(previous_owner="ada", owner="bob", reason="on leave")
    )
    given(captured).when(HandOverLead(owner="bob")).then(LeadHandedOver(owner="bob"))
    given(*owned).when(HandOverLead(owner="ada")).nothing()
    given(*given_up).when(HandOverLead(owner="bob")).refused(LeadClosed)


def test_who_was_handed_a_lead_owns_it() -> None:
    assigned = [captured, LeadHandedOver(owner="bob")]
    given(*assigned).when(QualifyLead()).then(LeadQualified())


def test_a_disqualified_lead_is_reopened_and_qualified_again() -> None:
    given(*given_up).when(ReopenLead(reason="they called")).then(LeadReopened(reason="they called"))
    again = [*given_up, LeadReopened(reason="they called")]
    given(*again).when(ConvertLead()).refused(LeadNotQualified)
    given(*again).when(QualifyLead()).then(LeadQualified())
    given(*owned).when(ReopenLead(reason="-")).refused(LeadNotDisqualified)


def test_an_open_deals_details_are_corrected() -> None:
    given(opened).when(ChangeOpportunityDetails(title="Looms", amount=eur("10"))).then(
        OpportunityDetailsChanged(title="Looms", amount=eur("10"), customer_id=ANN)
    )
    given(opened, lost).when(ChangeOpportunityDetails(title="Looms")).refused(OpportunityClosed)


def test_a_deal_is_handed_over_while_it_is_open() -> None:
    given(opened).when(HandOverOpportunity(owner="bob", reason="left")).then(
        OpportunityHandedOver(previous_owner="ada", owner="bob", reason="left", customer_id=ANN)
    )
    given(opened).when(HandOverOpportunity(owner="ada")).nothing()
    given(opened, lost).when(HandOverOpportunity(owner="bob")).refused(OpportunityClosed)


def test_a_deal_follows_its_customer_while_it_is_open_and_the_former_owners() -> None:
    follow = FollowCustomer(previous_owner="ada", owner="bob", reason="left")
    given(opened).when(follow).then(
        OpportunityHandedOver(previous_owner="ada", owner="bob", reason="left", customer_id=ANN)
    )
    elsewhere = OpportunityHandedOver(previous_owner="ada", owner="eve", customer_id=ANN)
    given(opened, elsewhere).when(follow).nothing()
    given(opened, lost).when(follow).nothing()
    given(opened).when(FollowCustomer(previous_owner="ada", owner="ada")).nothing()


def test_an_order_is_handed_over_also_after_it_is_complete_until_it_is_cancelled() -> None:
    placed = OrderPlaced(customer_id=ANN, owner="ada", total=eur("9"))
    handed = OrderHandedOver(previous_owner="ada", owner="bob", reason="left", customer_id=ANN)
    ask = HandOverOrder(owner="bob", reason="left")
    given(placed).when(ask).then(handed)
    given(placed, OrderCompleted()).when(ask).then(handed)
    given(placed, handed).when(ask).nothing()
    given(placed, handed).when(HandOverOrder(owner="cyd")).then(
        OrderHandedOver(previous_owner="bob", owner="cyd", customer_id=ANN)
    )
    given(placed, OrderCancelled(reason="-")).when(ask).refused(OrderIsCancelled)


def test_an_order_has_a_region_of_the_companys_list() -> None:
    place = PlaceOrder(customer_id=ANN, amount=eur("9"), region="north")
    placed = OrderPlaced(customer_id=ANN, owner="ada", total=eur("9"), region="north")
    given().when(place).then(placed)
    listed = given().under(ListDefined(name=ListName.REGIONS, values=("north",)))
    listed.when(place).then(placed)
    listed.when(place.model_copy(update={"region": "south"})).refused(RegionNotListed)


def test_a_contact_is_changed_and_removed() -> None:
    change = ChangeContact(contact_id=CONTACT, name="Bea Arthur")
    given(*known).when(change).then(ContactChanged(contact_id=CONTACT, name="Bea Arthur"))
    given(*known).when(RemoveContact(contact_id=CONTACT)).then(ContactRemoved(contact_id=CONTACT))
    gone = [*known, ContactRemoved(contact_id=CONTACT)]
    given(*gone).when(change).refused(ContactUnknown)
    given(*gone).when(RemoveContact(contact_id=CONTACT)).refused(ContactUnknown)
    talk = LogInteraction(channel="call", summary="-", contact_id=CONTACT)
    given(*gone).when(talk).refused(ContactUnknown)


def test_a_ticket_gets_its_customer_later_and_keeps_it() -> None:
    unknown = TicketOpened(subject="broken")
    identify = IdentifyTicketCustomer(customer_id=ANN)
    given(unknown).when(identify).then(TicketCustomerIdentified(customer_id=ANN))
    named = [unknown, TicketCustomerIdentified(customer_id=ANN)]
    given(*named).when(identify).nothing()
    given(*named).when(IdentifyTicketCustomer(customer_id=BEN)).refused(TicketHasCustomer)


@pytest.mark.parametrize(
    ("command", "given_alone"),
    [
        (ChangeLeadDetails, {}),
        (ChangeOpportunityDetails, {}),
        (ChangeContact, {"contact_id": CONTACT}),
    ],
)
def test_a_change_of_nothing_is_refused(command: Any, given_alone: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="at least one detail"):
        command(**given_alone)


def line(product: str, quantity: str, price: str) -> AskedLine:
    return AskedLine(product=product, quantity=Decimal(quantity), unit_price=eur(price))


def ordered(*lines: AskedLine) -> OrderPlaced:
    found, total = priced(lines)
    return OrderPlaced(customer_id=ANN, owner="ada", total=total, lines=found)


def returned(*parts: tuple[int, str], amount: str | None = None, **more: Any) -> ReturnGoods:
    given_parts = tuple(ReturnedPart(line=n, quantity=Decimal(q)) for n, q in parts)
    worth = None if amount is None else eur(amount)
    return ReturnGoods(reason="torn", lines=given_parts, amount=worth, **more)


def test_returned_pieces_come_to_their_share_and_all_of_them_to_the_whole_line() -> None:
    """3 x 3.35 less a third: 6.70; its thirds are 2.23, 2.24 and 2.23."""
    discounted = AskedLine(
        product="Loom", quantity=Decimal(3), unit_price=eur("3.35"), discount=Decimal("33.33")
    )
    history: list[Any] = [ordered(discounted, line("Yarn", "2.5", "4"))]
    for amount in ("2.23", "2.24", "2.23"):
        back = ReturnedLine(number=1, product="Loom", quantity=Decimal(1))
        event = GoodsReturned(amount=eur(amount), reason="torn", customer_id=ANN, lines=(back,))
        given(*history).when(returned((1, "1"))).then(event)
        history.append(event)
    given(*history).when(returned((1, "0.001"))).refused(ReturnedMoreThanOrdered)
    given(*history).when(returned((2, "2.5"))).then(
        GoodsReturned(
            amount=eur("10.00"),
            reason="torn",
            customer_id=ANN,
            lines=(ReturnedLine(number=2, product="Yarn", quantity=Decimal("2.5")),),
        )
    )


def test_goods_that_were_never_ordered_or_more_than_were_are_not_returned() -> None:
    history = [
        ordered(line("Loom", "2", "10")),
        OrderLineAdded(line=line("Yarn", "1", "5").priced()),
    ]
    given(*history).when(returned((3, "1"))).refused(OrderLineUnknown)
    given(*history).when(returned((1, "1"), (1, "1.5"))).refused(ReturnedMoreThanOrdered)
    given(*history).when(returned((2, "1"), amount="4", product="Yarn")).then(
        GoodsReturned(
            amount=eur("4"),
            reason="torn",
            product="Yarn",
            customer_id=ANN,
            lines=(ReturnedLine(number=2, product="Yarn", quantity=Decimal(1)),),
        )
    )
    given(*history).when(returned(amount="4", product="Silk")).refused(ProductNotOrdered)
    given(*history).when(returned((1, "2"), amount="26")).refused(ReturnTooLarge)
    whole = OrderPlaced(customer_id=ANN, owner="ada", total=eur("9"))
    given(whole).when(returned(amount="4", product="Silk")).then(
        GoodsReturned(amount=eur("4"), reason="torn", product="Silk", customer_id=ANN)
    )
    with pytest.raises(ValidationError, match="an amount, or lines"):
        returned()
