"""The shapes of figures."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from pydantic import Field

from analytics.facts.asking import Basis
from analytics.rfm import Scheme
from events.values import Money
from read_api.shapes import Balance, Shape


class Parameters(Shape):
    """What was asked, defaults filled in."""

    from_: date | None = Field(alias="from")
    to: date | None
    merge_by_day: bool
    basis: Basis
    currency: str | None
    owner: str | None
    product: str | None
    region: str | None
    channel: str | None
    tag: str | None
    time_zone: str


class Figure(Shape):
    """What every figure says of itself."""

    position: int
    as_of: datetime | None
    known_at: int | None
    today: date
    parameters: Parameters


class CustomerFigures(Figure):
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


class Repurchase(Figure):
    """Days between purchases of those who bought several times."""

    customers: int
    gaps: int
    mean_gap: float | None
    mean_of_means: float | None
    first_gap: float | None
    products: list[ProductCycle]


class CohortMonth(Shape):
    """What those do who first bought in one month, so many months later."""

    cohort: date
    size: int
    month: int
    customers: int
    retention: float | None
    purchases: int
    amount: Balance | None


class Cohorts(Figure):
    """Customers by the month of their first purchase."""

    items: list[CohortMonth]
    next: str | None


class ScoringShape(Shape):
    """How customers were scored."""

    scheme: Scheme
    r_thresholds: list[int] | None
    f_thresholds: list[int] | None
    m_thresholds: list[str] | None


class SegmentShape(Shape):
    """One segment's customers, with their purchases and amounts in the window."""

    segment: str
    customers: int
    purchases: int
    amount: Balance | None


class Segments(Figure):
    """Customers by segment."""

    scoring: ScoringShape
    items: list[SegmentShape]
    next: str | None


class Scored(Shape):
    """A customer's recency, frequency and monetary value."""

    customer_id: UUID
    recency_days: int
    frequency: int
    monetary: Balance | None
    r_score: int
    f_score: int
    m_score: int
    segment: str


class ScoredCustomers(Figure):
    """Customers with their scores, by id."""

    scoring: ScoringShape
    items: list[Scored]
    next: str | None


class Move(Shape):
    """How many customers went from one segment to another; null where they had or have none."""

    before: str | None
    after: str | None
    customers: int


class Movement(Figure):
    """How customers moved between segments."""

    since: datetime
    scoring: ScoringShape
    items: list[Move]
    next: str | None


class PurchaseShape(Shape):
    """A purchase; with days merged, all of a customer's day."""

    customer_id: UUID
    day: date
    amount: Balance | None
    orders: int
    position: int
    in_window: bool


class Purchases(Figure):
    """Purchases by the position of their first order."""

    items: list[PurchaseShape]
    next: str | None


class Share(Shape):
    """A tier of customers, of those who bought in the window."""

    tier: str
    customers: int
    share_of_customers: float | None
    purchases: int
    amount: Balance | None
    share_of_amount: float | None
    without_owner: int


class TierShares(Shape):
    """Of the amount in the window: what premium customers make up, then together with ordinary."""

    premium_share: str
    ordinary_share: str


class Tiers(Figure):
    """Customers by tier."""

    shares: TierShares
    items: list[Share]
    next: str | None


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


class TieredCustomers(Figure):
    """Customers, the greatest first."""

    shares: TierShares
    items: list[TieredCustomer]
    next: str | None


class RetentionMonth(Shape):
    """Who stayed in a month, who was lost, who came."""

    from_: date = Field(alias="from")
    to: date
    customers: int
    kept: int
    lost: int
    new: int
    regained: int
    retention: float | None
    churn: float | None


class Retention(Figure):
    """Customers kept and lost, month by month."""

    lost_after_days: int
    items: list[RetentionMonth]
    next: str | None


class OutlookShape(Shape):
    """What the models know, and how far they look."""

    calibrate_to: date | None
    horizon_days: int
    discount_rate: str


class BuyingParameters(Shape):
    """Of BG/NBD, times in weeks."""

    r: float | None
    alpha: float | None
    a: float | None
    b: float | None


class SpendingParameters(Shape):
    """Of Gamma-Gamma."""

    p: float | None
    q: float | None
    v: float | None


class Frequency(Shape):
    """How many customers repeated so often; of the last: or more often."""

    repeats: int
    customers: int
    expected: float | None


class BuyingModel(Shape):
    """How often customers buy and when they drop out."""

    identified: bool
    statement: str
    parameters: BuyingParameters
    standard_errors: BuyingParameters
    log_likelihood: float | None
    frequencies: list[Frequency]


class SpendingModel(Shape):
    """What a purchase comes to."""

    identified: bool
    statement: str
    parameters: SpendingParameters
    standard_errors: SpendingParameters
    log_likelihood: float | None
    left_out: int
    correlation: float | None


class Holdout(Shape):
    """What came after the models' last day, and what they expected of it."""

    days: int
    purchases: int
    customers: int
    expected: float | None


class Lifetime(Figure):
    """Models of customers' lives, and how well they fit."""

    outlook: OutlookShape
    customers: int
    repeat_customers: int
    purchases: BuyingModel
    spending: SpendingModel
    holdout: Holdout | None


class CustomerOutlook(Shape):
    """What is expected of a customer; null where the data do not tell."""

    customer_id: UUID
    repeats: int
    recency_weeks: float
    age_weeks: float
    p_alive: float | None
    expected_purchases: float | None
    expected_amount: Money | None
    lifetime_value: Money | None


class CustomerOutlooks(Figure):
    """What is expected of customers, by id."""

    outlook: OutlookShape
    items: list[CustomerOutlook]
    next: str | None


class SalesParameters(Shape):
    """What was asked, defaults filled in."""

    from_: date | None = Field(alias="from")
    to: date | None
    currency: str | None
    owner: str | None
    product: str | None
    region: str | None
    channel: str | None
    tag: str | None
    time_zone: str
    pipeline: str | None = None
    by: str | None = None


class SalesFigure(Shape):
    """What every figure about sales and service says of itself."""

    position: int
    as_of: datetime | None
    known_at: int | None
    today: date
    parameters: SalesParameters
    next: str | None


class StageConversion(Shape):
    """Deals that entered a stage in the window, and what they did later."""

    pipeline: str
    stage: str
    next_stage: str
    entered: int
    converted: int
    conversion: float | None
    advanced: int
    days_mean: float | None
    days_median: float | None


class Conversion(SalesFigure):
    """The funnel over time, stage by stage."""

    items: list[StageConversion]


class StageTime(Shape):
    """How long deals stand in a stage."""

    pipeline: str
    stage: str
    stays: int
    days_mean: float | None
    days_median: float | None
    standing: int
    standing_days_mean: float | None


class StageTimes(SalesFigure):
    """Time in stage."""

    items: list[StageTime]


class ClosedGroup(Shape):
    """Closed deals of one group."""

    group: str | None
    won: int
    lost: int
    win_rate: float | None
    loss_rate: float | None
    amount: Money | None
    won_days_mean: float | None
    won_days_median: float | None
    lost_days_mean: float | None
    lost_days_median: float | None


class Closings(SalesFigure):
    """Deals won and lost."""

    items: list[ClosedGroup]


class OpenGroup(Shape):
    """Open deals of one group, their amount weighted by the chance of their stages."""

    group: str | None
    deals: int
    with_amount: int
    amount: Money | None
    weighted: Money | None
    without_probability: int
    overdue: int


class OpenDeals(SalesFigure):
    """The weighted pipeline."""

    items: list[OpenGroup]


class DealShape(Shape):
    """A deal as it stood at the moment."""

    id: UUID
    position: int
    pipeline: str
    stage: str
    kind: str
    customer_id: UUID | None
    owner: str
    product: str | None
    reason: str | None
    amount: Money | None
    expected_close: date | None
    opened_at: datetime
    stage_since: datetime
    days_in_stage: float | None
    idle_days: float | None


class Deals(SalesFigure):
    """The deals behind figures, by the position of their opening."""

    items: list[DealShape]


class LeadGroup(Shape):
    """Leads of one group, captured in the window."""

    group: str | None
    leads: int
    open: int
    qualified: int
    disqualified: int
    converted: int
    won: int
    conversion: float | None
    win_rate: float | None
    days_mean: float | None
    days_median: float | None


class LeadGroups(SalesFigure):
    """Where leads come from and what becomes of them."""

    items: list[LeadGroup]


class TicketGroup(Shape):
    """Tickets of one group, opened in the window; times in days since the opening."""

    group: str | None
    tickets: int
    backlog: int
    unresolved: int
    reopened: int
    reopenings: int
    escalated: int
    minutes: int
    taken: int
    taken_days_mean: float | None
    taken_days_median: float | None
    replied: int
    replied_days_mean: float | None
    replied_days_median: float | None
    resolved: int
    resolved_days_mean: float | None
    resolved_days_median: float | None
    rated: int
    score_mean: float | None


class TicketGroups(SalesFigure):
    """How long tickets take, and what is left undone."""

    items: list[TicketGroup]


class ReceiptsMonth(Shape):
    """What was due in a month, and what came in."""

    month: str
    due: Balance | None
    received: Balance | None
    refunded: Balance | None
    behind: Balance | None


class Receipts(SalesFigure):
    """Receipts beside payment plans."""

    items: list[ReceiptsMonth]


class FactTableShape(Shape):
    """One kind of fact."""

    table: str
    files: list[str]
    rows: int


class FactsState(Shape):
    """How far the facts are, and which files hold them."""

    position: int
    head: int
    halted: str | None
    tables: list[FactTableShape]
