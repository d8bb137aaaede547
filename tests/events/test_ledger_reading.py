from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.base import UnknownEventType
from events.envelope import Actor
from events.lead import LeadCaptured, LeadClaimed
from events.ledger import codec, ledger
from events.ledger.codec import encode
from events.ledger.keys import Keyring
from events.ledger.ledger import Connection, NewEvent, append
from tests.events.proposals import NOON, propose


def test_an_event_lies_in_the_ledger_with_all_that_surrounds_it(service: Connection) -> None:
    keyring = Keyring(bytes(32))
    stream, event_id, cause = uuid4(), uuid4(), uuid4()
    key, wrapped = keyring.create(stream)
    captured = LeadCaptured(name="Grace", source="fair")
    payload = encode(captured, event_id, stream, {stream: key})
    proposal = propose(
        stream,
        events=0,
        stream_type="lead",
        causation_id=cause,
        actor=Actor("timer", "policy"),
        occurred_at=NOON - timedelta(days=3, microseconds=1),
    )
    proposal.events.append(NewEvent(event_id, "lead.captured", 1, payload, 1))
    append(service, [proposal], [(stream, wrapped)])
    (recorded,) = codec.decode_all(service, keyring, ledger.read(service, 0, 10))
    assert recorded.event == captured
    assert recorded.recorded_at.tzinfo is not None
    assert recorded._replace(recorded_at=NOON, event=LeadClaimed(owner="-")) == (
        1,
        event_id,
        "lead",
        stream,
        1,
        proposal.occurred_at,
        NOON,
        "timer",
        "policy",
        proposal.command_id,
        proposal.correlation_id,
        cause,
        "lead.captured",
        1,
        LeadClaimed(owner="-"),
    )
    (sealed,) = codec.decode_all(service, keyring, ledger.read(service, 0, 10), personal=False)
    assert "Grace" not in str(sealed.event)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    actor=st.text(st.characters(exclude_characters="\x00", codec="utf-8"), min_size=1),
    key=st.text(st.characters(exclude_characters="\x00", codec="utf-8"), min_size=1),
    payload=st.binary(max_size=300),
    occurred=st.datetimes(
        datetime.fromisoformat("1900-01-01"),
        datetime.fromisoformat("2199-12-31"),
        timezones=st.just(UTC),
    ),
)
def test_texts_bytes_and_times_arrive_exactly(
    service: Connection, actor: str, key: str, payload: bytes, occurred: datetime
) -> None:
    stream = uuid4()
    proposal = propose(
        stream,
        payload=payload,
        actor=Actor(actor),
        key=f"{key}{stream}",
        body_hash=payload,
        occurred_at=occurred,
        detail=key,
    )
    append(service, [proposal])
    (row,) = ledger.read_streams(service, [stream])
    assert (row[5], row[7], bytes(row[14])) == (occurred, actor, payload)
    (outcome,) = ledger.outcomes(service, [(actor, f"{key}{stream}")]).values()
    assert (bytes(outcome.body_hash), outcome.detail) == (payload, key)


def test_a_reader_goes_on_where_it_stopped(service: Connection) -> None:
    append(service, [propose(uuid4(), events=5)])
    assert [row[0] for row in ledger.read(service, 0, 3)] == [1, 2, 3]
    assert [row[0] for row in ledger.read(service, 3, 3)] == [4, 5]
    assert ledger.read(service, 5, 3) == []
    assert ledger.head(service) == 5


def test_streams_are_read_whole_and_in_order(service: Connection) -> None:
    first, second, absent = uuid4(), uuid4(), uuid4()
    append(service, [propose(first)])
    append(service, [propose(second)])
    append(service, [propose(first, 1)])
    rows = ledger.read_streams(service, [first, second, absent])
    assert [(row[3], row[4]) for row in rows] == sorted([(first, 1), (first, 2), (second, 1)])
    assert [(row[0], row[1]) for row in ledger.load(service, [first])] == [(first, 1), (first, 2)]
    assert ledger.stream_types(service, [first, absent]) == {first: "pump"}


def test_an_unknown_type_halts_a_reader(service: Connection) -> None:
    append(service, [propose(uuid4())])
    with pytest.raises(UnknownEventType, match=r"pump\.started"):
        codec.decode_all(service, Keyring(bytes(32)), ledger.read(service, 0, 10))


def test_a_view_shows_payloads_as_json(service: Connection) -> None:
    append(service, [propose(uuid4(), payload='{"litres": "1.50", "site": "Zürich"}'.encode())])
    row = service.execute(
        "SELECT position, type, payload ->> 'litres', payload ->> 'site'"
        " FROM ledger.readable_events"
    ).fetchone()
    assert row == (1, "pump.started", "1.50", "Zürich")


@pytest.mark.parametrize("payload", [b"\xff\xfe", b"not json", b"", b'"\\u0000"'])
def test_the_view_shows_nothing_where_bytes_are_no_json(
    service: Connection, payload: bytes
) -> None:
    append(service, [propose(uuid4(), payload=payload)])
    assert service.execute("SELECT payload FROM ledger.readable_events").fetchall() == [(None,)]


def test_the_view_has_every_column_of_an_event(service: Connection) -> None:
    columns = service.execute("SELECT * FROM ledger.readable_events").description
    assert columns is not None
    assert [column.name for column in columns] == ledger.COLUMNS.replace(",", " ").split()
