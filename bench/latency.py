"""From a command's commit to the moment at which every read model shows it, in milliseconds; p50.

relay.latency     through the relay, Kafka and a projector, each a process of the deployment, beside
                  one message through the bare client: sent, acknowledged, received
embedded.latency  to a projector that tails the ledger in a process of its own, beside a writer that
                  projects by itself, in its own thread, right after its commit

One command at a time, a lead captured, with all read models at work. Less is better.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median, quantiles
from uuid import uuid4

import orjson
import psycopg
from databases import MASTER, Server, ledger_in
from kafka import KafkaConsumer, KafkaProducer
from measuring import ROUNDS, Result, console
from yardsticks.kafka_python import PRODUCING

from commands.wire import from_line
from events.envelope import Actor
from events.topic import prepare_topic
from pledge.broker import broker
from pledge.serving import program
from pledge.wiring import Parts
from projections.catalog import MODELS
from projections.runner import Runner

NAMES = ("relay.latency", "embedded.latency")
COMMANDS = 100
"""In a round."""
PATIENCE_SECONDS = 60
LOOK_SECONDS = 0.002
SHOWN = "SELECT min(position), count(*) FROM progress.readers WHERE name = ANY (%s)"
MODEL_NAMES = [model.name for model in MODELS]

Side = Callable[[], list[float]]


def measure(server: Server, names: list[str], seconds: float) -> Iterator[Result]:  # noqa: ARG001 - rounds of commands
    folder = Path(tempfile.mkdtemp(prefix="pledge-latency-"))
    folder.chmod(0o755)
    try:
        for name in names:
            url = server.database("latency")
            if name == "embedded.latency":
                with embedded(url, folder) as ours, by_itself(server.database("latency")) as bare:
                    yield _compare(name, ours, bare)
            else:
                with (
                    broker(folder / "kafka") as cluster,
                    through_kafka(url, folder, cluster.bootstrap) as ours,
                    bare_client(cluster.bootstrap) as bare,
                ):
                    yield _compare(name, ours, bare)
    finally:
        shutil.rmtree(folder)


def _compare(name: str, ours: Side, bare: Side) -> Result:
    console.print(f"[bold]{name}[/] [dim]warming up")
    ours()
    bare()
    result = Result(name, "ms")
    late: list[float] = []
    for turn in range(1, ROUNDS + 1):
        mine, theirs = ours(), bare()
        late += mine
        result.ours.append(median(mine))
        result.yardstick.append(median(theirs))
        console.print(
            f"  [dim]{turn}/{ROUNDS}[/]  ours {result.ours[-1]:>8.1f}   "
            f"yardstick {result.yardstick[-1]:>8.1f}  [dim]ms"
        )
    result.note = f"p99 {quantiles(late, n=100)[98]:.1f} ms"
    return result


@contextmanager
def _commands(found: Parts) -> Iterator[Callable[[], int]]:
    """Captures one more lead; the ledger's position after it."""
    writer = found.writer()

    def capture() -> int:
        line = {
            "command": "leads/capture",
            "id": uuid4(),
            "key": str(uuid4()),
            "data": {"name": "Grace Hopper"},
        }
        [answer] = writer.handle([from_line(orjson.dumps(line), Actor("bench"))])
        assert answer.status < 300, answer.body
        return int(answer.body["position"])

    try:
        yield capture
    finally:
        writer.stop()


@contextmanager
def _watched(found: Parts) -> Iterator[Side]:
    """What a client sees who asks again and again, from the answer to its command on."""
    with _commands(found) as capture, found.connect() as conn:
        _wait(conn, capture())

        def side() -> list[float]:
            took = []
            for _ in range(COMMANDS):
                position = capture()
                began = time.perf_counter()
                _wait(conn, position)
                took.append((time.perf_counter() - began) * 1000)
            return took

        yield side


def _wait(conn: psycopg.Connection[tuple[int, int]], position: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        row = conn.execute(SHOWN, (MODEL_NAMES,), prepare=True).fetchone()
        if row is not None and row[1] == len(MODELS) and row[0] >= position:
            return
        assert time.monotonic() < deadline, "the read models do not show it"
        time.sleep(LOOK_SECONDS)


@contextmanager
def _processes(url: str, folder: Path, *each: tuple[str, ...], **settings: str) -> Iterator[None]:
    key = folder / "master.key"
    key.write_bytes(base64.b64encode(MASTER))
    environment = {
        **os.environ,
        "PLEDGE_DATABASE_URL": url,
        "PLEDGE_MASTER_KEY_FILE": str(key),
        **settings,
    }
    with (folder / "processes.log").open("ab") as log:
        running = [
            subprocess.Popen(
                program("--until-eof", *arguments),
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
            for arguments in each
        ]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


@contextmanager
def embedded(url: str, folder: Path) -> Iterator[Side]:
    found = ledger_in(url)
    with _processes(url, folder, ("project", "run")), _watched(found) as side:
        yield side


@contextmanager
def through_kafka(url: str, folder: Path, bootstrap: str) -> Iterator[Side]:
    found = ledger_in(url)
    with (
        _processes(url, folder, ("relay",), ("project", "run"), PLEDGE_KAFKA_BOOTSTRAP=bootstrap),
        _watched(found) as side,
    ):
        yield side


@contextmanager
def by_itself(url: str) -> Iterator[Side]:
    """A writer that brings its read models up to date itself before it goes on."""
    found = ledger_in(url)
    runner = Runner(found.connect, found.keyring(), MODELS)
    with _commands(found) as capture, found.connect() as conn, closing(runner):
        runner.prepare(conn)

        def side() -> list[float]:
            took = []
            for _ in range(COMMANDS):
                capture()
                began = time.perf_counter()
                assert runner.step(conn) == 1
                took.append((time.perf_counter() - began) * 1000)
            return took

        yield side


@contextmanager
def bare_client(bootstrap: str) -> Iterator[Side]:
    topic = f"bare.{uuid4().hex[:8]}"
    prepare_topic(bootstrap, topic)
    producer = KafkaProducer(bootstrap_servers=bootstrap, **PRODUCING)
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    try:
        producer.send(topic, b"{}", b"key").get(timeout=PATIENCE_SECONDS)
        while not consumer.poll(timeout_ms=1_000):
            pass

        def side() -> list[float]:
            took = []
            for n in range(COMMANDS):
                began = time.perf_counter()
                ack = producer.send(topic, b"{}", str(n).encode())
                while not consumer.poll(timeout_ms=1_000):
                    pass
                took.append((time.perf_counter() - began) * 1000)
                ack.get(timeout=PATIENCE_SECONDS)
            return took

        yield side
    finally:
        consumer.close()
        producer.close()
