"""Projectors that share the topic: who reads what, who comes back, and what does not fit."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from structlog.typing import EventDict

from events.kafka.leading import NAME, from_the_start
from events.kafka.records import (
    HEADERS,
    PARTITIONS,
    event_record,
    partition_of,
    source_of,
    watermark_record,
)
from events.kafka.topic import Tail, prepare_topic
from events.ledger import checkpoints, ledger
from projections.catalog import MODELS
from projections.engine import progress
from projections.engine import topic as topics
from projections.engine.rebuild import rebuild
from projections.engine.sources import FromLedger
from tests.end_to_end.running import CHECKED_OUT, environment
from tests.events.test_relay import PATIENCE_SECONDS, own_broker, wait_for
from tests.projections.conftest import NewWorld
from tests.projections.world import MASTER, World, carried, eur

pytestmark = pytest.mark.slow(7)


@pytest.fixture
def company(new_world: NewWorld, kafka_bootstrap: str) -> Iterator[World]:
    """A company whose events a relay carries."""
    with new_world() as made, carried(made, kafka_bootstrap):
        yield made


def positions(company: World) -> dict[str, int]:
    return {item["name"]: item["position"] for item in company.get("/projections")["items"]}


def halted(company: World) -> dict[str, str]:
    items = company.get("/projections")["items"]
    return {item["name"]: item["halted"] for item in items if item["status"] == "halted"}


def some_promises(company: World, count: int = 40) -> None:
    """Customers in all partitions, each with a promise."""
    for _ in range(count):
        customer = uuid4()
        company.do("customers/register", customer, name="Ann")
        company.do("customers/make-promise", customer, promise_id=uuid4(), what="a reply")


def caught_up(company: World) -> bool:
    found = positions(company)
    return len(found) == len(MODELS) and set(found.values()) == {company.head()}


class Projecting:
    """``pledge project run`` as a process."""

    def __init__(self, company: World, folder: Path) -> None:
        source: Any = company.source()
        key = folder / "master.key"
        key.write_bytes(base64.b64encode(MASTER))
        self._log = folder / f"{uuid4().hex[:6]}.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pledge", "project", "run"],
                cwd=CHECKED_OUT,
                env=environment(
                    folder / "home",
                    company.url,
                    master_key_file=str(key),
                    kafka_bootstrap=source._bootstrap,
                    kafka_topic=source._topic,
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def partitions(self) -> set[int]:
        """Those that it said last that it reads."""
        said = re.findall(r'"partitions": \[([0-9, ]*)\]', self._log.read_text())
        return {int(n) for n in said[-1].split(",") if n} if said else set()


@pytest.fixture
def projecting(company: World, tmp_path: Path) -> Iterator[Callable[[], Projecting]]:
    made: list[Projecting] = []

    def start() -> Projecting:
        made.append(Projecting(company, tmp_path))
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.wait()


def shared(among: list[Projecting]) -> bool:
    """Whether these processes read every partition, each of them as many as the others."""
    held = [one.partitions() for one in among]
    return sorted(n for one in held for n in one) == list(range(PARTITIONS)) and {
        len(one) for one in held
    } == {PARTITIONS // len(among)}


def test_processes_share_the_partitions_and_a_frozen_one_that_wakes_does_no_harm(
    company: World, projecting: Callable[[], Projecting]
) -> None:
    some_promises(company)
    among = [projecting(), projecting()]
    wait_for(lambda: shared(among), "two do not share")
    wait_for(lambda: caught_up(company), "two do not catch up")
    among += [projecting(), projecting()]
    some_promises(company)
    wait_for(lambda: shared(among), "four do not share")
    frozen = among[0]
    frozen.process.send_signal(signal.SIGSTOP)
    some_promises(company)
    wait_for(lambda: caught_up(company), "the others do not take over")
    some_promises(company)
    frozen.process.send_signal(signal.SIGCONT)
    some_promises(company)
    wait_for(lambda: shared(among), "it does not come back")
    wait_for(lambda: caught_up(company), "they do not catch up")
    for one in among:
        one.process.terminate()
        assert one.process.wait(PATIENCE_SECONDS) == 0
    assert company.differing() == []
    assert company.differing("shuffled") == []


def test_projectors_that_follow_the_ledger_go_on_with_the_topic(company: World) -> None:
    topic = company.source
    company.source = FromLedger
    some_promises(company)
    company.project()
    company.source = topic
    some_promises(company)
    company.project()
    assert caught_up(company)
    assert company.differing() == []


def test_a_read_model_is_rebuilt_under_projectors_that_go_on(
    company: World, projecting: Callable[[], Projecting]
) -> None:
    some_promises(company)
    projecting()
    wait_for(lambda: caught_up(company), "it does not catch up")
    for _ in range(3):
        with company.connect() as conn:
            for model in MODELS:
                rebuild(conn, company.reader.keyring, model)
        some_promises(company, 10)
    wait_for(lambda: caught_up(company), "it does not go on")
    assert halted(company) == {}
    assert company.differing() == []


def test_records_that_come_again_late_change_nothing(company: World) -> None:
    some_promises(company)
    source: Any = company.source()
    with company.connect() as conn, closing(company.runner(conn)) as runner:
        runner.catch_up(conn)
        put(source._bootstrap, source._topic, records_of_ledger(conn)[10:40])
        some_promises(company, 5)
        runner.catch_up(conn)
    assert company.differing() == []


def records_of_ledger(conn: ledger.Connection) -> list[tuple[int, bytes]]:
    """What a relay would send, each with its partition."""
    urn = source_of(ledger.ledger_id(conn))
    last = [0] * PARTITIONS
    records = []
    for row in ledger.read(conn, 0, 10_000):
        home = partition_of(row[3])
        records.append((home, event_record(row, urn, last[home])))
        last[home] = row[0]
    head = ledger.head(conn)
    return records + [(n, watermark_record(head, last[n], urn, n)) for n in range(PARTITIONS)]


def put(bootstrap: str, topic: str, records: list[tuple[int, bytes]]) -> None:
    with closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
        for home, value in records:
            producer.send(topic, value, partition=home, headers=HEADERS)
        producer.flush(PATIENCE_SECONDS)


def restarted(company: World) -> None:
    """What a new process finds, once it has its partitions."""
    with company.connect() as conn, closing(company.runner(conn)) as runner:
        wait_for(lambda: runner.step(conn) < 0 or len(halted(company)) == len(MODELS), "no halt")


def rebuild_all(company: World) -> None:
    with company.connect() as conn:
        for model in MODELS:
            rebuild(conn, company.reader.keyring, model)


def rebuilt(company: World) -> None:
    """Do what the message says."""
    for name, said in halted(company).items():
        assert f"pledge project rebuild {name}" in said
    rebuild_all(company)
    some_promises(company, 5)
    company.project()
    assert halted(company) == {}
    assert caught_up(company)
    assert company.differing() == []


@pytest.mark.parametrize("source", ["ledger", "topic"])
def test_checkpoints_restored_from_yesterday_are_noticed(company: World, source: str) -> None:
    if source == "ledger":
        company.source = FromLedger
    some_promises(company)
    for n in range(3):
        company.do("leads/capture", UUID(int=n + 11), name="Grace Hopper")
    order, payment = UUID(int=21), UUID(int=22)
    bought = {"customer_id": str(company.recorded()[0].stream_id), "amount": eur("100")}
    company.do("orders/place", order, **bought)
    company.do("payments/receive", payment, **bought)
    company.project()
    with company.superuser() as conn:
        conn.execute("CREATE TABLE yesterday AS TABLE progress.checkpoints")
    some_promises(company)
    for n in range(3):
        company.do("leads/claim", UUID(int=n + 11))
    part = {"order_id": str(order), "amount": eur("40")}
    company.do("payments/allocate", payment, allocations=[part])
    company.project()
    with company.superuser() as conn:
        conn.execute("TRUNCATE progress.checkpoints")
        conn.execute("INSERT INTO progress.checkpoints TABLE yesterday")
    with company.connect() as conn, closing(company.runner(conn)) as runner:
        wait_for(lambda: runner.step(conn) < 0 or "leads" in halted(company), "no halt")
        runner.catch_up(conn)
    names = {"customers", "leads", "promises", "timeline", "orders", "payments"}
    assert names <= halted(company).keys()
    assert all("know more" in said for said in halted(company).values())
    rebuilt(company)


def test_a_topic_made_anew_halts_the_relay_and_projectors_go_on_once_it_is_filled(
    company: World,
) -> None:
    some_promises(company)
    company.project()
    source: Any = company.source()
    with KafkaAdminClient(bootstrap_servers=source._bootstrap) as admin:
        admin.delete_topics([source._topic])
        wait_for(lambda: source._topic not in admin.list_topics(), "the topic stays")
    topic_id = prepare_topic(source._bootstrap, source._topic)
    with company.connect() as conn:
        wait_for(lambda: relay_halted(conn), "the relay goes on")
        from_the_start(conn, topic_id, Tail())
    some_promises(company, 5)
    company.project()
    assert halted(company) == {}
    assert caught_up(company)
    assert company.differing() == []


def relay_halted(conn: ledger.Connection) -> bool:
    found = checkpoints.fetch(conn, NAME)
    return found is not None and found.halted is not None


def test_a_topic_that_knows_more_than_a_restored_ledger_is_noticed(company: World) -> None:
    """Ledger, read models and checkpoints are of yesterday together; only the topic knows more."""
    some_promises(company)
    company.project()
    head = company.head()
    with company.superuser() as conn:
        conn.execute("CREATE TABLE yesterday AS TABLE progress.checkpoints")
    some_promises(company, 30)
    with company.connect() as conn:
        wait_for(
            lambda: (found := checkpoints.fetch(conn, NAME)) and found.position == company.head(),
            "not carried",
        )
    with company.superuser() as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute("DELETE FROM ledger.events WHERE position > %s", (head,))
    restarted(company)
    assert all("restored from a backup" in said for said in halted(company).values())
    assert company.differing() == []


def test_while_kafka_is_away_commands_are_taken_and_answers_say_how_far_they_are(
    new_world: NewWorld,
) -> None:
    with own_broker() as cluster, new_world() as company:
        with carried(company, cluster.bootstrap):
            some_promises(company, 5)
            stop = threading.Event()
            runner = company.new_runner()
            thread = threading.Thread(target=runner.run, args=(stop,))
            thread.start()
            try:
                wait_for(lambda: caught_up(company), "it does not catch up")
                shown = company.head()
                cluster.nodes[0].kill()
                cluster.nodes[0].wait()
                some_promises(company, 5)
                time.sleep(2)
                answer = company.get("/promises")
                assert (answer["position"], len(answer["items"])) == (shown, 5)
                [item] = [
                    i for i in company.get("/projections")["items"] if i["name"] == "promises"
                ]
                assert item["lag_positions"] == company.head() - shown
                assert item["lag_seconds"] > 1
                assert company.get("/relay")["lag_positions"] == company.head() - shown
                assert company.ask("/promises", min_position=company.head()).status_code == 503
                cluster.start(0)
                wait_for(lambda: caught_up(company), "it does not catch up afterwards")
            finally:
                stop.set()
                thread.join()
        assert company.differing() == []


def test_a_checkpoint_beyond_the_end_of_its_partition_costs_only_another_reading(
    company: World,
) -> None:
    """Kafka lost records that every read model has: they miss nothing, and go on."""
    some_promises(company)
    company.project()
    with company.superuser() as conn:
        conn.execute(
            "UPDATE progress.checkpoints SET next_offset = next_offset + 1000 "
            "WHERE source <> 'ledger'"
        )
    some_promises(company, 5)
    company.project()
    assert halted(company) == {}
    assert caught_up(company)
    assert company.differing() == []


class Feed:
    """A topic that a test fills by hand with what a relay would send."""

    def __init__(self, company: World, bootstrap: str) -> None:
        self.topic = f"pledge.{uuid4().hex[:8]}"
        prepare_topic(bootstrap, self.topic)
        company.source = lambda: topics.FromTopic(bootstrap, self.topic)
        self._company = company
        self.bootstrap = bootstrap
        self.fill()

    def fill(self) -> None:
        """Have the records of the whole ledger, as if a relay had carried them."""
        with self._company.connect() as conn:
            self.records = records_of_ledger(conn)
            carried_up_to(conn, ledger.head(conn))

    def put(self, records: list[tuple[int, bytes]]) -> None:
        put(self.bootstrap, self.topic, records)


def carried_up_to(conn: ledger.Connection, position: int) -> None:
    """Let the relay's checkpoint say so."""
    row = ledger.read(conn, position - 1, 1)[0]
    checkpoints.begin(conn, NAME, "2/x", row[0], row[1])


@pytest.fixture
def feed(new_world: NewWorld, kafka_bootstrap: str) -> Iterator[tuple[World, Feed]]:
    with new_world() as made:
        some_promises(made)
        yield made, Feed(made, kafka_bootstrap)


@pytest.mark.parametrize("late", [[(20, 40)], [(50, 70), (10, 30)]], ids=["one", "two"])
def test_holes_that_close_late_cost_nothing(
    feed: tuple[World, Feed], monkeypatch: pytest.MonkeyPatch, late: list[tuple[int, int]]
) -> None:
    """Of two the later one is closed first, behind everything that came before."""
    company, topic = feed
    monkeypatch.setattr(topics, "LOOK_SECONDS", 0.05)
    missing = {n for begin, end in late for n in range(begin, end)}
    topic.put([record for n, record in enumerate(topic.records) if n not in missing])
    with company.connect() as conn, closing(company.runner(conn)) as runner:
        wait_for(lambda: runner.step(conn) < 0 or most_taken(conn) > 0, "nothing is taken")
        for _ in range(20):
            runner.step(conn)
        assert halted(company) == {}
        assert not caught_up(company)
        assert company.differing() == []  # each row is what the events taken so far say
        for begin, end in late:
            topic.put(topic.records[begin:end])
        runner.catch_up(conn)
    assert caught_up(company)
    assert halted(company) == {}
    assert company.differing() == []


def most_taken(conn: ledger.Connection) -> int:
    row = conn.execute(
        "SELECT max(greatest(position, watermark)) FROM progress.checkpoints WHERE name = %s",
        (MODELS[0].name,),
    ).fetchone()
    return int(row[0] or 0) if row else 0


def test_a_hole_that_stays_halts_with_what_is_missing(
    feed: tuple[World, Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    company, topic = feed
    monkeypatch.setattr(topics, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(topics, "HOLE_SECONDS", 0.5)
    gone, home = topic.records[25], topic.records[25][0]
    topic.put([record for record in topic.records if record is not gone])
    before = [value for at, value in topic.records[:25] if at == home]
    taken = json.loads(before[-1])["position"] if before else 0
    restarted(company)
    for said in halted(company).values():
        assert "did Kafka lose records?" in said
        assert f"after position {taken} " in said
        assert f"behind position {json.loads(gone[1])['position']} " in said
    rebuild_all(company)
    assert halted(company) == {}
    assert company.differing() == []


def test_a_hole_above_what_the_relay_has_confirmed_is_waited_for(
    feed: tuple[World, Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    company, topic = feed
    monkeypatch.setattr(topics, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(topics, "HOLE_SECONDS", 0.1)
    topic.put(topic.records[:20] + topic.records[40:])
    with company.connect() as conn, closing(company.runner(conn)) as runner:
        carried_up_to(conn, 20)
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            runner.step(conn)
        assert halted(company) == {}
        carried_up_to(conn, company.head())
        wait_for(lambda: runner.step(conn) < 0 or halted(company), "no halt")
    assert company.differing() == []


def test_records_that_some_read_models_have_taken_are_missed_by_the_others_alone(
    feed: tuple[World, Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    company, topic = feed
    monkeypatch.setattr(topics, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(topics, "HOLE_SECONDS", 0.5)
    topic.put(topic.records)
    company.project()
    with company.superuser() as conn:  # it has no rows, so nobody notices that it was further
        conn.execute(
            "UPDATE progress.checkpoints SET position = 0, event_id = NULL, watermark = 0, "
            "next_offset = 0 WHERE name = 'leads'"
        )
    home = topic.records[0][0]
    with KafkaAdminClient(bootstrap_servers=topic.bootstrap) as admin:
        admin.delete_records({TopicPartition(topic.topic, home): 1})
    some_promises(company, 5)
    before = len(topic.records) - PARTITIONS
    topic.fill()
    topic.put(topic.records[before:])
    with company.connect() as conn, closing(company.runner(conn)) as runner:
        wait_for(lambda: runner.step(conn) < 0 or halted(company), "no halt")
        runner.catch_up(conn)
        assert halted(company).keys() == {"leads"}
        where = "SELECT partition FROM progress.checkpoints WHERE halted IS NOT NULL"
        assert conn.execute(where).fetchall() == [(home,)]
    assert positions(company)["promises"] == company.head()
    rebuild_all(company)
    assert halted(company) == {}
    assert company.differing() == []


def test_a_topic_made_anew_is_noticed_by_a_reader_that_has_it_open(
    feed: tuple[World, Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    company, topic = feed
    monkeypatch.setattr(topics, "LOOK_SECONDS", 0.05)
    topic.put(topic.records)
    with company.connect() as conn, closing(company.runner(conn)) as runner:
        runner.catch_up(conn)
        with KafkaAdminClient(bootstrap_servers=topic.bootstrap) as admin:
            admin.delete_topics([topic.topic])
            wait_for(lambda: topic.topic not in admin.list_topics(), "the topic stays")
        topic_id = prepare_topic(topic.bootstrap, topic.topic)
        some_promises(company, 5)
        topic.fill()
        topic.put(topic.records)
        wait_for(lambda: runner.step(conn) < 0 or caught_up(company), "it does not go on")
        assert {c.source for c in checkpoints.fetch_all(conn, "promises")} == {str(topic_id)}
    assert halted(company) == {}
    assert company.differing() == []


def test_what_others_write_into_the_topic_is_passed_over(
    company: World, logged: list[EventDict]
) -> None:
    some_promises(company, 5)
    company.project()
    source: Any = company.source()
    producer = KafkaProducer(bootstrap_servers=source._bootstrap)
    for strange in (
        b"x",
        b"{}",
        b"[1]",
        b'{"source":"urn:x","position":9}',
        b'{"source":"urn:x","position":9,"previous":0,"data":{}}',
        None,
    ):
        for partition in range(PARTITIONS):
            producer.send(source._topic, value=strange, key=b"k", partition=partition)
    producer.flush()
    producer.close()
    some_promises(company, 5)
    company.project()
    assert caught_up(company)
    assert company.differing() == []
    assert "a record of somebody else" in {entry["event"] for entry in logged}


def test_an_event_that_the_ledger_lost_is_not_taken_when_a_halt_is_ended_all_the_same(
    company: World,
) -> None:
    some_promises(company, 5)
    company.project()
    with company.superuser() as conn:
        head = company.head()
        some_promises(company, 5)
        with company.connect() as watched:
            wait_for(
                lambda: (led := checkpoints.fetch(watched, NAME)) and led.position > head + 9,
                "not carried",
            )
        conn.execute("SET session_replication_role = replica")
        conn.execute("DELETE FROM ledger.events WHERE position > %s", (head + 3,))
        restarted_in_part(company)
        assert halted(company)
        for model in MODELS:
            progress.resume(conn, model.name)
        restarted_in_part(company)
        assert halted(company)
    assert company.differing() == []


def restarted_in_part(company: World) -> None:
    with company.connect() as conn, closing(company.runner(conn)) as runner:
        wait_for(lambda: runner.step(conn) < 0 or halted(company), "no halt")
        for _ in range(20):
            runner.step(conn)
