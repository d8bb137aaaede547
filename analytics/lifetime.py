"""Who will buy again, how often, and for how much, by BG/NBD and Gamma-Gamma (``fitting``).

A customer's purchases of one day count as one. What a model says is an estimate in floating point;
where the data do not bear it, it says so and estimates nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any
from uuid import UUID

import numpy as np
from pydantic import Field

from analytics.facts.asking import Session
from analytics.facts.scope import OfLives, OfPurchases
from analytics.figure import Chart, Figure
from analytics.fitting import (
    Fit,
    Floats,
    Histories,
    chance,
    expected_purchases,
    expected_spending,
    fit_purchases,
    fit_spending,
    outlooks,
)
from events.values import Money, StoredMoney
from projections.asking.clocks import Unanswerable
from projections.asking.listing import Paged
from projections.asking.money import money
from projections.asking.parameters import Day
from projections.asking.shape import Shape

WEEK = 7
REPEATS = 7
"""From here on repeats are counted together where fit and data stand side by side."""

EACH = """
CREATE OR REPLACE TEMP TABLE each AS
WITH days AS (SELECT customer_id, day, sum(amount) AS amount FROM bought GROUP BY customer_id, day)
SELECT customer_id,
       (count(*) FILTER (day <= $until) - 1)::INTEGER AS x,
       max(day) FILTER (day <= $until) - min(day) AS t_x,
       $until::DATE - min(day) AS t,
       (sum(amount) FILTER (day <= $until) - arg_min(amount, day))::DOUBLE AS spent,
       count(*) FILTER (day > $until AND day <= $today)::INTEGER AS later
  FROM days GROUP BY customer_id HAVING min(day) <= $until
"""
HISTORIES = "SELECT x, t_x, t, count(*) AS n FROM each GROUP BY x, t_x, t ORDER BY x, t_x, t"
SPENDINGS = """
SELECT x, spent / x AS mean, count(*) AS n FROM each
 WHERE x > 0 AND spent > 0 GROUP BY 1, 2 ORDER BY 1, 2
"""
COUNTS = """
SELECT count(*) AS customers, count(*) FILTER (x > 0) AS repeat,
       count(*) FILTER (x > 0 AND spent <= 0) AS unspent,
       coalesce(sum(later), 0)::BIGINT AS later, count(*) FILTER (later > 0) AS returned
  FROM each
"""
PAGE = """
SELECT customer_id, x, t_x, t, spent FROM each WHERE $customer IS NULL OR customer_id = $customer
"""


class AskLives(OfLives):
    """What may be asked of the models.

    Attributes:
        discount_rate: by which a year makes an amount worth less.
    """

    calibrate_to: Annotated[
        Day,
        Field(description="The last day of calibration; later purchases are the holdout."),
    ] = None
    horizon_days: Annotated[
        int, Field(ge=1, le=3660, description="The horizon of expectations, in days.")
    ] = 364
    discount_rate: Annotated[
        str,
        Field(pattern=r"^(0(\.[0-9]{1,4})?|1)$", description="The yearly discount rate, 0 to 1."),
    ] = "0.1"


class AskOutlooks(AskLives, Paged):
    """What may be asked of what the models expect of each customer."""

    customer_id: UUID | None = None


class OutlookShape(Shape):
    """What the models know, and how far they look."""

    calibrate_to: date | None
    horizon_days: int
    discount_rate: Decimal


class OutlookHead(Shape):
    """What was asked of the models."""

    outlook: OutlookShape


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


class Lifetime(Shape):
    """Models of customers' lives, and how well they fit."""

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
    expected_amount: StoredMoney | None
    lifetime_value: StoredMoney | None


def lifetime(session: Session[OfPurchases], asked: AskLives) -> Lifetime:
    """Both models with the quality of their fits.

    ``frequencies`` has how many customers repeated so often and how many the model expects;
    ``holdout`` what came after ``calibrate_to`` and what the model expected of that time.
    """
    histories = _prepare(session, asked)
    counts = session.row(COUNTS)
    buying, spending = _models(session, histories)
    days = (session.when.today - _until(session, asked)).days
    holdout = None
    if days > 0:
        expected = None
        if buying.missing is None:
            ahead = expected_purchases(buying.parameters, histories, days / WEEK)
            expected = round(float((ahead * histories.n).sum()), 3)
        holdout = Holdout(
            days=days,
            purchases=counts["later"],
            customers=counts["returned"],
            expected=expected,
        )
    return Lifetime(
        customers=counts["customers"],
        repeat_customers=counts["repeat"],
        purchases=BuyingModel(
            **_told(buying, ("r", "alpha", "a", "b")),
            frequencies=_frequencies(buying, histories),
        ),
        spending=SpendingModel(
            **_told(spending, ("p", "q", "v")),
            left_out=counts["unspent"],
            correlation=_correlation(session),
        ),
        holdout=holdout,
    )


def customers(
    session: Session[OfPurchases], asked: AskOutlooks
) -> tuple[list[CustomerOutlook], str | None]:
    """What the models expect of each customer, by id.

    ``p_alive`` is the chance that the customer will ever buy again, ``lifetime_value`` what
    purchases within the horizon are worth today. None where a model is not identified.
    """
    histories = _prepare(session, asked)
    buying, spending = _models(session, histories)
    wanted = {"customer": asked.customer_id and str(asked.customer_id)}
    rows, more = session.page(PAGE, "customer_id", asked, wanted)
    mine = _histories(
        {name: np.array([row[name] for row in rows], float) for name in ("x", "t_x", "t")}
    )
    spent = np.array([row["spent"] for row in rows], float)
    weeks, worth = asked.horizon_days / WEEK, float(1 + Decimal(asked.discount_rate))
    alive, ahead, value = outlooks((buying, spending), mine, spent, weeks, worth)
    amounts = expected_spending(spending, mine, spent)
    currency = session.scope.currency
    return [
        CustomerOutlook.of(
            customer_id=UUID(row["customer_id"]),
            repeats=row["x"],
            recency_weeks=round(row["t_x"] / WEEK, 4),
            age_weeks=round(row["t"] / WEEK, 4),
            p_alive=_number(alive, at),
            expected_purchases=_number(ahead, at),
            expected_amount=_amount(amounts, at, currency),
            lifetime_value=_amount(value, at, currency),
        )
        for at, row in enumerate(rows)
    ], more


def _until(session: Session[OfPurchases], asked: AskLives) -> date:
    return asked.calibrate_to or session.when.today


def _prepare(session: Session[OfPurchases], asked: AskLives) -> Histories:
    """Make ``each``, one row a customer, and read how many share a history.

    Raises:
        Unanswerable: when the models were to know what has not come yet.
    """
    today, until = session.when.today, _until(session, asked)
    if until > today:
        raise Unanswerable("calibrate_to", f"must not lie after the day of the answer, {today}")
    session.run(EACH, {"until": until, "today": today})
    return _histories(session.columns(HISTORIES))


def _histories(columns: dict[str, Any]) -> Histories:
    x, t_x, t = (np.asarray(columns[name], float) for name in ("x", "t_x", "t"))
    n = np.asarray(columns.get("n", np.ones_like(x)), float)
    return Histories(x, t_x / WEEK, t / WEEK, n)


def _models(session: Session[OfPurchases], histories: Histories) -> tuple[Fit, Fit]:
    found = session.columns(SPENDINGS)
    spendings = (np.asarray(found[name], float) for name in ("x", "mean", "n"))
    buying = _fit_purchases(
        *(getattr(histories, name).tobytes() for name in ("x", "t_x", "t", "n"))
    )
    return buying, _fit_spending(*(column.tobytes() for column in spendings))


@lru_cache(maxsize=2)
def _fit_purchases(*columns: bytes) -> Fit:
    """Remembered, for every page of a list rests on the same fit."""
    return fit_purchases(Histories(*map(np.frombuffer, columns)))


@lru_cache(maxsize=2)
def _fit_spending(*columns: bytes) -> Fit:
    return fit_spending(*map(np.frombuffer, columns))


def _frequencies(fit: Fit, given: Histories) -> list[Frequency]:
    """How many customers repeated so often, beside how many the model expects; last: or more."""
    counts = [float(given.n[given.x == k].sum()) for k in range(REPEATS)]
    total = float(given.n.sum())
    counts.append(total - sum(counts))
    expected: list[float | None] = [None] * len(counts)
    if fit.missing is None:
        shares = [
            float((given.n * chance(fit.parameters, k, given.t)).sum()) for k in range(REPEATS)
        ]
        expected = [round(share, 3) for share in [*shares, total - sum(shares)]]
    return [
        Frequency(repeats=k, customers=int(count), expected=found)
        for k, (count, found) in enumerate(zip(counts, expected, strict=True))
    ]


def _correlation(session: Session[OfPurchases]) -> float | None:
    """Between how often customers repeat and what a purchase comes to; the model takes it as 0."""
    found = session.columns(SPENDINGS)
    x, mean, n = (np.asarray(found[name], float) for name in ("x", "mean", "n"))
    if n.sum() < 3:  # noqa: PLR2004 - two points always lie on a line
        return None
    spread = np.cov(x, mean, fweights=n.astype(int))
    by = np.sqrt(spread[0, 0] * spread[1, 1])
    return round(float(spread[0, 1] / by), 6) if by > 0 else None


def _told(fit: Fit, names: Sequence[str]) -> dict[str, Any]:
    is_known = fit.missing is None
    return {
        "identified": is_known,
        "statement": fit.missing or "The data identify the model.",
        "parameters": {
            name: _rounded(fit.parameters, at) if is_known else None
            for at, name in enumerate(names)
        },
        "standard_errors": {
            name: _rounded(fit.errors, at) if is_known else None for at, name in enumerate(names)
        },
        "log_likelihood": round(fit.log_likelihood, 4) if is_known else None,
    }


def _rounded(values: Sequence[float], at: int) -> float:
    return round(values[at], 6)


def _number(values: Floats | None, at: int) -> float | None:
    return None if values is None else round(float(values[at]), 6)


def _amount(values: Floats | None, at: int, currency: str | None) -> Money | None:
    return None if values is None else money(Decimal(repr(float(values[at]))), currency)


def _heads(_: Session[OfPurchases], asked: AskLives) -> OutlookHead:
    return OutlookHead(
        outlook=OutlookShape(
            calibrate_to=asked.calibrate_to,
            horizon_days=asked.horizon_days,
            discount_rate=Decimal(asked.discount_rate),
        )
    )


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="lifetime",
        operation="lifetimes",
        says="BG/NBD and Gamma-Gamma: parameters, goodness of fit, and the holdout.",
        asks=AskLives,
        row=Lifetime,
        answer=lifetime,
        head=OutlookHead,
        heads=_heads,
        is_one=True,
        chart=Chart("repeats", ("customers", "expected"), ("purchases", "frequencies")),
    ),
    Figure(
        name="lifetime/customers",
        operation="customer_outlooks",
        says="Of each customer: the probability to be alive, expected purchases, lifetime value.",
        asks=AskOutlooks,
        row=CustomerOutlook,
        answer=customers,
        head=OutlookHead,
        heads=_heads,
    ),
)
