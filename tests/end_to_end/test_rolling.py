"""Processes of the version before go on beside this one while an upgrade rolls, or say why not."""

from __future__ import annotations

import io
import subprocess
import tarfile
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID, uuid4

import httpx2
import psycopg
import pytest

from tests.end_to_end.running import CHECKED_OUT, Service, environment, run

BEFORE = "04a202d"
"""The last version that was published; the next release names itself here."""
CLIENTS = 6
LEADS = 40
OUTCOMES = "SELECT count(*), count(DISTINCT (actor, key)) FROM ledger.outcomes"
QUESTIONS = ("/leads", "/promises", "/audit/events", "/projections", "/payments/receivables")


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the version before."""
    archive_of = ["git", "archive", BEFORE]
    made = subprocess.run(archive_of, cwd=CHECKED_OUT, capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no history to take {BEFORE} from: {made.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


class Load:
    """Clients that send each lead's commands to the old and the new process in turn."""

    def __init__(self, *commands: str) -> None:
        self._commands = commands
        self.told: Counter[tuple[int, str]] = Counter()
        self.done: set[UUID] = set()
        self._lock = threading.Lock()

    def work(self, turn: int) -> None:
        with httpx2.Client(timeout=60, trust_env=False, headers={"X-Actor": "ada"}) as client:
            for n in range(LEADS):
                lead, at = uuid4(), turn + n
                plan = [("capture", {"name": "Grace Hopper"}), ("claim", {}), ("qualify", {})]
                for step, (verb, data) in enumerate(plan):
                    url = self._commands[(at + step) % len(self._commands)]
                    key = f"{verb} {lead}"
                    line = {"command": f"leads/{verb}", "id": str(lead), "key": key, "data": data}
                    answer = client.post(f"{url}/commands", json=line)
                    self._note(answer.json(), lead if verb == "qualify" else None)

    def ask(self, url: str) -> None:
        with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
            for n in range(LEADS):
                answer = client.get(QUESTIONS[n % len(QUESTIONS)])
                self._note(answer.json() | {"status": answer.status_code})

    def _note(self, told: dict[str, object], lead: UUID | None = None) -> None:
        with self._lock:
            self.told[int(str(told["status"])), str(told.get("type", ""))] += 1
            if lead is not None and told["status"] == 200:
                self.done.add(lead)


@pytest.mark.slow(40)
def test_the_version_before_answers_beside_this_one_or_says_why_not(
    folder: Path, before: Path, database_url: str
) -> None:
    home = folder / "home"
    with ExitStack() as leaving:
        old_commands, old_questions = (
            Service(home, database_url, code=before, part=part) for part in ("commands", "read-api")
        )
        for service in (old_commands, old_questions):
            leaving.push(service)
            service.start(wait=False)
        old_commands.wait_until_ready()
        old = {session for session in sessions(database_url) if "pledge" in session}
        migrated = run(environment(home, database_url), "migrate")
        if migrated.returncode != 0:  # a step says that it would break them
            said = migrated.stdout + migrated.stderr
            assert "Stop them" in said
            assert any(session in said for session in old)
            assert old_commands.post("/leads", {"name": "Ada Byron"}).status_code == 201
            return
        new = leaving.enter_context(Service(home, database_url))
        load = Load(old_commands.url, new.url)
        threads = [threading.Thread(target=load.work, args=(n,)) for n in range(CLIENTS)]
        threads += [
            threading.Thread(target=load.ask, args=(asked.url,)) for asked in (old_questions, new)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = {kind for (status, kind) in load.told if status >= 400}
        assert refused <= {"/problems/other-version", "/problems/not-there-yet"}, load.told
        assert all(status < 500 or status == 503 for status, _ in load.told), load.told
        assert load.done
        new.wait_until_shown()
        shown = {UUID(one["id"]) for one in new.get("/leads", limit=1_000)["items"]}
        assert load.done <= shown
        replayed = new.run("audit", "replay")
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
        for service in (old_commands, old_questions, new):
            assert "Traceback" not in service.said()
    with psycopg.connect(database_url) as conn:
        found, distinct = conn.execute(OUTCOMES).fetchone() or (0, 0)
    assert found == distinct > 0


def sessions(url: str) -> set[str]:
    with psycopg.connect(url) as conn:
        rows = conn.execute("SELECT pid || ' (' || application_name FROM pg_stat_activity")
        return {row[0] for row in rows if row[0]}
