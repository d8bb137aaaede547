"""Deciding a group of commands against what the ledger holds, and appending it in one go."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import structlog
from uuid_utils.compat import uuid7

from aggregates.base import IdTaken, Refused, Unknown
from aggregates.company import Company
from commands.base import Context
from commands.catalog import BY_TYPE
from commands.handling import outcome
from commands.handling.memory import Known, Memory
from commands.handling.outcome import Outcome
from commands.handling.request import Request
from commands.handling.sealing import Decided, seal
from events.company import COMPANY
from events.ledger import ledger
from events.ledger.keys import GroupKeys, Keyring, SubjectKey
from events.ledger.ledger import Appending, Connection, Proposal, Verdict

log = structlog.get_logger()


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
        """Whose state is unknown while the plan is under way, or is not to change before."""
        held = {one.stream_id for d in self.decided if (one := d.request.held_against) is not None}
        return {d.request.stream_id for d in self.decided} | held

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

    What it remembers between groups is only a guess: the append checks each version under the
    ledger's lock, and a wrong guess is loaded anew and decided again.

    Args:
        keyring: the subjects' keys.
        remembered: how many folded streams to keep; 0 for none.
    """

    def __init__(self, keyring: Keyring, remembered: int = 50_000) -> None:
        self._keyring = keyring
        self._memory = Memory(remembered)

    def forget(self) -> None:
        """Drop everything remembered; the ledger is read again."""
        self._memory.forget()
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
        A request that is held against another stream waits for earlier requests of that stream, and
        later ones of that stream for it.

        Raises:
            psycopg.Error: when the database fails; nothing was written.
        """
        now, later = self._split(requests, busy)
        settings = self._memory.load(conn, now)
        decided: list[Decided] = []
        done: Done = []
        states: dict[UUID, Known] = {}
        keys = GroupKeys(self._keyring, conn)
        self._keyring.load(conn, _marked_with(now))
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
            self._memory.settings = None
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
                    self._memory.remember(request, verdict.version, d.state)
                    plan.done.append((request, _appended(d, verdict)))
                case "refused":
                    plan.done.append((request, _refused(d, verdict)))
                case "precondition":
                    plan.done.append((request, outcome.Conflict(verdict.version)))
                case "duplicate":
                    self._memory.known.pop(request.stream_id, None)
                    repeats.append(request)
                case _:
                    self._memory.mistrust(request)
                    request.attempts += 1
                    again.append(request)
        if repeats:
            plan.done.extend(self._repeated(conn, repeats))
        self._memory.trim()
        return again

    def _split(
        self, requests: Sequence[Request], busy: Collection[UUID]
    ) -> tuple[list[Request], list[Request]]:
        begun: set[UUID] = set()
        waiting: set[UUID] = set(busy)
        mentioned: set[UUID] = set()
        changed: set[UUID] = set()
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
            if not wait and request.referred:
                refers = {referred.stream_id for referred in request.referred}
                wait = not (refers.isdisjoint(begun) and refers.isdisjoint(waiting))
                mentioned |= refers
            held = request.held_against
            if wait or (held is not None and held.stream_id in changed):
                waiting.add(stream_id)
                if held is not None:
                    waiting.add(held.stream_id)
                later.append(request)
                continue
            if stream_id == COMPANY:
                settings_change = True
            if request.creates and stream_id not in self._memory.fixed:
                begun.add(stream_id)
            changed.add(stream_id)
            now.append(request)
        place = {request.stream_id: n for n, request in reversed(list(enumerate(now)))}
        now.sort(key=lambda request: place[request.stream_id])
        return now, later

    def _decide(
        self, request: Request, states: dict[UUID, Known], settings: Company, keys: GroupKeys
    ) -> Decided:
        known = states.get(request.stream_id) or self._memory.known.get(request.stream_id)
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

            def keyed_hash(text: str, subject: UUID) -> str:
                decided.hashed.add(subject)
                return keys.hash_of(text, subject)

            marking: dict[UUID, SubjectKey] = {}

            def mark_of(text: str, subject: UUID) -> str:
                if subject not in marking:
                    decided.hashed.add(subject)
                    is_new = known.version == 0 and request.attempts == 0
                    newborn = [subject] if is_new and subject == request.stream_id else []
                    marking.update(keys.load([subject], newborn))
                return marking[subject].mark_of(text)

            context = Context(
                request.stream_id,
                occurred_at,
                request.actor,
                request.rep,
                settings,
                uuid7,
                keyed_hash,
                mark_of,
            )
            events = request.command.decide(known.state, context)
            self._refuse_other_currencies(request, proposal)
            self._refuse_by_another(request, proposal)
        except Refused as refusal:
            proposal.verdict = "refused"
            proposal.rule = refusal.rule
            proposal.detail = refusal.detail
            proposal.fields = proposal.fields or refusal.fields
            proposal.no_such_stream = isinstance(refusal, Unknown) and not proposal.fields
            return decided
        decided.events = events
        for event in events:
            decided.state = request.streams.evolve(decided.state, event)
        states[request.stream_id] = Known(
            known.stream_type, known.version + len(events), decided.state
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
        for field, stream_type, target, *_ in request.referred:
            there = self._memory.fixed.get(target)
            if there is None or there.stream_type != stream_type:
                proposal.fields = (field,)
                proposal.rests_on = (target, 0) if there is None else None
                raise BY_TYPE[stream_type].unknown

    def _refuse_other_currencies(self, request: Request, proposal: Proposal) -> None:
        """Compare amounts with the currencies of the streams that they are meant for.

        A stream's currency never changes after its first event, so the append need not check it
        again under the ledger's lock.
        """
        for field, stream_type, target, currency, _ in request.referred:
            rule = BY_TYPE[stream_type].other_currency
            if currency is None or rule is None:
                continue
            if currency != self._memory.fixed[target].currency:
                proposal.fields = (field,)
                raise rule

    def _refuse_by_another(self, request: Request, proposal: Proposal) -> None:
        """Ask the stream that the request is held against, as it stands.

        The append confirms under the ledger's lock that it still stands so.
        """
        held = request.held_against
        if held is None or held.check is None:
            return
        known = self._memory.known[held.stream_id]
        proposal.rests_on = held.stream_id, known.version
        try:
            held.check(known.state)
        except Refused:
            proposal.fields = (held.field,)
            raise

    def _repeated(
        self, conn: Connection, repeats: list[Request]
    ) -> Iterable[tuple[Request, Outcome]]:
        rows = ledger.outcomes(conn, [(r.actor.id, r.key) for r in repeats])
        for request in repeats:
            row = rows[(request.actor.id, request.key)]
            first = outcome.from_stored(row, repeated=row.command_id != request.command_id)
            is_other = bytes(row.body_hash) != request.body_hash
            yield request, outcome.KeyReused(first) if is_other else first


def _marked_with(requests: Iterable[Request]) -> set[UUID]:
    """Whose keys texts are marked with, as far as requests tell; one look-up for all of a group."""
    marking = [request for request in requests if request.command.marks]
    own = {request.stream_id for request in marking if not request.creates or request.attempts}
    return own.union(
        one.stream_id
        for request in marking
        for one in request.referred
        if one.stream_type == "customer"
    )


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
