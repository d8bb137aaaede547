"""The documents' own words, run against the product."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from pledge.settings import Settings
from tests.end_to_end.running import free_port

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SAID = "127.0.0.1:8000"
END = "end of block"
PATIENCE_SECONDS = 180

ADA = "b0000000-0000-4000-8000-000000000001"
BEN = "b0000000-0000-4000-8000-000000000002"


class Terminal:
    """One shell, into which a page's blocks are pasted in their order."""

    def __init__(self, address: str, folder: Path) -> None:
        (folder / ".venv").symlink_to(sys.prefix)
        self.address = address
        self.blocks: list[str] = []
        self.shell = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env={**os.environ, "PLEDGE_URL": f"http://{address}", "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def read(self, page: str) -> None:
        self.blocks = [text for kind, text in FENCE.findall(page) if kind == "sh"]

    def paste(self, having: str) -> list[str]:
        """The lines that the next block prints; it must hold this text."""
        block = self.blocks.pop(0)
        assert having in block
        settle(self.address)
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        self.shell.stdin.write(f"{block.replace(SAID, self.address)}\necho '{END}'\n")
        self.shell.stdin.flush()
        lines: list[str] = []
        for line in self.shell.stdout:
            if line.strip() == END:
                return lines
            lines.append(line.rstrip("\n"))
        pytest.fail(f"the shell ended:\n{lines}")

    def answers(self, having: str) -> list[Any]:
        """What the next block's calls answer, each a line of JSON."""
        return [json.loads(line) for line in self.paste(having)]

    def close(self) -> None:
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        self.shell.stdin.close()
        self.shell.stdout.close()
        self.shell.wait(PATIENCE_SECONDS)


def get(address: str, path: str) -> Any:
    with urlopen(f"http://{address}{path}", timeout=10) as answer:
        return json.load(answer)


def wait_for(address: str, path: str, satisfied: Callable[[Any], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = None
        with suppress(OSError):
            found = get(address, path)
        if satisfied(found):
            return
        assert time.monotonic() < deadline, f"{path} never became so"
        time.sleep(0.02)


def settle(address: str) -> None:
    """A person takes longer to paste than a projector to follow."""
    wait_for(
        address,
        "/projections",
        lambda found: found and not any(item["lag_positions"] for item in found["items"]),
    )


def alive(process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        pytest.fail(log.read_text(encoding="utf-8"))
    return True


@pytest.fixture
def terminal(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    """Beside a running Pledge that has just made its sample company."""
    for name in [name for name in os.environ if name.startswith("PLEDGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PLEDGE_DATABASE_URL", database_url)
    monkeypatch.setenv("PLEDGE_HOME", str(tmp_path / "home"))
    port = free_port()
    monkeypatch.setenv("PLEDGE_PORT", str(port))
    address = f"127.0.0.1:{port}"
    log = tmp_path / "log"
    output = log.open("wb")
    pledge = subprocess.Popen(
        [sys.executable, "-m", "pledge", "serve"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    try:
        wait_for(address, "/health/ready", lambda found: alive(pledge, log) and found)
        opened = Terminal(address, tmp_path)
        try:
            yield opened
        finally:
            opened.close()
    finally:
        pledge.send_signal(signal.SIGTERM)
        pledge.wait(PATIENCE_SECONDS)
        output.close()


def statuses(promises: dict[str, Any]) -> dict[str, str]:
    return {item["id"]: item["status"] for item in promises["items"]}


@pytest.mark.slow
def test_the_tour_of_the_readme_is_true(terminal: Terminal) -> None:
    terminal.read(README)
    [registered] = terminal.answers("Acme Tools")
    [shown] = [json.loads(text) for kind, text in FENCE.findall(README) if kind == "json"]
    assert registered == shown

    made = terminal.answers("make-promise")
    assert [answer["version"] for answer in made] == [2, 3]
    [promises] = terminal.answers("contradicting=true")
    assert {item["id"]: item["contradicts"] for item in promises["items"]} == {
        ADA: [BEN],
        BEN: [ADA],
    }
    assert [item["promised_by"] for item in promises["items"]] == ["ada", "ben"]

    captured, claimed = terminal.answers("Grace Hopper")
    assert [e["type"] for e in captured["events"] + claimed["events"]] == [
        "lead.captured",
        "lead.claimed",
    ]
    [refused] = terminal.answers("ben")
    assert (refused["status"], refused["rule"]) == (409, "LeadOwned")
    [refusals] = terminal.answers("/audit/refusals")
    [evidence] = refusals["items"]
    assert (evidence["actor"], evidence["command"], evidence["version"], evidence["rule"]) == (
        "ben",
        "leads/claim",
        2,
        "LeadOwned",
    )

    first, again = terminal.paste("Idempotency-Key")
    assert first == again
    assert json.loads(first)["version"] == 4

    too_late, in_time = terminal.answers("If-Match")
    assert too_late["status"] == 412
    assert [event["type"] for event in in_time["events"]] == ["lead.qualified"]

    [whole] = terminal.answers("http")
    named = re.search(r"The 360° view holds the record, (.*?)\.", README)
    assert named is not None
    parts = set(re.split(r", | and the ", named[1].replace("deals", "opportunities")))
    assert len(parts) == 8
    assert parts <= whole.keys()
    assert [one["summary"] for one in whole["interactions"]] == ["Asked which price holds."]

    [broken] = terminal.answers("THEN=")
    assert [event["type"] for event in broken["events"]] == ["customer.promise-broken"]
    early, now_known, then_known, past = terminal.answers("as_of")
    assert statuses(early) == {ADA: "open"}
    assert statuses(now_known) == {ADA: "broken", BEN: "open"}
    assert statuses(then_known) == {ADA: "open", BEN: "open"}
    assert [promise["id"] for promise in past["promises"]] == [ADA]
    assert past["interactions"] == []

    [sea] = terminal.answers("min_position")
    assert [customer["name"] for customer in sea["items"]] == ["Acme Tools"]

    assert_owing(*terminal.answers("/payments/receivables"))

    imported = "\n".join(terminal.paste("pledge import"))
    assert "would be sent" in imported
    assert "accepted" in imported
    table = terminal.paste("text/csv")
    assert len(table) == 2
    assert ",Cedar House," in table[1]

    assert_proven(terminal)
    assert terminal.blocks == []


def assert_owing(owing: dict[str, Any], ageing: dict[str, Any]) -> None:
    assert all(Decimal(item["receivable"]["amount"]) > 0 for item in owing["items"])
    assert {item["receivable"]["currency"] for item in owing["items"]} == {"CNY", "EUR"}
    assert ageing["total"][0]["buckets"][0]["bucket"] == "current"


def assert_proven(terminal: Terminal) -> None:
    proof = terminal.paste("audit replay")
    claim = re.search(r"like `(promises: .*?)`", README)
    assert claim is not None
    assert claim[1] in proof
    assert {line.partition(" at ")[0] for line in proof if line} == {
        f"{item['name']}: equal row for row"
        for item in get(terminal.address, "/projections")["items"]
    }


def test_the_bulk_example_is_true(terminal: Terminal) -> None:
    terminal.read(API)
    answered = terminal.paste("/commands")
    [shown] = [text.splitlines() for kind, text in FENCE.findall(API) if not kind]
    assert answered[:2] == shown[:2]
    assert answered[2].startswith(shown[2].removesuffix(" …"))
    assert json.loads(answered[2])["rule"] == "LeadOwned"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in LINK.findall(text):
        path = target.partition("#")[0]
        if path and "://" not in target:
            assert (page.parent / path).exists(), target


def written(default: object) -> str:
    """A default as one writes it into the environment."""
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_the_settings_are_told_as_the_code_has_them() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(PLEDGE_\w+)` \| `?([^|`]*)`? \|", text, re.MULTILINE))
    assert told == {
        f"PLEDGE_{name.upper()}": "none" if field.default is None else written(field.default)
        for name, field in Settings.model_fields.items()
    }
