"""The house rules that no linter knows."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import aggregates
from aggregates.base import Refused, Unknown
from commands.catalog import rules

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("events", "aggregates", "commands", "projections", "read_api", "analytics", "pledge")
HOUSE = {
    *ROOMS,
    *("bench", "docs", "tests", ".ci"),
    *("pyproject.toml", "constraints.txt", "Makefile", "docker-compose.yml", "Dockerfile"),
    *("README.md", "CHANGELOG.md", "LICENSE", ".gitignore", ".dockerignore"),
}
MIRRORED = {*ROOMS, "bench", "end_to_end"}
NOT_OURS = {
    ".git",
    *(line.rstrip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split()),
}
INDEX = re.compile(
    r"\b(pypi|pythonhosted|npmjs|crates|golang|ghcr|quay|gcr|docker)\.(org|io|com)\b"
    r"|--(extra-)?index-url|--trusted-host"
)
PLACE = re.compile(r"(?<![\w.-])/(home|root|Users|work|mnt|opt|srv)/[\w.-]+")
QUOTING = re.compile(r"""replace\(\s*(?:"'"|'\\'')""")
RULES = rules()

IMPORT_EVERYTHING = """
import importlib, json, os, pkgutil, sys, sysconfig, threading

rooms, root = sys.argv[1].split(), sys.argv[2]
standard = sysconfig.get_path("stdlib")
seen = []

def asked_by_us():
    # Whoever asked is the nearest caller outside the standard library.
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file != "<string>" and not file.startswith("<frozen"):
            if not file.startswith(standard) or "site-packages" in file:
                return any(file.startswith(os.path.join(root, room, "")) for room in rooms)
        frame = frame.f_back
    return False

class Environment(type(os.environ)):
    def __getitem__(self, name):
        if asked_by_us():
            seen.append(f"reads {name} of the environment")
        return super().__getitem__(name)

    def __iter__(self):
        if asked_by_us():
            seen.append("reads the whole environment")
        return super().__iter__()

def hook(event, arguments):
    if event in ("socket.connect", "socket.bind", "subprocess.Popen"):
        seen.append(event)

start = threading.Thread.start

def start_seen(thread):
    seen.append(f"starts the thread {thread.name}")
    start(thread)

threading.Thread.start = start_seen
os.environ.__class__ = Environment
sys.addaudithook(hook)
found = {}
for room in rooms:
    package = importlib.import_module(room)
    names = [m.name for m in pkgutil.walk_packages(package.__path__, room + ".")]
    for name in [room, *names]:
        importlib.import_module(name)
        found[name] = list(seen)
        seen.clear()
print(json.dumps([found, threading.active_count()]))
"""


def files() -> Iterator[Path]:
    """Every file of the repository, and none that tools left."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not left_by_tools(name)]
        yield from (Path(folder) / name for name in names if not left_by_tools(name))


def left_by_tools(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in NOT_OURS)


def test_the_tree_is_the_house() -> None:
    assert {entry.name for entry in ROOT.iterdir() if not left_by_tools(entry.name)} == HOUSE


def test_the_tests_mirror_the_tree() -> None:
    folders = (entry.name for entry in (ROOT / "tests").iterdir() if entry.is_dir())
    assert {name for name in folders if not left_by_tools(name)} <= MIRRORED


def test_no_other_distribution_owns_one_of_our_package_names() -> None:
    owners = packages_distributions()
    assert {room: set(owners.get(room, ())) - {"pledge-crm"} for room in ROOMS} == {
        room: set() for room in ROOMS
    }


def test_nothing_connects_starts_or_reads_the_environment_at_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING, " ".join(ROOMS), str(ROOT)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, threads = json.loads(done.stdout)
    assert len(found) > 50
    assert {name: what for name, what in found.items() if what} == {}
    assert threads == 1


@pytest.mark.parametrize(
    "deed",
    [
        "import os; os.environ.get('HOME')",
        "import os; dict(os.environ)",
        "import threading; threading.Thread(target=str).start()",
        "import socket; socket.socket().bind(('127.0.0.1', 0))",
        "import subprocess; subprocess.Popen(['true'])",
    ],
)
def test_the_look_out_sees_what_a_module_does_at_import(tmp_path: Path, deed: str) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (room / "__init__.py").write_text("")
    (room / "culprit.py").write_text(deed)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING, "room", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found, _ = json.loads(done.stdout.splitlines()[-1])
    assert found["room"] == []
    assert found["room.culprit"] != []


def test_no_file_names_a_package_index_or_a_place_on_somebodys_machine() -> None:
    me = Path(__file__).resolve()
    for path in files():
        if path == me:
            continue
        text = path.read_bytes().decode(errors="replace")
        for pattern in (INDEX, PLACE):
            found = pattern.search(text)
            assert found is None, f"{path.relative_to(ROOT)}: {found and found[0]}"
        assert str(ROOT) not in text, path.relative_to(ROOT)


def test_no_text_is_quoted_to_become_a_part_of_sql() -> None:
    assert QUOTING.search("""text.replace("'", "''")""")
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            assert QUOTING.search(path.read_text(encoding="utf-8")) is None, path


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_is_a_sentence(rule: type[Refused]) -> None:
    assert rule.__doc__ is not None
    assert rule.__doc__[0].isupper()
    assert rule.__doc__.endswith(".")
    assert rule.__doc__ != rule.__mro__[1].__doc__


def test_every_rule_is_in_the_catalog_of_rules_and_has_a_name_of_its_own() -> None:
    names = [module.name for module in pkgutil.iter_modules(aggregates.__path__, "aggregates.")]
    written = {
        rule
        for name in names
        for rule in vars(importlib.import_module(name)).values()
        if inspect.isclass(rule) and issubclass(rule, Refused)
    }
    assert {*RULES, Refused, Unknown} == written
    assert len({rule.__name__ for rule in RULES}) == len(RULES)
