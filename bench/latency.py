"""From a command's commit to the moment at which every read model shows it, in milliseconds; p50.

relay.latency     through the relay, Kafka and a projector, each a process of the deployment, beside
                  one message through the bare client: sent, acknowledged, received
embedded.latency  to a projector that tails the ledger in a process of its own, beside a writer that
                  projects by itself, in its own thread, right after its commit

One command at a time, a lead captured, with all read models at work. Less is better. Shown means
that whoever asks sees it; the position of an answer counts every partition, so through Kafka it
comes a little later, and is noted beside.
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
from uuid import UUID, uuid4

import orjson
import psycopg
from databases import MASTER, Server, ledger_in
from kafka import KafkaConsumer, KafkaProducer
from measuring import ROUNDS, Result, console
from yardsticks.kafka_python import PRODUCING

from commands.handling.outcome import Appended
from commands.http.wire import from_line
from events.envelope import Actor
from events.kafka.records import partition_of
from events.kafka.topic import prepare_topic
from pledge.broker import broker
from pledge.processes import program
from pledge.wiring import Parts
from projections.catalog import MODELS
from projections.engine.runner import Runner

NAMES = ("relay.latency", "embedded.latency")
COMMANDS = 100
"""In a round."""
PATIENCE_SECONDS = 60
LOOK_SECONDS = 0.002
REACHED = """
SELECT coalesce(min(greatest(position, watermark)) FILTER (WHERE partition = %s), 0),
       min(greatest(position, watermark)), count(DISTINCT name)
  FROM progress.checkpoints WHERE name = ANY (%s)
"""
MODEL_NAMES = [model.name for model in MODELS]

Side = Callable[[], list[float]]
Watched = Callable[[], list[tuple[float, float]]]
"""Until all read models show it, and until the position of their answers is there."""


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


def _compare(name: str, ours: Watched, bare: Side) -> Result:
    console.print(f"[bold]{name}[/] [dim]warming up")
    ours()
    bare()
    result = Result(name, "ms")
    late: list[float] = []
    positions: list[float] = []
    for turn in range(1, ROUNDS + 1):
        both, theirs = ours(), bare()
        mine = [shown for shown, _ in both]
        positions += [reached for _, reached in both]
        late += mine
        result.ours.append(median(mine))
        result.yardstick.append(median(theirs))
        console.print(
            f"  [dim]{turn}/{ROUNDS}[/]  ours {result.ours[-1]:>8.1f}   "
            f"yardstick {result.yardstick[-1]:>8.1f}  [dim]ms"
        )
    result.note = f"p50 and p99 {_p50_p99(late)}; the position after {_p50_p99(positions)}"
    return result


def _p50_p99(took: list[float]) -> str:
    return f"{median(took):.1f} ms, p99 {quantiles(took, n=100)[98]:.1f} ms"


@contextmanager
def _commands(found: Parts) -> Iterator[Callable[[], tuple[UUID, int]]]:
    """Captures one more lead; its id, and the ledger's position after it."""
    writer = found.writer()

    def capture() -> tuple[UUID, int]:
        lead = uuid4()
        line = {
            "command": "leads/capture",
            "id": lead,
            "key": str(uuid4()),
            "data": {"name": "Grace Hopper"},
        }
        [outcome] = writer.handle([from_line(orjson.dumps(line), Actor("bench"))])
        assert isinstance(outcome, Appended), outcome
        return lead, outcome.position

    try:
        yield capture
    finally:
        writer.stop()


@contextmanager
def _watched(found: Parts, place: Callable[[UUID], int]) -> Iterator[Watched]:
    """What a client sees who asks again and again, from the answer to its command on."""
    with _commands(found) as capture, found.connect() as conn:
        lead, position = capture()
        _wait(conn, place(lead), position)

        def side() -> list[tuple[float, float]]:
            took = []
            for _ in range(COMMANDS):
                lead, position = capture()
                began = time.perf_counter()
                shown, reached = _wait(conn, place(lead), position)
                took.append(((shown - began) * 1000, (reached - began) * 1000))
            return took

        yield side


def _wait(
    conn: psycopg.Connection[tuple[int, int, int]], partition: int, position: int
) -> tuple[float, float]:
    """When all read models had taken it from its partition, and when they were all through."""
    deadline = time.perf_counter() + PATIENCE_SECONDS
    shown = None
    while True:
        row = conn.execute(REACHED, (partition, MODEL_NAMES), prepare=True).fetchone()
        now = time.perf_counter()
        if row is not None and row[2] == len(MODELS):
            if shown is None and row[0] >= position:
                shown = now
            if shown is not None and row[1] >= position:
                return shown, now
        assert now < deadline, "the read models do not show it"
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


def _first(_: UUID) -> int:
    """The ledger is one partition."""
    return 0


@contextmanager
def embedded(url: str, folder: Path) -> Iterator[Watched]:
    found = ledger_in(url)
    with _processes(url, folder, ("project", "run")), _watched(found, _first) as side:
        yield side


@contextmanager
def through_kafka(url: str, folder: Path, bootstrap: str) -> Iterator[Watched]:
    found = ledger_in(url)
    with (
        _processes(url, folder, ("relay",), ("project", "run"), PLEDGE_KAFKA_BOOTSTRAP=bootstrap),
        _watched(found, partition_of) as side,
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
