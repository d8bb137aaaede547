"""Backups taken while commands go on, and what a restore of them holds."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from analytics.facts.store import Store
from events.ledger.keys import Keyring, WrongMasterKey
from events.ledger.migrate import migrate
from pledge import backup
from pledge.console import Failed
from pledge.embedded import create_database
from tests.projections.conftest import NewWorld
from tests.projections.world import MASTER, World, day, eur, world

ANN = UUID(int=0xA)
EVERYTHING = """
SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t
"""
KEPT = ("ledger.events", "ledger.outcomes", "ledger.identity", "vault.keys", "vault.master")


def quiet(_table: str, _done: int) -> None:
    """Says nothing of what is done."""


@pytest.fixture
def company(new_world: NewWorld) -> Iterator[World]:
    """A customer, an order and a refusal, with read models and facts."""
    with new_world() as made:
        with made.connect() as conn:
            Keyring(MASTER).verify(conn)
        made.do("customers/register", ANN, day("2026-01-02"), name="Ann", email="ann@example.org")
        made.do("orders/place", UUID(int=901), day("2026-01-03"), customer_id=ANN, amount=eur("10"))
        assert made.try_("customers/register", ANN, name="Ann again") == 409
        made.project()
        made.write_facts()
        yield made


@pytest.fixture
def empty(postgres_url: str) -> Iterator[str]:
    """A database that nobody has set up."""
    name = f"test_{uuid4().hex}"
    yield create_database(postgres_url, name)
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def kept(url: str) -> dict[str, Any]:
    """What every table holds that cannot be derived again."""
    with psycopg.connect(url) as conn:
        return {name: conn.execute(EVERYTHING.format(name).encode()).fetchone() for name in KEPT}


def taken(company: World, tmp_path: Path) -> Path:
    backup.write(company.url, tmp_path / "backup", company.store, quiet)
    return tmp_path / "backup"


def test_a_restored_ledger_is_the_same_to_the_byte_and_answers_the_same(
    company: World, tmp_path: Path, empty: str
) -> None:
    source = taken(company, tmp_path)
    told = backup.restore(empty, source, MASTER, None, quiet)
    assert told.position == company.head()
    assert kept(empty) == kept(company.url)
    with world(empty) as again:
        again.project()
        again.write_facts()
        for path in (f"/customers/{ANN}", "/orders", "/analytics/customers", "/audit/refusals"):
            before, after = company.get(path), again.get(path)
            for answer in (before, after):
                answer.pop("standing", None)
            assert after == before, path
        assert again.differing() == []
        again._keys = company._keys  # those that were used before are known to the ledger
        assert again.try_("customers/register", ANN, name="Ann") == 409
        again.do("customers/tag", ANN, tag="vip")


def test_the_master_key_and_no_personal_data_in_the_clear_are_in_a_backup(
    company: World, tmp_path: Path
) -> None:
    source = taken(company, tmp_path)
    part = {p.table: p for p in backup.opened(source).parts}
    body = b"".join(b"".join(backup._blocks(source, p)) for p in part.values())
    assert b"customer.registered" in body
    for secret in (MASTER, base64.b64encode(MASTER), b"ann@example.org", b"Ann"):
        assert secret not in body
    assert source.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in source.iterdir())


def test_a_backup_under_load_is_of_one_moment(company: World, tmp_path: Path, empty: str) -> None:
    stop, failed = threading.Event(), list[BaseException]()

    def go_on() -> None:
        try:
            while not stop.is_set():
                company.do("customers/log-interaction", ANN, channel="call", summary="Hello")
        except BaseException as error:
            failed.append(error)

    busy = threading.Thread(target=go_on)
    busy.start()
    try:
        while company.head() < 20:
            pass
        source = taken(company, tmp_path)
    finally:
        stop.set()
        busy.join()
    assert not failed
    position = backup.restore(empty, source, MASTER, None, quiet).position
    assert 20 <= position <= company.head()
    with psycopg.connect(empty) as conn:
        row = conn.execute(
            "SELECT count(*), max(position), (SELECT count(*) FROM ledger.outcomes"
            " WHERE status = 'appended'), (SELECT max(after_position) FROM ledger.outcomes)"
            "  FROM ledger.events"
        ).fetchone()
    assert row == (position, position, position, position)


@dataclass
class Harm:
    """What was done to a backup, and what is said of it."""

    of: Callable[[Path], Any]
    said: str


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


HARMS = {
    "no contents": Harm(lambda p: (p / "contents.json").unlink(), "is no backup"),
    "cut contents": Harm(lambda p: cut(p / "contents.json"), "damaged"),
    "cut events": Harm(lambda p: cut(p / "ledger.events.zst"), "ledger.events"),
    "no outcomes": Harm(lambda p: (p / "ledger.outcomes.zst").unlink(), "ledger.outcomes"),
    "other keys": Harm(
        lambda p: (p / "vault.keys.zst").write_bytes((p / "vault.master.zst").read_bytes()),
        "vault.keys",
    ),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_damaged_backup_is_refused_and_leaves_the_database_empty(
    company: World, tmp_path: Path, empty: str, harm: Harm
) -> None:
    source = taken(company, tmp_path)
    harm.of(source)
    with pytest.raises(Failed, match=harm.said):
        backup.restore(empty, source, MASTER, None, quiet)
    migrate(empty)
    with psycopg.connect(empty) as conn:
        assert conn.execute(backup.HELD).fetchone() == (0, 0)


def test_another_master_key_restores_nothing(company: World, tmp_path: Path, empty: str) -> None:
    source = taken(company, tmp_path)
    with pytest.raises(WrongMasterKey):
        backup.restore(empty, source, bytes(32), None, quiet)
    with psycopg.connect(empty) as conn:
        assert conn.execute(backup.HELD).fetchone() == (0, 0)
    assert backup.restore(empty, source, MASTER, None, quiet).position == company.head()


def test_a_ledger_that_holds_something_is_not_written_over(company: World, tmp_path: Path) -> None:
    source = taken(company, tmp_path)
    before = kept(company.url)
    with pytest.raises(Failed, match="PLEDGE_DATABASE_URL"):
        backup.restore(company.url, source, MASTER, None, quiet)
    assert kept(company.url) == before


def test_a_backup_is_never_mixed_with_what_is_there(company: World, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    with pytest.raises(Failed, match="is there already"):
        taken(company, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]


def test_verifying_restores_aside_and_leaves_nothing(company: World, tmp_path: Path) -> None:
    source = taken(company, tmp_path)
    before = kept(company.url)
    assert backup.verify(company.url, source, MASTER, quiet) == company.head()
    assert kept(company.url) == before
    with psycopg.connect(company.url) as conn:
        found = conn.execute("SELECT FROM pg_database WHERE datname LIKE 'pledge_verify_%'")
        assert found.fetchall() == []


def test_facts_whose_files_are_there_still_answer_after_a_restore(
    company: World, tmp_path: Path, empty: str
) -> None:
    source = taken(company, tmp_path)
    company.do("orders/place", UUID(int=902), day("2026-01-04"), customer_id=ANN, amount=eur("7"))
    company.write_facts()
    store = Store(company.store.root)
    assert backup.restore(empty, source, MASTER, store, quiet).facts_answer
    with world(empty) as again:
        again.store.root = again.reader.facts.root = store.root
        assert again.get("/analytics/customers")["purchases"] == 1


def test_facts_that_are_ahead_of_a_restored_ledger_are_begun_anew(
    company: World, tmp_path: Path, empty: str
) -> None:
    source = taken(company, tmp_path)
    for name, _ in company.store.latest().files["purchases"]:
        Path(company.store.path(name)).unlink()
    store = Store(company.store.root)
    assert not backup.restore(empty, source, MASTER, store, quiet).facts_answer
    assert store.latest().answering is None
