"""The eventsourcing library's own published tests, run on our ledger.

Its modules are imported, not its classes: pytest would collect those from this module, too.
"""

import os
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing import persistence, postgres
from eventsourcing.persistence import IntegrityError, StoredEvent
from eventsourcing.postgres import PostgresDatastore
from eventsourcing.tests import application as published_application
from eventsourcing.tests import persistence as published
from eventsourcing.utils import Environment
from psycopg.conninfo import conninfo_to_dict

from events.ledger import ledger
from events.ledger.ledger import Connection
from events.ledger.recorder import POLL_SECONDS, AppendTooLarge, LedgerFactory, LedgerRecorder

COUNT_OURS = "SELECT count(*), count(*) FILTER (WHERE actor = 'eventsourcing') FROM ledger.events"
STALL_SECONDS = 30


def settings_of(url: str) -> dict[str, str]:
    """How the library is told to keep its events in this ledger."""
    target = conninfo_to_dict(url)
    return {
        "PERSISTENCE_MODULE": "events.ledger.recorder:LedgerFactory",
        "POSTGRES_DBNAME": str(target["dbname"]),
        "POSTGRES_HOST": str(target.get("host", "")),
        "POSTGRES_PORT": str(target.get("port", 5432)),
        "POSTGRES_USER": str(target.get("user", "")),
        "POSTGRES_PASSWORD": str(target.get("password", "none")),
        "POSTGRES_POOL_SIZE": "4",
        "POSTGRES_MAX_OVERFLOW": "8",
    }


def datastore_of(url: str) -> PostgresDatastore:
    settings = settings_of(url)
    names = ("dbname", "host", "port", "user", "password")
    target = {name: settings[f"POSTGRES_{name.upper()}"] for name in names}
    return PostgresDatastore(**target, pool_size=4, max_overflow=8)


def stored(stream: UUID, version: int, state: bytes = b"state", topic: str = "t") -> StoredEvent:
    return StoredEvent(stream, version, topic, state)


def all_ours(url: str) -> int:
    """How many events the ledger holds, every one of them recorded by the library."""
    with ledger.connect(url) as conn:
        count, ours = conn.execute(COUNT_OURS).fetchone() or (0, 0)
    assert count == ours
    return int(ours)


class OnOurLedger:
    """Runs a published test on a ledger of its own, and proves afterwards that it did."""

    url: str
    datastore: PostgresDatastore

    @pytest.fixture(autouse=True)
    def _fresh_ledger(self, database_url: str) -> Iterator[None]:
        # unittest makes one instance for each test, so this is the test's own.
        self.url = database_url
        self.datastore = datastore_of(database_url)
        yield
        self.datastore.close()
        assert all_ours(database_url) > 0, "the test ran somewhere else"

    def create_recorder(self) -> LedgerRecorder:
        recorder = LedgerRecorder(self.datastore)
        recorder.create_table()
        return recorder

    def close_db_connection(self, *_args: Any) -> None:
        self.datastore.close()


class TestApplicationRecorder(OnOurLedger, published.ApplicationRecorderTestCase[LedgerRecorder]):
    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestNonInterleavingNotificationIDs(
    OnOurLedger, published.NonInterleavingNotificationIDsBaseCase
):
    insert_num = 1000


class TrackingRecorderSubclass(postgres.PostgresTrackingRecorder):
    pass


class TestInfrastructureFactory(published.InfrastructureFactoryTestCase[LedgerFactory]):
    @pytest.fixture(autouse=True)
    def _fresh_ledger(self, database_url: str) -> None:
        self.settings = settings_of(database_url)

    def setUp(self) -> None:
        self.env = Environment("TestCase", self.settings)
        super().setUp()

    def expected_factory_class(self) -> type[LedgerFactory]:
        return LedgerFactory

    def expected_aggregate_recorder_class(self) -> type[persistence.AggregateRecorder]:
        return postgres.PostgresAggregateRecorder

    def expected_application_recorder_class(self) -> type[persistence.ApplicationRecorder]:
        return LedgerRecorder

    def expected_tracking_recorder_class(self) -> type[persistence.TrackingRecorder]:
        return postgres.PostgresTrackingRecorder

    def tracking_recorder_subclass(self) -> type[persistence.TrackingRecorder]:
        return TrackingRecorderSubclass

    def expected_process_recorder_class(self) -> type[persistence.ProcessRecorder]:
        return postgres.PostgresProcessRecorder


class TestExampleApplication(published_application.ExampleApplicationTestCase):
    expected_factory_topic = "events.ledger.recorder:LedgerFactory"

    @pytest.fixture(autouse=True)
    def _fresh_ledger(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        for name in os.environ:
            if name.startswith(("POSTGRES_", "PERSISTENCE_")):
                monkeypatch.delenv(name)
        for name, value in settings_of(database_url).items():
            monkeypatch.setenv(name, value)
        opened: list[LedgerFactory] = []
        original = LedgerFactory.__init__

        def remember(factory: LedgerFactory, *args: Any, **kwargs: Any) -> None:
            opened.append(factory)
            original(factory, *args, **kwargs)

        # The published test never closes its application, whose pool would outlive the database.
        monkeypatch.setattr(LedgerFactory, "__init__", remember)
        yield
        for factory in opened:
            factory.close()
        assert all_ours(database_url) == 4


@pytest.fixture
def recorder(ledger_url: str) -> Iterator[LedgerRecorder]:
    datastore = datastore_of(ledger_url)
    yield LedgerRecorder(datastore)
    datastore.close()


def test_an_append_of_the_library_is_a_command_with_an_outcome(
    recorder: LedgerRecorder, service: Connection
) -> None:
    stream = uuid4()
    assert recorder.insert_events([stored(stream, 1), stored(stream, 2)]) == [1, 2]
    rows = service.execute(
        "SELECT position, version, stream_type, actor, actor_kind, type FROM ledger.events"
    ).fetchall()
    assert rows == [
        (1, 1, "library", "eventsourcing", "library", "t"),
        (2, 2, "library", "eventsourcing", "library", "t"),
    ]
    outcomes = service.execute(
        "SELECT command, status, first_position, last_position FROM ledger.outcomes"
    ).fetchall()
    assert outcomes == [("library/append", "appended", 1, 2)]


def test_an_append_to_several_streams_is_all_or_nothing(recorder: LedgerRecorder) -> None:
    taken, free = uuid4(), uuid4()
    recorder.insert_events([stored(taken, 1)])
    with pytest.raises(IntegrityError):
        recorder.insert_events([stored(free, 1), stored(taken, 1)])
    assert recorder.select_events(free) == []
    assert recorder.insert_events([stored(free, 1), stored(taken, 2), stored(free, 2)]) == [2, 3, 4]


def test_appending_nothing_does_nothing(recorder: LedgerRecorder) -> None:
    assert recorder.insert_events([]) is None
    assert recorder.max_notification_id() is None


def test_a_thousand_events_are_appended_at_once(recorder: LedgerRecorder) -> None:
    stream = uuid4()
    positions = recorder.insert_events([stored(stream, n) for n in range(1, 1_001)])
    assert positions == list(range(1, 1_001))


def test_more_than_a_thousand_events_are_refused(recorder: LedgerRecorder) -> None:
    stream = uuid4()
    with pytest.raises(AppendTooLarge, match="1001 events"):
        recorder.insert_events([stored(stream, n) for n in range(1, 1_002)])
    assert recorder.max_notification_id() is None


def test_more_than_a_million_bytes_are_refused(recorder: LedgerRecorder) -> None:
    stream = uuid4()
    with pytest.raises(AppendTooLarge, match="1000001 bytes"):
        recorder.insert_events([stored(stream, 1, bytes(1_000_000)), stored(stream, 2, b"x")])
    assert recorder.max_notification_id() is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("parts", [1, 9, 900])
def test_a_large_append_does_not_hang(recorder: LedgerRecorder, parts: int) -> None:
    stream = uuid4()
    size = 900_000 // parts
    started = time.monotonic()
    recorder.insert_events([stored(stream, n, os.urandom(size)) for n in range(1, parts + 1)])
    assert time.monotonic() - started < STALL_SECONDS
    assert [len(event.state) for event in recorder.select_events(stream)] == [size] * parts


def test_a_lost_connection_is_not_blindly_tried_again(
    recorder: LedgerRecorder, superuser: Connection
) -> None:
    recorder.insert_events([stored(uuid4(), 1)])
    superuser.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    with pytest.raises(persistence.PersistenceError):
        recorder.insert_events([stored(uuid4(), 1)])
    assert ledger.head(superuser) == 1


@pytest.mark.timeout(60)
def test_a_subscription_polls_and_delivers(recorder: LedgerRecorder) -> None:
    stream = uuid4()
    recorder.insert_events([stored(stream, 1), stored(stream, 2)])
    received: list[int] = []
    arrived = threading.Event()
    with recorder.subscribe(gt=1) as subscription:

        def follow() -> None:
            for notification in subscription:
                received.append(notification.id)
                if notification.id == 5:
                    arrived.set()

        follower = threading.Thread(target=follow)
        follower.start()
        time.sleep(3 * POLL_SECONDS)
        for version in (3, 4, 5):
            recorder.insert_events([stored(stream, version)])
        assert arrived.wait(STALL_SECONDS)
    follower.join(STALL_SECONDS)
    assert not follower.is_alive()
    assert received == [2, 3, 4, 5]


@pytest.mark.timeout(60)
def test_a_subscription_delivers_only_the_topics_it_was_asked_for(
    recorder: LedgerRecorder,
) -> None:
    stream = uuid4()
    recorder.insert_events([stored(stream, n, topic="ab"[n % 2]) for n in range(1, 7)])
    with recorder.subscribe(topics=["a"]) as subscription:
        assert [next(subscription).id for _ in range(3)] == [2, 4, 6]


def test_nothing_in_an_append_notifies(ledger_url: str, recorder: LedgerRecorder) -> None:
    with ledger.connect(ledger_url) as listener:
        listener.execute(f'LISTEN "{recorder.channel_name}"')
        recorder.insert_events([stored(uuid4(), 1)])
        assert list(listener.notifies(timeout=0.2)) == []
