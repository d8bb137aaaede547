from uuid import UUID

import pytest
from pydantic import ValidationError

from aggregates.base import CurrencyDiffers
from aggregates.order import (
    AmountTooLarge,
    OrderInOrder,
    OrderIsCancelled,
    OrderIsComplete,
    PlanDoesNotAddUp,
    ReturnTooLarge,
)
from commands.lines import AskedLine
from commands.order import (
    AddOrderLine,
    CancelOrder,
    CompleteOrder,
    DisputeOrder,
    HoldOrder,
    InstalmentAsked,
    PlaceOrder,
    PlanPayments,
    ResolveOrder,
    ReturnGoods,
    ShipOrder,
)
from events.lines import PricedLine
from events.order import (
    GoodsReturned,
    Instalment,
    OrderCancelled,
    OrderCompleted,
    OrderDisputed,
    OrderHeld,
    OrderLineAdded,
    OrderPlaced,
    OrderResolved,
    OrderShipped,
    PaymentsPlanned,
)
from events.values import Money
from tests.aggregates.scenario import eur, given

CUSTOMER = UUID(int=7)
placed = OrderPlaced(customer_id=CUSTOMER, owner="ada", total=eur("100.00"))
cancelled = OrderCancelled(reason="changed their mind", customer_id=CUSTOMER)


def asked(quantity: str, price: str, discount: str | None = None) -> AskedLine:
    return AskedLine.model_validate(
        {
            "product": "sensor",
            "quantity": quantity,
            "unit_price": {"amount": price, "currency": "EUR"},
            "discount": discount,
        }
    )


def line(quantity: str, price: str, total: str, discount: str | None = None) -> PricedLine:
    return PricedLine.model_validate(
        {**asked(quantity, price, discount).model_dump(), "total": eur(total)}
    )


def instalments(*parts: tuple[str, str]) -> list[dict[str, object]]:
    return [{"due": due, "amount": eur(amount).model_dump()} for due, amount in parts]


def plan(*parts: tuple[str, str]) -> PlanPayments:
    asked = [InstalmentAsked.model_validate(part) for part in instalments(*parts)]
    return PlanPayments(instalments=tuple(asked))


def planned(*parts: tuple[str, str]) -> PaymentsPlanned:
    return PaymentsPlanned(
        instalments=tuple(Instalment.model_validate(part) for part in instalments(*parts))
    )


def test_an_order_is_worth_what_its_lines_are_worth() -> None:
    lines = (asked("3", "33.335"[:5], None), asked("2", "10.00", "12.5"))
    given().when(PlaceOrder(customer_id=CUSTOMER, lines=lines, number="A-1")).then(
        OrderPlaced(
            customer_id=CUSTOMER,
            owner="ada",
            number="A-1",
            lines=(line("3", "33.33", "99.99"), line("2", "10.00", "17.50", "12.5")),
            total=eur("117.49"),
        )
    )


def test_an_order_without_lines_is_worth_what_is_said() -> None:
    given().when(PlaceOrder(customer_id=CUSTOMER, amount=eur("100"), owner="ben")).then(
        OrderPlaced(customer_id=CUSTOMER, owner="ben", total=eur("100.00"))
    )


@pytest.mark.parametrize("both", [True, False])
def test_an_order_has_either_lines_or_an_amount(both: bool) -> None:
    with pytest.raises(ValidationError, match="either lines or an amount"):
        PlaceOrder(
            customer_id=CUSTOMER,
            lines=(asked("1", "1.00"),) if both else (),
            amount=eur("1") if both else None,
        )


def test_lines_of_two_currencies_make_no_order() -> None:
    yen = AskedLine.model_validate(
        {"product": "sensor", "quantity": "1", "unit_price": {"amount": "5", "currency": "JPY"}}
    )
    with pytest.raises(ValidationError, match="one currency"):
        PlaceOrder(customer_id=CUSTOMER, lines=(asked("1", "1.00"), yen))


def test_a_line_more_raises_the_amount() -> None:
    given(placed).when(AddOrderLine(line=asked("2", "10.05"))).then(
        OrderLineAdded(line=line("2", "10.05", "20.10"))
    )


def test_a_line_of_another_currency_is_refused() -> None:
    yen = OrderPlaced(
        customer_id=CUSTOMER,
        owner="ada",
        total=Money.model_validate({"amount": "5", "currency": "JPY"}),
    )
    given(yen).when(AddOrderLine(line=asked("1", "1.00"))).refused(CurrencyDiffers)


def test_an_order_beyond_all_measure_is_refused() -> None:
    huge = OrderPlaced(customer_id=CUSTOMER, owner="ada", total=eur("999999999999999.99"))
    given(huge).when(AddOrderLine(line=asked("1", "0.01"))).refused(AmountTooLarge)


def test_a_plan_names_parts_and_days() -> None:
    parts = (("2026-04-01", "40.00"), ("2026-05-01", "60.00"))
    given(placed).when(plan(*parts)).then(planned(*parts))


def test_a_plan_must_add_up_to_the_cent() -> None:
    given(placed).when(plan(("2026-04-01", "99.99"))).refused(PlanDoesNotAddUp)


def test_a_plan_after_a_return_covers_what_is_left() -> None:
    back = GoodsReturned(amount=eur("30.00"), reason="broken")
    given(placed, back).when(plan(("2026-04-01", "100.00"))).refused(PlanDoesNotAddUp)
    given(placed, back).when(plan(("2026-04-01", "70.00"))).then(planned(("2026-04-01", "70.00")))


def test_goods_come_back_up_to_what_is_billed() -> None:
    back = ReturnGoods(amount=eur("60"), reason="broken", product="sensor")
    first = GoodsReturned(
        amount=eur("60.00"), reason="broken", product="sensor", customer_id=CUSTOMER
    )
    given(placed).when(back).then(first)
    given(placed, first).when(back).refused(ReturnTooLarge)
    given(placed, OrderCompleted()).when(back).then(first)
    given(placed, cancelled).when(back).refused(OrderIsCancelled)


def test_an_order_goes_its_way() -> None:
    given(placed).when(ShipOrder(carrier="DHL")).then(OrderShipped(carrier="DHL"))
    given(placed, OrderShipped()).when(ShipOrder()).nothing()
    given(placed, OrderShipped()).when(CompleteOrder()).then(OrderCompleted())
    given(placed, OrderCompleted()).when(CompleteOrder()).nothing()
    given(placed, OrderCompleted()).when(ShipOrder()).refused(OrderIsComplete)


def test_what_is_held_or_disputed_can_be_resolved() -> None:
    held = OrderHeld(reason="credit limit", customer_id=CUSTOMER)
    disputed = OrderDisputed(reason="wrong colour", customer_id=CUSTOMER)
    settled = OrderResolved(customer_id=CUSTOMER)
    given(placed).when(HoldOrder(reason="credit limit")).then(held)
    given(placed, OrderCompleted()).when(DisputeOrder(reason="wrong colour")).then(disputed)
    given(placed, held).when(ResolveOrder(outcome="paid")).then(
        OrderResolved(outcome="paid", customer_id=CUSTOMER)
    )
    given(placed, disputed).when(ResolveOrder()).then(settled)
    given(placed).when(ResolveOrder()).refused(OrderInOrder)
    given(placed, held, settled).when(ResolveOrder()).refused(OrderInOrder)


def test_a_cancelled_order_is_over() -> None:
    given(placed).when(CancelOrder(reason="changed their mind")).then(cancelled)
    for command in (
        CancelOrder(reason="again"),
        ShipOrder(),
        HoldOrder(reason="credit limit"),
        DisputeOrder(reason="wrong colour"),
        CompleteOrder(),
        AddOrderLine(line=asked("1", "1.00")),
        plan(("2026-04-01", "100.00")),
    ):
        given(placed, cancelled).when(command).refused(OrderIsCancelled)


@pytest.mark.parametrize("since", [(), ("disputed",), ("disputed", "settled")])
def test_a_complete_order_stays_so_whatever_is_disputed(since: tuple[str, ...]) -> None:
    later = {"disputed": OrderDisputed(reason="wrong colour"), "settled": OrderResolved()}
    past = given(placed, OrderShipped(), OrderCompleted(), *(later[name] for name in since))
    past.when(CancelOrder(reason="late")).refused(OrderIsComplete)
    past.when(AddOrderLine(line=asked("1", "1.00"))).refused(OrderIsComplete)


def test_goods_are_sent_once() -> None:
    held = OrderHeld(reason="credit limit")
    given(placed, OrderShipped(), held, OrderResolved()).when(ShipOrder()).nothing()


def test_a_line_beyond_all_measure_is_malformed() -> None:
    with pytest.raises(ValidationError):
        AddOrderLine(line=asked("999999999999", "999999999999999"))
