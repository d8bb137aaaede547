"""The deployment on one machine: what it consists of, and what happens when it is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from ruamel.yaml import YAML

from pledge.settings import Settings
from pledge.stack import members
from tests.end_to_end.running import CHECKED_OUT, READY_SECONDS, Deployment, environment, run


@pytest.fixture
def compose() -> Any:
    return YAML(typ="safe").load(CHECKED_OUT / "docker-compose.yml")


def test_the_compose_file_has_the_same_processes(compose: Any) -> None:
    ours = {
        name: tuple(service["command"][1:])
        for name, service in compose["services"].items()
        if service.get("command", [""])[0] == "pledge"
    }
    assert ours.pop("migrate") == ("migrate",)
    here = {member.arguments for member in members(Settings(), projections=2)}
    assert set(ours.values()) == here


def test_every_service_of_the_compose_file_is_watched_and_holds_no_secret(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert name == "migrate" or service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        for variable, value in service["environment"].items():
            assert "PASSWORD" not in variable or str(value).startswith("${"), name


@pytest.mark.parametrize("part", ["relay", "projections", "policies", "nonsense"])
def test_a_part_that_never_began_is_told_apart_from_one_that_moves(
    part: str, database_url: str, tmp_path: Path
) -> None:
    done = run(environment(tmp_path, database_url), "healthy", part)
    assert (done.returncode != 0) == (part in ("relay", "nonsense")), done.stderr


def alive(pids: Iterator[int]) -> list[int]:
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


@pytest.mark.slow(50)
def test_its_processes_end_with_it_and_a_new_one_goes_on_with_the_data(folder: Path) -> None:
    with Deployment(folder / "home", projections=1) as deployment:
        lead = deployment.made("/leads", {"name": "Grace Hopper"})
        shown = deployment.get("/leads", min_position=lead["position"])
        assert [item["id"] for item in shown["items"]] == [lead["id"]]
        refused = deployment.ask_read_api("/leads", {"name": "Grace Hopper"})
        assert (refused.status_code, refused.json()["type"]) == (
            405,
            "/problems/commands-elsewhere",
        )
        bootstrap = deployment.bootstrap()
        ours = {name: pid for name, pid in deployment.pids().items() if "kafka" not in name}
        deployment.kill()
        deadline = time.monotonic() + READY_SECONDS
        while alive(pid for pid in ours.values() if pid is not None):
            assert time.monotonic() < deadline, "they outlive it"
            time.sleep(0.1)
        deployment.start()
        assert deployment.bootstrap() == bootstrap
        assert deployment.get("/leads")["items"][0]["id"] == lead["id"]
        relay = deployment.pids()["relay"]
        assert relay is not None
        os.kill(relay, signal.SIGKILL)
        later = deployment.made("/leads", {"name": "Ada Byron"})
        deployment.wait_until_shown()
        assert deployment.get("/leads")["position"] >= later["position"]
        # The standby may have carried it before one is started.
        deadline = time.monotonic() + READY_SECONDS
        while deployment.pids()["relay"] in (relay, None):
            assert time.monotonic() < deadline, "a dead relay is not started again"
            time.sleep(0.1)
        assert deployment.stop() == 0
    assert not alive(pid for pid in deployment.pids().values() if pid is not None)
