import csv
import datetime as dt
import gzip
import json
import os
import re
import threading
import tomllib
import tracemalloc
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

import orjson
import pytest
import xlsxwriter
from rich.console import Console

from commands.http.rehearsal import Rehearsal
from commands.http.wire import check_line
from pledge.importing import (
    ImportFailedError,
    MappingError,
    Report,
    ServiceFailedError,
    ServiceUnreachableError,
    SourceError,
    run_import,
    shipped_mappings,
    sources,
)
from pledge.importing.compiling import compile_mapping
from pledge.importing.errors import UnfitError
from pledge.importing.mapping import Mapping, load_mapping
from pledge.importing.plan import namespace_of
from pledge.importing.templates import Language, TemplateFault, instant, number

NOWHERE = "http://127.0.0.1:9"
DEALS = """\
name = "deals"
currency = "EUR"
time_zone = "Europe/Rome"

[values.product]
GTXPro = "GTX Pro"

[[files]]
file = "deals.csv"

  [[files.commands]]
  command = "opportunities/open"
  id = "deal {{ number }}"
  occurred_at = "{{ opened }}"
  actor = "{{ agent }}"
  data.title = "{{ product | fix('product') }}"
  data.customer_id = { ref = "customer {{ customer }}", when = "customer" }
  data.amount = { money = "{{ value }}" }

  [[files.commands]]
  when = "row['Won on'] != ''"
  command = "opportunities/win"
  id = "deal {{ number }}"
  occurred_at = "{{ row['Won on'] }}"
"""
HEADER = "number,opened,agent,product,customer,value,Won on\n"
ROWS = "1,2024-03-01,Ann,GTXPro,7,99.50,2024-07-01\n2,2024-03-02,,Basic,,,\n"


class Service:
    """Plays the service: remembers every request line, and gives a known key its answer again."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.requests = 0
        self.types: set[str] = set()
        self.drops: list[str] = []
        self.refuse: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _: None
        self.status = 200
        self._answers: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self.url = ""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def known_keys(self) -> int:
        return len(self._answers)

    def answer(self, line: bytes) -> dict[str, Any]:
        body = json.loads(line)
        refusal = self.refuse(body)
        if refusal is not None:
            return refusal
        known = self._answers.get(body["key"])
        if known is None:
            told = {"status": 201, "id": body["id"], "version": 1, "events": []}
            known = line, {**told, "position": len(self._answers) + 1}
            self._answers[body["key"]] = known
        return known[1] if known[0] == line else {"status": 422, "title": "Another body"}


@pytest.fixture
def service() -> Iterator[Service]:
    playing = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            playing.requests += 1
            playing.types.add(f"{self.path} {self.headers['content-type']}")
            lines = self.rfile.read(int(self.headers["content-length"])).splitlines()
            drop = playing.drops.pop(0) if playing.drops else ""
            if drop == "before":
                return
            playing.lines += lines
            answers = [
                json.dumps({"line": at, **playing.answer(line)}).encode()
                for at, line in enumerate(lines, 1)
            ]
            if drop == "after":
                return
            self.send_response(playing.status)
            self.end_headers()
            self.wfile.write(b"\n".join(answers[:1] if drop == "halfway" else answers) + b"\n")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    playing.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield playing
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    (made / "deals.csv").write_text(HEADER + ROWS, encoding="utf-8")
    (tmp_path / "deals.toml").write_text(DEALS, encoding="utf-8")
    return made


def deals(folder: Path) -> Path:
    return folder.parent / "deals.toml"


def dry_lines(source: Path, mapping: str | Path) -> tuple[list[dict[str, Any]], Report]:
    lines: list[dict[str, Any]] = []

    def check(line: bytes) -> list[str]:
        lines.append(json.loads(line))
        return []

    return lines, run_import(source, mapping, url=NOWHERE, dry_run=True, check=check)


def rejected(report: Report) -> list[dict[str, str]]:
    assert report.rejects is not None
    with report.rejects.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def data_of(fields: str, row: dict[str, str], head: str = 'currency = "EUR"') -> dict[str, Any]:
    """Return the data that a mapping with these fields makes of one row."""
    written = (
        f'name = "t"\n{head}\n[[files]]\nfile = "t.csv"\n[[files.commands]]\n'
        f'command = "things/make"\nid = "x"\n{fields}'
    )
    plan = compile_mapping(Mapping.model_validate(tomllib.loads(written)), "t.toml")
    values = {**row, "row": row, "_line": 2, "_file": "t.csv"}
    command = plan.files[0].commands[0]
    key = command.key_of(values)
    assert key is not None
    made = json.loads(command.line(values, key).body)["data"]
    assert isinstance(made, dict)
    return made


# Templates and filters


def rendered(source: str, **values: str) -> str:
    return Language({"product": {"GTXPro": "GTX Pro"}}).text(source).render(values)


@pytest.mark.parametrize(
    ("source", "value", "text"),
    [
        ("{{ a }}", " Pro ", "Pro"),
        ("{{ a | fix('product') }}", "GTXPro", "GTX Pro"),
        ("{{ a | fix('product') }}", "Basic", "Basic"),
        ("{{ a | times(1000000) }}", "1100.04", "1100040000.00"),
        ("{{ a | times('0.1') }}", "0.3", "0.03"),
        ("{{ a | times(2) }}", "", ""),
        ("{{ a | number(point=',', group='.') }}", "1.234,50", "1234.50"),
        ("{{ a | number(point=',', group='.') }}", "1.234.567", "1234567"),
        ("{{ a | number(point=',', group='.') }}", "-1.234,5", "-1234.5"),
        ("{{ a | number(point=',', group='.') }}", "43,5", "43.5"),
        ("{{ a | number(group=',') }}", "12,34,567.8", "1234567.8"),
        ("{{ a | number(point=',', group=' ') }}", "1\u202f234,50", "1234.50"),
        ('{{ a | number(group="\'") }}', "1\u2019234.50", "1234.50"),
        ("{{ a | number(point=',', group='\u00a0') }}", "1\u00a0234,50", "1234.50"),
        ("{{ a | number(group='\u2019') }}", "1'234.50", "1234.50"),
        ("{{ a | number }}", "\u221212.50", "-12.50"),
        ("{{ a | number }}", "1.1E+05", "110000"),
        ("{{ a | round(2) }}", "2.345", "2.35"),
        ("{{ a | date('%d/%m/%Y') }}", "31/12/2016", "2016-12-31"),
        ("{{ a | date('%d/%m/%Y %H:%M') }}", "31/12/2016 08:05", "2016-12-31T08:05:00"),
        ("{{ a | date('%d/%m/%Y') }}", "2016-12-31", "2016-12-31"),
        ("{{ a | date('%d/%m/%Y') }}", "", ""),
        ("{{ a | lower | replace('x', 'y') | title }}", "XAX", "Yay"),
        ("{% if a == 'b' %}yes{% else %}no{% endif %}", "b", "yes"),
        ("{{ a == 'b' }}", "b", "true"),
    ],
)
def test_a_template_gives_its_text(source: str, value: str, text: str) -> None:
    assert rendered(source, a=value) == text


@pytest.mark.parametrize(
    ("source", "value", "reason"),
    [
        ("{{ a | number }}", "n/a", "'n/a' is not a number"),
        ("{{ a | number }}", "1e999999", "'1e999999' is not a number"),
        ("{{ a | number(point=',', group='.') }}", "43.5", "'43.5' is not a number with '.'"),
        ("{{ a | number(point=',', group='.') }}", "1.2345", "between its thousands"),
        ("{{ a | number(point=',', group='.') }}", "1234.567", "between its thousands"),
        ("{{ a | number(point=',', group='.') }}", ".567", "between its thousands"),
        ("{{ a | number(point=',', group='.') }}", "1..567", "between its thousands"),
        ("{{ a | number(point=',', group='.') }}", "1,234.567", "is not a number"),
        ("{{ a | number(group=',') }}", "1,23,4567", "between its thousands"),
        ("{{ a | number(group=',') }}", "123,45,678", "between its thousands"),
        ("{{ a | number }}", "9" * 70, "is not a number"),
        ("{{ a | date('%d/%m/%Y') }}", "31/31/2016", "no date of the form '%d/%m/%Y'"),
        ("{{ a | date('%d/%m/%Y') }}", "2016-31-12", "month must be in 1..12"),
        ("{{ 1 / 3 }}", "", "inexact"),
        ("{{ [a] }}", "", "a list is no text"),
        ("{{ b }}", "", "'b' is undefined"),
        ("{{ a.__class__.__mro__ }}", "", "unsafe"),
    ],
)
def test_an_unfit_cell_is_told(source: str, value: str, reason: str) -> None:
    with pytest.raises(UnfitError, match=reason.replace("/", ".")):
        rendered(source, a=value)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2025-02-28T23:30:00Z", "2025-03-01"),
        ("2025-02-28T23:30:00+01:00", "2025-02-28"),
        ("2025-02-28T23:30:00", "2025-02-28"),
        ("2025-02-28 22:59:59-00:30", "2025-03-01"),
        ("28.02.2025", "2025-02-28"),
    ],
)
def test_the_day_of_an_instant_is_that_of_the_mappings_zone(text: str, day: str) -> None:
    language = Language({}, zone=ZoneInfo("Europe/Berlin"))
    assert language.text("{{ a | date('%d.%m.%Y') }}").render({"a": text}) == day


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("{{ a ", "unexpected end of template"),
        ("{{ a | float }}", "No filter named 'float'"),
        ("{{ a | fix('colour') }}", r"there is no \[values.colour\]"),
        ("{{ a | fix }}", "fix takes the name of a table"),
        ("{{ a | date('%d/%Q') }}", "no form of a date"),
        ("{{ row.items }}", r"write row\['items'\]"),
    ],
)
def test_a_faulty_template_is_refused(source: str, fault: str) -> None:
    with pytest.raises(TemplateFault, match=fault):
        Language({}).text(source)


def test_the_columns_of_a_template_are_known() -> None:
    text = Language({}).text("{{ a }} {{ row['Deal Stage'] }} {{ range }} {{ _line }}")
    assert text.uses.columns == {"a", "Deal Stage", "range"}


@pytest.mark.parametrize(
    ("text", "zone", "utc"),
    [
        ("2024-07-01", "Europe/Rome", "2024-06-30T22:00:00Z"),
        ("2024-01-01 09:30", "Europe/Rome", "2024-01-01T08:30:00Z"),
        ("2024-01-01T09:30:00.250+05:30", "Europe/Rome", "2024-01-01T04:00:00.250000Z"),
        ("2024-01-01T09:30:00Z", "UTC", "2024-01-01T09:30:00Z"),
    ],
)
def test_times_are_utc_and_a_date_is_its_midnight(text: str, zone: str, utc: str) -> None:
    made = data_of(
        'data.at = { time = "{{ a }}" }', {"a": text}, f'currency = "EUR"\ntime_zone = "{zone}"'
    )
    assert made == {"at": utc}


def test_what_is_no_time_is_unfit() -> None:
    with pytest.raises(UnfitError, match="no ISO 8601 date or time"):
        instant("yesterday", dt.UTC)


def test_a_number_is_read_exactly() -> None:
    assert number("0.1") + number("0.2") == Decimal("0.3")


# Typed values


@pytest.mark.parametrize(
    ("fields", "cell", "made"),
    [
        ('data.n = { int = "{{ a }}" }', "1996.0", {"n": 1996}),
        ('data.n = { int = "{{ a }}" }', "", {}),
        ('data.n = { bool = "{{ a }}" }', "Yes", {"n": True}),
        ("data.n = { bool = \"{{ a == 'open' }}\" }", "shut", {"n": False}),
        ('data.n = "{{ a }}"', "", {}),
        ('data.n = { text = "{{ a }}", when = "a != \'none\'" }', "none", {}),
        ('data.n = { money = "{{ a }}" }', "12.5", {"n": {"amount": "12.5", "currency": "EUR"}}),
        ('data.n = { money = "{{ a }}" }', "12.500", {"n": {"amount": "12.50", "currency": "EUR"}}),
        (
            'data.n = { money = "{{ a }}", currency = "{{ \'JPY\' }}" }',
            "12.0",
            {"n": {"amount": "12", "currency": "JPY"}},
        ),
        ('data.n = { money = "{{ a }}" }', "", {}),
        ('data.n = { x = { y = "{{ a }}" } }', "", {}),
        ('data.n = ["{{ a }}", { z = "{{ a }}" }, 3, true]', "", {"n": [3, True]}),
        ('data.n = { table = { ref = "{{ a }}" } }', "PO 1", {"n": {"ref": "PO 1"}}),
        ('data.n = { table = { x = 1 }, when = "a" }', "", {}),
        ('data.ref = "{{ a }}"', "PO 1", {"ref": "PO 1"}),
        ("data.n = 2024-01-31", "", {"n": "2024-01-31"}),
    ],
)
def test_values_have_the_type_that_is_asked(fields: str, cell: str, made: dict[str, Any]) -> None:
    assert data_of(fields, {"a": cell}) == made


@pytest.mark.parametrize(
    ("fields", "cell", "reason"),
    [
        ('data.n = { int = "{{ a }}" }', "1.5", "data.n: '1.5' is not a whole number"),
        ('data.n = { int = "{{ a }}" }', "9" * 30, "data: Integer exceeds 64-bit range"),
        ('data.n = { bool = "{{ a }}" }', "maybe", "data.n: 'maybe' is neither true nor false"),
        ('data.n = { money = "{{ a }}" }', "1.005", "data.n: 1.005 has more than the 2 decimals"),
        ('data.n = { money = "1", currency = "{{ a }}" }', "EURO", "data.n: 'EURO' is no ISO 4217"),
        ('data.n = [{ m = { int = "{{ a }}" } }]', "x", r"data.n\[1\].m: 'x' is not a number"),
        ('occurred_at = "{{ a }}"', "soon", "occurred_at: 'soon' is no ISO 8601"),
        ('key = "{{ a }}"', "", "key: is empty"),
    ],
)
def test_an_unfit_value_names_its_field(fields: str, cell: str, reason: str) -> None:
    with pytest.raises(UnfitError, match=reason):
        data_of(fields, {"a": cell})


def test_natural_keys_become_uuids_of_the_mapping_and_uuids_stay(folder: Path) -> None:
    lines, _ = dry_lines(folder, deals(folder))
    assert lines[0]["id"] == str(uuid5(namespace_of("deals"), "deal 1"))
    assert lines[0]["data"]["customer_id"] == str(uuid5(namespace_of("deals"), "customer 7"))
    literal = "0000000A-0000-0000-0000-000000000001"
    made = data_of(f'data.n = {{ ref = "{literal}" }}', {})
    assert made == {"n": literal.lower()}


# Mistakes in the mapping


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ('currency = "EUR"', 'currrency = "EUR"', "currrency: there is no such key"),
        ('currency = "EUR"', 'currency = "EURO"', "currency: 'EURO' is no ISO 4217"),
        ("Europe/Rome", "Europe/Romulus", "time_zone: there is no time zone"),
        ('actor = "{{ agent }}"', "actor = 3", "commands[1] (opportunities/open).actor: Input"),
        ('name = "deals"', "", "name: is missing"),
        ('name = "deals"', 'name = "deals', "not valid TOML"),
        ("{{ number }}", "{{ numbr }}", "has no column 'numbr'; did you mean 'number'?"),
        ("row['Won on'] != ''", "row['Won at'] != ''", "no column 'Won at'; did you mean 'Won on'"),
        ("row['Won on'] != ''", "value = 3", "(opportunities/win).when: chunk after expression"),
        ('when = "customer"', 'wen = "customer"', "there is no key 'wen' beside 'ref'"),
        ("fix('product')", "fix('produce')", "there is no [values.produce]"),
        (
            '{ money = "{{ value }}" }',
            "1.5",
            "(opportunities/open).data.amount: write 1.5 as a text",
        ),
        ('{ money = "{{ value }}" }', "{ table = 3 }", "table takes a table, not 3"),
        ("opportunities/win", "opportunities/wim", "did you mean 'opportunities/win'?"),
        (
            'file = "deals.csv"',
            'file = "deals.csv"\nheader = false',
            "header = false needs columns",
        ),
        ('file = "deals.csv"', 'file = "deals.csv"\nsheet = "A"', "only a workbook has a sheet"),
        ('file = "deals.csv"', 'file = "deals.csv"\nencoding = "utf-80"', "there is no encoding"),
        (
            "[[files]]",
            '[[before]]\ncommand="a/b"\nid="{{ number }}"\n[[files]]',
            "before the first row",
        ),
    ],
)
def test_a_mistake_is_refused_before_anything_is_sent(
    folder: Path, service: Service, old: str, new: str, mistake: str
) -> None:
    written = deals(folder).read_text(encoding="utf-8")
    assert old in written
    deals(folder).write_text(written.replace(old, new), encoding="utf-8")
    known = ["opportunities/open", "opportunities/win", "a/b"]
    with pytest.raises(MappingError) as refusal:
        run_import(folder, deals(folder), url=service.url, known_commands=known)
    assert mistake in str(refusal.value)
    assert "deals.toml" in str(refusal.value)
    assert service.requests == 0


def test_every_mistake_is_told_at_once(folder: Path) -> None:
    text = DEALS.replace("{{ number }}", "{{ numbr }}").replace("customer }}", "custom }}")
    deals(folder).write_text(text, encoding="utf-8")
    with pytest.raises(MappingError) as refusal:
        run_import(folder, deals(folder), url=NOWHERE)
    assert len(str(refusal.value).splitlines()) == 3


def test_a_doubled_column_is_refused_only_when_it_is_used(folder: Path) -> None:
    file = folder / "deals.csv"
    file.write_text(HEADER.replace("\n", ",note,note\n") + "1,,,a,,,,x,y\n", encoding="utf-8")
    assert len(dry_lines(folder, deals(folder))[0]) == 1
    file.write_text(HEADER.replace("\n", ",value\n") + "1,,,a,,,,x\n", encoding="utf-8")
    with pytest.raises(MappingError, match="has 2 columns named 'value'"):
        dry_lines(folder, deals(folder))


def test_an_unknown_mapping_is_told_with_the_shipped_names(folder: Path) -> None:
    with pytest.raises(MappingError, match="crm_sales"):
        run_import(folder, "crm_sails", url=NOWHERE)
    with pytest.raises(MappingError, match="cannot be read"):
        run_import(folder, "nowhere.toml", url=NOWHERE)


def test_every_shipped_mapping_compiles() -> None:
    assert shipped_mappings() == sorted(shipped_mappings()) != []
    for name in shipped_mappings():
        assert compile_mapping(load_mapping(name), name).mapping.name == name


# Sources


def test_a_missing_file_is_told(folder: Path) -> None:
    (folder / "deals.csv").rename(folder / "dealz.csv")
    with pytest.raises(SourceError, match=r"has no file deals\.csv"):
        run_import(folder, deals(folder), url=NOWHERE)
    with pytest.raises(SourceError, match="there is no file or folder"):
        run_import(folder / "none", deals(folder), url=NOWHERE)
    (folder / "empty.csv").touch()
    with pytest.raises(SourceError, match="is empty"):
        run_import(folder / "empty.csv", deals(folder), url=NOWHERE)


def test_a_single_file_may_have_any_name_and_unnamed_files_are_told(folder: Path) -> None:
    (folder / "notes.txt").touch()
    (folder / "old.rejected.csv").touch()
    lines, report = dry_lines(folder, deals(folder))
    assert report.unused == ("notes.txt",)
    (folder / "deals.csv").rename(folder / "march.csv")
    assert dry_lines(folder / "march.csv", deals(folder))[0] == lines


def test_csv_of_other_encodings_and_delimiters_and_without_header(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes('1;Müller\r\n\r\n2;"a\nb"\r\n3;ß\r\n'.encode("cp1252"))
    (tmp_path / "m.toml").write_text(
        'name = "p"\n[[files]]\nfile = "p.csv"\nencoding = "cp1252"\ndelimiter = ";"\n'
        'header = false\ncolumns = ["id", "name"]\n[[files.commands]]\ncommand = "people/add"\n'
        'id = "{{ id }}"\ndata.name = "{{ name }}"\ndata.line = { int = "{{ _line }}" }\n'
        'data.file = "{{ _file }}"',
        encoding="utf-8",
    )
    lines, _ = dry_lines(tmp_path / "p.csv", tmp_path / "m.toml")
    assert [line["data"] for line in lines] == [
        {"name": "Müller", "line": 1, "file": "p.csv"},
        {"name": "a\nb", "line": 3, "file": "p.csv"},
        {"name": "ß", "line": 5, "file": "p.csv"},
    ]


def test_a_byte_order_mark_and_gzip_change_nothing(folder: Path) -> None:
    lines, _ = dry_lines(folder / "deals.csv", deals(folder))
    text = "\ufeff" + HEADER.replace("number", " number ") + ROWS
    (folder / "deals.csv").write_text(text, encoding="utf-8")
    assert dry_lines(folder / "deals.csv", deals(folder))[0] == lines
    (folder / "d.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert dry_lines(folder / "d.csv.gz", deals(folder))[0] == lines
    (folder / "d.csv.gz").write_bytes(gzip.compress(text.encode() * 99)[:-20])
    with pytest.raises(SourceError, match="cannot be read"):
        dry_lines(folder / "d.csv.gz", deals(folder))


def test_rows_that_cannot_be_read_are_rejected_with_line_and_reason(folder: Path) -> None:
    (folder / "deals.csv").write_bytes(
        HEADER.encode()
        + b"1,2024-03-01,Ann,a,,,\n2,2024-03-01\n3,,,a,,,,\n4,,,a,,,,extra\n"
        + b'5,,,M\xfcller,,,\n6,,,"a" b,,,\n7,soon,,a,,1.005,2024-01-01\n8,,,a,,,\n'
    )
    lines, report = dry_lines(folder, deals(folder))
    assert len(lines) == 3
    assert report.rows == 8
    assert [(r["file"], r["line"], r["reason"].split(" (")[0]) for r in rejected(report)] == [
        ("deals.csv", "3", "has 2 cells where there are 7 columns"),
        ("deals.csv", "5", "has 8 cells where there are 7 columns"),
        ("deals.csv", "6", "not utf-8-sig text"),
        ("deals.csv", "7", "no CSV: ',' expected after '\"'"),
        (
            "deals.csv",
            "8",
            "occurred_at: 'soon' is no ISO 8601 date or time",
        ),
    ]
    assert rejected(report)[4]["command"] == "opportunities/open"
    assert json.loads(rejected(report)[4]["row"])["Won on"] == "2024-01-01"
    assert report.rejects == folder.parent / "in.rejected.csv"


@pytest.mark.parametrize(
    ("torn", "cells"),
    [
        ('2,Beta,"call back,20.00', ["2", "Beta", '"call back', "20.00"]),
        ('2,Beta,"call" back,20.00', ["2", "Beta", '"call" back', "20.00"]),
        ('2,"Beta,call back,20.00', ["2", '"Beta', "call back", "20.00"]),
        ('2,Beta,call back,"20.00', ["2", "Beta", "call back", '"20.00']),
    ],
)
@pytest.mark.parametrize("last", ["6,Zeta,ok,60.00", '6,Zeta,"ok",60.00', '6,Zeta,"a\nb",60.00'])
def test_a_stray_quote_takes_no_other_row_with_it(
    tmp_path: Path, torn: str, cells: list[str], last: str
) -> None:
    rows = ["id,name,note,amount", "1,Alpha,ok,10.00", torn, "3,Gamma,ok,30.00"]
    rows += ["4,Delta,ok,40.00", "5,Eps,ok,50.00", last]
    (tmp_path / "p.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "m.toml").write_text(PEOPLE, encoding="utf-8")
    lines, report = dry_lines(tmp_path / "p.csv", tmp_path / "m.toml")
    assert [line["data"]["name"] for line in lines] == ["Alpha", "Gamma", "Delta", "Eps", "Zeta"]
    [told] = rejected(report)
    assert (told["line"], json.loads(told["row"])) == ("3", cells)
    assert told["reason"].startswith("no CSV: ")
    assert report.swallowed == []


PEOPLE = """\
name = "people"
[[files]]
file = "p.csv"
  [[files.commands]]
  command = "people/add"
  id = "{{ id }}"
  data.name = "{{ name }}"
  data.note = "{{ note }}"
"""


def test_a_quote_that_is_never_closed_costs_its_row_alone(tmp_path: Path) -> None:
    rows = "".join(f"{n},N{n},ok,1\n" for n in range(3_000))
    (tmp_path / "p.csv").write_text(f'id,name,note,amount\nx,"open,,\n{rows}', encoding="utf-8")
    (tmp_path / "m.toml").write_text(PEOPLE, encoding="utf-8")
    lines, report = dry_lines(tmp_path / "p.csv", tmp_path / "m.toml")
    assert len(lines) == 3_000
    assert [told["line"] for told in rejected(report)] == ["2"]
    assert "not closed within 1000 lines" in rejected(report)[0]["reason"]


def test_a_cell_that_swallows_what_looks_like_rows_is_told(tmp_path: Path) -> None:
    text = 'id,name,note,amount\n1,A,"x\n2,B,y,2\n3,C,z,3\n4,D,",4\n5,E,"two\nlines",5\n'
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    (tmp_path / "m.toml").write_text(PEOPLE, encoding="utf-8")
    lines, report = dry_lines(tmp_path / "p.csv", tmp_path / "m.toml")
    assert [line["data"]["name"] for line in lines] == ["A", "E"]
    assert report.swallowed == [("p.csv line 2", 3)]
    console = Console(record=True, width=100)
    report.show(console)
    assert "look at p.csv line 2: a cell in quotes holds 3 lines" in console.export_text()


def test_lines_before_the_header_are_skipped_and_a_named_separator_is_heeded(
    tmp_path: Path,
) -> None:
    text = "Report of March\n\nsep=;\nid;name;note\n1;Ann;a, b\n"
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    mapping = PEOPLE.replace('file = "p.csv"', 'file = "p.csv"\nskip = 2')
    (tmp_path / "m.toml").write_text(mapping, encoding="utf-8")
    [line], _ = dry_lines(tmp_path / "p.csv", tmp_path / "m.toml")
    assert line["data"] == {"name": "Ann", "note": "a, b"}


def test_texts_are_composed_whoever_typed_them(tmp_path: Path) -> None:
    typed = unicodedata.normalize("NFD", "Größe")
    text = f"id,{typed},note\n1,\u200b{typed}\u00a0,x\n\u200b,\ufeff,\n"
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    mapping = PEOPLE.replace("{{ name }}", "{{ row['Größe'] | fix('sizes') }}")
    fixed = f'[values.sizes]\n"{typed}" = "size"\n'
    (tmp_path / "m.toml").write_text(f"{mapping}\n{fixed}", encoding="utf-8")
    [line], report = dry_lines(tmp_path / "p.csv", tmp_path / "m.toml")
    assert line["data"]["name"] == "size"
    assert report.rows == 1


def test_blank_cells_beyond_the_header_are_none(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id,name,note\n1,Ann,x, \n2,Ben,y,,\u200b\n", "utf-8")
    (tmp_path / "m.toml").write_text(PEOPLE, encoding="utf-8")
    lines, _ = dry_lines(tmp_path / "p.csv", tmp_path / "m.toml")
    assert [line["data"]["name"] for line in lines] == ["Ann", "Ben"]


def test_a_table_of_a_workbook_may_begin_anywhere(tmp_path: Path) -> None:
    book = xlsxwriter.Workbook(tmp_path / "book.xlsx")
    sheet = book.add_worksheet("Deals")
    zip_code = book.add_format({"num_format": "00000"})
    sheet.write_row(2, 2, ["id", "Signed on", "amount", "open", "ean"])
    sheet.write(3, 2, 1067, zip_code)
    # Nobody reads the last column.
    sheet.write_row(3, 3, ["2017-03-01", 42, "no", 12345678901234567])
    book.close()
    (tmp_path / "book.toml").write_text(EXCEL, encoding="utf-8")
    [line], _ = dry_lines(tmp_path / "book.xlsx", tmp_path / "book.toml")
    assert (line["data"]["id"], line["data"]["amount"]) == ("01067", "42")


def test_what_a_workbook_cannot_hold_is_refused_and_leading_zeros_are_read(tmp_path: Path) -> None:
    book = xlsxwriter.Workbook(tmp_path / "book.xlsx")
    sheet = book.add_worksheet("Deals")
    zip_code = book.add_format({"num_format": "00000"})
    sheet.write_row(0, 0, ["id", "Signed on", "amount", "open"])
    for row, account in enumerate((4000123412341234, 4000123412341235, 999999999999999), 1):
        sheet.write_row(row, 0, [account, "2017-03-01", "1", "no"])
    sheet.write(4, 0, 1067, zip_code)
    sheet.write_row(4, 1, ["2017-03-01", "1", "no"])
    book.close()
    (tmp_path / "book.toml").write_text(EXCEL, encoding="utf-8")
    lines, report = dry_lines(tmp_path / "book.xlsx", tmp_path / "book.toml")
    assert [line["data"]["id"] for line in lines] == ["999999999999999", "01067"]
    told = rejected(report)
    assert [one["line"] for one in told] == ["2", "3"]
    assert "holds the number 4000123412341235" in told[1]["reason"]
    assert "format the column as text" in told[1]["reason"]


def test_a_header_of_another_encoding_is_told(folder: Path) -> None:
    (folder / "deals.csv").write_bytes("número\n1\n".encode("cp1252"))
    with pytest.raises(SourceError, match='encoding = "cp1252"'):
        dry_lines(folder, deals(folder))


def test_rejects_fall_back_to_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (folder.parent / "in.rejected.csv").mkdir()
    (folder / "deals.csv").write_text(HEADER + "=1\n", encoding="utf-8")
    _, report = dry_lines(folder, deals(folder))
    assert report.rejects == elsewhere / "in.rejected.csv"
    report.rejects.unlink()
    report.rejects.mkdir()
    with pytest.raises(SourceError, match=r"neither .* is writable"):
        dry_lines(folder, deals(folder))


EXCEL = """\
name = "book"
time_zone = "UTC"
[[files]]
file = "book.xlsx"
sheet = "Deals"
  [[files.commands]]
  command = "deals/add"
  id = "deal {{ id }}"
  occurred_at = "{{ row['Signed on'] }}"
  data.id = "{{ id }}"
  data.amount = "{{ amount }}"
  data.open = { bool = "{{ open }}" }
  data.at = "{{ row['Signed on'] | date('%d.%m.%Y %H:%M') }}"
"""


def test_cells_of_a_workbook_come_out_right(tmp_path: Path) -> None:
    book = xlsxwriter.Workbook(tmp_path / "book.xlsx")
    book.add_worksheet("Notes")
    sheet = book.add_worksheet("Deals")
    day = book.add_format({"num_format": "dd/mm/yyyy"})
    moment = book.add_format({"num_format": "dd/mm/yyyy hh:mm:ss"})
    sheet.write_row(1, 1, ["id", "Signed on", "amount", "open"])
    sheet.write(2, 1, 1)
    sheet.write_datetime(2, 2, dt.datetime.fromisoformat("2017-03-01"), day)
    sheet.write(2, 3, 0.1)
    sheet.write_row(2, 4, [True])
    sheet.write(4, 1, " A-2 ")
    sheet.write_datetime(4, 2, dt.datetime.fromisoformat("2017-03-01T13:45:59"), moment)
    sheet.write(4, 3, 1234567890123)
    sheet.write(4, 4, "no")
    sheet.write(5, 1, "A-3")
    sheet.write(5, 2, "31.12.2016 08:00")
    book.close()
    (tmp_path / "book.toml").write_text(EXCEL, encoding="utf-8")

    lines, report = dry_lines(tmp_path / "book.xlsx", tmp_path / "book.toml")

    assert [(line["occurred_at"], line["data"]) for line in lines] == [
        (
            "2017-03-01T00:00:00Z",
            {"id": "1", "amount": "0.1", "open": True, "at": "2017-03-01T00:00:00"},
        ),
        (
            "2017-03-01T13:45:59Z",
            {"id": "A-2", "amount": "1234567890123", "open": False, "at": "2017-03-01T13:45:59"},
        ),
    ]
    assert [r["line"] for r in rejected(report)] == ["6"]

    text = EXCEL.replace('"Deals"', '"Deal"')
    (tmp_path / "book.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match="no sheet 'Deal'; it has Notes, Deals"):
        dry_lines(tmp_path / "book.xlsx", tmp_path / "book.toml")
    (tmp_path / "book.xlsx").write_text("no zip", encoding="utf-8")
    with pytest.raises(SourceError, match="cannot be read"):
        dry_lines(tmp_path / "book.xlsx", tmp_path / "book.toml")


# Rows to commands


def test_a_row_gives_its_commands_in_order_with_times_and_people(folder: Path) -> None:
    lines, report = dry_lines(folder, deals(folder))
    key = "deals:opportunities/open:" + str(uuid5(namespace_of("deals"), "deal 1"))
    assert lines[0] == {
        "command": "opportunities/open",
        "id": lines[0]["id"],
        "key": key,
        "occurred_at": "2024-02-29T23:00:00Z",
        "actor": "Ann",
        "data": {
            "title": "GTX Pro",
            "customer_id": lines[0]["data"]["customer_id"],
            "amount": {"amount": "99.50", "currency": "EUR"},
        },
    }
    assert (lines[1]["command"], lines[1]["data"]) == ("opportunities/win", {})
    assert lines[2]["actor"] == "import"
    assert lines[2]["data"] == {"title": "Basic"}
    assert len(lines) == 3
    assert {name: tally.made for name, tally in report.commands.items()} == {
        "opportunities/open": 2,
        "opportunities/win": 1,
    }


def test_a_repeated_row_is_sent_once_and_a_changed_one_is_rejected(folder: Path) -> None:
    changed = "1,2024-03-01,Ann,GTXPro,7,100,2024-07-01\n"
    (folder / "deals.csv").write_text(HEADER + ROWS + ROWS + changed, encoding="utf-8")
    lines, report = dry_lines(folder, deals(folder))
    assert len(lines) == 3
    assert report.commands["opportunities/open"].repeated == 2
    assert [(r["line"], r["reason"][:54]) for r in rejected(report)] == [
        ("6", "deals.csv line 2 gave the same key with other content:"),
    ]


def test_once_takes_the_first_row_of_a_key(folder: Path) -> None:
    text = DEALS.replace('actor = "{{ agent }}"', "once = true")
    deals(folder).write_text(text, encoding="utf-8")
    later = "1,2024-04-01,Ann,GTXPro,7,99.50,2024-07-01\n"
    (folder / "deals.csv").write_text(HEADER + ROWS + later, encoding="utf-8")
    lines, report = dry_lines(folder, deals(folder))
    assert lines[0]["occurred_at"] == "2024-02-29T23:00:00Z"
    assert report.rejects is None
    assert report.commands["opportunities/open"].repeated == 1


def test_a_dry_run_rejects_what_the_check_finds(folder: Path) -> None:
    def check(line: bytes) -> list[str]:
        return ["data.title: too short"] if b"Basic" in line else []

    report = run_import(folder, deals(folder), url=NOWHERE, dry_run=True, check=check)
    assert [(r["line"], r["reason"]) for r in rejected(report)] == [("3", "data.title: too short")]
    assert report.commands["opportunities/open"].made == 1


def test_the_report_and_the_progress_are_shown(folder: Path) -> None:
    (folder / "deals.csv").write_text(HEADER + ROWS + "3\n", encoding="utf-8")
    (folder / "[red]notes.txt").touch()
    console = Console(file=StringIO(), force_terminal=True, width=200)
    report = run_import(folder, deals(folder), url=NOWHERE, dry_run=True, console=console)
    report.show(console)
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    assert "100%" in shown
    assert "would be sent" in shown
    assert "not used: [red]notes.txt" in shown
    assert f"rejected: 1 line, each with its reason, in {report.rejects}" in shown


def test_memory_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(
        'name = "m"\n[[files]]\nfile = "m.csv"\n[[files.commands]]\ncommand = "a/b"\n'
        'id = "{{ id }}"\ndata.text = "{{ text }}"',
        encoding="utf-8",
    )

    def peak(rows: int) -> int:
        with (tmp_path / "m.csv").open("w", encoding="utf-8") as file:
            file.write("id,text\n")
            file.writelines(f"{at},{'x' * 200}\n" for at in range(rows))
        tracemalloc.start()
        run_import(tmp_path / "m.csv", tmp_path / "m.toml", url=NOWHERE, dry_run=True)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(10_000) < peak(1_000) + 100_000


def test_the_example_in_the_docs_is_true(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "import-mappings.md"
    fences = re.findall(r"```(\w+)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    blocks = dict(reversed(fences))
    (tmp_path / "deals.csv").write_text(blocks["csv"], encoding="utf-8")
    (tmp_path / "deals.toml").write_text(blocks["toml"], encoding="utf-8")
    lines, report = dry_lines(tmp_path / "deals.csv", tmp_path / "deals.toml")
    assert [json.loads(line) for line in blocks["json"].splitlines()] == lines
    assert report.rejects is None


def test_the_web_shop_in_the_docs_is_true(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "import-mappings.md"
    section = page.read_text(encoding="utf-8").partition("## Several rows, one thing")[2]
    blocks = dict(reversed(re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)))
    (tmp_path / "sales.csv").write_text(blocks["csv"], encoding="utf-8")
    (tmp_path / "sales.toml").write_text(blocks["toml"], encoding="utf-8")
    lines, _ = dry_lines(tmp_path / "sales.csv", tmp_path / "sales.toml")
    assert [check_line(orjson.dumps(line)) for line in lines] == [[]] * 5
    assert Counter(line["command"] for line in lines) == {
        "customers/register": 1,
        "orders/place": 1,
        "orders/add-line": 2,
        "payments/receive": 1,
    }
    assert lines[-1]["data"]["amount"] == {"amount": "3.39", "currency": "GBP"}


# The service


def test_a_second_import_sends_the_same_bytes_and_adds_nothing(
    folder: Path, service: Service
) -> None:
    first = run_import(folder, deals(folder), url=service.url)
    sent = service.lines.copy()
    again = run_import(folder, deals(folder), url=service.url)
    assert service.lines == sent * 2
    assert service.known_keys == 3
    assert service.types == {"/commands application/x-ndjson"}
    assert again == first
    assert first.position == 3
    assert {name: tally.accepted for name, tally in first.commands.items()} == {
        "opportunities/open": 2,
        "opportunities/win": 1,
    }


def test_chunks_keep_the_order_of_the_file(folder: Path, service: Service) -> None:
    rows = "".join(f"{at},2024-03-01,Ann,p,,,2024-07-01\n" for at in range(700))
    (folder / "deals.csv").write_text(HEADER + rows, encoding="utf-8")
    dry, _ = dry_lines(folder, deals(folder))
    run_import(folder, deals(folder), url=service.url)
    assert service.requests == 3
    assert service.bodies == dry


def test_refused_commands_are_rejected_and_the_rest_goes_on(folder: Path, service: Service) -> None:
    def refuse(body: dict[str, Any]) -> dict[str, Any] | None:
        if body["command"] == "opportunities/win":
            return {"status": 409, "title": "No", "rule": "closed", "detail": "It is closed."}
        if body["data"]["title"] == "Basic":
            errors = [{"field": "data.amount", "message": "is required"}]
            return {"status": 422, "detail": "Not valid.", "errors": errors}
        return None

    service.refuse = refuse
    report = run_import(folder, deals(folder), url=service.url)
    assert [(r["line"], r["command"], r["reason"]) for r in rejected(report)] == [
        ("2", "opportunities/win", "409 closed: It is closed."),
        ("3", "opportunities/open", "422 Not valid.; data.amount: is required"),
    ]
    assert report.commands["opportunities/open"].accepted == 1
    assert report.commands["opportunities/open"].refused == 1
    console = Console(file=StringIO(), width=200)
    report.show(console)
    assert isinstance(console.file, StringIO)
    assert "rejected: 2 lines" in console.file.getvalue()


def test_a_clean_run_takes_old_rejects_away(folder: Path, service: Service) -> None:
    old = folder.parent / "in.rejected.csv"
    old.touch()
    dry_lines(folder, deals(folder))
    assert old.exists()
    run_import(folder, deals(folder), url=service.url)
    assert not old.exists()


@pytest.mark.parametrize("drop", ["before", "after", "halfway"])
def test_a_lost_answer_is_asked_for_again(folder: Path, service: Service, drop: str) -> None:
    service.drops = [drop, drop]
    waits: list[float] = []
    report = run_import(folder, deals(folder), url=service.url, sleep=waits.append)
    assert waits == [0.5, 1.0]
    assert service.known_keys == 3
    assert report.commands["opportunities/open"].accepted == 2


def test_a_command_that_fails_inside_the_service_is_tried_again(
    folder: Path, service: Service
) -> None:
    trouble = iter([True, True])
    service.refuse = lambda _: {"status": 503, "title": "Busy"} if next(trouble, False) else None
    waits: list[float] = []
    report = run_import(folder, deals(folder), url=service.url, sleep=waits.append)
    assert waits == [0.5]
    assert report.rejects is None


def test_a_command_that_always_fails_inside_the_service_is_rejected(
    folder: Path, service: Service
) -> None:
    service.refuse = lambda body: (
        {"status": 500, "title": "Broken"} if body["command"] == "opportunities/win" else None
    )
    waits: list[float] = []
    report = run_import(folder, deals(folder), url=service.url, sleep=waits.append)
    assert len(waits) == 4
    assert [r["reason"] for r in rejected(report)] == ["500 Broken"]


@pytest.mark.parametrize(("drops", "status"), [(["before"] * 5, 200), ([], 503)])
def test_a_service_that_dies_is_given_five_tries(
    folder: Path, service: Service, drops: list[str], status: int
) -> None:
    service.drops, service.status = drops, status
    waits: list[float] = []
    with pytest.raises(ServiceFailedError, match="running the same import again is safe"):
        run_import(folder, deals(folder), url=service.url, sleep=waits.append)
    assert service.requests == 5
    assert waits == [0.5, 1.0, 2.0, 4.0]


def test_a_request_refused_as_a_whole_is_told(folder: Path, service: Service) -> None:
    service.status = 404
    with pytest.raises(ServiceFailedError, match="404"):
        run_import(folder, deals(folder), url=service.url)
    assert service.requests == 1


@pytest.mark.parametrize("url", [NOWHERE, "localhost", "ftp://localhost", "http://[::"])
def test_a_service_that_is_not_there_is_told_at_once(folder: Path, url: str) -> None:
    waits: list[float] = []
    with pytest.raises(ServiceUnreachableError, match=r"make run|is no address"):
        run_import(folder, deals(folder), url=url, sleep=waits.append)
    assert waits == []


def test_every_failure_is_an_import_that_failed() -> None:
    kinds = (MappingError, SourceError, ServiceFailedError, ServiceUnreachableError)
    assert all(issubclass(kind, ImportFailedError) for kind in kinds)


# The sales pipeline


def crm_sales() -> Path:
    named = os.environ.get("PLEDGE_DATA")
    data = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    if not (data / "crm_sales").is_dir():
        pytest.skip("the crm_sales files are not here; PLEDGE_DATA names their folder")
    return data / "crm_sales"


def test_the_whole_sales_pipeline_becomes_commands() -> None:
    lines, report = dry_lines(crm_sales(), "crm_sales")
    by_command: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_command.setdefault(line["command"], []).append(line)
    opened, won = by_command["opportunities/open"], by_command["opportunities/win"]
    customers = {line["id"]: line["data"] for line in by_command["customers/register"]}

    assert {name: len(made) for name, made in by_command.items()} == {
        "companies/define-pipeline": 1,
        "customers/register": 85,
        "opportunities/open": 8800,
        "opportunities/win": 4238,
        "opportunities/lose": 2473,
    }
    assert (report.rows, report.rejects) == (8885, None)
    assert report.unused == ("data_dictionary.csv", "products.csv", "sales_teams.csv")
    assert len({line["key"] for line in lines}) == len(lines)
    assert UUID(lines[0]["id"]) == UUID(int=1)

    assert sum(Decimal(line["data"]["amount"]["amount"]) for line in won) == 10_005_534
    assert {line["data"]["amount"]["currency"] for line in won} == {"USD"}
    early = [line for line in won if line["occurred_at"] < "2017-07-01"]
    assert len(early) == 1785
    assert sum(Decimal(line["data"]["amount"]["amount"]) for line in early) == 4_220_783
    by_agent = Counter(line["actor"] for line in won)
    assert by_agent["Darcel Schlecht"] == 349

    assert Counter(line["data"]["stage"] for line in opened) == {
        "prospecting": 500,
        "engaging": 8300,
    }
    assert sum("occurred_at" not in line for line in opened) == 500
    assert sum("customer_id" not in line["data"] for line in opened) == 1425
    assert {line["data"].get("customer_id") for line in opened} - {None} == customers.keys()
    assert Counter(line["data"]["product"] for line in opened)["GTX Pro"] == 1480
    assert opened[0]["occurred_at"] == "2016-10-20T00:00:00Z"

    acme = next(data for data in customers.values() if data["name"] == "Acme Corporation")
    assert acme == {
        "name": "Acme Corporation",
        "industry": "technology",
        "region": "United States",
        "founded": 1996,
        "employees": 2822,
        "annual_revenue": {"amount": "1100040000.00", "currency": "USD"},
    }


def test_the_sales_pipeline_is_sent_twice_and_taken_once(service: Service) -> None:
    first = run_import(crm_sales(), "crm_sales", url=service.url)
    assert service.known_keys == 1 + 85 + 8800 + 4238 + 2473
    assert run_import(crm_sales(), "crm_sales", url=service.url) == first
    half = len(service.lines) // 2
    assert service.lines[:half] == service.lines[half:]


# Several rows


def mapped(folder: Path, head: str, fields: str, rows: str) -> tuple[list[Any], Report]:
    """The data of the commands that a mapping of things makes of rows, and the report."""
    (folder / "t.csv").write_text(rows, encoding="utf-8")
    (folder / "t.toml").write_text(
        f'name = "t"\ncurrency = "EUR"\n[[files]]\nfile = "t.csv"\n{head}\n[[files.commands]]\n'
        f'command = "things/make"\n{fields}',
        encoding="utf-8",
    )
    lines, report = dry_lines(folder / "t.csv", folder / "t.toml")
    return [line["data"] for line in lines], report


def test_rows_are_counted_by_group_wherever_they_stand(tmp_path: Path) -> None:
    made, _ = mapped(
        tmp_path,
        "count.nth = { of = '{{ a }}' }\ncount.big = { of = '{{ a }}', when = \"b == '9'\" }",
        'id = "{{ a }} {{ nth }}"\ndata.n = "{{ nth }} {{ big }}"',
        "a,b\nx,1\ny,9\nx,9\nx,1\ny,9\n",
    )
    assert [one["n"] for one in made] == ["1 0", "1 1", "2 1", "3 1", "2 2"]


def test_rows_are_counted_since_another_one(tmp_path: Path) -> None:
    made, _ = mapped(
        tmp_path,
        "count.after = { of = '{{ a }}', since = \"b == 'done'\" }",
        'when = "after == 1"\nid = "{{ _line }}"\ndata.n = "{{ a }} {{ b }}"',
        "a,b\nx,1\nx,done\ny,2\nx,3\nx,4\nx,done\nx,5\n",
    )
    assert [one["n"] for one in made] == ["x 3", "x 5"]


def test_counts_are_right_beyond_what_is_kept_in_memory(tmp_path: Path) -> None:
    rows = "".join(f"{n % 3_000},1\n" for n in range(6_001))
    made, report = mapped(
        tmp_path,
        "count.nth = { of = '{{ a }}' }",
        'id = "{{ a }} {{ nth }}"\ndata.n = "{{ nth }}"',
        f"a,b\n{rows}",
    )
    assert Counter(one["n"] for one in made) == {"1": 3_000, "2": 3_000, "3": 1}
    assert report.rejects is None


def test_a_count_named_as_a_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"count\.b: t\.csv has a column of this name"):
        mapped(tmp_path, "count.b = { of = '{{ a }}' }", 'id = "{{ a }}"', "a,b\nx,1\n")


GROUP = (
    'id = "{{ a }}"\ndata.of = "{{ b }}"\ndata.lines = { each = { what = "{{ b }}", '
    'cost = { money = "{{ c }}" } } }\ndata.sum = { money = "{{ c }}", sum = true }'
)


def test_rows_of_a_group_become_one_command_wherever_they_stand(tmp_path: Path) -> None:
    made, report = mapped(
        tmp_path, "group = '{{ a }}'", GROUP, "a,b,c\nx,p,0.10\ny,q,5\nx,r,0.20\nx,,\n"
    )
    assert made == [
        {
            "of": "p",
            "lines": [
                {"what": "p", "cost": {"amount": "0.10", "currency": "EUR"}},
                {"what": "r", "cost": {"amount": "0.20", "currency": "EUR"}},
            ],
            "sum": {"amount": "0.30", "currency": "EUR"},
        },
        {
            "of": "q",
            "lines": [{"what": "q", "cost": {"amount": "5", "currency": "EUR"}}],
            "sum": {"amount": "5", "currency": "EUR"},
        },
    ]
    assert report.rows == 4


def test_an_unfit_row_rejects_its_whole_group(tmp_path: Path) -> None:
    made, report = mapped(
        tmp_path, "group = '{{ a }}'", GROUP, "a,b,c\nx,p,1\ny,q,5\nx,r,much\n,s,1\n"
    )
    assert [one["of"] for one in made] == ["q"]
    assert [(r["line"], json.loads(r["row"])["b"]) for r in rejected(report)] == [
        ("5", "s"),
        ("2", "p"),
        ("4", "r"),
    ]


@pytest.mark.parametrize("fields", ['data.n = { each = "{{ a }}" }', GROUP])
def test_each_and_sum_need_a_group(tmp_path: Path, fields: str) -> None:
    with pytest.raises(MappingError, match="needs `group`"):
        mapped(tmp_path, "", f'id = "x"\n{fields}'.replace('id = "x"\nid', "id"), "a,b,c\nx,1,2\n")


def test_an_empty_cell_is_filled_from_above(tmp_path: Path) -> None:
    made, report = mapped(
        tmp_path,
        "fill = ['a']",
        'id = "{{ _line }}"\ndata.n = "{{ a }}{{ b }}"',
        "a,b\n,0\nx,1\n,2\ntorn\n,3\ny,4\n,5\n",
    )
    assert [one["n"] for one in made] == ["0", "x1", "x2", "y4", "y5"]
    assert [r["line"] for r in rejected(report)] == ["5", "6"]
    assert "below a row that cannot be read" in rejected(report)[1]["reason"]


def test_a_cell_of_many_lines_is_one_cell(tmp_path: Path) -> None:
    text = "word\n" * 3_000
    made, report = mapped(
        tmp_path, "", 'id = "{{ a }}"\ndata.n = "{{ b }}"', f'a,b,c\nx,"{text}",1\ny,2,3\n'
    )
    assert [len(one["n"]) for one in made] == [5 * 3_000 - 1, 1]
    assert report.rejects is None


def test_a_sheet_that_is_full_goes_on_in_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ROWS_OF_A_SHEET", 3)
    with xlsxwriter.Workbook(tmp_path / "t.xlsx") as book:
        for names in (["x", "y"], ["z"], ["other"]):
            sheet = book.add_worksheet()
            for line, name in enumerate(["a", *names]):
                sheet.write(line, 0, name)
    (tmp_path / "t.toml").write_text(
        'name = "t"\n[[files]]\nfile = "t.xlsx"\n[[files.commands]]\n'
        'command = "things/make"\nid = "{{ a }}"\ndata.n = "{{ a }}"',
        encoding="utf-8",
    )
    lines, _ = dry_lines(tmp_path / "t.xlsx", tmp_path / "t.toml")
    assert [line["data"]["n"] for line in lines] == ["x", "y", "z"]


# What is there already


def test_a_refusal_of_a_mail_address_is_told_once_and_in_words(
    folder: Path, service: Service
) -> None:
    [problem] = check_line(
        b'{"command":"customers/register","key":"k","data":{"name":"A","email":"none"}}'
    )
    field, _, message = problem.partition(": ")
    errors = [{"field": field, "message": message}]
    service.refuse = lambda _: {"status": 422, "detail": problem, "errors": errors}
    report = run_import(folder, deals(folder), url=service.url)
    assert {r["reason"] for r in rejected(report)} == {
        "422 data.email: must be a mail address, like anna@example.com"
    }


def test_a_dry_run_tells_which_rules_would_refuse(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("id,owner\n1,\n2,ann\n", encoding="utf-8")
    (tmp_path / "l.toml").write_text(
        'name = "l"\n[[files]]\nfile = "l.csv"\n[[files.commands]]\n'
        'command = "leads/capture"\nid = "{{ id }}"\ndata.name = "{{ id }}"\n'
        'data.owner = "{{ owner }}"\n[[files.commands]]\ncommand = "leads/qualify"\n'
        'id = "{{ id }}"\ndata.budget = { money = "5", currency = "EUR" }',
        encoding="utf-8",
    )
    report = run_import(
        tmp_path / "l.csv",
        tmp_path / "l.toml",
        url=NOWHERE,
        dry_run=True,
        check=check_line,
        rehearsal=Rehearsal(),
    )
    [told] = rejected(report)
    assert (told["line"], told["command"]) == ("2", "leads/qualify")
    assert told["reason"].startswith("would be refused by LeadUnowned: ")
    assert report.commands["leads/qualify"].accepted == 1


def test_a_dry_run_says_nothing_of_a_stream_that_began_elsewhere() -> None:
    lead = str(UUID(int=7))
    line = {"command": "leads/qualify", "id": lead, "key": "k"}
    data = {"budget": {"amount": "5", "currency": "EUR"}}
    rehearsal = Rehearsal()
    assert rehearsal.refusal(orjson.dumps({**line, "data": data})) is None
    capture = {"command": "leads/capture", "id": lead, "key": "c", "data": {"name": "A"}}
    assert rehearsal.refusal(orjson.dumps(capture)) is None
    assert "LeadUnowned" in (rehearsal.refusal(orjson.dumps({**line, "data": data})) or "")
    rehearsal.pass_over(orjson.dumps(capture))
    assert rehearsal.refusal(orjson.dumps({**line, "data": data})) is None
