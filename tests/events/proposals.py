"""Proposals as the ledger takes them, with everything that a test does not care about filled in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from events.envelope import Actor
from events.ledger.ledger import NewEvent, Proposal

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ADA = Actor("ada")


def propose(
    stream: UUID, expected: int | None = 0, events: int = 1, payload: bytes = b"{}", **rest: Any
) -> Proposal:
    """One command that appends so many events above the version it was decided at."""
    command_id = uuid4()
    return Proposal(
        **{
            "command": "pumps/start",
            "command_id": command_id,
            "correlation_id": command_id,
            "causation_id": None,
            "actor": ADA,
            "key": str(command_id),
            "body_hash": b"hash",
            "stream_type": "pump",
            "stream_id": stream,
            "expected": expected,
            "occurred_at": NOON,
            "events": [
                NewEvent(uuid4(), "pump.started", 1, payload, (expected or 0) + place)
                for place in range(1, events + 1)
            ],
            **rest,
        }
    )


def refuse(stream: UUID, expected: int | None = 0, **rest: Any) -> Proposal:
    """One command that a rule said no to."""
    refusal = {"verdict": "refused", "rule": "PumpRuns", "detail": "It runs.", "fields": ("a", "b")}
    return propose(stream, expected, events=0, **{**refusal, **rest})
