"""The distributed deployment on this one machine: every process, watched and started again.

The same processes as in ``docker-compose.yml``, with the embedded PostgreSQL and our own Kafka.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psycopg
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from events.ledger import ledger
from pledge.broker import Cluster, broker
from pledge.embedded import create_database, postgres
from pledge.processes import on_signals, program
from pledge.serving import fill_if_empty, refuse_taken_port
from pledge.settings import Settings
from pledge.wiring import parts
from read_api import health

LOOK_SECONDS = 0.25
SCREEN_SECONDS = 1.0
CALM_SECONDS = 10.0
"""A process that lived so long is started again at once; one that dies sooner waits a little."""
STOP_SECONDS = 15
STATE = "stack.json"


@dataclass
class Member:
    """A process of ours.

    Attributes:
        arguments: of ``pledge``.
        starts: how often it was started.
    """

    name: str
    arguments: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict)
    child: subprocess.Popen[bytes] | None = None
    starts: int = 0
    began: float = 0.0
    again_at: float = 0.0

    def start(self, environment: dict[str, str], log: Path) -> None:
        """Start it; its output goes to its log, and it ends when this process does."""
        with log.open("ab") as file:
            self.child = subprocess.Popen(  # noqa: S603 - our own program
                program("--until-eof", *self.arguments),
                env=environment | self.settings,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.starts += 1
        self.began = time.monotonic()

    def look_after(self, environment: dict[str, str], log: Path) -> None:
        """Start it again if it died; the sooner it died, the later."""
        assert self.child is not None
        if self.child.poll() is None:
            return
        now = time.monotonic()
        if not self.again_at:
            self.again_at = now if now - self.began > CALM_SECONDS else now + 1.0
        if now >= self.again_at:
            self.again_at = 0.0
            self.start(environment, log)

    def end(self) -> None:
        """Have it end, as the end of its input does, or at the latest kill it."""
        if self.child is None:
            return
        assert self.child.stdin is not None
        with suppress(BrokenPipeError):
            self.child.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.child.wait(STOP_SECONDS)
        self.child.kill()
        self.child.wait()


def members(settings: Settings, projections: int) -> list[Member]:
    """The processes, in the order of the compose file."""
    reads = {"PLEDGE_PORT": str(settings.port + 1)}
    return [
        Member("commands", ("commands",), {"PLEDGE_PORT": str(settings.port)}),
        Member("policies", ("policies", "run")),
        Member("relay", ("relay",)),
        Member("relay standby", ("relay",)),
        *(Member(f"projections {n + 1}", ("project", "run")) for n in range(projections)),
        Member("analytics", ("analytics", "run")),
        Member("read-api", ("read-api",), reads),
    ]


@dataclass
class Stack:
    """What runs, and what it runs on."""

    home: Path
    conninfo: str
    kafka: Cluster
    members: list[Member]
    environment: dict[str, str]
    told: Any = None

    def log_of(self, name: str) -> Path:
        """Where a process writes."""
        return self.home / "logs" / f"{name.replace(' ', '-')}.log"

    def look_after(self) -> None:
        """Start again whatever died; PostgreSQL has a thread that does so."""
        for number, node in enumerate(self.kafka.nodes):
            if node.poll() is not None:
                self.kafka.start(number)
        for member in self.members:
            member.look_after(self.environment, self.log_of(member.name))
        self._tell()

    def _tell(self) -> None:
        """Keep a file of where Kafka is, and who runs under which process id."""
        processes = {member.name: _pid(member) for member in self.members}
        processes |= {f"kafka {n + 1}": node.pid for n, node in enumerate(self.kafka.nodes)}
        told = {"kafka": self.kafka.bootstrap, "processes": processes}
        if told != self.told:
            fresh = self.home / f"{STATE}.new"
            fresh.write_bytes(orjson.dumps(told))
            fresh.replace(self.home / STATE)
            self.told = told


def _pid(member: Member) -> int | None:
    return None if member.child is None or member.child.poll() is not None else member.child.pid


@contextmanager
def stack(
    settings: Settings, console: Console, *, nodes: int = 1, projections: int = 2
) -> Iterator[Stack]:
    """Everything, running, as long as the block; the data stay in the settings' home.

    Raises:
        Misconfigured: when a port is taken, or the key cannot be used.
        EmbeddedPostgresFailed, BrokerFailed: when one of them does not start.
    """
    reading = settings.model_copy(update={"port": settings.port + 1})
    refuse_taken_port(settings)
    refuse_taken_port(reading)
    home = settings.home.expanduser().resolve()
    with ExitStack() as leaving:
        console.print("[dim]·[/] starting PostgreSQL")
        conninfo = create_database(leaving.enter_context(postgres(home, supervised=True)), "pledge")
        own = settings.model_copy(update={"home": home, "database_url": conninfo})
        with parts(own) as found:  # migrates, and makes the master key
            if settings.demo:
                fill_if_empty(found, console)
        console.print("[dim]·[/] starting Apache Kafka (the first time it is fetched: 50 MB)")
        kafka = leaving.enter_context(broker(home / "kafka", nodes))
        environment = {
            **os.environ,
            "PLEDGE_HOME": str(home),
            "PLEDGE_DATABASE_URL": conninfo,
            "PLEDGE_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "PLEDGE_HOST": settings.host,
        }
        made = Stack(home, conninfo, kafka, members(settings, projections), environment)
        (home / "logs").mkdir(exist_ok=True)
        leaving.callback(_end_all, made.members)
        for member in made.members:
            console.print(f"[dim]·[/] starting {member.name}")
            member.start(environment, made.log_of(member.name))
        yield made


def _end_all(ending: list[Member]) -> None:
    threads = [threading.Thread(target=member.end) for member in ending]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run(settings: Settings, console: Console, *, nodes: int = 1, projections: int = 2) -> None:
    """Keep everything running, and its state on one screen, until SIGINT or SIGTERM.

    Raises:
        Misconfigured, EmbeddedPostgresFailed, BrokerFailed: as ``stack``.
    """
    stop = threading.Event()
    on_signals(stop.set)
    with stack(settings, console, nodes=nodes, projections=projections) as running:
        for text in _places(settings, running):
            console.print(text)
        show = _on_screen if console.is_terminal else _in_lines
        show(running, settings, console, stop)
    console.print("[dim]·[/] stopped")


def _places(settings: Settings, running: Stack) -> list[str]:
    base = f"http://{settings.host}"
    return [
        f"\n[bold]Commands[/]   {base}:{settings.port}/commands",
        f"[bold]Questions[/]  {base}:{settings.port + 1}/",
        f"[bold]Kafka[/]      {running.kafka.bootstrap}, topic {settings.kafka_topic}",
        f"[bold]Logs[/]       {running.home / 'logs'}",
        "[dim]Ctrl-C stops all of it; the data stay.[/]\n",
    ]


def _until(running: Stack, stop: threading.Event, show: Callable[[], None]) -> None:
    shown = 0.0
    while not stop.wait(LOOK_SECONDS):
        running.look_after()
        if time.monotonic() > shown + SCREEN_SECONDS:
            shown = time.monotonic()
            show()


def _on_screen(running: Stack, settings: Settings, console: Console, stop: threading.Event) -> None:
    places = Group(*map(Text.from_markup, _places(settings, running)))
    with Live(console=console, screen=True, auto_refresh=False) as live:
        _until(running, stop, lambda: live.update(Group(places, table_of(running)), refresh=True))


def _in_lines(running: Stack, _: Settings, console: Console, stop: threading.Event) -> None:
    said: dict[str, str] = {}

    def show() -> None:
        for name, state, _detail in _states(running):
            if said.get(name) != state:
                said[name] = state
                console.print(f"{name}: {state}", highlight=False)

    _until(running, stop, show)


def table_of(running: Stack) -> Table:
    """Every process, whether it runs, and how far it is."""
    table = Table("Process", "State", "How far", title="Pledge on this machine")
    for name, state, detail in _states(running):
        table.add_row(name, state, detail)
    return table


def _states(running: Stack) -> list[tuple[str, str, str]]:
    found: dict[str, str] = {}
    at_work = "running"
    try:
        with ledger.connect(running.conninfo, "pledge stack") as conn:
            found = _how_far(conn)
    except psycopg.Error as error:
        at_work = f"does not answer: {str(error).strip().splitlines()[0]}"
    states = [("postgres", at_work, found.get("ledger", ""))]
    for number, node in enumerate(running.kafka.nodes):
        state = "running" if node.poll() is None else "died"
        states.append((f"kafka {number + 1}", f"{state}, process {node.pid}", ""))
    for member in running.members:
        pid = _pid(member)
        state = "died" if pid is None else f"running, process {pid}"
        if member.starts > 1:
            state += f", started {member.starts} times"
        kind = member.name.partition(" ")[0]
        states.append((member.name, state, found.get(kind, "")))
    return states


def _how_far(conn: psycopg.Connection[Any]) -> dict[str, str]:
    read, carried, acted = health.projections(conn), health.relay(conn), health.policies(conn)
    behind = max((item.lag_positions for item in read.items), default=0)
    halted = [item.name for item in read.items if item.status == "halted"]
    parked = sum(len(item.parked) for item in read.items)
    projections = f"{behind} events behind" if behind else "up to date"
    if halted:
        projections += f"; halted: {', '.join(halted)}"
    if parked:
        projections += f"; {parked} streams parked"
    relay = "not begun" if carried.position is None else f"up to {carried.position}"
    if carried.halted:
        relay = f"halted: {carried.halted}"
    return {
        "ledger": f"position {read.position}",
        "relay": relay,
        "projections": projections,
        "policies": acted.halted or f"up to {acted.position}",
    }
