"""Recency, frequency, monetary value.

R is the whole days from a customer's last purchase to the moment, F and M are number and amount of
purchases in the window; whoever bought nothing in the window is not scored.

A score is 1 to 5. By share, equal values get equal scores: 1 + floor(5 x the share of customers who
are strictly worse). By thresholds, four rising numbers: F and M score 1 more for each that they
reach, R 1 less for each that it exceeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import pyarrow as pa

from analytics.facts.asking import Session
from projections.asking.clocks import Unanswerable
from projections.asking.money import money

Scheme = Literal["value", "value-of-scores", "named"]
VALUE_SEGMENTS = {
    (True, True, True): "important-value",
    (True, False, True): "important-develop",
    (False, True, True): "important-keep",
    (False, False, True): "important-win-back",
    (True, True, False): "general-value",
    (True, False, False): "general-develop",
    (False, True, False): "general-keep",
    (False, False, False): "general-win-back",
}
"""By whether R, F, M, or else their scores, are better than their means: 重要价值客户,
重要发展客户, 重要保持客户, 重要挽留客户, and the same four with 一般."""
NAMED_SEGMENTS = (
    ("champions", (5, 5), (4, 5)),
    ("loyal", (3, 4), (4, 5)),
    ("potential-loyalists", (4, 5), (2, 3)),
    ("new", (5, 5), (1, 1)),
    ("promising", (4, 4), (1, 1)),
    ("need-attention", (3, 3), (3, 3)),
    ("about-to-sleep", (3, 3), (1, 2)),
    ("at-risk", (1, 2), (3, 4)),
    ("cannot-lose", (1, 2), (5, 5)),
    ("hibernating", (1, 2), (1, 2)),
)
"""The usual names on the grid of R and F: the first and last score of R, then of F."""
NOWHERE = "none"
"""The name of no segment, for whoever had bought nothing in the window."""
EACH = """
CREATE TEMP TABLE each AS
SELECT customer_id, $today - max(day) AS r, count(*) FILTER (in_window) AS f,
       sum(amount) FILTER (in_window) AS m
  FROM bought GROUP BY customer_id HAVING bool_or(in_window)
"""
SEGMENTS = """
SELECT segment, count(*) AS customers, sum(f)::BIGINT AS purchases, sum(m) AS amount
  FROM segmented GROUP BY segment ORDER BY segment
"""
CUSTOMERS = """
SELECT customer_id, r AS recency_days, f AS frequency, m AS monetary,
       r_score, f_score, m_score, segment
  FROM segmented
 WHERE ($segment IS NULL OR segment = $segment) AND ($customer IS NULL OR customer_id = $customer)
"""
EVERY = """
SELECT customer_id, $currency AS currency, r AS recency_days, f AS frequency, m AS monetary,
       r_score, f_score, m_score, segment
  FROM segmented
"""


SEGMENTS_OF: dict[Scheme, tuple[str, ...]] = {
    "value": tuple(VALUE_SEGMENTS.values()),
    "value-of-scores": tuple(VALUE_SEGMENTS.values()),
    "named": tuple(name for name, *_ in NAMED_SEGMENTS),
}


@dataclass(frozen=True, slots=True)
class Scoring:
    """How customers are scored; thresholds of None score by share."""

    scheme: Scheme = "value"
    r: Sequence[int] | None = None
    f: Sequence[int] | None = None
    m: Sequence[Decimal] | None = None

    def told(self) -> dict[str, Any]:
        """The parameters as an answer names them."""
        return {
            "scheme": self.scheme,
            "r_thresholds": self.r and list(self.r),
            "f_thresholds": self.f and list(self.f),
            "m_thresholds": self.m and [str(edge) for edge in self.m],
        }


def segments(session: Session, scoring: Scoring) -> list[dict[str, Any]]:
    """How many customers are in each segment, with their purchases and amounts in the window."""
    _score(session, scoring)
    rows = session.rows(SEGMENTS)
    for row in rows:
        row["amount"] = money(row["amount"], session.scope.currency)
    return rows


def every(session: Session, scoring: Scoring) -> pa.Table:
    """The scores of all customers, with their currency."""
    _score(session, scoring)
    found = session.conn.sql(EVERY, params={"currency": session.scope.currency})
    return found.to_arrow_table()


def customers(
    session: Session,
    scoring: Scoring,
    *,
    segment: str | None = None,
    customer: UUID | None = None,
    after: str | None = None,
    limit: int = 50,
) -> tuple[list[dict[str, Any]], str | None]:
    """The scores of each customer, by id; and where the list goes on.

    Raises:
        Unanswerable: when the scheme has no such segment.
    """
    names = SEGMENTS_OF[scoring.scheme]
    if segment is not None and segment not in names:
        raise Unanswerable("segment", f"must be one of {', '.join(names)}")
    _score(session, scoring)
    asked = {"segment": segment, "customer": customer and str(customer)}
    rows, more = session.page(CUSTOMERS, "customer_id", after, limit, asked)
    for row in rows:
        row["monetary"] = money(row["monetary"], session.scope.currency)
        row["customer_id"] = UUID(row["customer_id"])
    return rows, more


def movement(then: Session, now: Session, scoring: Scoring) -> list[dict[str, Any]]:
    """How many customers went from which segment to which; None where they had or have none."""
    counted: dict[tuple[str | None, str | None], int] = {}
    for before, after in _places(then, now, scoring).values():
        counted[before, after] = counted.get((before, after), 0) + 1
    return [
        {"before": before, "after": after, "customers": number}
        for (before, after), number in sorted(
            counted.items(), key=lambda item: (item[0][0] or "", item[0][1] or "")
        )
    ]


def moved(
    then: Session,
    now: Session,
    scoring: Scoring,
    *,
    before: str | None = None,
    after: str | None = None,
    beyond: str | None = None,
    limit: int = 50,
) -> tuple[list[dict[str, Any]], str | None]:
    """The customers behind the movement, by id; and where the list goes on.

    Args:
        before: the segment that they had; NOWHERE for none.
        after: the one that they have.
        beyond: the customer after whom the list goes on.

    Raises:
        Unanswerable: when the scheme has no such segment.
    """
    names = (*SEGMENTS_OF[scoring.scheme], NOWHERE)
    for field, name in (("before", before), ("after", after)):
        if name is not None and name not in names:
            raise Unanswerable(field, f"must be one of {', '.join(names)}")
    rows = [
        {"customer_id": UUID(customer), "before": was, "after": is_now}
        for customer, (was, is_now) in sorted(_places(then, now, scoring).items())
        if (before is None or (was or NOWHERE) == before)
        and (after is None or (is_now or NOWHERE) == after)
        and (beyond is None or customer > beyond)
    ]
    return rows[:limit], str(rows[limit - 1]["customer_id"]) if len(rows) > limit else None


def _places(then: Session, now: Session, scoring: Scoring) -> dict[str, list[str | None]]:
    """Each customer's segment at both moments."""
    places: dict[str, list[str | None]] = {}
    for at, session in enumerate((then, now)):
        _score(session, scoring)
        for row in session.rows("SELECT customer_id, segment FROM segmented"):
            places.setdefault(row["customer_id"], [None, None])[at] = row["segment"]
    return places


def _score(session: Session, scoring: Scoring) -> None:
    """Make ``segmented``: one row a customer with r, f, m, their scores, and the segment."""
    session.run(EACH, {"today": session.scope.when.today})
    scores = (
        f"{_by_share('r', 'DESC') if scoring.r is None else _below('r', scoring.r)} AS r_score, "
        f"{_by_share('f', 'ASC') if scoring.f is None else _above('f', scoring.f)} AS f_score, "
        f"{_by_share('m', 'ASC') if scoring.m is None else _above('m', scoring.m)} AS m_score"
    )
    segment = _named_segment() if scoring.scheme == "named" else _value_segment(scoring.scheme)
    session.run(
        f"CREATE TEMP VIEW segmented AS SELECT *, {segment} AS segment "
        f"FROM (SELECT *, {scores} FROM each)"
    )


def _by_share(value: str, direction: str) -> str:
    """5 x worse / all in whole numbers; those strictly worse are the ones ranked before."""
    return (
        f"(1 + 5 * (rank() OVER (ORDER BY {value} {direction}) - 1) // count(*) OVER ())::INTEGER"
    )


def _above(value: str, edges: Sequence[Decimal | int]) -> str:
    return " + ".join(["1", *(f"({value} >= {edge})::INTEGER" for edge in edges)])


def _below(value: str, edges: Sequence[int]) -> str:
    return " - ".join(["5", *(f"({value} > {edge})::INTEGER" for edge in edges)])


def _value_segment(scheme: Scheme) -> str:
    """Compared in whole numbers: n x value beside the sum, so that no mean is rounded."""
    r, f, m = ("-r", "f", "m") if scheme == "value" else ("r_score", "f_score", "m_score")
    good, often, much = (f"{x} * count(*) OVER () > sum({x}) OVER ()" for x in (r, f, m))
    cases = " ".join(
        f"WHEN {_is(r, good)} AND {_is(f, often)} AND {_is(m, much)} THEN '{name}'"
        for (r, f, m), name in VALUE_SEGMENTS.items()
    )
    return f"CASE {cases} END"


def _is(wanted: bool, condition: str) -> str:
    return f"({condition})" if wanted else f"NOT ({condition})"


def _named_segment() -> str:
    cases = " ".join(
        f"WHEN r_score BETWEEN {r[0]} AND {r[1]} "
        f"AND f_score BETWEEN {f[0]} AND {f[1]} THEN '{name}'"
        for name, r, f in NAMED_SEGMENTS
    )
    return f"CASE {cases} END"
