"""Facts that were damaged on the disk: it is noticed, named, and cured by writing them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from analytics.facts.store import Damaged, Store
from analytics.facts.writing import begin_anew
from projections.engine.tables import Connection
from read_api import health
from tests.projections.world import World, day, eur

ANN = UUID(int=0xA)


@pytest.fixture
def sold(company: World) -> World:
    """A customer who bought twice, with facts about it that nobody has read yet."""
    company.do("customers/register", ANN, day("2026-01-02"), name="Ann")
    for n in (1, 2):
        at = day(f"2026-01-0{n + 2}")
        company.do("orders/place", UUID(int=n + 900), at, customer_id=ANN, amount=eur("10"))
    company.write_facts()
    return company


def a_file(company: World, table: str = "purchases") -> Path:
    [(name, _), *_] = company.store.latest().files[table]
    return Path(company.store.path(name))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def change(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[40] ^= 1
    path.write_bytes(body)


def garble(path: Path) -> None:
    path.write_bytes(b"nonsense" * 100)


def remove(path: Path) -> None:
    path.unlink()


def why(company: World) -> str | None:
    conn: Connection
    with company.connect() as conn:
        return health.facts_stand(conn, company.store)


def cured(company: World, before: bytes) -> None:
    with company.connect() as conn:
        begin_anew(conn, company.store)
    company.write_facts()
    assert why(company) is None
    answer = company.ask("/analytics/customers", as_of="2026-06-30")
    assert (answer.status_code, answer.content) == (200, before)


def undamaged(company: World) -> bytes:
    """What is answered over the same facts elsewhere, for a process knows what it found whole."""
    content: bytes = company.ask("/analytics/customers", as_of="2026-06-30").content
    company.store._whole.clear()
    company.store.engine.close()
    return content


@pytest.mark.parametrize("harm", [cut, empty, change, garble, remove])
def test_a_damaged_file_is_named_until_the_facts_are_written_again(
    sold: World, harm: Callable[[Path], None]
) -> None:
    before, path = undamaged(sold), a_file(sold)
    harm(path)
    answer: Any = sold.ask("/analytics/customers", as_of="2026-06-30")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/facts-damaged")
    assert path.name in answer.json()["detail"]
    assert "pledge analytics rebuild" in answer.json()["detail"]
    assert harm is change or path.name in (why(sold) or "")
    cured(sold, before)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"files": 7}', b"\xff"]
)
def test_a_garbled_manifest_is_named_until_the_facts_are_written_again(
    sold: World, body: bytes
) -> None:
    before = undamaged(sold)
    path = Path(sold.store._manifest(sold.store.number()))
    path.write_bytes(body)
    for asked in ("/analytics", "/analytics/customers"):
        answer = sold.ask(asked)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/facts-damaged")
        assert path.name in answer.json()["detail"]
    assert path.name in (why(sold) or "")
    with pytest.raises(Damaged):
        sold.write_facts()
    cured(sold, before)


def test_a_cut_manifest_is_no_manifest(sold: World) -> None:
    path = Path(sold.store._manifest(sold.store.number()))
    body = path.read_bytes()
    for length in range(0, len(body), 50):
        path.write_bytes(body[:length])
        with pytest.raises(Damaged):
            sold.store.latest()


def test_the_past_of_a_customer_is_shown_without_segments_meanwhile(sold: World) -> None:
    sold.project()
    path = Path(sold.store._manifest(sold.store.number()))
    path.write_bytes(b"{")
    found = sold.get(f"/customers/{ANN}", as_of="2026-02-01")
    assert found["name"] == "Ann"


def test_files_without_a_seal_of_an_earlier_version_are_read(sold: World) -> None:
    manifest = sold.store.latest()
    path = a_file(sold)
    old = path.with_name("-".join(path.stem.split("-")[:3]) + ".parquet")
    path.rename(old)
    name, rows = manifest.files["purchases"][0]
    manifest.files["purchases"][0] = (name.rpartition("/")[0] + "/" + old.name, rows)
    sold.store.commit(manifest)
    again = Store(sold.store.root)
    again.check(again.latest())
    assert sold.ask("/analytics/customers").status_code == 200
