"""Who will buy again, how often, and for how much: BG/NBD and Gamma-Gamma.

A customer's purchases of one day count as one; times are weeks. BG/NBD is of Fader, Hardie and Lee,
"Counting Your Customers" the Easy Way, Marketing Science 24 (2005); Gamma-Gamma of Fader and
Hardie, The Gamma-Gamma Model of Monetary Value (2013). What a model says is an estimate in floating
point; where the data do not bear it, it says so and estimates nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaln, gammaln, hyp2f1, psi

from analytics.facts.asking import Session
from projections.asking.clocks import Unanswerable
from projections.asking.money import money

Floats = NDArray[np.float64]
Likelihood = Callable[[Floats], tuple[float, Floats]]
"""Of parameters: the log-likelihood and its gradient."""

WEEK = 7
YEAR_WEEKS = 365.25 / 7
STEP_WEEKS = 4.0
"""Purchases so far ahead are discounted alike."""
REPEATS = 7
"""From here on repeats are counted together where fit and data stand side by side."""
NEWTON_STEPS = 50
FAR = 12.0
"""A parameter beyond e to this, either way, has run away."""
NO_DROPOUT = 2.71
"""Twice the gain in log-likelihood by which dropout counts as seen: a boundary test at 5 %."""
UNKNOWN = 1.0
"""Standard error of the log odds of dropout from which on its size counts as unknown."""

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


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is asked of the models.

    Attributes:
        calibrate_to: the last day that they know; what came later is there to judge them by.
        horizon_days: how far ahead they look, from that day on.
        discount_rate: by which a year makes an amount worth less.
    """

    calibrate_to: date | None = None
    horizon_days: int = 364
    discount_rate: Decimal = Decimal("0.1")

    def told(self) -> dict[str, Any]:
        """The parameters as an answer names them."""
        return {
            "calibrate_to": self.calibrate_to,
            "horizon_days": self.horizon_days,
            "discount_rate": str(self.discount_rate),
        }


@dataclass(frozen=True, slots=True)
class Fit:
    """Parameters of the greatest likelihood.

    Attributes:
        errors: their standard errors; empty where the likelihood has no clear peak.
        missing: why the data do not identify the model; None if they do.
    """

    parameters: tuple[float, ...]
    errors: tuple[float, ...]
    log_likelihood: float
    missing: str | None


@dataclass(frozen=True, slots=True)
class Histories:
    """Arrays of one length: repeat purchases, weeks to the last one and to now, how many such."""

    x: Floats
    t_x: Floats
    t: Floats
    n: Floats


def lifetime(session: Session, outlook: Outlook) -> dict[str, Any]:
    """Both models with the quality of their fits.

    ``frequencies`` has how many customers repeated so often and how many the model expects;
    ``holdout`` what came after ``calibrate_to`` and what the model expected of that time.
    """
    histories = _prepare(session, outlook)
    counts = session.row(COUNTS)
    buying, spending = _models(session, histories)
    days = (session.scope.when.today - _until(session, outlook)).days
    holdout = None
    if days > 0:
        expected = None
        if buying.missing is None:
            ahead = expected_purchases(buying.parameters, histories, days / WEEK)
            expected = round(float((ahead * histories.n).sum()), 3)
        holdout = {
            "days": days,
            "purchases": counts["later"],
            "customers": counts["returned"],
            "expected": expected,
        }
    return {
        "customers": counts["customers"],
        "repeat_customers": counts["repeat"],
        "purchases": {
            **_told(buying, ("r", "alpha", "a", "b")),
            "frequencies": _frequencies(buying, histories),
        },
        "spending": {
            **_told(spending, ("p", "q", "v")),
            "left_out": counts["unspent"],
            "correlation": _correlation(session),
        },
        "holdout": holdout,
    }


def customers(
    session: Session,
    outlook: Outlook,
    *,
    customer: UUID | None = None,
    after: str | None = None,
    limit: int = 50,
) -> tuple[list[dict[str, Any]], str | None]:
    """What the models expect of each customer, by id; and where the list goes on.

    ``p_alive`` is the chance that the customer will ever buy again, ``lifetime_value`` what
    purchases within the horizon are worth today. None where a model is not identified.
    """
    histories = _prepare(session, outlook)
    buying, spending = _models(session, histories)
    wanted = {"customer": customer and str(customer)}
    rows, more = session.page(PAGE, "customer_id", after, limit, wanted)
    mine = _histories(
        {name: np.array([row[name] for row in rows], float) for name in ("x", "t_x", "t")}
    )
    spent = np.array([row["spent"] for row in rows], float)
    alive, ahead, value = _outlooks(buying, spending, mine, spent, outlook)
    amounts = _expected_spending(spending, mine, spent)
    currency = session.scope.currency
    return [
        {
            "customer_id": UUID(row["customer_id"]),
            "repeats": row["x"],
            "recency_weeks": round(row["t_x"] / WEEK, 4),
            "age_weeks": round(row["t"] / WEEK, 4),
            "p_alive": _number(alive, at),
            "expected_purchases": _number(ahead, at),
            "expected_amount": _amount(amounts, at, currency),
            "lifetime_value": _amount(value, at, currency),
        }
        for at, row in enumerate(rows)
    ], more


def _until(session: Session, outlook: Outlook) -> date:
    return outlook.calibrate_to or session.scope.when.today


def _prepare(session: Session, outlook: Outlook) -> Histories:
    """Make ``each``, one row a customer, and read how many share a history.

    Raises:
        Unanswerable: when the models were to know what has not come yet.
    """
    today, until = session.scope.when.today, _until(session, outlook)
    if until > today:
        raise Unanswerable("calibrate_to", f"must not lie after the day of the answer, {today}")
    session.run(EACH, {"until": until, "today": today})
    return _histories(session.columns(HISTORIES))


def _histories(columns: dict[str, Any]) -> Histories:
    x, t_x, t = (np.asarray(columns[name], float) for name in ("x", "t_x", "t"))
    n = np.asarray(columns.get("n", np.ones_like(x)), float)
    return Histories(x, t_x / WEEK, t / WEEK, n)


def _models(session: Session, histories: Histories) -> tuple[Fit, Fit]:
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


def fit_purchases(histories: Histories) -> Fit:
    """BG/NBD: r and alpha of the rates at which customers buy, a and b of how they drop out.

    The likelihood is equation 6 of the paper; its gamma functions are taken as logarithms.
    """
    if not (histories.x > 0).any():
        return Fit(
            (), (), 0.0, "No customer bought on two days, so nothing tells how often any do."
        )
    rate = float(np.average(histories.t, weights=histories.n)) or 1.0
    bought = _greatest(
        lambda at: _buying(at, histories), [(1, rate, 1, 1), (0.2, rate / 4, 0.5, 2)]
    )
    forever = _greatest(lambda at: _buying_forever(at, histories), [(1, rate), (0.2, rate / 4)])
    parameters, log_likelihood, covariance = bought
    if 2 * (log_likelihood - forever[1]) < NO_DROPOUT:
        why = (
            "Customers who never drop out explain these purchases as well, so they do not tell "
            "who is still one."
        )
        return Fit(parameters, (), log_likelihood, why)
    if covariance is None:
        why = "The likelihood has no clear peak: these purchases fit many rates of dropping out."
        return Fit(parameters, (), log_likelihood, why)
    errors = _errors(parameters, covariance)
    odds = covariance[2, 2] + covariance[3, 3] - 2 * covariance[2, 3]
    if odds > UNKNOWN**2:
        why = "How many customers drop out is as good as unknown: there are too few purchases."
        return Fit(parameters, errors, log_likelihood, why)
    return Fit(parameters, errors, log_likelihood, None)


def _buying(at: Floats, given: Histories) -> tuple[float, Floats]:
    r, alpha, a, b = at
    x, again = given.x, given.x > 0
    alive = -(r + x) * np.log(alpha + given.t)
    gone = np.full_like(x, -np.inf)
    gone[again] = (
        np.log(a) - np.log(b + x[again] - 1) - (r + x[again]) * np.log(alpha + given.t_x[again])
    )
    either = np.logaddexp(alive, gone)
    w = np.exp(gone - either)
    of_rates = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    of_dropout = betaln(a, b + x) - betaln(a, b)
    value = (given.n * (of_rates + of_dropout + either)).sum()
    near = np.where(again, 1 / (alpha + given.t_x), 0)
    survived = w / np.where(again, b + x - 1, 1)
    slope = np.array(
        [
            psi(r + x)
            - psi(r)
            + np.log(alpha)
            - (1 - w) * np.log(alpha + given.t)
            - w * np.log(alpha + given.t_x),
            r / alpha - (r + x) * ((1 - w) / (alpha + given.t) + w * near),
            psi(a + b) - psi(a + b + x) + w / a,
            psi(a + b) - psi(b) + psi(b + x) - psi(a + b + x) - survived,
        ]
    )
    return float(value), slope @ given.n


def _buying_forever(at: Floats, given: Histories) -> tuple[float, Floats]:
    """The same without dropout: NBD."""
    r, alpha = at
    x = given.x
    value = gammaln(r + x) - gammaln(r) + r * np.log(alpha) - (r + x) * np.log(alpha + given.t)
    slope = np.array(
        [
            psi(r + x) - psi(r) + np.log(alpha) - np.log(alpha + given.t),
            r / alpha - (r + x) / (alpha + given.t),
        ]
    )
    return float((given.n * value).sum()), slope @ given.n


def fit_spending(x: Floats, mean: Floats, n: Floats) -> Fit:
    """Gamma-Gamma: p, q and v of what repeat purchases come to.

    Args:
        x: repeat purchases, at least 1.
        mean: what one of them came to, above 0.
        n: how many customers are such.
    """
    if not x.size:
        return Fit((), (), 0.0, "No customer has spent anything on a second day.")
    scale = float(np.average(mean, weights=n))  # the fit is the same in any unit of money
    mean = mean / scale

    def likelihood(at: Floats) -> tuple[float, Floats]:
        p, q, v = at
        all_of_it = np.log(x * mean + v)
        value = (
            gammaln(p * x + q)
            - gammaln(p * x)
            - gammaln(q)
            + q * np.log(v)
            + (p * x - 1) * np.log(mean)
            + p * x * np.log(x)
            - (p * x + q) * all_of_it
        )
        slope = np.array(
            [
                x * (psi(p * x + q) - psi(p * x) + np.log(mean) + np.log(x) - all_of_it),
                psi(p * x + q) - psi(q) + np.log(v) - all_of_it,
                q / v - (p * x + q) / (x * mean + v),
            ]
        )
        return float((n * value).sum()), slope @ n

    (p, q, v), log_likelihood, covariance = _greatest(likelihood, [(1, 2, 1), (5, 4, 0.5)])
    parameters = (p, q, v * scale)
    log_likelihood -= float(n.sum() * np.log(scale))
    if covariance is None:
        why = "The likelihood has no clear peak: these amounts fit many ways of spending."
        return Fit(parameters, (), log_likelihood, why)
    errors = _errors(parameters, covariance)
    if parameters[1] <= 1:
        why = "These amounts spread so widely that they have no mean (q is not above 1)."
        return Fit(parameters, errors, log_likelihood, why)
    return Fit(parameters, errors, log_likelihood, None)


def p_alive(parameters: Sequence[float], given: Histories) -> Floats:
    """The chance that a customer with this history will buy again some day."""
    r, alpha, a, b = parameters
    again = given.x > 0
    odds = np.zeros_like(given.x)
    x, t_x, t = given.x[again], given.t_x[again], given.t[again]
    odds[again] = np.exp(
        np.log(a) - np.log(b + x - 1) + (r + x) * (np.log(alpha + t) - np.log(alpha + t_x))
    )
    return 1 / (1 + odds)


def expected_purchases(parameters: Sequence[float], given: Histories, weeks: float) -> Floats:
    """How often a customer with this history is expected to buy within the next weeks.

    Equation 10 of the paper, its hypergeometric function after Euler's transformation, which stays
    finite for any number of purchases.
    """
    r, alpha, a, b = parameters
    if abs(a - 1) < 1e-5:  # noqa: PLR2004 - the formula has a gap at 1 alone, and is smooth around it
        a = 1 + 1e-5
    z = weeks / (alpha + given.t + weeks)
    c = a + b + given.x - 1
    left = (1 - z) ** (a - 1) * hyp2f1(a + b - 1 - r, a - 1, c, z)
    return np.asarray(c / (a - 1) * (1 - left) * p_alive(parameters, given))


def _expected_spending(fit: Fit, given: Histories, spent: Floats) -> Floats | None:
    """What a customer's next purchase is expected to come to."""
    if fit.missing is not None:
        return None
    p, q, v = fit.parameters
    return np.asarray(p * (v + np.maximum(spent, 0)) / (p * given.x + q - 1))


def _outlooks(
    buying: Fit, spending: Fit, given: Histories, spent: Floats, outlook: Outlook
) -> tuple[Floats | None, Floats | None, Floats | None]:
    """For each customer: the chance to be alive, purchases within the horizon, their value."""
    if buying.missing is not None:
        return None, None, None
    weeks = outlook.horizon_days / WEEK
    ahead = expected_purchases(buying.parameters, given, weeks)
    each = _expected_spending(spending, given, spent)
    if each is None:
        return p_alive(buying.parameters, given), ahead, None
    ends = [*np.arange(STEP_WEEKS, weeks, STEP_WEEKS), weeks]
    until = [np.zeros_like(given.x)]
    until += [expected_purchases(buying.parameters, given, end) for end in ends]
    worth = float(1 + outlook.discount_rate)
    now = sum(
        (later - sooner) / worth ** (end / YEAR_WEEKS)
        for (sooner, later), end in zip(pairwise(until), ends, strict=True)
    )
    return p_alive(buying.parameters, given), ahead, np.asarray(each * now)


def _frequencies(fit: Fit, given: Histories) -> list[dict[str, Any]]:
    """How many customers repeated so often, beside how many the model expects; last: or more."""
    counts = [float(given.n[given.x == k].sum()) for k in range(REPEATS)]
    total = float(given.n.sum())
    counts.append(total - sum(counts))
    expected: list[float | None] = [None] * len(counts)
    if fit.missing is None:
        shares = [
            float((given.n * _chance(fit.parameters, k, given.t)).sum()) for k in range(REPEATS)
        ]
        expected = [round(share, 3) for share in [*shares, total - sum(shares)]]
    return [
        {"repeats": k, "customers": int(count), "expected": found}
        for k, (count, found) in enumerate(zip(counts, expected, strict=True))
    ]


def _chance(parameters: Sequence[float], k: int, t: Floats) -> Floats:
    """That a customer repeats k times within t weeks: equation 8 of the paper."""
    r, alpha, a, b = parameters
    stay, move = alpha / (alpha + t), t / (alpha + t)

    def buys(j: int) -> Floats:
        return np.asarray(np.exp(gammaln(r + j) - gammaln(r) - gammaln(j + 1)) * stay**r * move**j)

    found = np.exp(betaln(a, b + k) - betaln(a, b)) * buys(k)
    if k > 0:
        dropped = np.exp(betaln(a + 1, b + k - 1) - betaln(a, b))
        found = found + dropped * (1 - sum(buys(j) for j in range(k)))
    return np.asarray(found)


def _greatest(
    likelihood: Likelihood, starts: Sequence[Sequence[float]]
) -> tuple[tuple[float, ...], float, Floats | None]:
    """Where a likelihood of positive parameters is greatest: where, how great, the covariance.

    The covariance is that of the parameters' logarithms, None where there is no peak.
    """

    def downhill(logs: Floats) -> tuple[float, Floats]:
        at = np.exp(np.clip(logs, -2 * FAR, 2 * FAR))
        value, slope = likelihood(at)
        return -value, -slope * at

    found = [
        minimize(
            downhill, np.log(start), jac=True, method="L-BFGS-B", bounds=[(-FAR, FAR)] * len(start)
        )
        for start in starts
    ]
    best = min(found, key=lambda one: float(one.fun))
    logs, hessian = _polished(downhill, np.asarray(best.x))
    covariance = None
    if (np.abs(logs) < FAR - 1).all() and (np.linalg.eigvalsh(hessian) > 0).all():
        covariance = np.asarray(np.linalg.inv(hessian), np.float64)
    return tuple(map(float, np.exp(logs))), -float(downhill(logs)[0]), covariance


def _polished(
    downhill: Callable[[Floats], tuple[float, Floats]], logs: Floats
) -> tuple[Floats, Floats]:
    """Newton's method from near the lowest point, so that every machine ends at the same digits."""
    for _ in range(NEWTON_STEPS):
        value, slope = downhill(logs)
        hessian = _hessian(downhill, logs)
        if (np.linalg.eigvalsh(hessian) <= 0).any():
            break
        step = np.linalg.solve(hessian, slope)
        if np.abs(step).max() > 1 or downhill(logs - step)[0] > value:
            break
        logs = logs - step
        if np.abs(step).max() < 1e-10:  # noqa: PLR2004 - far below what is told
            break
    return logs, _hessian(downhill, logs)


def _hessian(downhill: Callable[[Floats], tuple[float, Floats]], logs: Floats) -> Floats:
    near = 1e-5
    rows = [
        (downhill(logs + by)[1] - downhill(logs - by)[1]) / (2 * near)
        for by in near * np.eye(logs.size)
    ]
    return np.asarray((np.array(rows) + np.array(rows).T) / 2)


def _errors(parameters: Sequence[float], covariance: Floats) -> tuple[float, ...]:
    return tuple(map(float, np.array(parameters) * np.sqrt(np.diag(covariance))))


def _correlation(session: Session) -> float | None:
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


def _amount(values: Floats | None, at: int, currency: str | None) -> dict[str, Any] | None:
    return None if values is None else money(Decimal(repr(float(values[at]))), currency)
