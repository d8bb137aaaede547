from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.ledger import ledger
from events.ledger.ledger import Connection, Proposal, Verdict, append
from tests.events.proposals import propose

STEPS = st.tuples(
    st.integers(0, 2),
    st.sampled_from(["appended", "appended", "appended", "refused", "precondition"]),
    st.sampled_from([0, 0, 0, 1]),
    st.integers(0, 3),
    st.none() | st.integers(0, 3),
)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(STEPS, min_size=1, max_size=8), min_size=1, max_size=3))
def test_any_group_leaves_exactly_what_its_verdicts_say(
    service: Connection, groups: list[list[tuple[int, str, int, int, int | None]]]
) -> None:
    streams, salt = [uuid4() for _ in range(3)], uuid4()
    versions = dict.fromkeys(streams, 0)
    for steps in groups:
        group, guess, used = [], dict(versions), set[int]()
        for place, verdict, off, count, key in sorted(steps, key=lambda step: step[0]):
            fresh = key is None or key in used
            used |= set() if key is None else {key}
            stream = streams[place]
            proposal = propose(
                stream,
                guess[stream] + off,
                count if verdict == "appended" else 0,
                key=str(uuid4()) if fresh else f"{salt} {key}",
                verdict=verdict,
                rule="PumpRuns" if verdict == "refused" else None,
            )
            guess[stream] += len(proposal.events)
            group.append(proposal)
        before = ledger.head(service)
        verdicts = append(service, group)
        for proposal, verdict in zip(group, verdicts, strict=True):
            _check_what_was_left(service, proposal, verdict)
            versions[proposal.stream_id] = verdict.version
        appended = [p for p, v in zip(group, verdicts, strict=True) if v.status == "appended"]
        assert ledger.head(service) - before == sum(len(p.events) for p in appended)


def _check_what_was_left(conn: Connection, proposal: Proposal, verdict: Verdict) -> None:
    events = conn.execute(
        "SELECT event_id, stream_id, version, position FROM ledger.events"
        " WHERE command_id = %s ORDER BY position",
        (proposal.command_id,),
    ).fetchall()
    outcomes = conn.execute(
        "SELECT status, version, first_position, last_position, after_position"
        " FROM ledger.outcomes WHERE command_id = %s",
        (proposal.command_id,),
    ).fetchall()
    if verdict.status == "appended":
        first = verdict.first or 0
        assert events == [
            (event.event_id, proposal.stream_id, event.version, first + place)
            for place, event in enumerate(proposal.events)
        ]
    else:
        assert events == []
        assert verdict.first is None
    last = (verdict.first or 0) + len(events) - 1 if events else None
    stored = (verdict.status, verdict.version, verdict.first, last, verdict.after)
    assert outcomes == ([stored] if verdict.status in ("appended", "refused") else [])
