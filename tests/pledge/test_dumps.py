"""MySQL dumps as sources, things looked up in other files, columns apart by spaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pledge.importing import MappingError, SourceError
from pledge.importing.dumps import DumpTable
from pledge.importing.mapping import SourceRule
from pledge.importing.rows import Row, UnreadableRow
from pledge.importing.running import run_import
from pledge.importing.sources import open_table

DUMP = r"""
/*!40101 SET NAMES utf8 */;
DROP TABLE IF EXISTS `people`;
CREATE TABLE `people` (
  `id` int(11) NOT NULL,
  `name` varchar(50) NOT NULL DEFAULT 'a, (b)',
  `size` decimal(10,2) DEFAULT NULL,
  PRIMARY KEY (`id`),
  KEY `named` (`name`)
) ENGINE=InnoDB;
LOCK TABLES `people` WRITE;
INSERT INTO `people` VALUES (1,'D\'Arc, Jeanne; INSERT INTO `people` VALUES (9,9,9)',-1.50),
(2,'Ren''é (the "second")',NULL);
INSERT INTO `people` (`size`, `id`, `name`) VALUES (3.00, 3, 'three');
INSERT INTO `people` VALUES (4, NOW(), 1), (5,'five'), (6,'six',6);
INSERT INTO `others` VALUES (1);
DROP DATABASE `people`;
"""


def table(path: Path, name: str = "people", text: str = DUMP) -> DumpTable:
    path.write_text(text, encoding="utf-8")
    return DumpTable(path, SourceRule(file="dump.sql", table=name))


def test_rows_are_read_and_no_statement_is_run(tmp_path: Path) -> None:
    found = table(tmp_path / "dump.sql")
    assert list(found.columns) == ["id", "name", "size"]
    rows = list(found.rows())
    assert [row.cells for row in rows if isinstance(row, Row)] == [
        {
            "id": "1",
            "name": "D'Arc, Jeanne; INSERT INTO `people` VALUES (9,9,9)",
            "size": "-1.50",
        },
        {"id": "2", "name": 'Ren\'é (the "second")', "size": ""},
        {"id": "3", "name": "three", "size": "3.00"},
        {"id": "6", "name": "six", "size": "6"},
    ]
    assert [row.line for row in rows] == [12, 13, 14, 15, 15, 15]
    reasons = [row.reason for row in rows if isinstance(row, UnreadableRow)]
    assert reasons == [
        "NOW is not a plain value",
        "has 2 cells where there are 3 columns",
    ]


ODDITIES = """
CREATE TABLE IF NOT EXISTS `shop`.`Things` (
  id int, `key` text, CHECK (id > 0), FULLTEXT KEY `f` (`key`), SPATIAL INDEX s (`key`)
);
insert into Things value (1, 'one');
INSERT INTO `shop`.`things` (`key`, id) VALUES ('two', 2);
"""


def test_what_dumps_say_in_other_words_is_read_too(tmp_path: Path) -> None:
    found = table(tmp_path / "dump.sql", "things", ODDITIES)
    assert list(found.columns) == ["id", "key"]
    assert [row.cells for row in found.rows()] == [
        {"id": "1", "key": "one"},
        {"id": "2", "key": "two"},
    ]


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="'horses'; it has people, others"):
        table(tmp_path / "dump.sql", "horses")


def test_a_dump_of_another_encoding_says_so(tmp_path: Path) -> None:
    path = tmp_path / "dump.sql"
    path.write_bytes("INSERT INTO `people` VALUES ('é')".encode("cp1252"))
    with pytest.raises(SourceError, match="encoding"):
        DumpTable(path, SourceRule(file="dump.sql", table="people"))


@pytest.mark.parametrize("rule", [{"file": "dump.sql"}, {"file": "people.csv", "table": "people"}])
def test_a_dump_and_nothing_else_has_a_table(rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs table"):
        SourceRule.model_validate(rule)


def test_columns_may_stand_apart_by_spaces(tmp_path: Path) -> None:
    path = tmp_path / "sold.txt"
    path.write_text(" id  day\tsum\n\n 00001 19970101   11.77\n2 19970102\n")
    with open_table(path, SourceRule(file="sold.txt", delimiter="space")) as found:
        assert list(found.columns) == ["id", "day", "sum"]
        first, second = found.rows()
    assert isinstance(first, Row)
    assert (first.line, first.cells) == (3, {"id": "00001", "day": "19970101", "sum": "11.77"})
    assert isinstance(second, UnreadableRow)
    assert second.reason == "has 2 cells where there are 3 columns"


MAPPING = """
name = "sold"

[lookups.rep]
file = "reps.csv"
key = "{{ number }}"
value = "{{ first }} {{ last }}"

[[files]]
file = "sold.csv"

  [[files.commands]]
  command = "customers/register"
  id = "customer {{ id }}"
  actor = "{{ rep | lookup('rep') }}"
  data.name = "{{ id }}"
  data.owner = "{{ rep | lookup('rep') }}"
"""


def folder(tmp_path: Path, mapping: str = MAPPING) -> tuple[Path, Path]:
    files = tmp_path / "files"
    files.mkdir()
    (files / "reps.csv").write_text("number,first,last\n7,Ada,King\n7,Eve,Late\n")
    (files / "sold.csv").write_text("id,rep\n1,7\n2,8\n")
    (tmp_path / "sold.toml").write_text(mapping)
    return files, tmp_path / "sold.toml"


def lines_of(files: Path, mapping: Path) -> list[bytes]:
    made: list[bytes] = []

    def check(line: bytes) -> list[str]:
        made.append(line)
        return []

    run_import(files, mapping, url="http://127.0.0.1:9", dry_run=True, check=check)
    return made


def test_what_stands_for_what_is_looked_up(tmp_path: Path) -> None:
    first, second = lines_of(*folder(tmp_path))
    assert b'"actor":"Ada King","data":{"name":"1","owner":"Ada King"}' in first
    assert b'"actor":"import","data":{"name":"2"}' in second


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lookup('rep')", "lookup('reps')", r"there is no \[lookups.reps\]"),
        ("lookup('rep')", "lookup(rep)", "lookup takes the name of a lookup"),
        ("{{ number }}", "{{ numbr }}", "has no column 'numbr'; did you mean 'number'"),
    ],
)
def test_a_lookup_that_cannot_be_is_refused_before_anything_is_sent(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(MappingError, match=said):
        lines_of(*folder(tmp_path, MAPPING.replace(old, new)))


def test_a_lookup_needs_its_file(tmp_path: Path) -> None:
    files, mapping = folder(tmp_path)
    (files / "reps.csv").unlink()
    with pytest.raises(SourceError, match=r"has no file reps\.csv"):
        lines_of(files, mapping)
    with pytest.raises(SourceError, match=r"looks things up in reps\.csv"):
        lines_of(files / "sold.csv", mapping)


def test_a_row_that_cannot_be_looked_up_is_said_so(tmp_path: Path) -> None:
    files, mapping = folder(tmp_path)
    (files / "reps.csv").write_text("number,first,last\n7,Ada\n")
    with pytest.raises(SourceError, match=r"reps\.csv line 2, looked up: has 2 cells"):
        lines_of(files, mapping)
