"""What the events of a customer say of the account: its name, region, owner, tags."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from events.customer import (
    CustomerClaimed,
    CustomerDetailsChanged,
    CustomerEvent,
    CustomerHandedOver,
    CustomerRegistered,
    CustomerReleased,
    CustomerTagged,
    CustomerUntagged,
)
from events.envelope import Recorded
from events.values import PersonalTextOrNone
from projections.engine.tables import Row
from projections.facts.fact import head, kind


@dataclass(slots=True)
class AccountFact(Row):
    """A fact, never changed: from here on the customer had this name, this region, this owner.

    Attributes:
        account_kind: the kind of customer.
    """

    customer_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    kind: str | None = None
    actor: str | None = None
    name: PersonalTextOrNone = None
    account_kind: str | None = None
    region: str | None = None
    industry: str | None = None
    source: str | None = None
    owner: str | None = None
    reason: PersonalTextOrNone = None


@dataclass(slots=True)
class TagFact(Row):
    """A fact, never changed: the customer was tagged, or the tag was removed."""

    customer_id: UUID
    version: int
    position: int = 0
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    kind: str | None = None
    tag: str | None = None


def facts(recorded: Recorded) -> list[AccountFact | TagFact]:
    """What an event says of its customer's account; nothing where it is about something else."""
    event: CustomerEvent = recorded.event  # type: ignore[assignment]  # of a customer's stream
    if isinstance(event, CustomerTagged | CustomerUntagged):
        return [TagFact(*head(recorded), kind(recorded), event.tag)]
    fact = AccountFact(*head(recorded), kind(recorded), recorded.actor)
    match event:
        case CustomerRegistered() | CustomerDetailsChanged():
            fact.name, fact.account_kind = event.name, event.kind and str(event.kind)
            fact.region, fact.industry = event.region, event.industry
            fact.source = event.source
            if isinstance(event, CustomerRegistered):
                fact.owner = event.owner
        case CustomerClaimed():
            fact.owner = event.owner
        case CustomerHandedOver():
            fact.owner, fact.reason = event.owner, event.reason
        case CustomerReleased():
            fact.reason = event.reason
        case _:
            return []
    return [fact]
