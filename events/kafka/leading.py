"""Who may lead the relay, from where on, and into which topic."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import structlog

from events.kafka.records import FORMAT, source_of
from events.kafka.topic import Tail, TopicUnfit
from events.ledger import checkpoints, ledger
from events.ledger.checkpoints import Checkpoint
from events.ledger.following import halt
from events.ledger.ledger import Connection

log = structlog.get_logger()

NAME = "relay"


def shape_of(topic_id: UUID) -> str:
    """What the relay's checkpoint says of the topic that it has filled."""
    return f"{FORMAT}/{topic_id}"


def take_lead(conn: Connection, topic_id: UUID, tail: Tail) -> Checkpoint:
    """The relay's checkpoint, with an epoch above all before; the caller holds the leader's lock.

    It comes back halted when ledger, topic and checkpoint do not belong together: going on would
    have consumers skip events as known that are not. A topic of the first format is left behind;
    the new one is filled from the first event on.
    """
    shape = shape_of(topic_id)
    with conn.transaction():
        found = checkpoints.fetch(conn, NAME)
        is_new_format = found is not None and _is_first_format(found) and tail.position == 0
        if is_new_format:
            log.info("the topic's format is new: it is filled from the start")
        if found is None or is_new_format:
            checkpoints.begin(conn, NAME, shape, 0, None)
        found = checkpoints.raise_epoch(conn, NAME)
        strange = _strange(conn, found, shape, tail)
        if strange is not None:
            return halt(conn, found, strange)
        if found.halted is None:
            return found
        going_on = replace(found, halted=None, halted_at=None)
        checkpoints.move(conn, found, going_on)
        return going_on


def _is_first_format(found: Checkpoint) -> bool:
    return "/" not in found.shape


def _strange(conn: Connection, found: Checkpoint, shape: str, tail: Tail) -> str | None:
    if _is_first_format(found):
        return (
            "the topic holds records of an older format. Choose another name for it with "
            "PLEDGE_KAFKA_TOPIC, in every process; the relay then fills it from the start"
        )
    if found.shape != shape:
        return (
            f"it had carried up to position {found.position} into a topic that is not there any "
            "more (deleted and made anew?); to fill the new one from the first event on, run: "
            "pledge relay --from-the-start"
        )
    fits = checkpoints.mismatch(conn, found) is None
    known = tail.event_id in (None, str(ledger.event_at(conn, tail.event_at)))
    ours = tail.source in ("", source_of(ledger.ledger_id(conn)))
    if not (fits and known and ours) or tail.position > ledger.head(conn):
        return (
            f"the topic holds events up to position {tail.position} that this ledger does not "
            f"(it is another one, or was restored from a backup?); the relay had carried up to "
            f"{found.position}. Delete the topic, then run: pledge relay --from-the-start"
        )
    return None


def from_the_start(conn: Connection, topic_id: UUID, tail: Tail) -> None:
    """Let the next leader carry everything from the first event on.

    Raises:
        TopicUnfit: when the topic holds records: where they are of a ledger that was restored
            since, consumers would take other events at the same positions for known.
    """
    if tail.position > 0:
        raise TopicUnfit(
            f"the topic holds records up to position {tail.position} already. If this ledger has "
            "other events there, consumers would take those for known. Delete the topic first."
        )
    checkpoints.begin(conn, NAME, shape_of(topic_id), 0, None)
