"""Stock eventsourcing: deals as its own aggregates on its own PostgreSQL recorder."""

# ruff: noqa: ARG002 - the library makes an event's fields of a method's arguments

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from bodies import deals
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event


class Deal(Aggregate):
    @event("Opened")
    def __init__(
        self,
        id: UUID,
        actor: str,
        title: str,
        stage: str,
        owner: str,
        product: str,
        amount: Decimal,
        currency: str,
        expected_close: str,
    ) -> None:
        self._id = id
        self.stage = stage

    @event("StageMoved")
    def move_stage(self, actor: str, stage: str) -> None:
        self.stage = stage

    @event("QuoteGiven")
    def quote(
        self,
        actor: str,
        quote_id: UUID,
        lines: list[dict[str, Any]],
        amount: Decimal,
        currency: str,
        valid_until: str,
    ) -> None:
        pass

    @event("Won")
    def win(self, actor: str, stage: str, amount: Decimal, currency: str) -> None:
        self.stage = stage


class DealApplication(Application[UUID]):
    name = "dealapplication"


def fill(app: Application[UUID], number: int) -> int:
    """Record the same facts as our ledger holds; how many events."""
    known: dict[UUID, Deal] = {}
    for deal_id, verb, data in deals(number):
        fields: dict[str, Any] = {**data, "actor": "bench"}
        if worth := fields.pop("amount", None):
            fields |= {"amount": Decimal(worth["amount"]), "currency": worth["currency"]}
        match verb:
            case "open":
                known[deal_id] = Deal(id=deal_id, stage="discovery", **fields)
            case "move-stage":
                known[deal_id].move_stage(**fields)
            case "quote":
                price = fields["lines"][0]["unit_price"]
                fields["quote_id"] = UUID(fields["quote_id"])
                total = 10 * Decimal(price["amount"])
                known[deal_id].quote(amount=total, currency=price["currency"], **fields)
            case _:
                known[deal_id].win(stage="won", **fields)
        app.save(known[deal_id])
    return app.recorder.max_notification_id() or 0
