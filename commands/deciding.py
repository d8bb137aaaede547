"""Deciding a group of commands against what the ledger holds, and appending it in one go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from aggregates.base import Refused
from aggregates.company import Company
from commands import request as answers
from commands.base import Context
from commands.catalog import BY_TYPE
from commands.request import Answer, Request
from events import ledger
from events.base import Event
from events.codec import decode_sealed, encode, subjects
from events.company import COMPANY
from events.keys import Keyring, SubjectKey
from events.ledger import Connection, NewEvent, Proposal, Verdict

log = structlog.get_logger()


@dataclass(slots=True)
class Known:
    """A stream folded: what it is, how far it is, and its state."""

    stream_type: str
    version: int
    state: Any


@dataclass(slots=True)
class Decided:
    """A request, what it would append, and the state that this would leave."""

    request: Request
    proposal: Proposal
    events: list[Event]
    state: Any


class Decider:
    """Turns requests into answers, one group at a time.

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
        self._settings = Known("company", -1, Company())

    def forget(self) -> None:
        """Drop everything remembered; the ledger is read again."""
        self._known.clear()
        self._settings.version = -1
        self._keyring.forget()

    def round(
        self, conn: Connection, requests: Sequence[Request]
    ) -> tuple[list[tuple[Request, Answer]], list[Request]]:
        """Decide and append what can be decided now; the answers, and what must go again.

        Requests of one stream keep their order. A request that refers to a stream which an earlier
        one of this group may begin waits for the next round, when the truth is known.

        Raises:
            psycopg.Error: when the database fails; then nothing is known of the group.
        """
        now, later = self._split(requests)
        self._load(conn, now)
        decided: list[Decided] = []
        done: list[tuple[Request, Answer]] = []
        states: dict[UUID, Known] = {}
        for request in now:
            try:
                decided.append(self._decide(request, states))
            except Exception:
                log.exception("a command could not be decided", command=request.name)
                done.append((request, _failed()))
                states.pop(request.stream_id, None)
        new_keys = self._seal(conn, decided)
        too_large = [d for d in decided if _too_large(d.proposal)]
        if too_large:
            done.extend((d.request, _refuse_size()) for d in too_large)
            decided = [d for d in decided if d not in too_large]
        if not decided:
            return done, later
        settings = (COMPANY, self._settings.version)
        verdicts = ledger.append(
            conn, [d.proposal for d in decided], [(s, w) for s, _, w in new_keys], settings
        )
        if verdicts[0].status == "stale":
            self._settings.version = -1
            self._keyring.forget([subject for subject, _, _ in new_keys])
            for d in decided:
                d.request.attempts += 1
            return done, [*(d.request for d in decided), *later]
        for subject, key, _ in new_keys:
            self._keyring.remember(subject, key)
        again = self._settle(conn, decided, verdicts, done)
        return done, [*again, *later]

    def _split(self, requests: Sequence[Request]) -> tuple[list[Request], list[Request]]:
        begun: set[UUID] = set()
        waiting: set[UUID] = set()
        settings_change = False
        now: list[Request] = []
        later: list[Request] = []
        for request in requests:
            stream_id = request.stream_id
            wait = stream_id in waiting or (settings_change and stream_id != COMPANY)
            if not wait and request.command.references:
                fields = request.command.__dict__
                refers = {fields[name] for name in request.command.references}
                wait = not (refers.isdisjoint(begun) and refers.isdisjoint(waiting))
            if wait:
                waiting.add(stream_id)
                later.append(request)
                continue
            if stream_id == COMPANY:
                settings_change = True
            if request.creates and stream_id not in self._known:
                begun.add(stream_id)
            now.append(request)
        place = {request.stream_id: n for n, request in reversed(list(enumerate(now)))}
        now.sort(key=lambda request: place[request.stream_id])
        return now, later

    def _load(self, conn: Connection, requests: Iterable[Request]) -> None:
        streams: set[UUID] = set()
        begun: set[UUID] = set()
        mentioned: set[UUID] = set()
        for request in requests:
            if request.creates and request.attempts == 0:
                begun.add(request.stream_id)
            elif request.stream_id not in begun:
                streams.add(request.stream_id)
            if request.command.references:
                fields = request.command.__dict__
                mentioned.update(fields[n] for n in request.command.references if fields[n])
        streams = {stream for stream in streams if stream not in self._known}
        if self._settings.version < 0:
            streams.add(COMPANY)
        if streams:
            self._fold(ledger.load(conn, streams))
            if COMPANY in streams:
                self._settings = self._known.get(COMPANY) or Known("company", 0, Company())
        mentioned = {stream for stream in mentioned if stream not in self._known}
        if mentioned:
            self._fold(ledger.load(conn, mentioned))

    def _fold(self, rows: Iterable[tuple[UUID, int, str, str, int, bytes]]) -> None:
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
        self._known.update(loaded)

    def _decide(self, request: Request, states: dict[UUID, Known]) -> Decided:
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
                request.stream_id, occurred_at, request.actor, self._settings.state, uuid7
            )
            decided.events = request.command.decide(known.state, context)
        except Refused as refusal:
            proposal.verdict = "refused"
            proposal.rule = refusal.rule
            proposal.detail = refusal.detail
            proposal.fields = proposal.fields or refusal.fields
            return decided
        for event in decided.events:
            decided.state = request.streams.evolve(decided.state, event)
        states[request.stream_id] = Known(
            known.stream_type, known.version + len(decided.events), decided.state
        )
        return decided

    def _refuse_what_cannot_be(self, request: Request, known: Known, proposal: Proposal) -> None:
        streams = request.streams
        if known.stream_type != streams.stream_type:
            raise streams.unknown
        if request.creates:
            if known.version > 0 and streams.exists is not None:
                raise streams.exists
        elif known.version == 0 and streams.creates is not None:
            raise streams.unknown
        for name, stream_type in request.command.references.items():
            target: UUID | None = request.command.__dict__[name]
            if target is None:
                continue
            there = self._known.get(target)
            if there is None or there.stream_type != stream_type:
                proposal.fields = (name,)
                proposal.absent = target if there is None else None
                raise BY_TYPE[stream_type].unknown

    def _seal(
        self, conn: Connection, decided: list[Decided]
    ) -> list[tuple[UUID, SubjectKey, bytes]]:
        keys: dict[UUID, SubjectKey] = {}
        wanted: set[UUID] = set()
        fresh: set[UUID] = set()
        for d in decided:
            for event in d.events:
                for subject in subjects(event, d.request.stream_id):
                    wanted.add(subject)
                    at_birth = d.proposal.expected == 0 and d.request.attempts == 0
                    if at_birth and subject == d.request.stream_id:
                        fresh.add(subject)
        self._keyring.load(conn, wanted - fresh)
        created: list[tuple[UUID, SubjectKey, bytes]] = []
        for subject in wanted:
            known = self._keyring.get(subject) if subject not in fresh else None
            if known is None:
                known, wrapped = self._keyring.create(subject)
                created.append((subject, known, wrapped))
            keys[subject] = known
        for d in decided:
            version = d.proposal.expected or 0
            stream_id = d.request.stream_id
            for event in d.events:
                version += 1
                event_id = uuid7()
                payload = encode(event, event_id, stream_id, keys)
                d.proposal.events.append(
                    NewEvent(event_id, event.event_type, event.schema_version, payload, version)
                )
        return created

    def _settle(
        self,
        conn: Connection,
        decided: list[Decided],
        verdicts: list[Verdict],
        done: list[tuple[Request, Answer]],
    ) -> list[Request]:
        again: list[Request] = []
        repeats: list[Request] = []
        for d, verdict in zip(decided, verdicts, strict=True):
            request, proposal = d.request, d.proposal
            match verdict.status:
                case "appended":
                    self._remember(request, verdict.version, d.state)
                    types = [event.type for event in proposal.events]
                    status = HTTPStatus.CREATED if request.creates else HTTPStatus.OK
                    done.append(
                        (
                            request,
                            answers.appended(
                                request.stream_id,
                                verdict.version,
                                verdict.after,
                                types,
                                verdict.first,
                                status,
                            ),
                        )
                    )
                case "refused":
                    done.append(
                        (
                            request,
                            answers.refused(
                                request.stream_id,
                                verdict.version,
                                verdict.after,
                                proposal.rule or "",
                                proposal.detail or "",
                                list(proposal.fields),
                            ),
                        )
                    )
                case "precondition":
                    done.append((request, answers.precondition_failed(verdict.version)))
                case "duplicate":
                    self._known.pop(request.stream_id, None)
                    repeats.append(request)
                case _:
                    self._known.pop(request.stream_id, None)
                    if proposal.absent is not None:
                        self._known.pop(proposal.absent, None)
                    if request.stream_id == COMPANY:
                        self._settings.version = -1
                    request.attempts += 1
                    again.append(request)
        if repeats:
            done.extend(self._repeated(conn, repeats))
        return again

    def _repeated(
        self, conn: Connection, repeats: list[Request]
    ) -> Iterable[tuple[Request, Answer]]:
        stored = ledger.outcomes(conn, [(r.actor.id, r.key) for r in repeats])
        for request in repeats:
            outcome = stored[(request.actor.id, request.key)]
            if bytes(outcome.body_hash) != request.body_hash:
                yield request, answers.key_reused()
            else:
                yield request, answers.from_outcome(outcome, creates=request.creates)

    def _remember(self, request: Request, version: int, state: Any) -> None:
        known = Known(request.streams.stream_type, version, state)
        if request.stream_id == COMPANY:
            self._settings = known
        self._known[request.stream_id] = known
        self._known.move_to_end(request.stream_id)

    def trim(self) -> None:
        """Forget the streams used longest ago, beyond what is to be remembered."""
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)


def _too_large(proposal: Proposal) -> bool:
    size = sum(len(event.payload) for event in proposal.events)
    return len(proposal.events) > ledger.MAX_EVENTS or size > ledger.MAX_BYTES


def _refuse_size() -> Answer:
    return answers.problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "command-too-large",
        f"One command may record {ledger.MAX_EVENTS} events of {ledger.MAX_BYTES} bytes in all.",
    )


def _failed() -> Answer:
    return answers.problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal-error",
        "Something failed on our side and nothing was recorded. The log says what.",
    )
