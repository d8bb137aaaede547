"""Figures over purchases: who buys, who comes back, and when.

An empty denominator gives None, never 0. Rates are fractions of 1; times are in days, between the
business days of purchases; both are rounded to six digits after the point.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from typing import Any, Literal
from uuid import UUID

from analytics.facts.asking import Session
from analytics.facts.scope import OfPurchases
from analytics.figure import Chart, Figure
from projections.asking.listing import Paged
from projections.asking.money import Balance, balance
from projections.asking.shape import Shape

SIX = Decimal("0.000001")

EACH = """
SELECT customer_id,
       count(*) AS ever,
       count(*) FILTER (in_window) AS inside,
       coalesce(sum(amount) FILTER (in_window), 0) AS spent,
       sum(amount) AS spent_ever,
       min(day) AS first_day,
       max(day) AS last_day,
       coalesce(min(day) = min(day) FILTER (in_window), false) AS is_recruited,
       coalesce(bool_or(day < $start), false) AS is_old
  FROM bought GROUP BY customer_id
"""
Kind = Literal["new", "returning", "purchasing", "repeat", "recruited", "old", "repurchasing"]
KINDS: dict[Kind, str] = {
    "new": "ever = 1",
    "returning": "ever > 1",
    "purchasing": "inside > 0",
    "repeat": "inside > 1",
    "recruited": "is_recruited",
    "old": "is_old",
    "repurchasing": "is_old AND inside > 0",
}
CUSTOMERS = f"""
SELECT count(*) AS customers_ever,
       {", ".join(f"count(*) FILTER ({which}) AS {kind}" for kind, which in KINDS.items())},
       coalesce(sum(inside), 0)::BIGINT AS purchases,
       coalesce(sum(spent), 0) AS amount,
       coalesce(sum(ever), 0)::BIGINT AS purchases_ever,
       coalesce(sum(spent_ever), 0) AS amount_ever
  FROM ({EACH})
"""
SO_FAR = """
CREATE TEMP TABLE so_far AS
SELECT customer_id::UUID AS customer_id, day, position
  FROM kept WHERE asked().until IS NULL OR day < asked().until
"""
"""Read once, asked twice; a UUID takes less than half the memory of its text."""
INSIDE = "FILTER (asked().start IS NULL OR day >= asked().start)"
BEFORE = "FILTER (day < asked().start)"
ENDED = f"""
count({{turns}}) {INSIDE} - (count(*) {BEFORE} = 0)::INTEGER AS gaps,
max(day) {INSIDE} - coalesce(max(day) {BEFORE}, min(day)) AS days
"""
"""Gaps that end in the window. From one purchase to the next they add up to the time from the last
purchase before the window, or else the first one, to the last one in it."""
SECOND = "min({turns}, 2)[2]"
FIRST = f"CASE WHEN in_window({SECOND}) THEN {SECOND} - min(day) END"
CYCLES = f"""
WITH each AS (
    SELECT {ENDED}, {FIRST} AS first FROM so_far GROUP BY customer_id HAVING count({{turns}}) > 1
)
SELECT count(*) FILTER (gaps > 0) AS customers,
       coalesce(sum(gaps) FILTER (gaps > 0), 0)::BIGINT AS gaps,
       sum(days) FILTER (gaps > 0)::BIGINT AS days,
       count(first) AS first_customers,
       sum(first)::BIGINT AS first_days,
       sum((days / gaps)::DECIMAL(18, 9)) FILTER (gaps > 0) AS means
  FROM each
"""
PRODUCT_CYCLES = f"""
WITH of_order AS (
    SELECT position, product FROM purchase_lines
     UNION
    SELECT purchases.position, product
      FROM purchase_lines JOIN purchases USING (order_id)
     WHERE purchase_lines.position IN (
           SELECT position FROM purchase_changes WHERE kind = 'line-added')
), each AS (
    SELECT product, {ENDED}
      FROM of_order JOIN so_far USING (position)
     GROUP BY customer_id, product HAVING count({{turns}}) > 1
)
SELECT product, count(*) AS customers, sum(gaps)::BIGINT AS gaps, sum(days)::BIGINT AS days
  FROM each WHERE gaps > 0 GROUP BY product ORDER BY product
"""
"""A line is of the order with its position, for an order comes with its lines, unless added."""
GAPS = f"""
SELECT * FROM (
    SELECT customer_id::VARCHAR AS customer_id, count({{turns}}) {INSIDE} AS purchases,
           {ENDED}, {FIRST} AS first_gap
      FROM so_far GROUP BY customer_id HAVING count({{turns}}) > 1
) WHERE gaps > 0
"""
EVIDENCE = """
SELECT customer_id, day, amount, n AS orders, position, in_window
  FROM bought WHERE $customer IS NULL OR customer_id = $customer
"""


class AskBuyers(OfPurchases, Paged):
    """What may be asked of customers who bought."""

    kind: Kind | None = None


class AskPurchases(OfPurchases, Paged):
    """What may be asked of purchases."""

    customer_id: UUID | None = None


class AskRepeaters(OfPurchases, Paged):
    """What may be asked of customers behind the cycles."""


class CustomerFigures(Shape):
    """Who bought, in the window and ever."""

    customers_ever: int
    new: int
    returning: int
    purchasing: int
    repeat: int
    recruited: int
    old: int
    repurchasing: int
    purchases: int
    purchases_ever: int
    repeat_rate: float | None
    repurchase_rate: float | None
    amount: Balance | None
    amount_ever: Balance | None
    amount_per_purchase: Balance | None
    amount_per_customer: Balance | None


class ProductCycle(Shape):
    """How long until a customer buys the same product again."""

    product: str
    customers: int
    gaps: int
    mean_gap: float | None


class Repurchase(Shape):
    """Days from a customer's purchase to the next."""

    customers: int
    gaps: int
    mean_gap: float | None
    mean_of_means: float | None
    first_customers: int
    first_gap: float | None
    products: list[ProductCycle]


class Buyer(Shape):
    """A customer's purchases, in the window and ever."""

    customer_id: UUID
    purchases: int
    amount: Balance | None
    purchases_ever: int
    amount_ever: Balance | None
    first_day: date
    last_day: date


class Repeater(Shape):
    """A customer with gaps that end in the window."""

    customer_id: UUID
    purchases: int
    gaps: int
    mean_gap: float | None
    first_gap: int | None


class PurchaseShape(Shape):
    """A purchase; with days merged, all of a customer's day."""

    customer_id: UUID
    day: date
    amount: Balance | None
    orders: int
    position: int
    in_window: bool


def customers(session: Session[OfPurchases], _: OfPurchases) -> CustomerFigures:
    """New, returning, repeat, recruited and repurchasing customers, both average order values.

    ``*_ever`` counts everything up to the moment, the rest the window; without a first day there is
    nobody who bought before the window.
    """
    found = session.row(CUSTOMERS, {"start": session.scope.start})
    shown = shown_in(session)
    amount = found.pop("amount")
    ever = found.pop("amount_ever")
    return CustomerFigures.of(
        **found,
        repeat_rate=ratio(found["repeat"], found["purchasing"]),
        repurchase_rate=ratio(found["repurchasing"], found["old"]),
        amount=shown(amount),
        amount_ever=shown(ever),
        amount_per_purchase=shown(_share(amount, found["purchases"])),
        amount_per_customer=shown(_share(amount, found["purchasing"])),
    )


def repurchase(session: Session[OfPurchases], _: OfPurchases) -> Repurchase:
    """The gaps between successive purchases of a customer that end in the window.

    ``mean_gap`` is over all gaps, ``mean_of_means`` over customers, each of whom counts once;
    ``first_gap`` is the mean from the first purchase ever to the second, of the
    ``first_customers`` whose second one lies in the window. A product's gaps are between purchases
    of the same product by the same customer.
    """
    turns = "DISTINCT day" if session.scope.merge_by_day else "day"
    session.run(SO_FAR)
    found = session.row(CYCLES.format(turns=turns))
    products = session.rows(PRODUCT_CYCLES.format(turns=turns))
    buyers = found["customers"]
    return Repurchase.of(
        customers=buyers,
        gaps=found["gaps"],
        mean_gap=ratio(found["days"], found["gaps"]),
        mean_of_means=ratio(found["means"], buyers),
        first_customers=found["first_customers"],
        first_gap=ratio(found["first_days"], found["first_customers"]),
        products=[
            ProductCycle.of(
                product=row["product"],
                customers=row["customers"],
                gaps=row["gaps"],
                mean_gap=ratio(row["days"], row["gaps"]),
            )
            for row in products
        ],
    )


def buyers(session: Session[OfPurchases], asked: AskBuyers) -> tuple[list[Buyer], str | None]:
    """The customers of one kind, by id, with their purchases in the window and ever."""
    shown = shown_in(session)
    which = "true" if asked.kind is None else KINDS[asked.kind]
    rows, more = session.page(
        f"SELECT * FROM ({EACH}) WHERE {which}", "customer_id", asked, {"start": asked.start}
    )
    return [
        Buyer.of(
            customer_id=UUID(row["customer_id"]),
            purchases=row["inside"],
            amount=shown(row["spent"]),
            purchases_ever=row["ever"],
            amount_ever=shown(row["spent_ever"]),
            first_day=row["first_day"],
            last_day=row["last_day"],
        )
        for row in rows
    ], more


def repeaters(
    session: Session[OfPurchases], asked: AskRepeaters
) -> tuple[list[Repeater], str | None]:
    """The customers behind the cycles, by id, each with its own gaps."""
    session.run(SO_FAR)
    turns = "DISTINCT day" if session.scope.merge_by_day else "day"
    rows, more = session.page(GAPS.format(turns=turns), "customer_id", asked)
    return [
        Repeater.of(
            customer_id=UUID(row["customer_id"]),
            purchases=row["purchases"],
            gaps=row["gaps"],
            mean_gap=ratio(row["days"], row["gaps"]),
            first_gap=row["first_gap"],
        )
        for row in rows
    ], more


def evidence(
    session: Session[OfPurchases], asked: AskPurchases
) -> tuple[list[PurchaseShape], str | None]:
    """The purchases that figures rest on, by position."""
    shown = shown_in(session)
    customer = asked.customer_id and str(asked.customer_id)
    rows, more = session.page(EVIDENCE, "position", asked, {"customer": customer})
    return [
        PurchaseShape.of(
            customer_id=UUID(row["customer_id"]),
            day=row["day"],
            amount=shown(row["amount"]),
            orders=row["orders"],
            position=row["position"],
            in_window=row["in_window"],
        )
        for row in rows
    ], more


def first_day(month: str) -> date:
    """A month's first day."""
    return date.fromisoformat(f"{month[:7]}-01")


def ratio(part: Decimal | int | None, whole: int | None) -> float | None:
    """A share or a mean; None of nothing."""
    if part is None or not whole:
        return None
    return float((Decimal(part) / whole).quantize(SIX, ROUND_HALF_UP))


def _share(amount: Decimal, number: int) -> Decimal | None:
    return amount / number if number else None


def shown_in(session: Session[OfPurchases]) -> Callable[[Decimal | None], Balance | None]:
    """How an amount of the session's currency is shown."""
    return partial(balance, currency=session.scope.currency)


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="customers",
        operation="customer_figures",
        says="New, returning, repeat, recruited and repurchasing customers; average order values.",
        asks=OfPurchases,
        row=CustomerFigures,
        answer=customers,
        is_one=True,
    ),
    Figure(
        name="customers/list",
        operation="buyers",
        says="The customers behind a number of customers, as new, repeat or recruited ones.",
        asks=AskBuyers,
        row=Buyer,
        answer=buyers,
    ),
    Figure(
        name="repurchase",
        operation="repurchase",
        says="Repurchase cycles in days: of customers, to the second purchase, of products.",
        asks=OfPurchases,
        row=Repurchase,
        answer=repurchase,
        is_one=True,
        chart=Chart("product", ("mean_gap",), ("products",)),
    ),
    Figure(
        name="repurchase/customers",
        operation="repeaters",
        says="The customers behind the cycles; with a product those behind that product's.",
        asks=AskRepeaters,
        row=Repeater,
        answer=repeaters,
    ),
    Figure(
        name="purchases",
        operation="purchases_behind",
        says="The purchases that figures rest on; their positions lead into /audit/events.",
        asks=AskPurchases,
        row=PurchaseShape,
        answer=evidence,
    ),
)
