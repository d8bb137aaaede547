"""``pledge export``: whole lists and every event, as files."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from pledge.cli import export
from pledge.console import Failed
from pledge.exporting import LISTS
from tests.projections.conftest import NewWorld
from tests.projections.world import MASTER, World, eur

MANY = 70


@pytest.fixture(scope="module")
def company(new_world: NewWorld) -> Iterator[World]:
    with new_world() as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLEDGE_DATABASE_URL", made.url)
        patch.setenv("PLEDGE_MASTER_KEY", base64.b64encode(MASTER).decode())
        for n in range(MANY):
            name = f"C{n}"
            made.do("customers/register", UUID(int=100 + n), name=name, owner="ab"[n % 2])
            placed = {"customer_id": UUID(int=100 + n), "amount": eur("10")}
            made.do("orders/place", UUID(int=1_000 + n), **placed)
        made.project()
        yield made


@pytest.mark.parametrize("name", sorted(LISTS))
def test_a_whole_list_is_written_as_lines_of_json(
    company: World, tmp_path: Path, name: str
) -> None:
    to = tmp_path / "out.ndjson"
    export(name, to=to)
    assert [json.loads(line) for line in to.read_bytes().splitlines()] == company.every(f"/{name}")


def test_parameters_choose_and_the_suffix_says_the_form(company: World, tmp_path: Path) -> None:
    to = tmp_path / "customers.csv"
    export("customers", ["owner=a"], to=to)
    rows = list(csv.DictReader(io.StringIO(to.read_text("utf-8-sig"))))
    assert len(rows) == company.get("/customers", owner="a", count="true")["count"] == MANY // 2
    for suffix in ("xlsx", "parquet"):
        export("customers", to=tmp_path / f"c.{suffix}")
        assert (tmp_path / f"c.{suffix}").stat().st_size > 1_000
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("c.parquet", "c.xlsx", "customers.csv")
    ]


@pytest.mark.usefixtures("company")
@pytest.mark.parametrize(
    ("what", "asked", "to", "said"),
    [
        ("customer", [], "c.csv", "No list is called customer. There are: events, customers"),
        ("customers", [], "c.doc", r"should end with \.csv, \.ndjson, \.xlsx, \.parquet"),
        ("customers", ["owner"], "c.csv", "'owner' is no parameter; write NAME=VALUE"),
        ("customers", ["ownr=a"], "c.csv", "ownr: Extra inputs are not permitted"),
        ("customers", ["ids=x"], "c.csv", "ids"),
        ("orders", ["as_of=soon"], "c.csv", "as_of must be a date"),
        ("events", ["owner=a"], "e.ndjson", "events have no parameters"),
        ("events", [], "e.csv", r"let .*e\.csv end with \.ndjson"),
        ("customers", ["limit=7"], "c.csv", "limit is of pages"),
    ],
)
def test_what_cannot_be_exported_is_said_and_leaves_the_old_file(
    tmp_path: Path, what: str, asked: list[str], to: str, said: str
) -> None:
    file = tmp_path / to
    file.write_text("old")
    with pytest.raises(Failed, match=said):
        export(what, asked, to=file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_events_are_written_from_a_position_on(company: World, tmp_path: Path) -> None:
    to = tmp_path / "events.ndjson"
    export("events", to=to, after=company.head() - 3)
    events: list[Any] = [json.loads(line) for line in to.read_bytes().splitlines()]
    assert [event["position"] for event in events] == [company.head() - n for n in (2, 1, 0)]


def test_a_link_stays_and_permissions_do(company: World, tmp_path: Path) -> None:
    kept, link, new = tmp_path / "kept.csv", tmp_path / "link.csv", tmp_path / "new.csv"
    kept.write_text("old")
    kept.chmod(0o640)
    link.symlink_to(kept)
    export("customers", to=link)
    export("customers", to=new)
    assert link.is_symlink()
    assert kept.read_text("utf-8-sig").startswith("id,")
    assert [path.stat().st_mode & 0o777 for path in (kept, new)] == [0o640, 0o600]
    assert company.head() > 0
