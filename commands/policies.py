"""What follows elsewhere: a policy answers an event with commands. One sentence, one function."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import psycopg
import structlog

from aggregates.opportunity import Opportunity
from commands import remembered
from commands.base import Command
from commands.catalog import CATALOG, NAME_OF
from commands.customer import AddContact, RegisterCustomer
from commands.handling.outcome import (
    Appended,
    Conflict,
    Failed,
    KeyReused,
    Outdated,
    Refused,
    TooLarge,
    Unknown,
)
from commands.handling.request import Request
from commands.handling.writer import Writer
from commands.opportunity import FollowCustomer, IdentifyCustomer, OpenOpportunity
from events.base import ERASED
from events.customer import CustomerHandedOver
from events.envelope import HISTORY, Actor, Recorded
from events.lead import (
    LeadCaptured,
    LeadClaimed,
    LeadConverted,
    LeadDetailsChanged,
    LeadHandedOver,
    LeadQualified,
    LeadReturned,
)
from events.ledger import codec, following, ledger
from events.ledger.checkpoints import Overtaken
from events.ledger.following import AWAY_SECONDS, follow
from events.ledger.keys import Keyring
from events.ledger.ledger import Connection, Stored
from events.ledger.locks import Lock
from events.opportunity import OpportunityHandedOver, OpportunityOpened
from events.values import StageKind

log = structlog.get_logger()

NAME = "policies"
SHAPE = "1"
WAY_OUT = "see what is to be done by hand, then run: pledge policies resume"
BATCH = 500
POLL_SECONDS = 0.05

PARK = """
INSERT INTO progress.parked_policies
       (policy, event_id, position, stream_id, command, rule, detail)
VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (policy, event_id) DO UPDATE
   SET command = excluded.command, rule = excluded.rule, detail = excluded.detail,
       attempts = parked_policies.attempts + 1, parked_at = clock_timestamp(), retried_by = NULL
"""
WANTED = """
SELECT policy, position, event_id, attempts FROM progress.parked_policies
 WHERE retried_by IS NOT NULL
"""
DONE = "DELETE FROM progress.parked_policies WHERE policy = %s AND event_id = %s"
RETRY = """
UPDATE progress.parked_policies SET retried_by = %s WHERE position = %s RETURNING policy
"""


class Wish(NamedTuple):
    """A command that a policy wants done, and to which stream.

    Attributes:
        mark: tells it from the policy's other wishes at the same event; by default its place does.
    """

    command: Command[Any, Any]
    stream_id: UUID
    mark: str | None = None

    @property
    def name(self) -> str:
        """The command's, as in the catalog."""
        return NAME_OF[type(self.command)]


Deal = Sequence[Recorded]
"""A deal's events so far, their personal fields still sealed."""
Policy = Callable[[Sequence[Recorded], Callable[[], Sequence[Deal]]], list[Wish]]
"""Takes a stream up to the event that it answers, opened; recalls the deals of that customer."""


def open_a_deal_when_a_lead_converts(history: Sequence[Recorded], _: object) -> list[Wish]:
    """The customer, unless known already, then the person as their contact, then the deal."""
    lead, owner, budget = None, None, None
    for recorded in history:
        match recorded.event:
            case LeadCaptured() as captured:
                lead, owner = captured, captured.owner
            case LeadDetailsChanged() as changed:
                assert lead is not None
                lead = lead.model_copy(update=changed.model_dump(exclude_none=True))
            case LeadClaimed() | LeadHandedOver() as taken:
                owner = taken.owner
            case LeadReturned():
                owner = None
            case LeadQualified() as qualified:
                budget = qualified.budget
            case _:
                pass
    cause = history[-1]
    if owner is None and cause.actor_kind == "user":
        owner = cause.actor  # who gave it back does not own what became of it
    assert lead is not None
    assert isinstance(cause.event, LeadConverted)
    email, phone = (None if text == ERASED else text for text in (lead.email, lead.phone))
    customer_id, wishes = cause.event.customer_id, list[Wish]()
    if cause.event.new_customer:
        registered = RegisterCustomer(
            name=lead.company or lead.name,
            source=lead.source,
            region=lead.region,
            industry=lead.industry,
            owner=owner,
            email=email if lead.company is None else None,
            phone=phone if lead.company is None else None,
        )
        wishes.append(Wish(registered, customer_id))
    if lead.company is not None or not cause.event.new_customer:
        contact_id = uuid5(cause.event_id, "contact")
        person = AddContact(contact_id=contact_id, name=lead.name, email=email, phone=phone)
        wishes.append(Wish(person, customer_id))
    if not cause.event.new_opportunity:
        identified = IdentifyCustomer(customer_id=customer_id)
        return [*wishes, Wish(identified, cause.event.opportunity_id)]
    # A deal's title is no place for a person's name.
    opened = OpenOpportunity(
        title=lead.company or "Deal of a converted lead",
        customer_id=customer_id,
        owner=owner,
        amount=budget,
    )
    return [*wishes, Wish(opened, cause.event.opportunity_id)]


def hand_open_deals_over_with_their_customer(
    history: Sequence[Recorded], deals: Callable[[], Sequence[Deal]]
) -> list[Wish]:
    """The customer's open deals that the former owner held follow; nothing else changes."""
    cause = history[-1]
    assert isinstance(cause.event, CustomerHandedOver)
    before, reason = cause.event.previous_owner, cause.event.reason
    follow = FollowCustomer(
        previous_owner=before,
        owner=cause.event.owner,
        reason=None if reason == ERASED else reason,
    )
    return [
        Wish(follow, deal[0].stream_id, str(deal[0].stream_id))
        for deal in deals()
        if _was_held(deal, before, cause.position)
    ]


def _was_held(deal: Deal, owner: str, position: int) -> bool:
    """Whether an open deal is a rep's, and was before the position or became so by a policy.

    A policy may answer the hand-over before last while the last one is on record already.
    """
    events: list[Any] = [recorded.event for recorded in deal]
    state = reduce(Opportunity.evolve, events, Opportunity())
    if state.kind is not StageKind.OPEN or state.owner != owner:
        return False
    since = [r for r in deal if isinstance(r.event, OpportunityOpened | OpportunityHandedOver)][-1]
    return since.position < position or since.actor_kind == "policy"


POLICIES: Mapping[str, tuple[Policy, ...]] = {
    LeadConverted.event_type: (open_a_deal_when_a_lead_converts,),
    CustomerHandedOver.event_type: (hand_open_deals_over_with_their_customer,),
}
"""By the type of the event that they answer."""
BY_NAME = {policy.__name__: policy for answering in POLICIES.values() for policy in answering}


class Policies:
    """Tails the ledger and has done what follows; one at a time over all processes.

    A command's id, and so its key, derives from the causing event: done twice, it does nothing.

    Args:
        connect: opens an autocommit session on the ledger.
        writer: not started; handles the commands in this thread.
    """

    def __init__(self, connect: Callable[[], Connection], keyring: Keyring, writer: Writer) -> None:
        self._connect = connect
        self._keyring = keyring
        self._writer = writer

    def run(self, stop: threading.Event) -> None:
        """Go on until told to stop; outlives a database that restarts."""
        act, expected = partial(self._act, stop), (Undecided,)
        follow(NAME, self._connect, act, stop, lock=Lock.POLICIES, expected=expected)

    def _act(self, stop: threading.Event, conn: Connection) -> None:
        self.begin(conn)
        looked = 0.0
        while not stop.is_set():
            if time.monotonic() > looked + AWAY_SECONDS:
                self.retry_wanted(conn)
                looked = time.monotonic()
            if not self.step(conn):
                stop.wait(POLL_SECONDS)

    def begin(self, conn: Connection) -> None:
        """Go on from the checkpoint; the very first leader begins at the ledger's end."""
        following.take_up(conn, NAME, SHAPE, WAY_OUT)
        remembered.catch_up(conn, ledger.head(conn))

    def step(self, conn: Connection) -> int:
        """Take the next events; how many.

        Raises:
            Undecided: when the ledger did not answer; the events are taken again.
        """
        return following.take_next(conn, NAME, BATCH, partial(self._answer, conn))

    def _answer(self, conn: Connection, rows: Sequence[Stored]) -> None:
        for row in rows:
            if row.type in POLICIES and row.actor_kind not in HISTORY:
                for policy in POLICIES[row.type]:
                    self._follow(conn, policy, row.stream_id, row.position, attempts=0)

    def retry_wanted(self, conn: Connection) -> None:
        """Try again what operators asked for, under new command ids where a rule had refused."""
        for name, position, event_id, attempts in conn.execute(WANTED).fetchall():
            rows = ledger.read(conn, position - 1, 1)
            if rows and rows[0].event_id == event_id and name in BY_NAME:
                self._follow(conn, BY_NAME[name], rows[0].stream_id, position, attempts=attempts)

    def _follow(
        self, conn: Connection, policy: Policy, stream_id: UUID, position: int, *, attempts: int
    ) -> None:
        rows = [row for row in ledger.read_streams(conn, [stream_id]) if row.position <= position]
        try:
            self._have_done(conn, policy, rows, attempts)
        except (psycopg.OperationalError, Overtaken, Undecided):
            raise
        except Exception as error:
            # One event that a policy cannot answer must not keep it from all others.
            log.exception("a policy failed", policy=policy.__name__, position=position)
            parked = (policy.__name__, rows[-1].event_id, position, stream_id, "", "PolicyFailed")
            conn.execute(PARK, (*parked, f"{type(error).__name__}: {error}"))

    def _have_done(
        self, conn: Connection, policy: Policy, rows: list[Stored], attempts: int
    ) -> None:
        history = codec.decode_all(conn, self._keyring, rows)
        cause, name = history[-1], policy.__name__
        deals = partial(self._deals, conn, cause)
        for place, wish in enumerate(policy(history, deals)):
            refusal = self._refusal(wish, name, cause, place, attempts)
            if refusal is not None:
                rule, detail = refusal
                place_of = (cause.event_id, cause.position, cause.stream_id)
                conn.execute(PARK, (name, *place_of, wish.name, rule, detail))
                log.error("a policy's command was refused", policy=name, rule=rule)
                return
        conn.execute(DONE, (name, cause.event_id))

    def _deals(self, conn: Connection, cause: Recorded) -> list[Deal]:
        """The deals that were known to be of the customer, the stream of the cause, before it."""
        ids = remembered.deals_of(conn, cause.stream_id, cause.position)
        events: dict[UUID, list[Recorded]] = {deal_id: [] for deal_id in ids}
        rows = ledger.read_streams(conn, ids)
        for recorded in codec.decode_all(conn, self._keyring, rows, personal=False):
            events[recorded.stream_id].append(recorded)
        return list(events.values())

    def _refusal(
        self, wish: Wish, policy: str, cause: Recorded, place: int, attempts: int
    ) -> tuple[str, str] | None:
        """The rule and its sentence that refused the last attempt; None as soon as one succeeded.

        Raises:
            Undecided: when an attempt failed or nobody knows what became of it.
        """
        refusal = None
        for attempt in range(attempts + 1):
            [outcome] = self._writer.handle([_request(wish, policy, cause, place, attempt)])
            # The key stands for this very wish, perhaps in the words of an earlier version, or
            # from before its person was forgotten.
            match outcome.first if isinstance(outcome, KeyReused) else outcome:
                case Appended():
                    return None
                case Refused(rule=rule, detail=detail):
                    refusal = rule, detail
                case TooLarge():
                    refusal = "TooLarge", "The command would append more than the ledger takes."
                case Failed() | Outdated() | Unknown() | Conflict():
                    raise Undecided(f"{wish.name} is neither appended nor refused")
        return refusal


def begin_at_the_end(conn: Connection) -> None:
    """Let policies answer what comes from now on, and nothing that is there already."""
    following.begin_at_the_end(conn, NAME, SHAPE)


class Undecided(RuntimeError):
    """Nobody knows what became of a policy's command."""


def retry(conn: Connection, position: int, actor: str) -> list[str]:
    """Have what the event at a position gave rise to, and a rule refused, tried again.

    Returns:
        The policies that will; none when nothing of this position is parked.
    """
    return [row[0] for row in conn.execute(RETRY, (actor, position)).fetchall()]


def _request(wish: Wish, policy: str, cause: Recorded, place: int, attempt: int) -> Request:
    raw = wish.command.model_dump_json(exclude_none=True)
    command_id = uuid5(cause.event_id, f"{policy} {wish.mark or place} {attempt}")
    return Request(
        name=wish.name,
        streams=CATALOG[wish.name.partition("/")[0]],
        command=wish.command,
        stream_id=wish.stream_id,
        actor=Actor(policy, "policy"),
        key=str(command_id),
        body_hash=hashlib.sha256(f"{wish.name}\n{raw}".encode()).digest(),
        command_id=command_id,
        correlation_id=cause.correlation_id,
        causation_id=cause.event_id,
        occurred_at=cause.occurred_at,
    )
