"""Every list and figure as a file: whole, in the form that was asked for, or refused."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
import pytest
from python_calamine import load_workbook

from pledge.importing.mapping import FileRule
from pledge.importing.rows import Row
from pledge.importing.sources import open_table
from projections.catalog import MODELS
from read_api import files
from read_api.answers import NotAcceptable, accepted
from read_api.files import CSV, FORMS, NDJSON, PARQUET, XLSX
from tests.projections.conftest import NewWorld
from tests.projections.world import World, day, eur

MANY = 130
ONE_PAYMENT = f"/payments/{UUID(int=6_000)}"
ONE_ORDER = f"/orders/{UUID(int=1_000)}"
NAMES = ["+49 170 1234567", "=1+1", "'=1+1", "''", "'tis", "-5", "@home", 'Ann, "the first"']


@pytest.fixture(scope="module")
def company(new_world: NewWorld) -> Iterator[World]:
    """More customers than a page has, of whom each owes something."""
    with new_world() as made:
        for n in range(MANY):
            name = NAMES[n] if n < len(NAMES) else f"C{n}"
            made.do("customers/register", UUID(int=100 + n), day("2026-03-02"), name=name)
            placed = {"customer_id": UUID(int=100 + n), "owner": "ada", "amount": eur("10.50")}
            made.do("orders/place", UUID(int=1_000 + n), day("2026-03-03"), **placed)
        made.do(
            "opportunities/open", UUID(int=5_000), day("2026-03-03"), title="t", amount=eur("5")
        )
        made.project()
        made.write_facts()
        yield made


def rows_of(media: str, content: bytes) -> list[dict[str, Any]]:
    if media == CSV:
        return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    if media == NDJSON:
        return [json.loads(line) for line in content.splitlines()]
    if media == PARQUET:
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(content)).to_pylist()
        return rows
    with load_workbook(io.BytesIO(content)) as book:
        header, *rest = book.get_sheet_by_index(0).to_python()
    return [dict(zip(map(str, header), row, strict=True)) for row in rest]


LISTS = [
    "/customers",
    "/orders",
    "/payments/receivables",
    "/audit/events",
    "/analytics/customers/list",
    "/analytics/rfm/customers",
]


@pytest.mark.parametrize("media", FORMS)
@pytest.mark.parametrize("path", LISTS)
def test_a_file_holds_the_whole_list(company: World, path: str, media: str) -> None:
    answer = company.ask(path, {"Accept": media})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].partition(";")[0] == media
    assert answer.headers["pledge-position"] == str(company.head())
    assert "link" not in answer.headers
    rows = rows_of(media, answer.content)
    expected = company.every(path)
    assert len(rows) == len(expected) >= MANY
    for name in ("id", "customer.id", "customer_id", "position"):
        if name in rows[0]:
            of = "customer" if name == "customer.id" else name
            ids = [item[of]["id"] if of == "customer" else item[of] for item in expected]
            assert [str(row[name]).removesuffix(".0") for row in rows] == [*map(str, ids)]
    if media == NDJSON:
        assert rows == expected


@pytest.mark.parametrize("media", FORMS)
def test_who_asks_for_a_limit_gets_a_page(company: World, media: str) -> None:
    answer = company.ask("/customers", {"Accept": media}, limit=7)
    assert len(rows_of(media, answer.content)) == 7
    following = answer.links["next"]["url"]
    assert len(rows_of(media, company.ask(following, {"Accept": media}).content)) == 7


TABLES = {
    "/funnel": 1,
    "/payments/by-rep": 1,
    "/payments/by-period": 1,
    "/projections": len(MODELS),
}


@pytest.mark.parametrize("media", FORMS)
@pytest.mark.parametrize(("path", "rows"), TABLES.items())
def test_what_has_rows_is_a_table_too(company: World, path: str, rows: int, media: str) -> None:
    answer = company.ask(path, {"Accept": media})
    assert answer.status_code == 200, answer.text
    assert len(rows_of(media, answer.content)) == rows


def test_a_workbook_goes_on_in_another_sheet(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ROWS_OF_A_SHEET", 100)
    content = company.ask("/customers", {"Accept": XLSX}).content
    with load_workbook(io.BytesIO(content)) as book:
        sheets = [book.get_sheet_by_name(name).to_python() for name in book.sheet_names]
    assert [len(sheet) - 1 for sheet in sheets] == [100, MANY - 100]


def test_a_list_within_a_row_is_a_row_for_each_of_its_parts(company: World) -> None:
    [row] = rows_of(CSV, company.ask("/funnel", {"Accept": CSV}).content)
    assert row == {
        "stage": "discovery",
        "name": "discovery",
        "kind": "open",
        "probability": "0.2",
        "count": "1",
        "amount.amount": "5.00",
        "amount.currency": "EUR",
        "weighted": '[{"amount":"1.00","currency":"EUR"}]',
    }
    ageing = rows_of(CSV, company.ask("/payments/ageing", {"Accept": CSV}).content)
    assert len(ageing) == sum(
        len(item["buckets"]) for item in company.get("/payments/ageing")["items"]
    )
    assert {row["buckets.bucket"] for row in ageing} >= {"current", ">90"}


def test_a_workbook_has_numbers_times_and_no_formulas(company: World) -> None:
    rows = rows_of(XLSX, company.ask("/orders", {"Accept": XLSX}).content)
    assert {row["amount.amount"] for row in rows} == {10.5}
    assert str(rows[0]["placed_at"]) == "2026-03-03 12:00:00"
    names = {
        row["name"] for row in rows_of(XLSX, company.ask("/customers", {"Accept": XLSX}).content)
    }
    assert names >= {*NAMES}


@pytest.mark.parametrize("accept", ["application/pdf", "text/*;q=0, image/png", "*/*;q=0"])
@pytest.mark.parametrize(
    "path", ["/customers", "/funnel", "/analytics/rfm", f"/orders/{UUID(int=1_000)}"]
)
def test_another_form_is_refused_with_those_that_there_are(
    company: World, path: str, accept: str
) -> None:
    answer = company.ask(path, {"Accept": accept})
    assert answer.status_code == 406
    assert answer.json()["detail"].startswith("This answer comes as application/json")


@pytest.mark.parametrize("path", [f"/customers/{UUID(int=100)}", ONE_ORDER, ONE_PAYMENT])
def test_one_thing_is_no_table(company: World, path: str) -> None:
    answer = company.ask(path, {"Accept": CSV})
    assert answer.status_code == 406
    assert answer.json()["detail"] == "This answer comes as application/json."


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("", "a/json"),
        ("*/*", "a/json"),
        ("text/html, */*;q=0.8", "a/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("a/json;q=0.5, text/csv", "text/csv"),
        ("text/csv, a/json", "text/csv"),
        ("*/*, text/csv;q=0.9", "a/json"),
        ("*/*;q=0.1, text/*", "text/csv"),
        ("text/csv;q=0, */*", "a/json"),
        ("a/json;q=0, */*", "text/csv"),
        ("a/json;q=nonsense", "a/json"),
    ],
)
def test_the_best_liked_form_is_given(header: str, form: str) -> None:
    assert accepted(header, ("a/json", "text/csv")) == form


def test_a_form_that_is_not_there_is_refused() -> None:
    with pytest.raises(NotAcceptable, match="comes as a/json, text/csv"):
        accepted("image/png, a/json;q=0, text/csv;q=0", ("a/json", "text/csv"))


def test_what_is_exported_is_read_back_unchanged(company: World, tmp_path: Any) -> None:
    file = tmp_path / "customers.csv"
    file.write_bytes(company.ask("/customers", {"Accept": CSV}).content)
    rule = FileRule.model_validate(
        {"file": file.name, "commands": [{"command": "customers/register", "id": "{{ id }}"}]}
    )
    with open_table(file, rule) as table:
        names = {row.cells["name"] for row in table.rows() if isinstance(row, Row)}
    assert names == {customer["name"] for customer in company.every("/customers")} >= {*NAMES}
