"""What became of a command, in the field's own terms; how a caller is told is not known here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from commands.catalog import BY_TYPE
from events.ledger.ledger import MAX_BYTES, MAX_EVENTS, StoredOutcome

UNKNOWN_BY_NAME = frozenset(
    {
        "CompanyUnknown",
        "CustomerUnknown",
        "LeadUnknown",
        "OpportunityUnknown",
        "OrderUnknown",
        "PaymentUnknown",
        "TicketUnknown",
    }
)
"""Rules that say, without naming a field, that the stream does not exist. Only for outcomes stored
before `no_such_stream`; it holds the names of that time and takes no new one."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The command was carried out; that is on record.

    Attributes:
        begins: whether it is a command that begins its stream.
        version: of the stream after it.
        position: of the ledger after it; it includes all effects.
        types: of its events, in order; none when what was asked was so already.
        first: the position of the first of them.
        repeated: whether an earlier request with this key did it; it is the same outcome.
    """

    stream_id: UUID
    begins: bool
    version: int
    position: int
    types: Sequence[str]
    first: int | None
    repeated: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """A rule said no, at this version of the stream; that is on record.

    Attributes:
        detail: the rule in one sentence.
        fields: the command's fields that the rule looked at.
        no_such_stream: whether there is no stream for the command to act on.
        repeated: whether an earlier request with this key got it; it is the same outcome.
    """

    stream_id: UUID
    version: int
    position: int
    rule: str
    detail: str
    fields: Sequence[str]
    no_such_stream: bool
    repeated: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Conflict:
    """The stream is at another version than the caller decided on; nothing is on record."""

    version: int


@dataclass(frozen=True, slots=True)
class KeyReused:
    """The idempotency key stands for another command; nothing is on record of this one.

    Attributes:
        first: what became of the other one.
    """

    first: Appended | Refused


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The command would append more than the ledger takes at once; nothing is on record.

    Attributes:
        events, size: how many events, of how many bytes in all, one command may append.
    """

    events: int = MAX_EVENTS
    size: int = MAX_BYTES


@dataclass(frozen=True, slots=True)
class Failed:
    """A fault of ours; nothing is on record."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """The ledger is of a later version than this process; nothing is on record.

    Attributes:
        why: what this process does not know.
    """

    why: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows yet what became of the command; the same key will tell."""


Outcome = Appended | Refused | Conflict | KeyReused | TooLarge | Failed | Outdated | Unknown


def from_stored(stored: StoredOutcome, *, repeated: bool = True) -> Appended | Refused:
    """The outcome that a row of the ledger stands for.

    Args:
        repeated: whether it answers another request than the one that made it.
    """
    if stored.status == "refused":
        fields, unknown = stored.fields or [], stored.no_such_stream
        if unknown is None:
            unknown = stored.rule in UNKNOWN_BY_NAME and not fields
        return Refused(
            stored.stream_id,
            stored.version,
            stored.after,
            stored.rule or "",
            stored.detail or "",
            fields,
            unknown,
            repeated,
        )
    types = stored.types or []
    is_first = stored.version == len(types) > 0
    begins = is_first and BY_TYPE[stored.stream_type].creates is not None
    return Appended(
        stored.stream_id, begins, stored.version, stored.after, types, stored.first, repeated
    )
