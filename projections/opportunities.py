"""Read model ``opportunities``: deals as they stand, each stage they stood in, quotes, pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, assert_never
from uuid import UUID

from events.company import PipelineDefined
from events.envelope import Recorded
from events.opportunity import (
    CustomerIdentified,
    OpportunityEvent,
    OpportunityLost,
    OpportunityOpened,
    OpportunityReopened,
    OpportunityWon,
    QuoteGiven,
    StageMoved,
)
from events.values import Money
from projections.model import ReadModel
from projections.tables import Row, Rows, Table


@dataclass(slots=True)
class OpportunityRow(Row):
    """A deal as it stands; ``opened_position`` is 0 where its opening is not among the events."""

    opportunity_id: UUID
    version: int = 0
    position: int = 0
    opened_position: int = 0
    title: str | None = None
    pipeline: str | None = None
    stage: str | None = None
    kind: str = "open"
    customer_id: UUID | None = None
    owner: str | None = None
    product: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    expected_close: date | None = None
    lost_reason: str | None = None
    comment: str | None = None
    opened_at: datetime | None = None
    stage_since: datetime | None = None
    closed_at: datetime | None = None
    changed_at: datetime | None = None


@dataclass(slots=True)
class StageRow(Row):
    """A fact, never changed: the deal came to stand in this stage."""

    opportunity_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    stage: str | None = None
    kind: str = "open"
    actor: str | None = None


@dataclass(slots=True)
class AmountRow(Row):
    """A fact, never changed: the deal came to be worth this."""

    opportunity_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    amount: Decimal | None = None
    currency: str | None = None


@dataclass(slots=True)
class QuoteRow(Row):
    """A quote given; old quotes stay."""

    opportunity_id: UUID
    quote_id: UUID
    version: int = 0
    position: int = 0
    occurred_at: datetime | None = None
    given_by: str | None = None
    total: Decimal | None = None
    currency: str | None = None
    valid_until: date | None = None
    lines: list[Any] | None = None


@dataclass(slots=True)
class PipelineRow(Row):
    """A pipeline that the company defined, as it was defined last."""

    company_id: UUID
    name: str
    version: int = 0
    position: int = 0
    stages: list[Any] | None = None


OPPORTUNITIES = Table(
    "opportunities",
    OpportunityRow,
    key=("opportunity_id",),
    indexes=(
        "(opened_at, opportunity_id)",
        "(customer_id)",
        "(owner, kind)",
        "(pipeline, stage, kind, currency) INCLUDE (amount)",
    ),
)
STAGES = Table("stages", StageRow, key=("opportunity_id", "version"))
AMOUNTS = Table("amounts", AmountRow, key=("opportunity_id", "version"))
QUOTES = Table("quotes", QuoteRow, key=("opportunity_id", "quote_id"))
PIPELINES = Table("pipelines", PipelineRow, key=("company_id", "name"))

Events = OpportunityEvent | PipelineDefined


def apply(rows: Rows, recorded: Recorded) -> None:
    """Change the deal's rows by one event."""
    event: Events = recorded.event  # type: ignore[assignment]
    if isinstance(event, PipelineDefined):
        pipeline = rows.get(PIPELINES, recorded.stream_id, event.name)
        pipeline.version, pipeline.position = recorded.version, recorded.position
        pipeline.stages = [stage.model_dump(mode="json") for stage in event.stages]
        return
    deal = rows.get(OPPORTUNITIES, recorded.stream_id)
    deal.version, deal.position = recorded.version, recorded.position
    deal.changed_at = recorded.occurred_at
    match event:
        case OpportunityOpened():
            deal.title, deal.pipeline = event.title, event.pipeline
            deal.customer_id, deal.owner = event.customer_id, event.owner
            deal.product, deal.expected_close = event.product, event.expected_close
            deal.opened_at, deal.opened_position = recorded.occurred_at, recorded.position
            _stand(rows, recorded, deal, event.stage, "open")
            _worth(rows, recorded, deal, event.amount)
        case CustomerIdentified():
            deal.customer_id = event.customer_id
        case StageMoved():
            _stand(rows, recorded, deal, event.stage, "open")
        case QuoteGiven():
            quote = rows.get(QUOTES, recorded.stream_id, event.quote_id)
            quote.version, quote.position = recorded.version, recorded.position
            quote.occurred_at, quote.given_by = recorded.occurred_at, recorded.actor
            quote.total, quote.currency = event.total.amount, event.total.currency
            quote.valid_until = event.valid_until
            quote.lines = [line.model_dump(mode="json") for line in event.lines]
            _worth(rows, recorded, deal, event.total)
        case OpportunityWon():
            deal.closed_at = recorded.occurred_at
            _stand(rows, recorded, deal, event.stage, "won")
            _worth(rows, recorded, deal, event.amount)
        case OpportunityLost():
            deal.closed_at = recorded.occurred_at
            deal.lost_reason, deal.comment = event.reason, event.comment
            _stand(rows, recorded, deal, event.stage, "lost")
        case OpportunityReopened():
            deal.closed_at = deal.lost_reason = deal.comment = None
            _stand(rows, recorded, deal, event.stage, "open")
        case _:
            assert_never(event)


def _stand(rows: Rows, recorded: Recorded, deal: OpportunityRow, stage: str, kind: str) -> None:
    deal.stage, deal.kind, deal.stage_since = stage, kind, recorded.occurred_at
    rows.put(
        STAGES,
        StageRow(
            recorded.stream_id,
            recorded.version,
            recorded.position,
            recorded.occurred_at,
            recorded.recorded_at,
            stage,
            kind,
            recorded.actor,
        ),
    )


def _worth(rows: Rows, recorded: Recorded, deal: OpportunityRow, amount: Money | None) -> None:
    if amount is None:
        return
    deal.amount, deal.currency = amount.amount, amount.currency
    rows.put(
        AMOUNTS,
        AmountRow(
            recorded.stream_id,
            recorded.version,
            recorded.position,
            recorded.occurred_at,
            amount.amount,
            amount.currency,
        ),
    )


MODEL = ReadModel(
    "opportunities", (OPPORTUNITIES, STAGES, AMOUNTS, QUOTES, PIPELINES), Events, apply
)
