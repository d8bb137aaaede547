from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from psycopg import errors

from events.company import COMPANY
from events.envelope import Actor
from events.ledger import ledger
from events.ledger.arrays import Bools
from events.ledger.ledger import Connection, Verdict, append
from tests.events.proposals import propose, refuse


def positions(conn: Connection) -> list[int]:
    return [row[0] for row in conn.execute("SELECT position FROM ledger.events ORDER BY position")]


def counts(conn: Connection) -> tuple[int, int]:
    """How many events and outcomes there are."""
    query = "SELECT (SELECT count(*) FROM ledger.events), (SELECT count(*) FROM ledger.outcomes)"
    row = conn.execute(query).fetchone()
    assert row is not None
    return row[0], row[1]


def statuses(verdicts: list[Verdict]) -> list[str]:
    return [verdict.status for verdict in verdicts]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_appends_are_refused_on_a_snapshot_that_could_be_stale(
    service: Connection, level: str
) -> None:
    service.execute(f"SET default_transaction_isolation = '{level}'")
    with pytest.raises(errors.RaiseException, match="read committed"):
        append(service, [propose(uuid4())])
    assert counts(service) == (0, 0)


@pytest.mark.parametrize("commit", ["off", "local"])
def test_appends_are_refused_where_a_commit_could_be_lost(service: Connection, commit: str) -> None:
    service.execute(f"SET synchronous_commit = {commit}")
    with pytest.raises(errors.RaiseException, match="synchronous_commit"):
        append(service, [propose(uuid4())])
    assert counts(service) == (0, 0)


def test_positions_have_no_gaps_whatever_fails(service: Connection) -> None:
    stream = uuid4()
    append(service, [propose(stream, events=3)])
    append(service, [propose(stream), refuse(uuid4()), propose(uuid4(), events=2)])
    with pytest.raises(errors.UniqueViolation):
        append(service, [propose(stream, expected=None)])
    append(service, [propose(stream, expected=3)])
    assert positions(service) == [1, 2, 3, 4, 5, 6]


def test_positions_follow_the_order_of_the_group(service: Connection) -> None:
    first, second = uuid4(), uuid4()
    verdicts = append(service, [propose(second, events=2), refuse(uuid4()), propose(first)])
    assert verdicts == [
        Verdict("appended", 2, 1, 2),
        Verdict("refused", 0, None, 2),
        Verdict("appended", 1, 3, 3),
    ]
    rows = service.execute("SELECT stream_id, version FROM ledger.events ORDER BY position")
    assert rows.fetchall() == [(second, 1), (second, 2), (first, 1)]


def test_recorded_time_never_falls_when_the_clock_does(
    service: Connection, superuser: Connection
) -> None:
    append(service, [propose(uuid4())])
    future = datetime.now(UTC) + timedelta(days=2)
    superuser.execute("SET session_replication_role = replica")
    superuser.execute("UPDATE ledger.events SET recorded_at = %s", (future,))
    for _ in range(2):
        append(service, [propose(uuid4()), refuse(uuid4())])
    events = service.execute("SELECT recorded_at FROM ledger.events").fetchall()
    outcomes = service.execute(
        "SELECT recorded_at FROM ledger.outcomes WHERE after_position > 1"
    ).fetchall()
    assert events == [(future,)] * 3
    assert outcomes == [(future,)] * 4


def test_a_first_event_makes_the_stream(service: Connection) -> None:
    assert append(service, [propose(uuid4(), events=2)]) == [Verdict("appended", 2, 1, 2)]


def test_a_command_without_events_has_an_outcome_and_no_position(service: Connection) -> None:
    stream = uuid4()
    append(service, [propose(stream)])
    assert append(service, [propose(stream, 1, events=0)]) == [Verdict("appended", 1, None, 1)]
    assert counts(service) == (1, 2)


def test_a_refusal_is_evidence(service: Connection) -> None:
    stream = uuid4()
    append(service, [propose(stream)])
    refusal = refuse(stream, 1, key="k")
    assert append(service, [refusal]) == [Verdict("refused", 1, None, 1)]
    outcome = ledger.outcomes(service, [("ada", "k")])["ada", "k"]
    assert (outcome.status, outcome.rule, outcome.detail) == ("refused", "PumpRuns", "It runs.")
    assert (outcome.fields, outcome.version, outcome.types) == (["a", "b"], 1, None)
    assert counts(service) == (1, 2)


@pytest.mark.parametrize("no_such_stream", [False, True])
def test_a_refusal_says_whether_its_stream_existed(
    service: Connection, no_such_stream: bool
) -> None:
    append(service, [propose(uuid4()), refuse(uuid4(), key="k", no_such_stream=no_such_stream)])
    outcome = ledger.outcomes(service, [("ada", "k")])["ada", "k"]
    assert outcome.no_such_stream is no_such_stream


@pytest.mark.parametrize(("lacking", "told"), [((2,), False), ((2, 0), None)])
def test_a_process_of_a_version_before_still_appends(
    service: Connection, lacking: tuple[int, ...], told: bool | None
) -> None:
    """It does not send another stream's version, or not whether a stream existed either."""
    stream, place = uuid4(), ledger.APPEND_OIDS.index(Bools.oid)
    group = [propose(stream, events=2), refuse(stream, 2, key="k", rests_on=(uuid4(), 0))]
    there = uuid4()
    append(service, [propose(there)])
    group.append(refuse(uuid4(), rests_on=(there, 0)))  # a conflict, and nothing is written
    parameters = ledger._parameters(group, (), None)
    oids = [*ledger.APPEND_OIDS]
    for after in lacking:
        del parameters[place + after], oids[place + after]
    call = ", ".join(f"${n + 1}" for n in range(len(oids)))
    service.pgconn.exec_params(
        f"SELECT * FROM ledger.append({call})".encode(), parameters, oids, [1] * len(oids)
    )
    outcome = ledger.outcomes(service, [("ada", "k")])["ada", "k"]
    assert (outcome.status, outcome.rule, outcome.fields) == ("refused", "PumpRuns", ["a", "b"])
    assert (outcome.version, outcome.after, outcome.no_such_stream) == (2, 3, told)
    assert append(service, [propose(stream, 2)]) == [Verdict("appended", 3, 4, 4)]
    assert counts(service) == (4, 4)


def test_another_version_than_expected_is_a_conflict(service: Connection) -> None:
    stream = uuid4()
    append(service, [propose(stream)])
    for wrong in (propose(stream, 0), propose(stream, 2), refuse(stream, 0)):
        assert append(service, [wrong]) == [Verdict("conflict", 1, None, 1)]
    assert counts(service) == (1, 1)


def test_a_repeated_key_is_a_duplicate_and_writes_nothing(service: Connection) -> None:
    stream = uuid4()
    append(service, [propose(stream, key="k")])
    for again in (
        propose(stream, 0, key="k"),
        propose(stream, 1, key="k"),
        refuse(stream, key="k"),
    ):
        assert statuses(append(service, [again])) == ["duplicate"]
    assert counts(service) == (1, 1)


def test_a_refusal_can_be_repeated_too(service: Connection) -> None:
    stream = uuid4()
    append(service, [refuse(stream, key="k")])
    assert statuses(append(service, [propose(stream, key="k")])) == ["duplicate"]
    assert counts(service) == (0, 1)


def test_two_actors_may_use_the_same_key(service: Connection) -> None:
    append(service, [propose(uuid4(), key="k")])
    verdicts = append(service, [propose(uuid4(), key="k", actor=Actor("bob"))])
    assert statuses(verdicts) == ["appended"]


def test_after_a_duplicate_the_rest_of_the_stream_is_decided_again(service: Connection) -> None:
    stream, other = uuid4(), uuid4()
    append(service, [propose(stream, key="k")])
    group = [propose(stream, 1, key="k"), propose(stream, 2), refuse(stream, 2), propose(other)]
    verdicts = append(service, group)
    assert statuses(verdicts) == ["duplicate", "conflict", "conflict", "appended"]
    assert positions(service) == [1, 2]


def test_after_a_conflict_the_rest_of_the_stream_is_decided_again(service: Connection) -> None:
    stream, other = uuid4(), uuid4()
    group = [propose(stream, 7), propose(stream, 0), propose(other)]
    assert statuses(append(service, group)) == ["conflict", "conflict", "appended"]


def test_later_commands_of_a_stream_build_on_earlier_ones_of_the_group(
    service: Connection,
) -> None:
    stream = uuid4()
    group = [propose(stream, 0, events=2), refuse(stream, 2), propose(stream, 2)]
    assert append(service, group) == [
        Verdict("appended", 2, 1, 2),
        Verdict("refused", 2, None, 2),
        Verdict("appended", 3, 3, 3),
    ]


def test_a_refusal_does_not_take_the_positions_of_the_command_after_it(
    service: Connection,
) -> None:
    group = [refuse(uuid4(), key="no"), propose(uuid4(), events=2, key="yes")]
    assert append(service, group) == [
        Verdict("refused", 0, None, 0),
        Verdict("appended", 2, 1, 2),
    ]
    outcomes = ledger.outcomes(service, [("ada", "no"), ("ada", "yes")])
    assert (outcomes["ada", "no"].first, outcomes["ada", "no"].last) == (None, None)
    assert (outcomes["ada", "yes"].first, outcomes["ada", "yes"].last) == (1, 2)


def test_a_command_in_conflict_does_not_lend_its_events_to_the_one_after_it(
    service: Connection,
) -> None:
    wrong = propose(uuid4(), 7, payload=b'{"whose": "the wrong one"}')
    right = propose(uuid4(), payload=b'{"whose": "the right one"}')
    assert statuses(append(service, [wrong, right])) == ["conflict", "appended"]
    rows = service.execute("SELECT event_id, stream_id, version, payload FROM ledger.events")
    assert rows.fetchall() == [
        (right.events[0].event_id, right.stream_id, 1, b'{"whose": "the right one"}')
    ]


def test_a_precondition_is_confirmed_and_never_stored(service: Connection) -> None:
    stream = uuid4()
    append(service, [propose(stream)])
    asked = propose(stream, 1, events=0, verdict="precondition")
    assert append(service, [asked]) == [Verdict("precondition", 1, None, 1)]
    assert counts(service) == (1, 1)


def test_a_precondition_on_an_old_version_is_a_conflict(service: Connection) -> None:
    stream = uuid4()
    append(service, [propose(stream)])
    asked = propose(stream, 0, events=0, verdict="precondition")
    assert statuses(append(service, [asked])) == ["conflict"]


def test_a_refusal_for_want_of_a_stream_stands_while_it_is_absent(service: Connection) -> None:
    assert statuses(append(service, [refuse(uuid4(), rests_on=(uuid4(), 0))])) == ["refused"]


def test_a_refusal_for_want_of_a_stream_that_came_meanwhile_is_a_conflict(
    service: Connection,
) -> None:
    customer = uuid4()
    append(service, [propose(customer)])
    assert statuses(append(service, [refuse(uuid4(), rests_on=(customer, 0))])) == ["conflict"]
    assert counts(service) == (1, 1)


def test_a_decision_that_rests_on_another_stream_stands_while_that_has_its_version(
    service: Connection,
) -> None:
    deal = uuid4()
    append(service, [propose(deal, events=2)])
    asked = [propose(uuid4(), rests_on=(deal, 2)), refuse(uuid4(), rests_on=(deal, 2))]
    assert statuses(append(service, asked)) == ["appended", "refused"]
    assert counts(service) == (3, 3)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_a_decision_on_another_version_of_another_stream_is_a_conflict(
    service: Connection, at: int
) -> None:
    deal = uuid4()
    append(service, [propose(deal, events=2)])
    asked = [
        propose(uuid4(), rests_on=(deal, at)),
        refuse(uuid4(), rests_on=(deal, at)),
        propose(uuid4(), rests_on=(deal, 2)),
        propose(uuid4()),
    ]
    expected = ["conflict", "conflict", "appended", "appended"]
    assert statuses(append(service, asked)) == expected
    assert counts(service) == (4, 3)


def test_a_group_decided_under_old_settings_is_stale(service: Connection) -> None:
    append(service, [propose(COMPANY, key="s")])
    group = [propose(uuid4()), refuse(uuid4())]
    assert statuses(append(service, group, settings=(COMPANY, 0))) == ["stale", "stale"]
    assert counts(service) == (1, 1)
    assert statuses(append(service, group, settings=(COMPANY, 1))) == ["appended", "refused"]


def test_a_group_that_makes_a_key_which_another_made_is_stale(service: Connection) -> None:
    subject = uuid4()
    append(service, [propose(uuid4())], [(subject, b"theirs")])
    verdicts = append(service, [propose(uuid4())], [(subject, b"ours"), (uuid4(), b"new")])
    assert statuses(verdicts) == ["stale"]
    assert counts(service) == (1, 1)
    assert service.execute("SELECT wrapped FROM vault.keys").fetchall() == [(b"theirs",)]


def test_without_an_expected_version_the_stream_itself_decides(service: Connection) -> None:
    stream = uuid4()
    append(service, [propose(stream)])
    with pytest.raises(errors.UniqueViolation):
        append(service, [propose(uuid4()), propose(stream, None)])
    assert counts(service) == (1, 1)


def test_a_key_used_twice_in_one_group_undoes_the_group(service: Connection) -> None:
    with pytest.raises(errors.UniqueViolation):
        append(service, [propose(uuid4(), key="k"), propose(uuid4(), key="k")])
    assert counts(service) == (0, 0)


def test_an_outcome_tells_the_whole_answer(service: Connection) -> None:
    stream = uuid4()
    command = uuid4()
    second = propose(stream, events=2, key="k", command_id=command)
    append(service, [propose(uuid4()), second])
    outcome = ledger.outcomes(service, [("ada", "k"), ("ada", "never")])
    assert list(outcome) == [("ada", "k")]
    assert outcome["ada", "k"] == ledger.StoredOutcome(
        actor="ada",
        key="k",
        command_id=command,
        body_hash=b"hash",
        stream_id=stream,
        stream_type="pump",
        status="appended",
        rule=None,
        detail=None,
        fields=None,
        no_such_stream=None,
        version=2,
        first=2,
        last=3,
        after=3,
        types=["pump.started", "pump.started"],
    )
