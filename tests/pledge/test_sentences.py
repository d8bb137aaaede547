"""Whatever goes wrong with a command of ``pledge``, it is said in a sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import NewLedger
from tests.end_to_end.running import CHECKED_OUT, environment, run

MOMENTS = 8
"""At which a command is interrupted, one after another until it ends by itself."""


@pytest.fixture(scope="module")
def begun(
    new_ledger: NewLedger, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The environment of a ledger that was begun with a master key of its own."""
    with new_ledger() as url:
        home = tmp_path_factory.mktemp("home")
        env = environment(home, url)
        assert run(env, "migrate").returncode == 0
        yield env


def said(env: dict[str, str], *arguments: str | Path) -> str:
    """What a command prints that fails."""
    done = run(env, *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("pledge:") == 1, done.stderr
    return " ".join(done.stderr.split())


def test_a_missing_master_key_is_asked_for_and_never_made_anew(
    begun: dict[str, str], tmp_path: Path
) -> None:
    elsewhere = {**begun, "PLEDGE_HOME": str(tmp_path / "other")}
    told = said(elsewhere, "migrate")
    assert "master key of this ledger is missing" in told
    assert "PLEDGE_MASTER_KEY_FILE" in told
    assert not (tmp_path / "other" / "master.key").exists()
    assert run(begun, "migrate").returncode == 0


@pytest.mark.parametrize("kind", ["folder", "binary", "words", "empty", "absent"])
def test_a_master_key_that_cannot_be_used_is_named(
    begun: dict[str, str], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "key"
    match kind:
        case "folder":
            path.mkdir()
        case "binary":
            path.write_bytes(bytes(range(128, 160)))
        case "words":
            path.write_text("not a key\n")
        case "empty":
            path.touch()
    told = said({**begun, "PLEDGE_MASTER_KEY_FILE": str(path)}, "migrate")
    assert str(path) in told.replace(" ", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLEDGE_PORT", "eight"),
        ("PLEDGE_PORT", "70000"),
        ("PLEDGE_FIGURES_MEMORY", "much"),
        ("PLEDGE_FIGURES_THREADS", "0"),
        ("PLEDGE_DEMO", "perhaps"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(
    begun: dict[str, str], name: str, value: str
) -> None:
    assert name in said({**begun, name: value}, "migrate")


def test_a_full_disk_is_said_to_be_one(begun: dict[str, str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pledge", "demo", "--print"],
            cwd=CHECKED_OUT,
            env=begun,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_whoever_stops_reading_gets_no_complaint(begun: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pledge", "demo", "--print"],
        cwd=CHECKED_OUT,
        env=begun,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline().startswith(b"{")
        child.stdout.close()
        assert child.stderr.read() == b""


def test_an_interrupt_at_any_moment_ends_a_command_without_a_traceback(
    begun: dict[str, str],
) -> None:
    for moment in range(1, MOMENTS + 1):
        child = subprocess.Popen(
            [sys.executable, "-m", "pledge", "export", "events"],
            cwd=CHECKED_OUT,
            env=begun,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        time.sleep(0.15 * moment)
        os.kill(child.pid, signal.SIGINT)
        _, stderr = child.communicate()
        assert b"Traceback" not in stderr, (moment, stderr)
        assert child.returncode in (0, 130, -signal.SIGINT), (moment, child.returncode, stderr)
