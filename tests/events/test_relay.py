"""The relay, in real processes, between a real PostgreSQL and a real Kafka."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
import pytest
from confluent_kafka import KafkaException, Producer
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from events import checkpoints, ledger, relay
from events.checkpoints import Overtaken
from events.topic import (
    PARTITIONS,
    SETTINGS,
    WATERMARK,
    Tail,
    TopicUnfit,
    client,
    prepare_topic,
)
from pledge import demo
from pledge.broker import Cluster, broker
from pledge.embedded import create_database
from tests.commands.making import capture, tell, writer_on
from tests.end_to_end.running import CHECKED_OUT, environment

pytestmark = pytest.mark.slow

UNTIL = date(2026, 3, 5)
PATIENCE_SECONDS = 90


class Taken(NamedTuple):
    """A record as a consumer gets it."""

    partition: int
    position: int
    key: bytes | None
    value: bytes
    headers: dict[str, str]

    @property
    def is_event(self) -> bool:
        return self.headers["ce_type"] != WATERMARK


def fill(url: str, seed: int = 1, size: int = 3) -> int:
    """Some hundred events; where the ledger stands then."""
    with writer_on(url) as writer:
        demo.fill(writer, (size, seed, UNTIL), lambda _done, _of: None)
    with ledger.connect(url) as conn:
        return ledger.head(conn)


def everything(bootstrap: str, topic: str) -> list[Taken]:
    """All records that are in the topic now, each partition in its order."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    partitions = [TopicPartition(topic, n) for n in range(PARTITIONS)]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    taken: list[Taken] = []
    try:
        while any(consumer.position(p) < ends[p] for p in partitions):
            for partition, records in consumer.poll(timeout_ms=500).items():
                for record in records:
                    headers = {name: value.decode() for name, value in record.headers}
                    position = int(headers["ce_position"])
                    taken.append(
                        Taken(partition.partition, position, record.key, record.value, headers)
                    )
    finally:
        consumer.close()
    return taken


def first_occurrences(taken: list[Taken]) -> list[Taken]:
    """What a consumer takes: of each partition only what lies above the highest before."""
    highest: dict[int, int] = {}
    first = []
    for record in taken:
        if record.is_event and record.position > highest.get(record.partition, 0):
            highest[record.partition] = record.position
            first.append(record)
    return first


def assert_whole(url: str, taken: list[Taken]) -> None:
    """Everything in the ledger is there, byte for byte, each stream in one partition in order."""
    with ledger.connect(url) as conn:
        rows = ledger.read(conn, 0, 1_000_000)
    found = {record.position: record for record in first_occurrences(taken)}
    assert found.keys() == {row[0] for row in rows}
    at_home: dict[str, int] = {}
    for row in rows:
        record = found[row[0]]
        assert record.value == bytes(row[14])
        assert record.key == str(row[3]).encode()
        assert at_home.setdefault(str(row[3]), record.partition) == record.partition
    for partition in range(PARTITIONS):
        positions = [r.position for r in first_occurrences(taken) if r.partition == partition]
        assert positions == sorted(positions)


def position_of(url: str) -> int:
    with ledger.connect(url) as conn:
        found = checkpoints.fetch(conn, relay.NAME)
    return found.position if found else 0


def halted(url: str) -> str | None:
    with ledger.connect(url) as conn:
        found = checkpoints.fetch(conn, relay.NAME)
    return found.halted if found else None


def wait_for(satisfied: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not satisfied():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def carried(url: str, head: int) -> None:
    wait_for(lambda: position_of(url) >= head, f"never carried up to {head}")


@pytest.fixture
def topic() -> str:
    return f"pledge.events.{uuid4().hex[:8]}"


class Relaying:
    """``pledge relay`` as a process, over and over."""

    def __init__(self, url: str, bootstrap: str, topic: str, folder: Path) -> None:
        settings = {"kafka_bootstrap": bootstrap, "kafka_topic": topic}
        self._env = environment(folder / "home", url, **settings)
        self._log = folder / f"relay-{uuid4().hex[:6]}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> Relaying:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pledge.cli", "relay", *more],
                cwd=CHECKED_OUT,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    def said(self) -> str:
        return self._log.read_text()


@pytest.fixture
def relaying(
    ledger_url: str, kafka_bootstrap: str, topic: str, tmp_path: Path
) -> Iterator[Callable[[], Relaying]]:
    """Makes relays; whatever still runs at the end is killed."""
    made: list[Relaying] = []

    def make() -> Relaying:
        made.append(Relaying(ledger_url, kafka_bootstrap, topic, tmp_path))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.end(signal.SIGKILL)


def test_a_consumer_from_the_first_offset_gets_everything(
    ledger_url: str, kafka_bootstrap: str, topic: str, relaying: Callable[[], Relaying]
) -> None:
    head = fill(ledger_url)
    running = relaying().start()
    carried(ledger_url, head)
    head = fill(ledger_url, seed=2)
    carried(ledger_url, head)
    assert running.end() == 0
    taken = everything(kafka_bootstrap, topic)
    assert_whole(ledger_url, taken)
    assert len([record for record in taken if record.is_event]) == head
    for partition in range(PARTITIONS):
        marks = [r.position for r in taken if r.partition == partition and not r.is_event]
        assert max(marks) == head
    with ledger.connect(ledger_url) as conn:
        ledger_id = ledger.ledger_id(conn)
        row = ledger.read(conn, 0, 1)[0]
    [first] = [record for record in taken if record.is_event and record.position == 1]
    assert first.headers == {
        "ce_specversion": "1.0",
        "ce_id": str(row[1]),
        "ce_type": row[12],
        "ce_source": f"urn:pledge:ledger:{ledger_id}",
        "ce_time": row[5].isoformat(),
        "ce_subject": f"{row[2]}/{row[3]}",
        "content-type": "application/json",
        "ce_position": "1",
        "ce_streamversion": "1",
        "ce_schemaversion": "1",
        "ce_recordedtime": row[6].isoformat(),
        "ce_actor": row[7],
        "ce_actorkind": "import",
        "ce_commandid": str(row[9]),
        "ce_correlationid": str(row[10]),
    }


def test_no_watermark_stands_before_an_event_that_it_vouches_for(
    ledger_url: str, kafka_bootstrap: str, topic: str, relaying: Callable[[], Relaying]
) -> None:
    head = fill(ledger_url)
    relaying().start()
    carried(ledger_url, head)
    seen: dict[int, int] = {}
    for record in everything(kafka_bootstrap, topic):
        if not record.is_event:
            seen[record.partition] = max(seen.get(record.partition, 0), record.position)
        else:
            assert record.position > seen.get(record.partition, 0)


def test_a_relay_killed_again_and_again_loses_nothing(
    ledger_url: str, kafka_bootstrap: str, topic: str, relaying: Callable[[], Relaying]
) -> None:
    running = relaying()
    for seed in range(1, 6):
        head = fill(ledger_url, seed=seed)
        before = position_of(ledger_url)
        running.start()
        # Killed once it has begun to carry: most times some of a batch is on its way.
        wait_for(lambda before=before: position_of(ledger_url) > before, "it never began")
        fill(ledger_url, seed=seed + 100)
        time.sleep(0.02 * seed)
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
    head = fill(ledger_url, seed=200)
    running.start()
    carried(ledger_url, head)
    assert running.end() == 0
    assert_whole(ledger_url, everything(kafka_bootstrap, topic))


def test_a_frozen_leader_is_overtaken_and_does_no_harm_when_it_wakes(
    ledger_url: str, kafka_bootstrap: str, topic: str, relaying: Callable[[], Relaying]
) -> None:
    head = fill(ledger_url)
    leader = relaying().start()
    carried(ledger_url, head)
    standby = relaying().start()
    leader.send(signal.SIGSTOP)
    head = fill(ledger_url, seed=2)
    carried(ledger_url, head)
    assert "the relay leads" in standby.said()
    leader.send(signal.SIGCONT)
    wait_for(lambda: "begins again" in leader.said(), "the old leader never noticed")
    head = fill(ledger_url, seed=3)
    carried(ledger_url, head)
    assert leader.end() == 0
    assert standby.end() == 0
    assert_whole(ledger_url, everything(kafka_bootstrap, topic))


def test_a_topic_that_shows_less_for_a_moment_halts_nothing(
    ledger_url: str,
    kafka_bootstrap: str,
    topic: str,
    relaying: Callable[[], Relaying],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = fill(ledger_url)
    first = relaying().start()
    carried(ledger_url, head)
    assert first.end() == 0
    look, looks = relay.tail_of, count(1)

    def short_at_first(bootstrap: str, name: str) -> Tail:
        found = look(bootstrap, name)
        if next(looks) > 2:
            return found
        return found._replace(each=dict.fromkeys(range(PARTITIONS), 0))

    monkeypatch.setattr(relay, "tail_of", short_at_first)
    head = fill(ledger_url, seed=2)
    stop = threading.Event()
    second = threading.Thread(
        target=relay.Relay(lambda: ledger.connect(ledger_url), kafka_bootstrap, topic).run,
        args=(stop,),
    )
    second.start()
    try:
        carried(ledger_url, head)
    finally:
        stop.set()
        second.join()
    assert next(looks) > 3
    assert halted(ledger_url) is None
    assert_whole(ledger_url, everything(kafka_bootstrap, topic))


def test_whoever_led_before_cannot_move_the_checkpoint(ledger_url: str) -> None:
    topic_id = uuid4()
    with ledger.connect(ledger_url) as conn:
        old = relay.take_lead(conn, topic_id, Tail())
        new = relay.take_lead(conn, topic_id, Tail())
        assert new.epoch == old.epoch + 1
        with pytest.raises(Overtaken):
            checkpoints.move(conn, old, old)
        checkpoints.move(conn, new, new)


def test_a_topic_made_anew_halts_it_and_is_filled_from_the_start_when_told(
    ledger_url: str, kafka_bootstrap: str, topic: str, relaying: Callable[[], Relaying]
) -> None:
    head = fill(ledger_url)
    running = relaying().start()
    carried(ledger_url, head)
    running.end()
    with KafkaAdminClient(bootstrap_servers=kafka_bootstrap) as admin:
        admin.delete_topics([topic])
        wait_for(lambda: topic not in admin.list_topics(), "the topic stays")
    running.start()
    wait_for(lambda: halted(ledger_url), "it never halted")
    assert "deleted and made anew" in str(halted(ledger_url))
    assert not [record for record in everything(kafka_bootstrap, topic) if record.is_event]
    running.end()
    running.start("--from-the-start")
    wait_for(lambda: halted(ledger_url) is None, "it never began")
    carried(ledger_url, head)
    running.end()
    assert_whole(ledger_url, everything(kafka_bootstrap, topic))


def test_a_ledger_restored_from_yesterday_halts_it(ledger_url: str) -> None:
    topic_id = uuid4()
    head = fill(ledger_url)
    with ledger.connect(ledger_url) as conn:
        led = relay.take_lead(conn, topic_id, Tail())
        for strange in ((head + 5, uuid4()), (head, uuid4())):
            checkpoints.begin(conn, relay.NAME, str(topic_id), *strange)
            assert "restored from a backup" in str(relay.take_lead(conn, topic_id, Tail()).halted)
        relay.from_the_start(conn, topic_id, Tail())
        again = relay.take_lead(conn, topic_id, Tail())
        assert (again.halted, again.position) == (None, 0)
        assert again.epoch > led.epoch


def test_a_restored_database_does_not_go_on_into_the_topic_of_the_lost_one(
    ledger_url: str,
    postgres_url: str,
    kafka_bootstrap: str,
    topic: str,
    relaying: Callable[[], Relaying],
    tmp_path: Path,
) -> None:
    """Checkpoint and ledger are of yesterday together, so they fit; only the topic knows more."""
    head = fill(ledger_url)
    running = relaying().start()
    carried(ledger_url, head)
    running.end()
    lost = urlsplit(ledger_url).path[1:]
    backup = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {backup} TEMPLATE {lost}".encode())
        conn.execute(f"GRANT CREATE, TEMPORARY ON DATABASE {backup} TO pledge_service".encode())
    restored = create_database(postgres_url, backup)
    try:
        later = fill(ledger_url, seed=2)
        running.start()
        carried(ledger_url, later)
        running.end()
        again = Relaying(restored, kafka_bootstrap, topic, tmp_path).start()
        wait_for(lambda: halted(restored), "it goes on")
        assert f"up to position {later}" in str(halted(restored))
        assert again.end() == 0
        fill(restored, seed=3, size=20)
        with ledger.connect(restored) as conn:
            assert ledger.head(conn) > later
            checkpoints.begin(conn, relay.NAME, shape_of(conn), head, event_at(conn, head))
        again.start()
        wait_for(lambda: halted(restored), "it goes on where the positions are taken again")
        assert again.end() == 0
        assert again.start("--from-the-start").process is not None
        again.process.wait(PATIENCE_SECONDS)
        assert "Delete the topic first" in " ".join(again.said().split())
        assert len([r for r in everything(kafka_bootstrap, topic) if r.is_event]) == later
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            conn.execute(f"DROP DATABASE {backup} WITH (FORCE)".encode())


def shape_of(conn: ledger.Connection) -> str:
    found = checkpoints.fetch(conn, relay.NAME)
    assert found is not None
    return found.shape


def event_at(conn: ledger.Connection, position: int) -> UUID:
    event_id: UUID = ledger.read(conn, position - 1, 1)[0][1]
    return event_id


def test_no_record_gets_in_behind_one_that_kafka_refused(kafka_bootstrap: str, topic: str) -> None:
    with KafkaAdminClient(bootstrap_servers=kafka_bootstrap) as admin:
        settings = {"num_partitions": PARTITIONS, "configs": {"max.message.bytes": "1000"}}
        admin.create_topics({topic: settings}, wait_for_metadata=True)
    said: list[tuple[bytes, bool]] = []
    each_apart = {"batch.num.messages": 1}
    producer = Producer(client(kafka_bootstrap, **{**relay.PRODUCING, **each_apart}))
    mark = [("ce_type", WATERMARK.encode()), ("ce_position", b"1")]
    for value in (b"{}", os.urandom(5_000), b"[]"):
        producer.produce(
            topic,
            value,
            partition=0,
            headers=mark,
            on_delivery=lambda error, message: said.append((message.value(), error is None)),
        )
    with pytest.raises(relay.FATAL):
        producer.flush(30)
    producer.purge()
    with suppress(*relay.FATAL):
        producer.flush(30)
    assert (b"{}", True) in said
    assert (b"[]", True) not in said
    assert [record.value for record in everything(kafka_bootstrap, topic)] == [b"{}"]
    with pytest.raises(KafkaException):
        producer.produce(topic, b"()", partition=0)


@pytest.mark.parametrize(
    ("partitions", "settings", "said"),
    [(3, SETTINGS, "3 partitions"), (12, {"retention.ms": "1000"}, "retention.ms=1000")],
)
def test_a_topic_that_would_lose_order_or_records_is_refused(
    kafka_bootstrap: str, topic: str, partitions: int, settings: dict[str, str], said: str
) -> None:
    with KafkaAdminClient(bootstrap_servers=kafka_bootstrap) as admin:
        admin.create_topics(
            {topic: {"num_partitions": partitions, "configs": settings}}, wait_for_metadata=True
        )
    with pytest.raises(TopicUnfit, match=said):
        prepare_topic(kafka_bootstrap, topic)


@contextmanager
def own_cluster(nodes: int) -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="pledge-kafka-") as folder,
        broker(Path(folder), nodes) as cluster,
    ):
        yield cluster


@pytest.mark.timeout(600)
def test_three_nodes_of_which_one_dies_and_then_none_is_there_for_a_while(
    ledger_url: str, topic: str, tmp_path: Path
) -> None:
    with own_cluster(3) as cluster:
        running = Relaying(ledger_url, cluster.bootstrap, topic, tmp_path).start()
        try:
            head = fill(ledger_url)
            carried(ledger_url, head)
            cluster.nodes[0].kill()
            cluster.nodes[0].wait()
            head = fill(ledger_url, seed=2)
            carried(ledger_url, head)
            for node in (1, 2):
                cluster.nodes[node].kill()
                cluster.nodes[node].wait()
            with writer_on(ledger_url) as writer:
                assert tell(writer, capture(UUID(int=uuid4().int))).status == 201
            head = fill(ledger_url, seed=3)
            assert running.end() == 0, "Kafka's absence keeps it from stopping"
            for node in range(3):
                cluster.start(node)
            cluster.wait()
            running.start()
            carried(ledger_url, head)
            assert_whole(ledger_url, everything(cluster.bootstrap, topic))
        finally:
            running.end(signal.SIGKILL)


def test_the_consumer_of_the_documents_gets_everything(
    ledger_url: str, kafka_bootstrap: str, topic: str, relaying: Callable[[], Relaying]
) -> None:
    head = fill(ledger_url)
    relaying().start()
    carried(ledger_url, head)
    page = (CHECKED_OUT / "docs" / "consuming.md").read_text(encoding="utf-8")
    program = page.partition("```python\n")[2].partition("```")[0]
    consumer = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program],
        env={
            **os.environ,
            "PLEDGE_KAFKA_BOOTSTRAP": kafka_bootstrap,
            "PLEDGE_KAFKA_TOPIC": topic,
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert consumer.stdout is not None
        positions = [int(consumer.stdout.readline().partition(" ")[0]) for _ in range(head)]
    finally:
        consumer.kill()
        consumer.communicate()
    assert sorted(positions) == [*range(1, head + 1)]
