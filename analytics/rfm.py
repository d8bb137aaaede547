"""Recency, frequency, monetary value.

R is the whole days from a customer's last purchase to the moment, F and M are number and amount of
purchases in the window, M the total or the mean. Whoever bought nothing in it is not scored.

A score is 1 to 5. By share, equal values get equal scores: 1 + floor(5 x the share of customers who
are strictly worse). By thresholds, four rising numbers: F and M score 1 more for each that they
reach, R 1 less for each that it exceeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pyarrow as pa
from pydantic import Field

from analytics.facts.asking import Session
from analytics.facts.scope import OfPurchases
from analytics.figure import Chart, Figure
from projections.asking.clocks import Unanswerable
from projections.asking.listing import Paged
from projections.asking.money import Balance, balance
from projections.asking.shape import Shape

Thresholds = Annotated[
    str | None,
    Field(
        pattern=r"^[0-9]{1,12}(,[0-9]{1,12}){3}$",
        description="Four rising numbers; without them customers are scored by equal share.",
        examples=["30,90,180,365"],
    ),
]
Scheme = Literal["value", "value-of-scores", "named"]
Monetary = Literal["total", "mean"]
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
EDGES = 4
"""Thresholds between five scores."""
NOWHERE = "none"
"""The name of no segment, for whoever had bought nothing in the window."""
EACH = """
CREATE TEMP TABLE each AS
SELECT *, {m} AS m FROM (
    SELECT customer_id, $today - max(day) AS r, count(*) FILTER (in_window) AS f,
           sum(amount) FILTER (in_window) AS total, (total / f)::DECIMAL(38, 9) AS mean
      FROM bought GROUP BY customer_id HAVING bool_or(in_window))
"""
SEGMENTS = """
SELECT segment, count(*) AS customers, sum(f)::BIGINT AS purchases, sum(total) AS amount
  FROM segmented GROUP BY segment ORDER BY segment
"""
CUSTOMERS = """
SELECT customer_id, r AS recency_days, f AS frequency, total AS monetary, mean AS monetary_mean,
       r_score, f_score, m_score, segment
  FROM segmented
 WHERE ($segment IS NULL OR segment = $segment) AND ($customer IS NULL OR customer_id = $customer)
"""
EVERY = """
SELECT customer_id, $currency AS currency, r AS recency_days, f AS frequency, total AS monetary,
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
    monetary: Monetary = "total"
    r: Sequence[int] | None = None
    f: Sequence[int] | None = None
    m: Sequence[Decimal] | None = None


class AskScores(OfPurchases):
    """What may be asked of scores and segments."""

    scheme: Scheme = "value"
    monetary: Annotated[
        Monetary, Field(description="What M is: the total amount, or the mean of a purchase.")
    ] = "total"
    r_thresholds: Thresholds = None
    f_thresholds: Thresholds = None
    m_thresholds: Thresholds = None

    def check(self) -> None:
        """See ``Asked``."""
        super().check()
        self.scoring()

    def scoring(self) -> Scoring:
        """How customers are to be scored.

        Raises:
            Unanswerable: when thresholds do not rise.
        """
        amounts = _rising("m_thresholds", self.m_thresholds)
        return Scoring(
            self.scheme,
            self.monetary,
            _rising("r_thresholds", self.r_thresholds),
            _rising("f_thresholds", self.f_thresholds),
            None if amounts is None else [Decimal(edge) for edge in amounts],
        )


class AskScored(AskScores, Paged):
    """What may be asked of the customers behind the segments."""

    segment: Annotated[str | None, Field(max_length=30, examples=["important-value"])] = None
    customer_id: UUID | None = None


class ScoringShape(Shape):
    """How customers were scored."""

    scheme: Scheme
    monetary: Monetary
    r_thresholds: list[int] | None
    f_thresholds: list[int] | None
    m_thresholds: list[str] | None


class ScoringHead(Shape):
    """How customers were scored."""

    scoring: ScoringShape


class SegmentShape(Shape):
    """One segment's customers, with their purchases and amounts in the window."""

    segment: str
    customers: int
    purchases: int
    amount: Balance | None


class Scored(Shape):
    """A customer's recency, frequency and monetary value."""

    customer_id: UUID
    recency_days: int
    frequency: int
    monetary: Balance | None
    monetary_mean: Balance | None = Field(description="monetary / frequency.")
    r_score: int
    f_score: int
    m_score: int
    segment: str


def _rising(field: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    edges = [int(part) for part in text.split(",")]
    if edges != sorted(set(edges)):
        raise Unanswerable(field, "must rise, like 30,90,180,365")
    return edges


def segments(session: Session[OfPurchases], asked: AskScores) -> list[SegmentShape]:
    """How many customers are in each segment, with their purchases and amounts in the window."""
    score(session, asked.scoring())
    return [
        SegmentShape.of(
            segment=row["segment"],
            customers=row["customers"],
            purchases=row["purchases"],
            amount=balance(row["amount"], session.scope.currency),
        )
        for row in session.rows(SEGMENTS)
    ]


def every(session: Session[OfPurchases], scoring: Scoring) -> pa.Table:
    """The scores of all customers, with their currency."""
    score(session, scoring)
    found = session.conn.sql(EVERY, params={"currency": session.scope.currency})
    return found.to_arrow_table()


def customers(session: Session[OfPurchases], asked: AskScored) -> tuple[list[Scored], str | None]:
    """The scores of each customer, by id.

    Raises:
        Unanswerable: when the scheme has no such segment.
    """
    names = SEGMENTS_OF[asked.scheme]
    if asked.segment is not None and asked.segment not in names:
        raise Unanswerable("segment", f"must be one of {', '.join(names)}")
    score(session, asked.scoring())
    values = {
        "segment": asked.segment,
        "customer": asked.customer_id and str(asked.customer_id),
    }
    rows, more = session.page(CUSTOMERS, "customer_id", asked, values)
    for row in rows:
        for name in ("monetary", "monetary_mean"):
            row[name] = balance(row[name], session.scope.currency)
        row["customer_id"] = UUID(row["customer_id"])
    return [Scored.of(**row) for row in rows], more


def scoring_head(_: Session[OfPurchases], asked: AskScores) -> ScoringHead:
    """What an answer says of the scoring."""
    scoring = asked.scoring()
    return ScoringHead(
        scoring=ScoringShape(
            scheme=scoring.scheme,
            monetary=scoring.monetary,
            r_thresholds=scoring.r and list(scoring.r),
            f_thresholds=scoring.f and list(scoring.f),
            m_thresholds=scoring.m and [str(edge) for edge in scoring.m],
        )
    )


def score(session: Session[OfPurchases], scoring: Scoring) -> None:
    """Make ``segmented``: one row a customer with r, f, m, their scores, and the segment."""
    session.run(EACH.format(m=scoring.monetary), {"today": session.when.today})
    session.let("edges", {"r": scoring.r, "f": scoring.f, "m": scoring.m})
    scores = (
        f"{_by_share('r', 'DESC') if scoring.r is None else _below('r')} AS r_score, "
        f"{_by_share('f', 'ASC') if scoring.f is None else _above('f')} AS f_score, "
        f"{_by_share('m', 'ASC') if scoring.m is None else _above('m')} AS m_score"
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


def _above(value: str) -> str:
    return " + ".join(["1", *(f"({value} >= {edge})::INTEGER" for edge in _edges(value))])


def _below(value: str) -> str:
    return " - ".join(["5", *(f"({value} > {edge})::INTEGER" for edge in _edges(value))])


def _edges(value: str) -> list[str]:
    return [f"getvariable('edges').{value}[{n}]" for n in range(1, EDGES + 1)]


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


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="rfm",
        operation="rfm_segments",
        says="Recency, frequency and monetary value: how many customers are in which segment.",
        asks=AskScores,
        row=SegmentShape,
        answer=segments,
        head=ScoringHead,
        heads=scoring_head,
        chart=Chart("segment", ("customers",)),
    ),
    Figure(
        name="rfm/customers",
        operation="rfm_customers",
        says="The customers behind the segments, each with its scores.",
        asks=AskScored,
        row=Scored,
        answer=customers,
        head=ScoringHead,
        heads=scoring_head,
    ),
)
