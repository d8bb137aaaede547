"""Who brings how much: tiers of customers by amount, and the key accounts among them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from analytics.facts.asking import Session
from analytics.facts.scope import OfPurchases
from analytics.figure import Chart, Figure
from analytics.purchases import ratio
from projections.asking.clocks import Unanswerable
from projections.asking.listing import Paged
from projections.asking.money import Balance, balance
from projections.asking.shape import Shape

ShareOf = Annotated[str, Field(pattern=r"^(0\.[0-9]{1,4}|1)$")]
TIERS = ("premium", "ordinary", "potential")

EACH = """
CREATE TEMP TABLE tiered AS
WITH each AS (
    SELECT customer_id, count(*) AS purchases, sum(amount) AS amount
      FROM bought WHERE in_window GROUP BY customer_id
), placed AS (
    SELECT *, sum(greatest(amount, 0)) OVER () AS total,
           coalesce(sum(amount) OVER (ORDER BY amount DESC RANGE BETWEEN UNBOUNDED PRECEDING
                                      AND CURRENT ROW EXCLUDE GROUP), 0) AS before,
           row_number() OVER places AS rank, sum(greatest(amount, 0)) OVER places AS reached
      FROM each WINDOW places AS (ORDER BY amount DESC, customer_id ROWS UNBOUNDED PRECEDING)
), owner AS (
    SELECT customer_id, arg_max_null(owner, position) AS owner FROM accounts
     WHERE kind <> 'details-changed' GROUP BY 1
)
SELECT placed.*, owner,
       CASE WHEN amount > 0 AND before < total * $premium THEN 'premium'
            WHEN amount > 0 AND before < total * $ordinary THEN 'ordinary'
            ELSE 'potential' END AS tier
  FROM placed LEFT JOIN owner USING (customer_id)
"""
SUMS = """
SELECT tier, count(*) AS customers, sum(purchases)::BIGINT AS purchases, sum(amount) AS amount,
       any_value(total) AS total, count(*) FILTER (owner IS NULL) AS without_owner
  FROM tiered GROUP BY tier
"""
PAGE = """
SELECT * FROM tiered
 WHERE ($tier IS NULL OR tier = $tier) AND ($customer IS NULL OR customer_id = $customer)
"""


class TierShares(Shape):
    """Of the amount in the window: what premium customers make up, then together with ordinary."""

    premium_share: Decimal
    ordinary_share: Decimal


class SharesHead(Shape):
    """Where one tier ends and the next begins."""

    shares: TierShares


class AskTiers(OfPurchases):
    """What may be asked of tiers: of all that was bought, which share is whose."""

    premium_share: ShareOf = "0.8"
    ordinary_share: ShareOf = "0.95"

    def check(self) -> None:
        """See ``Asked``."""
        super().check()
        if Decimal(self.premium_share) > Decimal(self.ordinary_share):
            raise Unanswerable("ordinary_share", "must not lie below premium_share")


class AskTiered(AskTiers, Paged):
    """What may be asked of customers with their tiers."""

    tier: Literal["premium", "ordinary", "potential"] | None = None
    customer_id: UUID | None = None


class TierShape(Shape):
    """A tier of customers, of those who bought in the window."""

    tier: str
    customers: int
    share_of_customers: float | None
    purchases: int
    amount: Balance | None
    share_of_amount: float | None
    without_owner: int


class TieredCustomer(Shape):
    """A customer with its tier, its rep, and its share of all that was bought."""

    customer_id: UUID
    rank: int
    tier: str
    owner: str | None
    purchases: int
    amount: Balance | None
    share: float | None
    cumulative_share: float | None


def tiers(session: Session[OfPurchases], asked: AskTiers) -> list[TierShape]:
    """Customers by tier: the greatest who make up a share of the amount, the next, the rest.

    Customers of equal amounts are of one tier.
    """
    _prepare(session, asked)
    found = {row["tier"]: row for row in session.rows(SUMS)}
    everybody = sum(row["customers"] for row in found.values())
    return [
        TierShape.of(
            tier=tier,
            customers=row["customers"],
            share_of_customers=ratio(row["customers"], everybody),
            purchases=row["purchases"],
            amount=balance(row["amount"], session.scope.currency),
            share_of_amount=_share(row["amount"], row["total"]),
            without_owner=row["without_owner"],
        )
        for tier in TIERS
        if (row := found.get(tier)) is not None
    ]


def customers(
    session: Session[OfPurchases], asked: AskTiered
) -> tuple[list[TieredCustomer], str | None]:
    """Customers with their tier and their rep, the greatest first."""
    _prepare(session, asked)
    wanted = {"tier": asked.tier, "customer": asked.customer_id and str(asked.customer_id)}
    rows, more = session.page(PAGE, "rank", asked, wanted)
    return [
        TieredCustomer.of(
            customer_id=UUID(row["customer_id"]),
            rank=row["rank"],
            tier=row["tier"],
            owner=row["owner"],
            purchases=row["purchases"],
            amount=balance(row["amount"], session.scope.currency),
            share=_share(row["amount"], row["total"]),
            cumulative_share=_share(row["reached"], row["total"]),
        )
        for row in rows
    ], more


def _prepare(session: Session[OfPurchases], asked: AskTiers) -> None:
    premium, ordinary = Decimal(asked.premium_share), Decimal(asked.ordinary_share)
    session.run(EACH, {"premium": premium, "ordinary": ordinary})


def _heads(_: Session[OfPurchases], asked: AskTiers) -> SharesHead:
    premium, ordinary = Decimal(asked.premium_share), Decimal(asked.ordinary_share)
    return SharesHead(shares=TierShares(premium_share=premium, ordinary_share=ordinary))


def _share(part: Decimal, whole: Decimal) -> float | None:
    return None if whole <= 0 else float((part / whole).quantize(Decimal("0.000001")))


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="tiers",
        operation="tier_sums",
        says="Premium, ordinary and potential customers, by their share of the amount.",
        asks=AskTiers,
        row=TierShape,
        answer=tiers,
        head=SharesHead,
        heads=_heads,
        chart=Chart("tier", ("share_of_customers", "share_of_amount")),
    ),
    Figure(
        name="tiers/customers",
        operation="tiered_customers",
        says="Customers with their tier and their rep, the greatest first: the key accounts.",
        asks=AskTiered,
        row=TieredCustomer,
        answer=customers,
        head=SharesHead,
        heads=_heads,
        is_ranked=True,
    ),
)
