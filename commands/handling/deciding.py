"""Deciding a group of commands against what the ledger holds, and appending it in one go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import structlog
from uuid_utils.compat import uuid7

from aggregates.base import IdTaken, Refused, Unknown
from aggregates.company import Company
from commands.base import Context
from commands.catalog import BY_TYPE
from commands.handling import outcome
from commands.handling.outcome import Outcome
from commands.handling.request import Request
from commands.handling.sealing import Decided, seal
from events.company import COMPANY
from events.ledger import ledger
from events.ledger.codec import decode_sealed
from events.ledger.keys import GroupKeys, Keyring, SubjectKey
from events.ledger.ledger import Appending, Connection, Proposal, Verdict

log = structlog.get_logger()


@dataclass(slots=True)
class Known:
    """A stream folded: what it is, how far it is, and its state."""

    stream_type: str
    version: int
    state: Any


Keys = list[tuple[UUID, SubjectKey, bytes]]
Done = list[tuple[Request, Outcome]]


@dataclass(slots=True)
class Plan:
    """A group decided, ready to be appended.

    Attributes:
        keys: new subjects' keys, plain and wrapped.
        settings_version: of the company's settings that everything was decided under.
        done: requests whose outcome is known.
        later: requests that have to wait for this plan's outcome, or for that of the one before.
    """

    decided: list[Decided]
    keys: Keys
    settings_version: int
    done: Done
    later: list[Request]

    @property
    def streams(self) -> set[UUID]:
        """Whose state is unknown while the plan is under way."""
        return {d.request.stream_id for d in self.decided}

    def append(self, conn: Connection) -> Appending:
        """Send the group on its way into the ledger.

        Raises:
            psycopg.OperationalError: when the session is gone.
        """
        keys = [(subject, wrapped) for subject, _, wrapped in self.keys]
        proposals = [d.proposal for d in self.decided]
        return Appending(conn, proposals, keys, (COMPANY, self.settings_version))


class Decider:
    """Turns requests into outcomes, one group at a time.

    It holds folded states between groups. They are only a guess: the append checks each version
    under the ledger's lock, and a wrong guess is loaded anew and decided again.

    Args:
        keyring: the subjects' keys.
        remembered: how many folded streams to keep; 0 for none.
    """

    def __init__(self, keyring: Keyring, remembered: int = 50_000) -> None:
        self._keyring = keyring
        self._remembered = remembered
        self._known: OrderedDict[UUID, Known] = OrderedDict()
        self._types: OrderedDict[UUID, str] = OrderedDict()
        self._settings: Known | None = None

    def forget(self) -> None:
        """Drop everything remembered; the ledger is read again."""
        self._known.clear()
        self._settings = None
        self._keyring.forget()

    def prepare(
        self, conn: Connection, requests: Sequence[Request], busy: Collection[UUID] = ()
    ) -> Plan:
        """Decide what can be decided now.

        Requests of one stream keep their order. A request waits when its stream, or one that it
        refers to, is ``busy`` in an append whose outcome is unknown, or may be begun by an earlier
        request of this group: it is decided when the truth is known; so does a repeat of a key that
        an earlier request of this group bears. A request that begins a stream
        waits when an earlier one refers to it, so that what was missing then was missing in truth.

        Raises:
            psycopg.Error: when the database fails; nothing was written.
        """
        now, later = self._split(requests, busy)
        settings = self._load(conn, now)
        decided: list[Decided] = []
        done: Done = []
        states: dict[UUID, Known] = {}
        keys = GroupKeys(self._keyring, conn)
        for request in now:
            try:
                decided.append(self._decide(request, states, settings.state, keys))
            except psycopg.Error:  # of a key that was asked for; the whole group is tried again
                raise
            except Exception:  # one command must not fail its neighbours; logged, its caller told
                log.exception("a command could not be decided", command=request.name)
                done.append((request, outcome.Failed()))
                states.pop(request.stream_id, None)
        created = seal(decided, keys)
        if any(_too_large(d.proposal) for d in decided):
            done += [(d.request, outcome.TooLarge()) for d in decided if _too_large(d.proposal)]
            decided = [d for d in decided if not _too_large(d.proposal)]
        return Plan(decided, created, settings.version, done, later)

    def settle(self, conn: Connection, plan: Plan, verdicts: list[Verdict]) -> list[Request]:
        """Learn what became of a plan: its ``done`` is completed; what must be decided again.

        Raises:
            psycopg.Error: when the database fails; the plan's outcome is on record all the same.
        """
        if verdicts[0].status == "stale":
            self._settings = None
            self._keyring.forget([subject for subject, _, _ in plan.keys])
            for d in plan.decided:
                d.request.attempts += 1
            return [d.request for d in plan.decided]
        for subject, key, _ in plan.keys:
            self._keyring.remember(subject, key)
        again: list[Request] = []
        repeats: list[Request] = []
        for d, verdict in zip(plan.decided, verdicts, strict=True):
            request = d.request
            match verdict.status:
                case "appended":
                    self._remember(request, verdict.version, d.state)
                    plan.done.append((request, _appended(d, verdict)))
                case "refused":
                    plan.done.append((request, _refused(d, verdict)))
                case "precondition":
                    plan.done.append((request, outcome.Conflict(verdict.version)))
                case "duplicate":
                    self._known.pop(request.stream_id, None)
                    repeats.append(request)
                case _:
                    self._mistrust(d)
                    request.attempts += 1
                    again.append(request)
        if repeats:
            plan.done.extend(self._repeated(conn, repeats))
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)
        while len(self._types) > 10 * self._remembered:
            self._types.popitem(last=False)
        return again

    def _split(
        self, requests: Sequence[Request], busy: Collection[UUID]
    ) -> tuple[list[Request], list[Request]]:
        begun: set[UUID] = set()
        waiting: set[UUID] = set(busy)
        mentioned: set[UUID] = set()
        settings_change = COMPANY in busy
        keys: set[tuple[str, str]] = set()
        now: list[Request] = []
        later: list[Request] = []
        for request in requests:
            stream_id = request.stream_id
            wait = (
                stream_id in waiting
                or (settings_change and stream_id != COMPANY)
                or (request.creates and stream_id in mentioned)
                or (request.actor.id, request.key) in keys
            )
            keys.add((request.actor.id, request.key))
            if not wait and request.command.refers:
                refers = {target for _, _, target in request.command.referred()}
                wait = not (refers.isdisjoint(begun) and refers.isdisjoint(waiting))
                mentioned |= refers
            if wait:
                waiting.add(stream_id)
                later.append(request)
                continue
            if stream_id == COMPANY:
                settings_change = True
            if request.creates and stream_id not in self._types:
                begun.add(stream_id)
            now.append(request)
        place = {request.stream_id: n for n, request in reversed(list(enumerate(now)))}
        now.sort(key=lambda request: place[request.stream_id])
        return now, later

    def _load(self, conn: Connection, requests: Iterable[Request]) -> Known:
        """Fetch what deciding needs and is not remembered; the settings in force."""
        streams: set[UUID] = set()
        begun: set[UUID] = set()
        mentioned: set[UUID] = set()
        for request in requests:
            if request.creates and request.attempts == 0:
                begun.add(request.stream_id)
            elif request.stream_id not in begun:
                streams.add(request.stream_id)
            if request.command.refers:
                mentioned.update(target for _, _, target in request.command.referred())
        streams = {stream for stream in streams if stream not in self._known}
        if self._settings is None:
            streams.add(COMPANY)
        loaded = self._fold(ledger.load(conn, streams)) if streams else {}
        settings = self._settings or loaded.get(COMPANY) or Known("company", 0, Company())
        self._known.update(loaded)
        self._types.update((stream_id, known.stream_type) for stream_id, known in loaded.items())
        mentioned = {stream for stream in mentioned if stream not in self._types}
        if mentioned:
            self._types.update(ledger.stream_types(conn, mentioned))
        self._settings = settings
        return settings

    def _fold(self, rows: Iterable[tuple[UUID, int, str, str, int, bytes]]) -> dict[UUID, Known]:
        loaded: dict[UUID, Known] = {}
        for stream_id, version, stream_type, name, schema_version, payload in rows:
            streams = BY_TYPE.get(stream_type)
            if streams is None:
                loaded[stream_id] = Known(stream_type, version, None)
                continue
            known = loaded.get(stream_id)
            if known is None:
                known = loaded[stream_id] = Known(stream_type, 0, streams.blank)
            known.state = streams.evolve(known.state, decode_sealed(name, schema_version, payload))
            known.version = version
        return loaded

    def _decide(
        self, request: Request, states: dict[UUID, Known], settings: Company, keys: GroupKeys
    ) -> Decided:
        known = states.get(request.stream_id) or self._known.get(request.stream_id)
        if known is None:
            known = Known(request.streams.stream_type, 0, request.streams.blank)
        occurred_at = request.occurred_at or datetime.now(UTC)
        proposal = Proposal(
            command=request.name,
            command_id=request.command_id,
            correlation_id=request.correlation_id,
            causation_id=request.causation_id,
            actor=request.actor,
            key=request.key,
            body_hash=request.body_hash,
            stream_type=request.streams.stream_type,
            stream_id=request.stream_id,
            expected=known.version,
            occurred_at=occurred_at,
        )
        decided = Decided(request, proposal, [], known.state)
        if request.if_match is not None and request.if_match != known.version:
            proposal.verdict = "precondition"
            return decided
        try:
            self._refuse_what_cannot_be(request, known, proposal)
            context = Context(
                request.stream_id, occurred_at, request.actor, settings, uuid7, keys.hash_of
            )
            decided.events = request.command.decide(known.state, context)
        except Refused as refusal:
            proposal.verdict = "refused"
            proposal.rule = refusal.rule
            proposal.detail = refusal.detail
            proposal.fields = proposal.fields or refusal.fields
            proposal.no_such_stream = isinstance(refusal, Unknown) and not proposal.fields
            return decided
        for event in decided.events:
            decided.state = request.streams.evolve(decided.state, event)
        states[request.stream_id] = Known(
            known.stream_type, known.version + len(decided.events), decided.state
        )
        return decided

    def _refuse_what_cannot_be(self, request: Request, known: Known, proposal: Proposal) -> None:
        streams = request.streams
        at_home = (request.stream_id == COMPANY) == (streams.stream_type == "company")
        if known.stream_type != streams.stream_type or not at_home:
            raise IdTaken if request.creates else streams.unknown
        if request.creates:
            if known.version > 0 and streams.exists is not None:
                raise streams.exists
        elif known.version == 0 and streams.creates is not None:
            raise streams.unknown
        if not request.command.refers:
            return
        for name, stream_type, target in request.command.referred():
            there = self._types.get(target)
            if there != stream_type:
                proposal.fields = (name,)
                proposal.absent = target if there is None else None
                raise BY_TYPE[stream_type].unknown

    def _repeated(
        self, conn: Connection, repeats: list[Request]
    ) -> Iterable[tuple[Request, Outcome]]:
        rows = ledger.outcomes(conn, [(r.actor.id, r.key) for r in repeats])
        for request in repeats:
            row = rows[(request.actor.id, request.key)]
            first = outcome.from_stored(row, begins=request.creates)
            is_other = bytes(row.body_hash) != request.body_hash
            yield request, outcome.KeyReused(first) if is_other else first

    def _remember(self, request: Request, version: int, state: Any) -> None:
        known = Known(request.streams.stream_type, version, state)
        if request.stream_id == COMPANY:
            self._settings = known
        self._known[request.stream_id] = known
        self._known.move_to_end(request.stream_id)
        if version > 0:
            self._types[request.stream_id] = known.stream_type

    def _mistrust(self, d: Decided) -> None:
        self._known.pop(d.request.stream_id, None)
        if d.request.stream_id == COMPANY:
            self._settings = None


def _appended(d: Decided, verdict: Verdict) -> outcome.Appended:
    return outcome.Appended(
        d.request.stream_id,
        d.request.creates,
        verdict.version,
        verdict.after,
        [event.type for event in d.proposal.events],
        verdict.first,
    )


def _refused(d: Decided, verdict: Verdict) -> outcome.Refused:
    proposal = d.proposal
    return outcome.Refused(
        d.request.stream_id,
        verdict.version,
        verdict.after,
        proposal.rule or "",
        proposal.detail or "",
        proposal.fields,
        proposal.no_such_stream,
    )


def _too_large(proposal: Proposal) -> bool:
    size = sum(len(event.payload) for event in proposal.events)
    return len(proposal.events) > ledger.MAX_EVENTS or size > ledger.MAX_BYTES
