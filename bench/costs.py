"""What an event costs each process of the deployment, in CPU time: ``python bench/costs.py``.

Starts every process of the deployment around Kafka on this machine, sends the sample company of so
many customers as NDJSON, waits until every read model shows all of it, and tells how much CPU
time each process took meanwhile, in microseconds an event. The figures of docs/scaling.md.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import httpx2
import orjson
import psutil
from rich.console import Console
from rich.table import Table

from events.ledger import ledger
from pledge import demo
from pledge.settings import Settings
from pledge.stack import STATE, Stack, stack
from projections.catalog import MODELS

CHUNK = 500
UNTIL = date(2026, 3, 5)
SHOWN = "SELECT min(position), count(*) FROM progress.readers WHERE name = ANY (%s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=600, help="customers; 70 events each")
    parser.add_argument("--port", type=int, default=8390)
    asked = parser.parse_args()
    console = Console()
    home = Path(tempfile.mkdtemp(prefix="pledge-costs-"))
    home.chmod(0o755)
    settings = Settings(home=home, port=asked.port, demo=False)
    try:
        with stack(settings, console, projections=1) as running:
            _measure(running, asked.size, console)
    finally:
        shutil.rmtree(home)


def _measure(running: Stack, size: int, console: Console) -> None:
    stop = threading.Event()
    watching = threading.Thread(target=_watch, args=(running, stop))
    watching.start()
    try:
        url = f"http://127.0.0.1:{running.members[0].settings['PLEDGE_PORT']}"
        lines = [line.raw + b"\n" for line in demo.story(size, 1, UNTIL)]
        with (
            httpx2.Client(base_url=url, timeout=120, trust_env=False) as client,
            ledger.connect(running.conninfo) as conn,
        ):
            _send(client, lines[:CHUNK])
            _wait(conn)
            before, began, first = _spent(running), time.monotonic(), ledger.head(conn)
            _send(client, lines[CHUNK:])
            accepted = time.monotonic() - began
            _wait(conn)
            shown = time.monotonic() - began
            after, events = _spent(running), ledger.head(conn) - first
    finally:
        stop.set()
        watching.join()
    table = Table("process", "µs of CPU an event", title=f"{events} events")
    for name, seconds in after.items():
        table.add_row(name, f"{(seconds - before.get(name, 0)) / events * 1e6:.0f}")
    console.print(table)
    console.print(f"accepted at {events / accepted:.0f} events/s, shown at {events / shown:.0f}")


def _watch(running: Stack, stop: threading.Event) -> None:
    while not stop.wait(0.25):
        running.look_after()


def _send(client: httpx2.Client, lines: list[bytes]) -> None:
    deadline = time.monotonic() + 60
    for at in range(0, len(lines), CHUNK):
        while True:
            try:
                answer = client.post(
                    "/commands",
                    content=b"".join(lines[at : at + CHUNK]),
                    headers={"X-Actor": "bench"},
                )
                break
            except httpx2.TransportError:
                assert time.monotonic() < deadline, "the commands do not answer"
                time.sleep(0.2)
        assert answer.status_code == 200, answer.text


def _wait(conn: ledger.Connection) -> None:
    head, names = ledger.head(conn), [model.name for model in MODELS]
    deadline = time.monotonic() + 300
    while True:
        row = conn.execute(SHOWN, (names,)).fetchone()
        if row is not None and row[1] == len(MODELS) and row[0] >= head:
            return
        assert time.monotonic() < deadline, "the read models do not catch up"
        time.sleep(0.05)


def _spent(running: Stack) -> dict[str, float]:
    """CPU seconds so far, by process; PostgreSQL's with all its children."""
    told = orjson.loads((running.home / STATE).read_bytes())["processes"]
    pids = {name.rstrip(" 1"): pid for name, pid in told.items()}
    spent = {name: sum(psutil.Process(pid).cpu_times()[:2]) for name, pid in pids.items()}
    file = running.home / "postgres" / "postmaster.pid"
    server = psutil.Process(int(file.read_text().partition("\n")[0]))
    # What ended meanwhile is in the postmaster's own account of its children.
    alive = sum(sum(one.cpu_times()[:2]) for one in server.children())
    return {"postgres": sum(server.cpu_times()[:4]) + alive, **spent}


if __name__ == "__main__":
    main()
