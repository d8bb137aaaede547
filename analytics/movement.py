"""Who moved from which segment to which since an earlier moment."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from analytics.facts.asking import Session, purchases
from analytics.facts.scope import OfPurchases
from analytics.figure import Chart, Figure
from analytics.rfm import NOWHERE, SEGMENTS_OF, AskScores, Scoring, ScoringHead, score, scoring_head
from projections.asking.clocks import Unanswerable
from projections.asking.listing import Paged
from projections.asking.pages import closed, opened
from projections.asking.parameters import Word
from projections.asking.shape import Shape


class AskMovement(AskScores):
    """What may be asked of the movement between segments."""

    since: Annotated[
        str,
        Field(max_length=40, description="The moment to compare with.", examples=["2026-03-31"]),
    ]


class AskMoved(AskMovement, Paged):
    """What may be asked of the customers behind the movement."""

    before: Word = None
    after: Word = None


class MovementHead(ScoringHead):
    """The same, and the moment that is compared with."""

    since: datetime


class Move(Shape):
    """How many customers went from one segment to another; null where they had or have none."""

    before: str | None
    after: str | None
    customers: int


class MovedCustomer(Shape):
    """A customer's segments at both moments; null where it had or has none."""

    customer_id: UUID
    before: str | None
    after: str | None


def movement(session: Session[OfPurchases], asked: AskMovement) -> list[Move]:
    """How many customers went from which segment to which; None where they had or have none."""
    counted = Counter(_places(session, asked).values())
    return [
        Move.of(before=before, after=after, customers=number)
        for (before, after), number in sorted(
            counted.items(), key=lambda item: (item[0][0] or "", item[0][1] or "")
        )
    ]


def moved(session: Session[OfPurchases], asked: AskMoved) -> tuple[list[MovedCustomer], str | None]:
    """The customers behind the movement, by id; NOWHERE stands for no segment.

    Raises:
        Unanswerable: when the scheme has no such segment.
    """
    names = (*SEGMENTS_OF[asked.scheme], NOWHERE)
    for field, name in (("before", asked.before), ("after", asked.after)):
        if name is not None and name not in names:
            raise Unanswerable(field, f"must be one of {', '.join(names)}")
    beyond = ""
    if asked.cursor is not None:
        [beyond] = opened("moved", asked.cursor, [str])
    rows = [
        MovedCustomer.of(customer_id=UUID(customer), before=was, after=is_now)
        for customer, (was, is_now) in sorted(_places(session, asked).items())
        if asked.before in {None, was or NOWHERE}
        and asked.after in {None, is_now or NOWHERE}
        and customer > beyond
    ]
    if len(rows) <= asked.limit:
        return rows, None
    return rows[: asked.limit], closed("moved", [str(rows[asked.limit - 1].customer_id)])


def _places(
    session: Session[OfPurchases], asked: AskMovement
) -> dict[str, tuple[str | None, str | None]]:
    """Each customer's segment at both moments."""
    scoring = asked.scoring()
    with purchases(session.on.at(asked.since), asked) as then:
        was = _segments(then, scoring)
    now = _segments(session, scoring)
    return {customer: (was.get(customer), now.get(customer)) for customer in {*was, *now}}


def _segments(session: Session[OfPurchases], scoring: Scoring) -> dict[str, str]:
    score(session, scoring)
    rows = session.rows("SELECT customer_id, segment FROM segmented")
    return {row["customer_id"]: row["segment"] for row in rows}


def _movement_head(session: Session[OfPurchases], asked: AskMovement) -> MovementHead:
    since = session.on.at(asked.since).when.as_of
    return MovementHead.of(scoring_head(session, asked), since=since)


FIGURES: tuple[Figure[Any, Any], ...] = (
    Figure(
        name="rfm/movement",
        operation="rfm_movement",
        says="How many customers moved from which segment to which since an earlier moment.",
        asks=AskMovement,
        row=Move,
        answer=movement,
        head=MovementHead,
        heads=_movement_head,
        chart=Chart("after", ("customers",), by="before"),
    ),
    Figure(
        name="rfm/movement/customers",
        operation="moved",
        says="The customers who moved from one segment to another; `none` is no segment.",
        asks=AskMoved,
        row=MovedCustomer,
        answer=moved,
        head=MovementHead,
        heads=_movement_head,
    ),
)
