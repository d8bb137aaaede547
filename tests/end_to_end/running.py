"""The product as its users run it: real processes, spoken to over HTTP."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self

import httpx2
import orjson
import psutil

from commands.http.routes import takes

READY_SECONDS = 180
STOP_SECONDS = 60
CHECKED_OUT = Path(__file__).parents[2]
PORTS = range(10_000, 15_000, 2)
"""Below those of brokers and of outgoing connections; each worker of pytest-xdist has its share."""


def free_port() -> int:
    """A free port, whose next one is free too; each worker of the tests has its own range."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = secrets.choice(PORTS[worker % workers :: workers])
        with (
            suppress(OSError),
            socket.create_server(("127.0.0.1", port)),
            socket.create_server(("127.0.0.1", port + 1)),
        ):
            return port


def environment(home: Path, database_url: str | None = None, **settings: str) -> dict[str, str]:
    """The caller's environment, with these settings of the product and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PLEDGE_")}
    kept["PLEDGE_HOME"] = str(home)
    if database_url is not None:
        kept["PLEDGE_DATABASE_URL"] = database_url
    return kept | {f"PLEDGE_{name.upper()}": value for name, value in settings.items()}


class Service:
    """``pledge serve`` on a port of its own; started, stopped, killed and started again at will.

    Args:
        code: the checkout that is run.
        part: which of the product's processes, if not the whole product.
    """

    def __init__(
        self,
        home: Path,
        database_url: str | None = None,
        *,
        demo: bool = False,
        port: int = 0,
        code: Path = CHECKED_OUT,
        part: str = "serve",
    ) -> None:
        self.home = home
        self._code = code
        self._part = part
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = environment(home, database_url, port=str(self.port), demo=str(int(demo)))
        if code != CHECKED_OUT:
            self.env["PYTHONPATH"] = str(code)  # for the processes that it starts
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx2.Client(base_url=self.url, timeout=60, trust_env=False)
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self.client.close()
        self._log.close()

    def command(self) -> list[str]:
        """What is run."""
        return [self._part]

    def _module(self) -> str:
        """What is run as a program; versions before had it elsewhere."""
        return "pledge" if (self._code / "pledge" / "__main__.py").exists() else "pledge.cli"

    def start(self, *, wait: bool = True) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", self._module(), *self.command()],
            cwd=self._code,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        if wait:
            self.wait_until_ready()
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def said(self) -> str:
        """Everything printed so far."""
        return os.pread(self._log.fileno(), 10_000_000, 0).decode(errors="replace")

    def wait_until_ready(self, seconds: float = READY_SECONDS) -> None:
        deadline, told = time.monotonic() + seconds, "no answer"
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"it ended instead of starting:\n{self.said()}"
            with suppress(httpx2.TransportError):
                answer = self.client.get("/health/ready")
                if answer.status_code == 200:
                    return
                told = answer.text
            time.sleep(0.05)
        raise AssertionError(f"not ready after {seconds} seconds: {told}\n{self.said()}")

    def postmaster(self) -> int:
        """The first process of its embedded PostgreSQL."""
        file = self.home / "postgres" / "postmaster.pid"
        return int(file.read_text().partition("\n")[0])

    def stop(self, kind: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        assert self.process is not None
        self.process.send_signal(kind)
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def get(self, path: str, **params: Any) -> Any:
        """The JSON that a successful GET answers; what is not there yet is asked for again."""
        deadline = time.monotonic() + READY_SECONDS
        answer = self.client.get(path, params=params or None)
        while "min_position" in params and answer.status_code == 503:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.1)
            answer = self.client.get(path, params=params)
        assert answer.status_code == 200, f"{answer.url}: {answer.status_code} {answer.text}"
        return answer.json()

    def pages(self, path: str, **params: Any) -> list[Any]:
        """The items of all pages of a list."""
        page = self.get(path, **params)
        items = page["items"]
        while page["next"] is not None:
            page = self.get(page["next"])
            items += page["items"]
        return list(items)

    def post(self, path: str, body: Any = None, *, by: str = "ada", **headers: str) -> Any:
        """The answer to a command; ``if_match="1"`` becomes a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(
            path, content=orjson.dumps(body or {}), headers={"X-Actor": by, **named}
        )

    def made(self, path: str, body: Any = None, **rest: str) -> Any:
        """What a successful command answers."""
        answer = self.post(path, body, **rest)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def send(self, lines: Sequence[bytes], by: str = "ada") -> list[Any]:
        """The answers to lines of NDJSON."""
        answer = self.client.post(
            "/commands", content=b"".join(line + b"\n" for line in lines), headers={"X-Actor": by}
        )
        assert answer.status_code == 200, answer.text
        return [orjson.loads(line) for line in answer.content.splitlines()]

    def position(self) -> int:
        """The ledger's last position."""
        return int(self.get("/projections")["position"])

    def wait_until_shown(self, seconds: float = READY_SECONDS) -> int:
        """Wait until all read models reflect the whole ledger; its position.

        Args:
            seconds: how long they may stand still; while they move they are waited for.
        """
        deadline, reached = time.monotonic() + seconds, -1
        while time.monotonic() < deadline:
            found = self.get("/projections")
            assert not [item for item in found["items"] if item["halted"]], found
            if all(item["position"] == found["position"] for item in found["items"]):
                return int(found["position"])
            if (now := sum(item["position"] for item in found["items"])) > reached:
                deadline, reached = time.monotonic() + seconds, now
            time.sleep(0.05)
        raise AssertionError(f"the read models do not catch up: {found}")

    def wait_for_figures(self, seconds: float = READY_SECONDS) -> None:
        """Wait until figures reflect the whole ledger."""
        deadline = time.monotonic() + seconds
        while self.get("/analytics")["position"] < self.position():
            assert time.monotonic() < deadline, "the facts do not catch up"
            time.sleep(0.2)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run another of the product's commands on the same data."""
        return run(self.env | {"PLEDGE_URL": self.url}, *arguments)


class Proxy(httpx2.BaseTransport):
    """Takes commands to one process and the rest to another, as a proxy in front of them would."""

    def __init__(self, commands: int, questions: int) -> None:
        self._commands = commands
        self._questions = questions
        self._transport = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        is_command = request.method == "POST" and takes(request.url.path)
        request.url = request.url.copy_with(port=self._commands if is_command else self._questions)
        return self._transport.handle_request(request)

    def close(self) -> None:
        self._transport.close()


class Deployment(Service):
    """``pledge stack``: every process of the deployment around Kafka."""

    def __init__(self, home: Path, *, nodes: int = 1, projections: int = 2) -> None:
        port = free_port()
        super().__init__(home, port=port)
        self.client.close()
        self._command = ["stack", f"--nodes={nodes}", f"--projections={projections}"]
        self.client = httpx2.Client(
            base_url=self.url, timeout=60, trust_env=False, transport=Proxy(port, port + 1)
        )

    def command(self) -> list[str]:
        return self._command

    def said(self) -> str:
        """What it printed, and the ends of its processes' logs."""
        ends = [
            f"--- {log.name}\n{log.read_text(errors='replace')[-2_000:]}"
            for log in sorted((self.home / "logs").glob("*.log"))
        ]
        return "\n".join([super().said(), *ends])

    def wait_until_ready(self, seconds: float = 3 * READY_SECONDS) -> None:
        super().wait_until_ready(seconds)
        with httpx2.Client(base_url=self.url, trust_env=False) as commands:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                with suppress(httpx2.TransportError):
                    if commands.get("/health/ready").status_code == 200:
                        return
                time.sleep(0.05)
        raise AssertionError(f"no commands after {seconds} seconds:\n{self.said()}")

    def ask_read_api(self, path: str, body: Any) -> httpx2.Response:
        """A command that comes to the wrong process."""
        port = self.port + 1
        return httpx2.post(f"http://127.0.0.1:{port}{path}", json=body, trust_env=False)

    def pids(self) -> dict[str, int | None]:
        """The process of each part that the deployment watches; None while it is dead."""
        found: dict[str, int | None] = self._told()["processes"]
        return found

    def _told(self) -> Any:
        return orjson.loads((self.home / "stack.json").read_bytes())

    def database(self) -> str:
        return f"postgresql://postgres@/pledge?host={self.home / 'postgres'}"

    def bootstrap(self) -> str:
        """Where its Kafka is."""
        return str(self._told()["kafka"])


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Inside, a process and those that it started are stopped: they hang, and then go on."""
    first = psutil.Process(pid)
    processes = [first, *first.children()]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def run(env: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of the product's commands to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pledge", *arguments],
        cwd=CHECKED_OUT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=480,
        check=False,
    )


def pages_of(lines: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    """The lines, so many at a time."""
    while chunk := [line for _, line in zip(range(size), lines, strict=False)]:
        yield chunk
