"""One key, one effect, one answer: for ever, from any process, whoever asks how often."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest
from structlog.testing import capture_logs

from aggregates.base import Unknown
from aggregates.lead import Lead
from commands.base import Context
from commands.handling.request import Request
from commands.http.problems import Answer
from commands.lead import ClaimLead
from events.lead import LeadEvent
from tests.commands.making import (
    ask,
    capture,
    claim,
    count_outcomes,
    failing_claim,
    handle,
    register,
    request,
    tell,
    types_of,
    writer_on,
)

Make = Callable[[UUID], Request]


def claimed(lead: UUID) -> Request:
    return claim(lead, key="once")


def refused(lead: UUID) -> Request:
    return request("leads/convert", of=lead, key="once")


def already_so(lead: UUID) -> Request:
    return claim(lead, by="grace", key="once")


def begun(lead: UUID) -> Request:
    return capture(UUID(int=lead.int ^ 1), key="once")


EFFECTS = [
    pytest.param(claimed, 200, ["lead.captured", "lead.claimed"], id="appended"),
    pytest.param(refused, 409, ["lead.captured"], id="refused"),
    pytest.param(already_so, 200, ["lead.captured"], id="nothing to do"),
    pytest.param(begun, 201, ["lead.captured", "lead.captured"], id="begun"),
]


def seen(answer: Answer) -> tuple[int, bytes, int | None, str]:
    return answer.status, answer.encoded(), answer.version, answer.content_type


def lead_of(url: str, make: Make) -> UUID:
    """A lead in the state in which the request has its effect."""
    lead = uuid4()
    owner = "grace" if make is already_so else None
    data = {"name": "Grace Hopper", "owner": owner}
    with writer_on(url) as writer:
        assert tell(writer, request("leads/capture", data, of=lead)).status == 201
    return lead


@pytest.mark.parametrize(("make", "status", "types"), EFFECTS)
def test_a_key_sent_by_many_to_both_writers_has_one_effect_and_one_answer(
    ledger_url: str, make: Make, status: int, types: list[str]
) -> None:
    lead = lead_of(ledger_url, make)
    with ExitStack() as stack:
        writers = [stack.enter_context(writer_on(ledger_url, started=True)) for _ in range(2)]
        pool = stack.enter_context(ThreadPoolExecutor(8))
        sent = [pool.submit(ask, writers[n % 2], make(lead)) for n in range(24)]
        answers = {seen(answer) for done in sent for answer in done.result()}
    with writer_on(ledger_url) as restarted:
        answers.add(seen(tell(restarted, make(lead))))
    assert len(answers) == 1
    assert answers.pop()[0] == status
    assert types_of(ledger_url) == types
    assert count_outcomes(ledger_url) == 2


@pytest.mark.parametrize(("make", "status", "types"), EFFECTS)
def test_a_key_repeated_in_one_group_has_one_effect_and_one_answer(
    ledger_url: str, make: Make, status: int, types: list[str]
) -> None:
    lead = lead_of(ledger_url, make)
    with writer_on(ledger_url) as writer:
        answers = handle(writer, [make(lead), claim(uuid4()), make(lead), make(lead)])
    assert answers.pop(1).status == 404
    assert len({seen(answer) for answer in answers}) == 1
    assert answers[0].status == status
    assert types_of(ledger_url) == types


@pytest.mark.parametrize(("make", "status", "types"), EFFECTS)
def test_an_answer_stays_the_same_whatever_happens_to_the_stream_afterwards(
    ledger_url: str, make: Make, status: int, types: list[str]
) -> None:
    lead = lead_of(ledger_url, make)
    with writer_on(ledger_url) as writer:
        first = tell(writer, make(lead))
        tell(writer, request("leads/disqualify", {"reason": "gone"}, of=lead))
        assert seen(tell(writer, make(lead))) == seen(first)
    assert first.status == status
    assert types_of(ledger_url) == [*types, "lead.disqualified"]


@pytest.mark.parametrize("place", range(4))
def test_an_answer_names_its_own_events_wherever_it_stood_in_its_group(
    ledger_url: str, place: int
) -> None:
    leads = [uuid4() for _ in range(4)]
    with writer_on(ledger_url) as writer:
        tell(writer, capture(leads[0]))
        group = [claim(lead, key=str(n)) for n, lead in enumerate(leads[1:])]
        group.insert(place, claim(leads[0], key="own"))
        answer = handle(writer, group)[place]
        [again] = handle(writer, [claim(leads[0], key="own")])
    assert answer.body["events"] == [{"type": "lead.claimed", "version": 2, "position": 2}]
    assert seen(again) == seen(answer)


@pytest.mark.parametrize(("make", "status", "types"), EFFECTS)
def test_a_key_that_stands_for_another_body_is_refused_and_nothing_is_stored(
    ledger_url: str, make: Make, status: int, types: list[str]
) -> None:
    lead = lead_of(ledger_url, make)
    other = make(lead)
    other.body_hash = b"of another body"
    with writer_on(ledger_url) as writer:
        first = tell(writer, make(lead))
        reused = tell(writer, other)
        assert seen(tell(writer, make(lead))) == seen(first)
    assert first.status == status
    assert reused.status == 422
    assert reused.body["errors"][0]["field"] == "Idempotency-Key"
    assert types_of(ledger_url) == types
    assert count_outcomes(ledger_url) == 2


def test_a_key_used_for_two_bodies_in_one_group_stands_for_the_first(ledger_url: str) -> None:
    customer, lead = uuid4(), uuid4()
    with writer_on(ledger_url) as writer:
        answers = handle(writer, [register(customer, key="once"), capture(lead, key="once")])
    assert [answer.status for answer in answers] == [201, 422]
    assert types_of(ledger_url) == ["customer.registered"]


def test_a_key_belongs_to_its_actor(ledger_url: str) -> None:
    lead = uuid4()
    with writer_on(ledger_url) as writer:
        tell(writer, capture(lead))
        answers = [tell(writer, claim(lead, by=rep, key="mine")) for rep in ("ada", "bob", "ada")]
    assert [answer.status for answer in answers] == [200, 409, 200]
    assert count_outcomes(ledger_url) == 3


def test_a_failed_precondition_is_not_stored_and_its_key_may_be_used_again(
    ledger_url: str,
) -> None:
    lead = uuid4()
    with writer_on(ledger_url) as writer:
        tell(writer, capture(lead))
        stale = tell(writer, claim(lead, key="once", if_match=7))
        assert (stale.status, stale.version) == (412, 1)
        assert count_outcomes(ledger_url) == 1
        assert tell(writer, claim(lead, key="once", if_match=1)).status == 200
    assert types_of(ledger_url, lead) == ["lead.captured", "lead.claimed"]


@pytest.mark.parametrize("if_match", [0, 1, 2, 99])
def test_a_repeat_is_answered_before_its_precondition_is_looked_at(
    ledger_url: str, if_match: int
) -> None:
    lead = uuid4()
    with writer_on(ledger_url) as writer, writer_on(ledger_url) as other:
        tell(writer, capture(lead))
        first = tell(writer, claim(lead, key="once", if_match=1))
        for asked in (writer, other):
            again = tell(asked, claim(lead, key="once", if_match=if_match))
            assert seen(again) == seen(first)


def test_a_repeated_key_with_another_body_is_told_so_before_its_precondition(
    ledger_url: str,
) -> None:
    lead = uuid4()
    with writer_on(ledger_url) as writer:
        tell(writer, capture(lead, key="once"))
        assert tell(writer, claim(lead, key="once", if_match=99)).status == 422


def test_a_failure_of_ours_is_not_stored_and_its_key_may_be_used_again(ledger_url: str) -> None:
    lead = uuid4()
    with writer_on(ledger_url) as writer:
        tell(writer, capture(lead))
        assert tell(writer, failing_claim(lead, key="once")).status == 500
        assert count_outcomes(ledger_url) == 1
        assert tell(writer, claim(lead, key="once")).status == 200


def test_an_id_that_something_else_has_is_taken(ledger_url: str) -> None:
    lead = uuid4()
    with writer_on(ledger_url) as writer:
        assert tell(writer, capture(lead)).status == 201
        answer = tell(writer, register(lead))
    assert (answer.status, answer.body["rule"], answer.body["fields"]) == (409, "IdTaken", ["id"])


def test_a_repeat_beside_its_first_is_no_fault(ledger_url: str) -> None:
    leads = [uuid4() for _ in range(3)]
    with writer_on(ledger_url) as writer, capture_logs() as logged:
        asked = [capture(leads[0], key="twice"), capture(leads[1]), capture(leads[0], key="twice")]
        first, _, again = handle(writer, [*asked, claim(leads[0])])[:3]
    assert (first.status, first.body) == (again.status, again.body)
    assert [entry for entry in logged if entry["log_level"] in ("error", "warning")] == []
    assert types_of(ledger_url, leads[0]) == ["lead.captured", "lead.claimed"]


class LeadVanished(Unknown):
    """The lead is nowhere."""


class ClaimOfNothing(ClaimLead):
    """Is refused by a rule that no release has."""

    def decide(self, _lead: Lead, _context: Context, /) -> list[LeadEvent]:
        raise LeadVanished


def test_a_refusal_keeps_its_status_whatever_becomes_of_its_rule(ledger_url: str) -> None:
    lead = uuid4()
    asked = request("leads/claim", of=lead, key="once", command=ClaimOfNothing())
    with writer_on(ledger_url) as writer, writer_on(ledger_url) as other:
        tell(writer, capture(lead))
        first = tell(writer, asked)
        assert seen(tell(other, claim(lead, key="once"))) == seen(first)
    assert (first.status, first.body["rule"]) == (404, "LeadVanished")


STORE = """
INSERT INTO ledger.outcomes
       (actor, key, actor_kind, command, command_id, correlation_id, body_hash, stream_type,
        stream_id, status, rule, detail, fields, version, after_position, occurred_at, recorded_at)
VALUES ('ada', 'old', 'user', %s, %s, %s, %s, 'lead', %s, 'refused', %s, %s, %s, 3, 7, now(), now())
"""
OLD = "c0000000-0000-4000-8000-000000000001"
STORED = [
    pytest.param(
        "LeadUnknown",
        "There is no lead with this id.",
        None,
        b'{"type":"/problems/lead-unknown","title":"Lead unknown","status":404,'
        b'"detail":"There is no lead with this id.","rule":"LeadUnknown","fields":[],'
        b'"id":"c0000000-0000-4000-8000-000000000001","version":3,"position":7}',
        id="no such stream",
    ),
    pytest.param(
        "CustomerUnknown",
        "There is no customer with this id.",
        ["customer_id"],
        b'{"type":"/problems/customer-unknown","title":"Customer unknown","status":409,'
        b'"detail":"There is no customer with this id.","rule":"CustomerUnknown",'
        b'"fields":["customer_id"],"id":"c0000000-0000-4000-8000-000000000001","version":3,'
        b'"position":7}',
        id="no such other stream",
    ),
    pytest.param(
        "LeadOwned",
        "Another rep owns this lead.",
        None,
        b'{"type":"/problems/lead-owned","title":"Lead owned","status":409,'
        b'"detail":"Another rep owns this lead.","rule":"LeadOwned","fields":[],'
        b'"id":"c0000000-0000-4000-8000-000000000001","version":3,"position":7}',
        id="a rule",
    ),
    pytest.param(
        "PipelineUnknown",
        "The company has no pipeline of this name.",
        ["pipeline"],
        b'{"type":"/problems/pipeline-unknown","title":"Pipeline unknown","status":409,'
        b'"detail":"The company has no pipeline of this name.","rule":"PipelineUnknown",'
        b'"fields":["pipeline"],"id":"c0000000-0000-4000-8000-000000000001","version":3,'
        b'"position":7}',
        id="a rule that only sounds so",
    ),
]


@pytest.mark.parametrize(("rule", "detail", "fields", "body"), STORED)
def test_a_refusal_stored_by_an_earlier_version_is_answered_as_it_was(
    ledger_url: str, rule: str, detail: str, fields: list[str] | None, body: bytes
) -> None:
    asked = claim(UUID(OLD), key="old")
    ids = (uuid4(), uuid4(), asked.body_hash, asked.stream_id)
    with psycopg.connect(ledger_url) as conn:
        conn.execute(STORE, (asked.name, *ids, rule, detail, fields))
    with writer_on(ledger_url) as writer:
        answer = tell(writer, asked)
    assert (answer.status, answer.encoded()) == (orjson.loads(body)["status"], body)
