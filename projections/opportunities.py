"""Read model ``opportunities``: deals, each stage they stood in, quotes, pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, assert_never
from uuid import UUID

from events.company import DEFAULT_PIPELINES, PipelineDefined
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
from projections.asking.clocks import FOREVER, Moment, Unanswerable
from projections.asking.money import money
from projections.asking.pages import LIMIT, Filter, fetch, page
from projections.engine.model import ReadModel
from projections.engine.tables import Connection, Row, Rows, Table


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
    """A fact, never changed: from here on the company sold through these stages."""

    company_id: UUID
    version: int
    position: int = 0
    name: str | None = None
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
STAGES = Table("stages", StageRow, key=("opportunity_id", "version"), facts=True)
AMOUNTS = Table("amounts", AmountRow, key=("opportunity_id", "version"), facts=True)
QUOTES = Table("quotes", QuoteRow, key=("opportunity_id", "quote_id"))
PIPELINES = Table("pipelines", PipelineRow, key=("company_id", "version"))

Events = OpportunityEvent | PipelineDefined


def apply(rows: Rows, recorded: Recorded) -> None:
    """Change the deal's rows by one event."""
    event: Events = recorded.event  # type: ignore[assignment]  # the model names its events
    if isinstance(event, PipelineDefined):
        pipeline = rows.get(PIPELINES, recorded.stream_id, recorded.version)
        pipeline.name, pipeline.position = event.name, recorded.position
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
    rows.add(
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
    rows.add(
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

SELECT = """
SELECT o.*, c.name AS customer_name
  FROM opportunities o LEFT JOIN customers c USING (customer_id)
"""


def opportunity(conn: Connection, opportunity_id: UUID) -> dict[str, Any] | None:
    """One deal with every stage it stood in and every quote given, or None."""
    rows = fetch(
        conn, f"{SELECT} WHERE o.opportunity_id = %s AND opened_position > 0", (opportunity_id,)
    )
    if not rows:
        return None
    deal = shown(rows[0])
    deal["stages"] = fetch(
        conn,
        "SELECT version, stage, kind, occurred_at, recorded_at, actor, position "
        "FROM stages WHERE opportunity_id = %s ORDER BY version",
        (opportunity_id,),
    )
    deal["quotes"] = quotes(conn, [opportunity_id])
    return deal


def quotes(conn: Connection, opportunity_ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """Every quote given for these deals, oldest first."""
    rows = fetch(
        conn,
        "SELECT quote_id AS id, opportunity_id, version, occurred_at, given_by, total, currency, "
        "valid_until, lines FROM quotes WHERE opportunity_id = ANY (%s) "
        "ORDER BY occurred_at, opportunity_id, version",
        (list(opportunity_ids),),
    )
    for row in rows:
        row["total"] = money(row["total"], row.pop("currency"))
    return rows


def opportunities(
    conn: Connection,
    *,
    owner: str | None = None,
    customer_id: UUID | None = None,
    pipeline: str | None = None,
    stage: str | None = None,
    kind: str | None = None,
    product: str | None = None,
    opened_from: datetime | None = None,
    opened_to: datetime | None = None,
    closed_from: datetime | None = None,
    closed_to: datetime | None = None,
    cursor: str | None = None,
    limit: int = LIMIT,
) -> tuple[list[dict[str, Any]], str | None]:
    """Deals by the time of their opening."""
    return page(
        conn,
        SELECT,
        [
            Filter("o.opened_position > 0 AND %s", (True,)),
            Filter("o.owner = %s", (owner,)),
            Filter("o.customer_id = %s", (customer_id,)),
            Filter("o.pipeline = %s", (pipeline,)),
            Filter("o.stage = %s", (stage,)),
            Filter("o.kind = %s", (kind,)),
            Filter("o.product = %s", (product,)),
            Filter("o.opened_at >= %s", (opened_from,)),
            Filter("o.opened_at < %s", (opened_to,)),
            Filter("o.closed_at >= %s", (closed_from,)),
            Filter("o.closed_at < %s", (closed_to,)),
        ],
        ("o.opened_at", "o.opportunity_id"),
        cursor,
        limit,
        shape=shown,
    )


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A deal as the API shows it."""
    del row["position"], row["opened_position"]
    row["id"] = row.pop("opportunity_id")
    row["amount"] = money(row["amount"], row.pop("currency"))
    customer_id, name = row.pop("customer_id"), row.pop("customer_name")
    row["customer"] = None if customer_id is None else {"id": customer_id, "name": name}
    return row


def pipelines(conn: Connection, when: Moment) -> dict[str, list[dict[str, Any]]]:
    """The stages of every pipeline, in order, as known at a moment.

    Business time does not count here: deals may be imported whose pipeline was defined after them.
    """
    found = {
        name: [stage.model_dump(mode="json") for stage in stages]
        for name, stages in DEFAULT_PIPELINES.items()
    }
    last = FOREVER if when.known_at is None else when.known_at
    for row in fetch(
        conn,
        "SELECT DISTINCT ON (name) name, stages FROM pipelines WHERE position <= %s "
        "ORDER BY name, version DESC",
        (last,),
    ):
        found[row["name"]] = row["stages"]
    return found


LIVE_FUNNEL = """
SELECT stage, kind, currency, count(*), sum(amount) AS amount FROM opportunities o
 WHERE opened_position > 0 AND {filters} GROUP BY stage, kind, currency
"""
PAST_FUNNEL = """
WITH stood AS (
    SELECT DISTINCT ON (s.opportunity_id) s.opportunity_id, s.stage, s.kind
      FROM stages s WHERE {facts} ORDER BY s.opportunity_id, s.version DESC
), worth AS (
    SELECT DISTINCT ON (s.opportunity_id) s.opportunity_id, s.amount, s.currency
      FROM amounts s WHERE {facts} ORDER BY s.opportunity_id, s.version DESC
)
SELECT stood.stage, stood.kind, worth.currency, count(*), sum(worth.amount) AS amount
  FROM stood JOIN opportunities o USING (opportunity_id) LEFT JOIN worth USING (opportunity_id)
 WHERE o.opened_position > 0 AND {opened} AND {filters}
 GROUP BY stood.stage, stood.kind, worth.currency
"""


def funnel(
    conn: Connection,
    when: Moment,
    *,
    pipeline: str | None = None,
    owner: str | None = None,
    product: str | None = None,
) -> list[dict[str, Any]]:
    """How many deals stand in each stage and what they are worth, by currency.

    Raises:
        Unanswerable: when the company has no such pipeline.
    """
    known = pipelines(conn, when)
    if pipeline is not None and pipeline not in known:
        raise Unanswerable("pipeline", f"must be one of {', '.join(known)}")
    given = {"pipeline": pipeline, "owner": owner, "product": product}
    chosen = {name: value for name, value in given.items() if value is not None}
    filters = " AND ".join(["true", *(f"o.{name} = %s" for name in chosen)])
    if when.is_live:
        rows = fetch(conn, LIVE_FUNNEL.format(filters=filters), list(chosen.values()))
    else:
        facts, bounds = when.bounds("s")
        opened, since = when.bounds("o")
        opened = opened.replace("occurred_at", "opened_at").replace("position", "opened_position")
        rows = fetch(
            conn,
            PAST_FUNNEL.format(facts=facts, opened=opened, filters=filters),
            [*bounds, *bounds, *since, *chosen.values()],
        )
    return _by_stage(rows, known if pipeline is None else {pipeline: known[pipeline]}, pipeline)


def _by_stage(
    rows: list[Any], known: dict[str, list[dict[str, Any]]], pipeline: str | None
) -> list[dict[str, Any]]:
    stages: dict[tuple[str, str], dict[str, Any]] = {}
    used = {(row["stage"], row["kind"]) for row in rows}
    for defined in known.values():
        for stage in defined:
            name = (stage["name"], stage["kind"])
            if pipeline is not None or name in used:
                stages[name] = _empty(*name)
    for row in sorted(rows, key=lambda row: (row["stage"], row["kind"], row["currency"] or "")):
        name = (row["stage"], row["kind"])
        stage = stages.setdefault(name, _empty(*name))
        stage["count"] += row["count"]
        if (amount := money(row["amount"], row["currency"])) is not None:
            stage["amount"].append(amount)
    order = ("open", "won", "lost")
    return sorted(stages.values(), key=lambda stage: order.index(stage["kind"]))


def _empty(stage: str, kind: str) -> dict[str, Any]:
    return {"stage": stage, "kind": kind, "count": 0, "amount": []}
