"""Events a second from the ledger into Kafka, and from Kafka into a read model.

relay.throughput    the relay, from its start to its last checkpoint, beside a bare kafka-python
                    producer that sends the same records, made before, with the same headers,
                    settings and acknowledgements, and flushes
consume.throughput  a projector of deals that follows the topic beside the same one that follows the
                    ledger, from the first events taken to the last; joining the group is left out
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

from bodies import STEPS
from databases import Server, ledger_in
from kafka import KafkaProducer
from measuring import Contender, Measure, Result, compare, process_of
from project import fill_with_deals
from yardsticks.kafka_python import PRODUCING

from events.kafka.leading import NAME, from_the_start
from events.kafka.records import HEADERS, PARTITIONS, event_record, partition_of, source_of
from events.kafka.relay import Relay
from events.kafka.topic import Tail, prepare_topic
from events.ledger import checkpoints, ledger
from pledge.broker import broker
from projections.engine.runner import Runner
from projections.engine.sources import FromLedger, Source
from projections.engine.topic import FromTopic
from projections.opportunities import MODEL

NAMES = ("relay.throughput", "consume.throughput")
DEALS_PER_SECOND = 2_000


def measure(server: Server, names: list[str], seconds: float) -> Iterator[Result]:
    url = server.database("relay")
    number = int(DEALS_PER_SECOND * seconds)
    fill_with_deals(ledger_in(url), number)
    folder = Path(tempfile.mkdtemp(prefix="pledge-kafka-"))
    try:
        with (
            broker(folder) as cluster,
            process_of(ours, url, cluster.bootstrap, STEPS * number) as our_side,
            process_of(bare, url, cluster.bootstrap, STEPS * number) as bare_side,
        ):
            if "relay.throughput" in names:
                yield compare(
                    "relay.throughput",
                    "events/s",
                    Contender(lambda _: our_side(), url),
                    Contender(lambda _: bare_side()),
                    seconds,
                )
        if "consume.throughput" in names:
            with (
                broker(folder) as cluster,
                process_of(from_topic, url, cluster.bootstrap, STEPS * number) as by_topic,
                process_of(from_ledger, url, STEPS * number) as by_ledger,
            ):
                yield compare(
                    "consume.throughput",
                    "events/s",
                    Contender(lambda _: by_topic(), url),
                    Contender(lambda _: by_ledger(), url),
                    seconds,
                )
    finally:
        shutil.rmtree(folder)


@contextmanager
def ours(url: str, bootstrap: str, events: int) -> Iterator[Measure]:
    found = ledger_in(url)

    def measure() -> tuple[int, float]:
        topic = f"pledge.{uuid4().hex[:8]}"
        topic_id = prepare_topic(bootstrap, topic)
        stop = threading.Event()
        relaying = threading.Thread(target=Relay(found.connect, bootstrap, topic).run, args=(stop,))
        with found.connect() as conn:
            from_the_start(conn, topic_id, Tail())
            began = time.perf_counter()
            relaying.start()
            while True:
                checkpoint = checkpoints.fetch(conn, NAME)
                if checkpoint is not None and checkpoint.position == events:
                    break
                time.sleep(0.02)  # more often would take the interpreter from the relay
            took = time.perf_counter() - began
        stop.set()
        relaying.join()
        return events, took

    yield measure


@contextmanager
def bare(url: str, bootstrap: str, events: int) -> Iterator[Measure]:
    with ledger_in(url).connect() as conn:
        source, last = source_of(ledger.ledger_id(conn)), [0] * PARTITIONS
        records = []
        for row in ledger.read(conn, 0, events):
            partition = partition_of(row[3])
            records.append((str(row[3]).encode(), event_record(row, source, last[partition])))
            last[partition] = row[0]
    assert len(records) == events

    def measure() -> tuple[int, float]:
        topic = f"bare.{uuid4().hex[:8]}"
        prepare_topic(bootstrap, topic)
        began = time.perf_counter()
        producer = KafkaProducer(bootstrap_servers=bootstrap, **PRODUCING)
        acks = [producer.send(topic, value, key, HEADERS) for key, value in records]
        producer.flush()
        took = time.perf_counter() - began
        assert all(ack.succeeded() for ack in acks)
        producer.close()
        return events, took

    yield measure


@contextmanager
def from_topic(url: str, bootstrap: str, events: int) -> Iterator[Measure]:
    found = ledger_in(url)
    topic, stop = f"pledge.{uuid4().hex[:8]}", threading.Event()
    topic_id = prepare_topic(bootstrap, topic)
    relaying = threading.Thread(target=Relay(found.connect, bootstrap, topic).run, args=(stop,))
    with found.connect() as conn:
        from_the_start(conn, topic_id, Tail())
        relaying.start()
        while (led := checkpoints.fetch(conn, NAME)) is None or led.position < events:
            time.sleep(0.05)
    stop.set()
    relaying.join()
    yield lambda: _take(url, FromTopic(bootstrap, topic))


@contextmanager
def from_ledger(url: str, _events: int) -> Iterator[Measure]:
    yield lambda: _take(url, FromLedger())


def _take(url: str, source: Source) -> tuple[int, float]:
    """All but what the first step takes, and how long it takes."""
    found = ledger_in(url)
    with found.connect() as conn:
        conn.execute(f"DROP SCHEMA IF EXISTS {MODEL.schema} CASCADE".encode())
        conn.execute("DELETE FROM progress.checkpoints WHERE name = %s", (MODEL.name,))
        with closing(Runner(found.connect, found.keyring(), [MODEL], source=source)) as runner:
            runner.prepare(conn)
            while not runner.step(conn):
                pass
            began = time.perf_counter()
            taken = runner.catch_up(conn)
            return taken, time.perf_counter() - began
