"""From what was decided to what the ledger takes: events encoded, personal data sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from commands.handling.request import Request
from events.base import Event
from events.ledger.codec import encode, subjects
from events.ledger.keys import GroupKeys, SubjectKey
from events.ledger.ledger import NewEvent, Proposal


@dataclass(slots=True)
class Decided:
    """A request, what it would append, and the state that this would leave.

    Attributes:
        hashed: whose texts the events may hold keyed hashes of.
    """

    request: Request
    proposal: Proposal
    events: list[Event]
    state: Any
    hashed: set[UUID] = field(default_factory=set)


def seal(decided: Sequence[Decided], keys: GroupKeys) -> list[tuple[UUID, SubjectKey, bytes]]:
    """Encode all events into their proposals; the subject keys that had to be made for them."""
    wanted: set[UUID] = set()
    newborn: set[UUID] = set()
    for d in decided:
        if d.events:
            wanted |= d.hashed
        for event in d.events:
            for subject in subjects(event, d.request.stream_id):
                wanted.add(subject)
                at_birth = d.proposal.expected == 0 and d.request.attempts == 0
                if at_birth and subject == d.request.stream_id:
                    newborn.add(subject)
    known = keys.load(wanted, newborn)
    for d in decided:
        version = d.proposal.expected or 0
        stream_id = d.request.stream_id
        for event in d.events:
            version += 1
            event_id = uuid7()
            payload = encode(event, event_id, stream_id, known)
            d.proposal.events.append(
                NewEvent(event_id, event.event_type, event.schema_version, payload, version)
            )
    return keys.created(wanted)
