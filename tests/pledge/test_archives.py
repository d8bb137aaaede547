"""Zip archives and Parquet files are imported as the CSV files would be that hold the same."""

from __future__ import annotations

import json
import tempfile
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pledge.importing import archives
from pledge.importing.errors import SourceError
from pledge.importing.running import run_import

MAPPING = """
name = "people"
[[files]]
file = "{file}"
[[files.commands]]
command = "customers/register"
id = "{{{{ id }}}}"
data.name = "{{{{ name }}}}"
{more}
"""
ROWS = "id,name\n1,Ann\n2,Ben\n"


def lines(source: Path, file: str = "people.csv", more: str = "") -> list[dict[str, Any]]:
    mapping = source.parent / "people.toml"
    mapping.write_text(MAPPING.format(file=file, more=more), encoding="utf-8")
    found: list[dict[str, Any]] = []

    def check(line: bytes) -> list[str]:
        found.append(json.loads(line))
        return []

    report = run_import(source, mapping, url="http://127.0.0.1:9", dry_run=True, check=check)
    assert report.rejects is None
    return found


def archive(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in files.items():
            made.writestr(name.replace("__", "/"), text)
    return path


def test_an_archive_of_one_file_stands_for_that_file(tmp_path: Path) -> None:
    plain = tmp_path / "people.csv"
    plain.write_text(ROWS)
    packed = archive(tmp_path / "delivery.zip", **{"2026__people.csv": ROWS})
    assert lines(packed) == lines(plain)
    renamed = archive(tmp_path / "other.zip", **{"march.csv": ROWS})
    assert [one["data"] for one in lines(renamed)] == [{"name": "Ann"}, {"name": "Ben"}]


def test_an_archive_of_several_files_stands_for_their_folder(tmp_path: Path) -> None:
    packed = archive(tmp_path / "all.zip", **{"people.csv": ROWS, "notes.txt": "-", "a__": ""})
    assert len(lines(packed)) == 2
    with pytest.raises(SourceError, match=r"has no file people\.csv"):
        lines(archive(tmp_path / "none.zip", **{"one.csv": ROWS, "two.csv": ROWS}))


def test_an_archive_that_cannot_be_taken_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = tmp_path / "aside"
    aside.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(aside))
    torn = tmp_path / "torn.zip"
    torn.write_bytes(archive(tmp_path / "whole.zip", **{"people.csv": ROWS}).read_bytes()[:-30])
    with pytest.raises(SourceError, match="is no archive"):
        lines(torn)
    strange = tmp_path / "strange.zip"
    raw = bytearray((tmp_path / "whole.zip").read_bytes())
    raw[8] = 97  # a method of compression that nobody knows, said twice
    raw[raw.index(b"PK\x01\x02") + 10] = 97
    strange.write_bytes(raw)
    with pytest.raises(SourceError, match=r"not supported; unpack it"):
        lines(strange)
    twins = archive(tmp_path / "twins.zip", **{"a__people.csv": ROWS, "b__people.csv": ROWS})
    with pytest.raises(SourceError, match=r"two files people\.csv"):
        lines(twins)
    with pytest.raises(SourceError, match="no file in it"):
        lines(archive(tmp_path / "empty.zip"))
    monkeypatch.setattr(archives, "LEAST", 1_000)
    bomb = archive(tmp_path / "bomb.zip", **{"people.csv": ROWS + "\n" * 200_000})
    with pytest.raises(SourceError, match="unpacks to more than"):
        lines(bomb)
    assert list(aside.iterdir()) == [], "something was left behind"


def test_names_within_an_archive_lead_nowhere_else(tmp_path: Path) -> None:
    evil = archive(tmp_path / "evil.zip", **{"..__..__people.csv": ROWS})
    assert len(lines(evil)) == 2
    assert not (tmp_path.parent / "people.csv").exists()


def test_parquet_is_read_as_the_csv_of_the_same_table(tmp_path: Path) -> None:
    at = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)
    amount = {"amount": Decimal("12.50"), "currency": "EUR"}
    table = pa.table(
        {
            "id": pa.array([1, 2]),
            "name": ["Ann", "Ben"],
            "worth": pa.array([amount, None]),
            "share": [0.1, None],
            "day": [date(2026, 3, 2), None],
            "at": pa.array([at, None], pa.timestamp("us", "UTC")),
            "is_new": [True, False],
            "tags": [["a", "b"], []],
        }
    )
    file = tmp_path / "people.parquet"
    pq.write_table(table, file)
    told = " ".join(
        "{{ " + name + " }}|" if name.isidentifier() else "{{ row['" + name + "'] }}|"
        for name in ("worth.amount", "worth.currency", "share", "day", "at", "is_new", "tags")
    )
    note = f"data.note = '''{told}'''"
    first, second = lines(file, "people.parquet", note)
    assert first["data"]["note"] == (
        '12.50| EUR| 0.1| 2026-03-02| 2026-03-02T12:30:00Z| true| ["a","b"]|'
    )
    assert second["data"] == {"name": "Ben", "note": "| | | | | false| []|"}
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as made:
        made.write(file, "people.parquet")
    assert lines(packed, "people.parquet", note) == [first, second]


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "people.parquet"
    file.write_text(ROWS)
    with pytest.raises(SourceError, match="cannot be read"):
        lines(file, "people.parquet")
