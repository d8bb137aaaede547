"""Between an event and the bytes that the ledger keeps: our own JSON, personal data sealed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from uuid import UUID

import orjson
import psycopg

from events.base import ERASED, Event
from events.catalog import class_of
from events.envelope import Recorded
from events.ledger.keys import Keyring, SubjectKey
from events.ledger.ledger import Stored
from events.texts import in_each, is_tidy_within, tidy
from events.upcasters import reads_as_it_was, upcast

KEYED = ("customer.", "lead.")
"""Streams whose first event has always been encrypted with a key of the stream's own."""
READING = 2
"""Raised when stored events read otherwise than before, so that what is made of them is made anew.
2: texts in NFC, without invisible margins."""


def subjects(event: Event, stream_id: UUID) -> Iterator[UUID]:
    """Whose personal data the event holds."""
    fields = event.__dict__
    for name, of in event.personal.items():
        if fields[name] is not None:
            yield (of and fields[of]) or stream_id


def encode(event: Event, event_id: UUID, stream_id: UUID, keys: dict[UUID, SubjectKey]) -> bytes:
    """The event's JSON bytes; each personal field is sealed with its subject's key.

    Raises:
        KeyError: when a subject's key is not among ``keys``.
    """
    fields = event.__dict__
    plain = {name: fields[name] for name in event.personal if fields[name] is not None}
    try:
        # A copy of the model would cost more than all the sealing.
        for name, text in plain.items():
            of = event.personal[name]
            key = keys[(of and fields[of]) or stream_id]
            fields[name] = key.seal(text, event_id.bytes + name.encode())
        return event.__pydantic_serializer__.to_json(event, exclude_none=True)
    finally:
        fields.update(plain)


def decoder(name: str, schema_version: int) -> Callable[[bytes], Event]:
    """Makes events of stored bytes, with their personal fields still sealed.

    Raises:
        UnknownEventType: when no class bears the name.
    """
    cls = class_of(name)
    validate: Callable[[bytes], Event] = cls.__pydantic_validator__.validate_json
    current = cls.schema_version
    if schema_version <= current and reads_as_it_was(name, schema_version, current):
        return lambda payload: validate(_tidied(payload))

    def decode(payload: bytes) -> Event:
        stored = orjson.loads(_tidied(payload))
        return validate(orjson.dumps(upcast(name, schema_version, current, stored)))

    return decode


def _tidied(payload: bytes) -> bytes:
    """The same JSON with every text tidy: older events were stored as they were typed."""
    if payload.isascii():
        return payload
    try:
        if is_tidy_within(payload.decode()):
            return payload
    except UnicodeDecodeError:
        return payload  # refused as what it is
    return orjson.dumps(in_each(orjson.loads(payload), tidy))


def decode_sealed(name: str, schema_version: int, payload: bytes) -> Event:
    """The event with its personal fields still sealed: enough to decide on, never to show.

    Raises:
        UnknownEventType: when no class bears the name.
        LookupError: when an upcaster is missing.
        ValueError: when the payload is not what its class says.
    """
    return decoder(name, schema_version)(payload)


def unseal(
    event: Event, event_id: UUID, stream_id: UUID, keyring: Keyring, schema_version: int
) -> None:
    """Open the personal fields in place; without a key they read ``ERASED``.

    So does a text that was stored in the clear, by a version before it was personal, when its
    subject is one that always had a key.

    Call it once, on an event that ``decode_sealed`` just made and nobody else has seen.

    Raises:
        Tampered: when a sealed field does not belong to this event.
    """
    fields: dict[str, Any] = event.__dict__
    for name, of in event.personal.items():
        sealed = fields[name]
        if sealed is None:
            continue
        subject = (of and fields[of]) or stream_id
        key = keyring.get(subject)
        if schema_version < event.sealed_since[name]:
            had_a_key = subject != stream_id or event.event_type.startswith(KEYED)
            if key is None and had_a_key:
                fields[name] = ERASED
            continue
        text = key.open(sealed, event_id.bytes + name.encode()) if key else None
        fields[name] = ERASED if text is None else tidy(text)


def subjects_of_all(events: Iterable[tuple[Event, UUID]]) -> set[UUID]:
    """Whose keys are needed to read these events of these streams."""
    return {subject for event, stream_id in events for subject in subjects(event, stream_id)}


def decode_all(
    conn: psycopg.Connection[Any],
    keyring: Keyring,
    rows: Iterable[Stored],
    *,
    personal: bool = True,
) -> list[Recorded]:
    """Stored events, read; their personal fields are opened unless ``personal`` is off.

    Raises:
        UnknownEventType: at a type that this code has no class for.
        Tampered: at a personal field that was changed.
    """
    decoders: dict[tuple[str, int], Callable[[bytes], Event]] = {}
    events: list[Recorded] = []
    for row in rows:
        kind = row.type, row.schema_version
        decode = decoders.get(kind)
        if decode is None:
            decode = decoders[kind] = decoder(*kind)
        if not row.actor.isascii():
            row = row._replace(actor=tidy(row.actor))  # noqa: PLW2901 - the row as it reads
        events.append(Recorded._make((*row[:14], decode(row.payload))))
    if personal:
        sealed = [recorded for recorded in events if recorded.event.personal]
        keyring.load(conn, subjects_of_all((r.event, r.stream_id) for r in sealed))
        for recorded in sealed:
            version = recorded.schema_version
            unseal(recorded.event, recorded.event_id, recorded.stream_id, keyring, version)
    return events
