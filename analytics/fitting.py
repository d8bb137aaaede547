"""BG/NBD and Gamma-Gamma by maximum likelihood: when customers buy, and what that comes to.

BG/NBD is of Fader, Hardie and Lee, "Counting Your Customers" the Easy Way, Marketing Science 24
(2005); Gamma-Gamma of Fader and Hardie, The Gamma-Gamma Model of Monetary Value (2013). Times are
weeks. Where the data do not bear a model, its fit says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import betaln, gammaln, hyp2f1, psi

Floats = NDArray[np.float64]
Likelihood = Callable[[Floats], tuple[float, Floats]]
"""Of parameters: the log-likelihood and its gradient."""

NEWTON_STEPS = 50
FAR = 12.0
"""A parameter beyond e to this, either way, has run away."""
NO_DROPOUT = 2.71
"""Twice the gain in log-likelihood by which dropout counts as seen: a boundary test at 5 %."""
UNKNOWN = 1.0
"""Standard error from which on a size counts as unknown: of the log odds of dropout, and of the
logarithm of a parameter of spending."""


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
    if (np.diag(covariance) > UNKNOWN**2).any():
        why = (
            "How much amounts differ, from customer to customer or from purchase to purchase, is "
            "as good as unknown: there are too few purchases, or they come to nearly the same."
        )
        return Fit(parameters, errors, log_likelihood, why)
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


def chance(parameters: Sequence[float], k: int, t: Floats) -> Floats:
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


YEAR_WEEKS = 365.25 / 7
STEP_WEEKS = 4.0
"""Purchases so far ahead are discounted alike."""


def expected_spending(fit: Fit, given: Histories, spent: Floats) -> Floats | None:
    """What a customer's next purchase is expected to come to."""
    if fit.missing is not None:
        return None
    p, q, v = fit.parameters
    return np.asarray(p * (v + np.maximum(spent, 0)) / (p * given.x + q - 1))


def outlooks(
    models: tuple[Fit, Fit], given: Histories, spent: Floats, weeks: float, worth: float
) -> tuple[Floats | None, Floats | None, Floats | None]:
    """For each customer: the chance to be alive, purchases within the horizon, their value.

    Args:
        models: of buying and of spending.
        weeks: the horizon.
        worth: what a year divides an amount by.
    """
    buying, spending = models
    if buying.missing is not None:
        return None, None, None
    ahead = expected_purchases(buying.parameters, given, weeks)
    each = expected_spending(spending, given, spent)
    if each is None:
        return p_alive(buying.parameters, given), ahead, None
    ends = [*np.arange(STEP_WEEKS, weeks, STEP_WEEKS), weeks]
    until = [np.zeros_like(given.x)]
    until += [expected_purchases(buying.parameters, given, end) for end in ends]
    now = sum(
        (later - sooner) / worth ** (end / YEAR_WEEKS)
        for (sooner, later), end in zip(pairwise(until), ends, strict=True)
    )
    return p_alive(buying.parameters, given), ahead, np.asarray(each * now)
