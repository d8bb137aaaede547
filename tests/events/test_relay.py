"""The relay, in real processes, between a real PostgreSQL and a real Kafka."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource
from kafka.errors import MessageSizeTooLargeError

from events.kafka import leading
from events.kafka.records import HEADERS, PARTITIONS, event_record, partition_of, watermark_record
from events.kafka.topic import SETTINGS, Tail, TopicUnfit, prepare_topic
from events.ledger import checkpoints, ledger
from events.ledger.checkpoints import Overtaken
from pledge import demo
from pledge.broker import Cluster, broker
from pledge.embedded import create_database
from tests.commands.making import capture, register, request, tell, writer_on
from tests.end_to_end.running import CHECKED_OUT, environment, free_port
from tests.outside import WATERMARK, Outsider, Seen, records_of

pytestmark = pytest.mark.slow(8)

UNTIL = date(2026, 3, 5)
PATIENCE_SECONDS = 180


def fill(url: str, seed: int = 1, size: int = 3) -> int:
    """Some hundred events; where the ledger stands then."""
    with writer_on(url) as writer:
        demo.fill(writer, (size, seed, UNTIL), lambda _done, _of: None)
    with ledger.connect(url) as conn:
        return ledger.head(conn)


def source(url: str) -> str:
    with ledger.connect(url) as conn:
        return f"urn:pledge:ledger:{ledger.ledger_id(conn)}"


def assert_whole(url: str, records: list[Seen]) -> Outsider:
    """An outsider gets everything in the ledger, byte for byte, each stream in order, and knows."""
    with ledger.connect(url) as conn:
        rows = ledger.read(conn, 0, 10_000_000)
    outsider = Outsider(source(url)).read(records)
    assert outsider.holes == []
    assert len(outsider.taken) == PARTITIONS
    assert set(outsider.taken.values()) == {rows[-1][0]}
    found = {record.event["position"]: record for record in outsider.events}
    assert len(found) == len(outsider.events)
    assert found.keys() == {row[0] for row in rows}
    at_home: dict[str, int] = {}
    for row in rows:
        record = found[row[0]]
        assert b',"data":' + bytes(row[14]) in record.value
        assert record.event["id"] == str(row[1])
        assert record.key == str(row[3]).encode()
        assert at_home.setdefault(str(row[3]), record.partition) == record.partition
    return outsider


def position_of(url: str) -> int:
    with ledger.connect(url) as conn:
        found = checkpoints.fetch(conn, leading.NAME)
    return found.position if found else 0


def halted(url: str) -> str | None:
    with ledger.connect(url) as conn:
        found = checkpoints.fetch(conn, leading.NAME)
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
                [sys.executable, "-m", "pledge", "relay", *more],
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
    records = records_of(kafka_bootstrap, topic)
    outsider = assert_whole(ledger_url, records)
    assert (outsider.seen, outsider.foreign) == ([], 0)
    # A watermark may come behind events of a later batch; no event comes twice.
    assert sum(record.event["type"] != WATERMARK for record in records) == head
    with ledger.connect(ledger_url) as conn:
        row = ledger.read(conn, 0, 1)[0]
    [first] = [record for record in outsider.events if record.event["position"] == 1]
    assert first.headers == [("content-type", b"application/cloudevents+json; charset=utf-8")]
    assert first.timestamp == int(row[6].timestamp() * 1000)
    assert first.event == {
        "specversion": "1.0",
        "id": str(row[1]),
        "type": row[12],
        "source": source(ledger_url),
        "subject": f"{row[2]}/{row[3]}",
        "time": row[5].isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "position": 1,
        "previous": 0,
        "streamversion": 1,
        "schemaversion": row[13],
        "recordedtime": row[6].isoformat().replace("+00:00", "Z"),
        "actor": row[7],
        "actorkind": "import",
        "commandid": str(row[9]),
        "correlationid": str(row[10]),
        "data": json.loads(row[14]),
    }


def test_a_record_is_a_cloudevent(
    ledger_url: str, kafka_bootstrap: str, topic: str, relaying: Callable[[], Relaying]
) -> None:
    head = fill(ledger_url)
    relaying().start()
    carried(ledger_url, head)
    for record in records_of(kafka_bootstrap, topic)[:200]:
        message = KafkaMessage(dict(record.headers), record.key, record.value)
        read = from_structured_event(message, JSONFormat())
        assert read.get_type() == record.event["type"]
        assert read.get_extension("position") == record.event["position"]
        assert read.get_data() == record.event.get("data")


def test_no_watermark_stands_before_an_event_that_it_vouches_for(
    ledger_url: str, kafka_bootstrap: str, topic: str, relaying: Callable[[], Relaying]
) -> None:
    head = fill(ledger_url)
    relaying().start()
    carried(ledger_url, head)
    marked: dict[int, int] = {}
    for record in records_of(kafka_bootstrap, topic):
        position = record.event["position"]
        assert position > marked.get(record.partition, 0)
        if record.event["type"] == WATERMARK:
            marked[record.partition] = position


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
    assert_whole(ledger_url, records_of(kafka_bootstrap, topic))


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
    assert_whole(ledger_url, records_of(kafka_bootstrap, topic))


def test_whoever_led_before_cannot_move_the_checkpoint(ledger_url: str) -> None:
    topic_id = uuid4()
    with ledger.connect(ledger_url) as conn:
        old = leading.take_lead(conn, topic_id, Tail())
        new = leading.take_lead(conn, topic_id, Tail())
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
    assert records_of(kafka_bootstrap, topic) == []
    running.end()
    running.start("--from-the-start")
    wait_for(lambda: halted(ledger_url) is None, "it never began")
    carried(ledger_url, head)
    running.end()
    assert_whole(ledger_url, records_of(kafka_bootstrap, topic))


def test_a_ledger_restored_from_yesterday_halts_it(ledger_url: str) -> None:
    topic_id = uuid4()
    head = fill(ledger_url)
    with ledger.connect(ledger_url) as conn:
        led = leading.take_lead(conn, topic_id, Tail())
        for strange in ((head + 5, uuid4()), (head, uuid4())):
            checkpoints.begin(conn, leading.NAME, leading.shape_of(topic_id), *strange)
            assert "restored from a backup" in str(leading.take_lead(conn, topic_id, Tail()).halted)
        leading.from_the_start(conn, topic_id, Tail())
        again = leading.take_lead(conn, topic_id, Tail())
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
            checkpoints.begin(conn, leading.NAME, stored_shape(conn), head, event_at(conn, head))
        again.start()
        wait_for(lambda: halted(restored), "it goes on where the positions are taken again")
        assert again.end() == 0
        assert again.start("--from-the-start").process is not None
        again.process.wait(PATIENCE_SECONDS)
        assert "Delete the topic first" in " ".join(again.said().split())
        taken = Outsider(source(ledger_url)).read(records_of(kafka_bootstrap, topic))
        assert len(taken.events) == later
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            conn.execute(f"DROP DATABASE {backup} WITH (FORCE)".encode())


def stored_shape(conn: ledger.Connection) -> str:
    found = checkpoints.fetch(conn, leading.NAME)
    assert found is not None
    return found.shape


def event_at(conn: ledger.Connection, position: int) -> UUID:
    event_id: UUID = ledger.read(conn, position - 1, 1)[0][1]
    return event_id


def test_a_record_that_kafka_refuses_in_the_middle_leaves_a_hole_that_is_seen_and_closed(
    ledger_url: str,
    kafka_bootstrap: str,
    topic: str,
    relaying: Callable[[], Relaying],
) -> None:
    """The broker takes small records only; a large one lies between others of its stream."""
    running = relaying().start()
    head = fill(ledger_url)
    carried(ledger_url, head)
    before = Outsider(source(ledger_url)).read(records_of(kafka_bootstrap, topic))
    limit(kafka_bootstrap, topic, 5_000)
    stream = uuid4()
    with writer_on(ledger_url) as writer:
        assert tell(writer, register(stream)).status == 201
        for length in (10, 5_000, 20):
            summary = {"channel": "call", "summary": "x" * length}
            answer = tell(writer, request("customers/log-interaction", summary, of=stream))
            assert answer.status < 300
    with ledger.connect(ledger_url) as conn:
        head = ledger.head(conn)
    wait_for(lambda: "did not take a record" in running.said(), "nothing was refused")
    assert halted(ledger_url) is None
    assert position_of(ledger_url) < head
    assert running.end() == 0
    urn, home = source(ledger_url), partition_of(stream)
    with ledger.connect(ledger_url) as conn:
        rows = ledger.read(conn, position_of(ledger_url), 100)
    refused = one_by_one(kafka_bootstrap, topic, urn, rows, position_of(ledger_url))
    assert len(refused) == 1
    outsider = Outsider(urn).read(records_of(kafka_bootstrap, topic))
    assert [hole[:2] for hole in outsider.holes] == [(home, refused[0] - 1)]
    limit(kafka_bootstrap, topic, int(SETTINGS["max.message.bytes"]))
    running.start()
    carried(ledger_url, head)
    assert running.end() == 0
    whole = assert_whole(ledger_url, records_of(kafka_bootstrap, topic))
    assert len(whole.events) > len(before.events)


def one_by_one(
    bootstrap: str, topic: str, urn: str, rows: list[ledger.Stored], previous: int
) -> list[int]:
    """Send a stream's events as records of their own; the positions of those refused."""
    refused = []
    with closing(
        KafkaProducer(bootstrap_servers=bootstrap, batch_size=0, enable_idempotence=False)
    ) as producer:
        for row in rows:
            value, home = event_record(row, urn, previous), partition_of(row.stream_id)
            key = str(row.stream_id).encode()
            try:
                producer.send(topic, value, key, HEADERS, home).get(timeout=PATIENCE_SECONDS)
            except MessageSizeTooLargeError:
                refused.append(row.position)
            previous = row.position
    return refused


def limit(bootstrap: str, topic: str, size: int) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.alter_configs([ConfigResource("topic", topic, {"max.message.bytes": str(size)})])


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
def own_broker() -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="pledge-kafka-") as folder,
        broker(Path(folder), 1) as cluster,
    ):
        yield cluster


def test_the_absence_of_kafka_keeps_no_relay_from_stopping(
    ledger_url: str, topic: str, tmp_path: Path
) -> None:
    fill(ledger_url)
    running = Relaying(ledger_url, f"127.0.0.1:{free_port()}", topic, tmp_path).start()
    try:
        wait_for(lambda: "Kafka" in running.said(), "it does not say that Kafka is away")
        with writer_on(ledger_url) as writer:
            assert tell(writer, capture(UUID(int=uuid4().int))).status == 201
        assert running.end() == 0
    finally:
        running.end(signal.SIGKILL)


PAGE = (CHECKED_OUT / "docs" / "consuming.md").read_text(encoding="utf-8")


@contextmanager
def documented(bootstrap: str, topic: str, source: str) -> Iterator[subprocess.Popen[str]]:
    """The program of docs/consuming.md, as it stands there."""
    consumer = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            PAGE.partition("```python\n")[2].partition("```")[0],
        ],
        env={
            **os.environ,
            "PLEDGE_KAFKA_BOOTSTRAP": bootstrap,
            "PLEDGE_KAFKA_TOPIC": topic,
            "PLEDGE_SOURCE": source,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield consumer
    finally:
        consumer.kill()
        consumer.communicate()


def test_the_consumer_of_the_documents_takes_each_event_once_and_sees_every_hole(
    ledger_url: str, kafka_bootstrap: str, topic: str
) -> None:
    """Duplicates, a hole that is closed late, a zombie's records, records of others."""
    head = fill(ledger_url)
    prepare_topic(kafka_bootstrap, topic)
    urn = source(ledger_url)
    with ledger.connect(ledger_url) as conn:
        rows = ledger.read(conn, 0, head)
    last = [0] * PARTITIONS
    records: list[tuple[int, bytes]] = []
    for row in rows:
        home = partition_of(row[3])
        records.append((home, event_record(row, urn, last[home])))
        last[home] = row[0]
    missing = records[20:60]
    foreign = [
        (0, b"x"),
        (1, b"{}"),
        (2, b'{"source":"urn:pledge:ledger:other","position":999999,"previous":0,"type":"x"}'),
        (3, b"null"),
    ]
    marks = [(n, watermark_record(head, last[n], urn, n)) for n in range(PARTITIONS)]
    with closing(KafkaProducer(bootstrap_servers=kafka_bootstrap)) as producer:

        def put(some: list[tuple[int, bytes]]) -> None:
            for home, value in some:
                producer.send(topic, value, partition=home, headers=HEADERS)
            producer.flush(PATIENCE_SECONDS)

        put([*records[:20], *foreign, *records[60:80], *records[5:15]])
        with documented(kafka_bootstrap, topic, urn) as consumer:
            assert consumer.stdout is not None
            assert consumer.stderr is not None
            behind = consumer.stderr.readline()
            assert behind.startswith("hole in ")
            put([*missing, *records[60:], *marks, *records[:40]])
            lines = [consumer.stdout.readline() for _ in range(head)]
            assert sorted(int(line.partition(" ")[0]) for line in lines) == [*range(1, head + 1)]
    outsider = assert_whole_but_for_keys(urn, records_of(kafka_bootstrap, topic), head)
    assert outsider.foreign == len(foreign)
    assert outsider.repeats >= 50


def assert_whole_but_for_keys(urn: str, records: list[Seen], head: int) -> Outsider:
    outsider = Outsider(urn).read(records)
    assert sorted(r.event["position"] for r in outsider.events) == [*range(1, head + 1)]
    assert outsider.seen
    assert outsider.holes == []
    assert len(outsider.taken) == PARTITIONS
    assert set(outsider.taken.values()) == {head}
    return outsider


def test_deleted_records_are_seen_by_every_reader(
    ledger_url: str, kafka_bootstrap: str, topic: str, relaying: Callable[[], Relaying]
) -> None:
    """With Kafka's own means: what lies before an offset is deleted from one partition."""
    head = fill(ledger_url)
    relaying().start()
    carried(ledger_url, head)
    whole = assert_whole(ledger_url, records_of(kafka_bootstrap, topic))
    [home, *_] = [r.partition for r in whole.events if r.event["position"] > head // 2]
    mine = [r for r in records_of(kafka_bootstrap, topic) if r.partition == home]
    with closing(KafkaAdminClient(bootstrap_servers=kafka_bootstrap)) as admin:
        admin.delete_records({TopicPartition(topic, home): mine[len(mine) // 2].offset})
    urn = source(ledger_url)
    outsider = Outsider(urn).read(records_of(kafka_bootstrap, topic))
    assert {hole.partition for hole in outsider.holes} == {home}
    assert outsider.holes[0] == (home, 0, mine[len(mine) // 2].event["previous"])
    with documented(kafka_bootstrap, topic, urn) as consumer:
        assert consumer.stderr is not None
        assert consumer.stderr.readline().startswith(f"hole in {home}: 0..")


def test_a_database_of_the_version_before_fills_a_topic_of_the_new_format(
    ledger_url: str, kafka_bootstrap: str, topic: str, relaying: Callable[[], Relaying]
) -> None:
    head = fill(ledger_url)
    old = prepare_topic(kafka_bootstrap, f"{topic}.old")
    with ledger.connect(ledger_url) as conn:
        checkpoints.begin(conn, leading.NAME, str(old), head, event_at(conn, head))
    relaying().start()
    with ledger.connect(ledger_url) as conn:
        wait_for(lambda: stored_shape(conn).startswith("2/"), "it does not begin")
    carried(ledger_url, head)
    assert_whole(ledger_url, records_of(kafka_bootstrap, topic))


def test_a_topic_of_the_first_format_is_not_filled_with_the_second(ledger_url: str) -> None:
    head, topic_id = fill(ledger_url), uuid4()
    with ledger.connect(ledger_url) as conn:
        checkpoints.begin(conn, leading.NAME, str(topic_id), head, event_at(conn, head))
        event_id = str(event_at(conn, head))
        tail = Tail(head, source(ledger_url), event_id, head)
        assert "PLEDGE_KAFKA_TOPIC" in str(leading.take_lead(conn, topic_id, tail).halted)
