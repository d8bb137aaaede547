"""Facts reach the files once, whatever dies, and a reader sees all of a change or none of it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import duckdb
import fsspec
import pytest

from analytics.facts import store as storing
from analytics.facts.store import Manifest, Store, WrittenByOthers
from analytics.facts.tables import COLUMNS, SHAPE, TABLES
from analytics.facts.writing import AGAIN, Writing, begin_anew
from events.ledger.keys import Keyring
from read_api import reading
from tests.end_to_end.running import CHECKED_OUT, environment
from tests.events.test_relay import wait_for
from tests.projections.world import MASTER, World, day, eur


def orders(company: World, count: int) -> None:
    customer = uuid4()
    company.do("customers/register", customer, name="Ann")
    for n in range(count):
        order = uuid4()
        company.do("orders/place", order, day("2026-01-10"), customer_id=customer, amount=eur("9"))
        if n % 3 == 0:
            company.do("orders/cancel", order, day("2026-01-11"), reason="no need")


def writing(company: World, store: Store | None = None) -> Writing:
    return Writing(company.connect, Keyring(MASTER), store or company.store)


def rows(store: Store, table: str) -> list[tuple[Any, ...]]:
    """Position and order of every fact that counts."""
    found = []
    for name, number in store.latest().files.get(table, ()):
        held = store.read(name).select(["position", "order_id"]).to_pylist()
        assert len(held) == number
        found += [(row["position"], row["order_id"]) for row in held]
    return sorted(found)


def expected(company: World, *types: str) -> list[tuple[Any, ...]]:
    return [(r.position, str(r.stream_id)) for r in company.recorded() if r.type in types]


def assert_whole(company: World, store: Store) -> None:
    assert rows(store, "purchases") == expected(company, "order.placed")
    assert rows(store, "purchase_changes") == expected(company, "order.cancelled")


def test_small_files_become_one_and_those_who_read_them_are_not_disturbed(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "FILES", 3)
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            manifest = company.store.latest()
            files = [company.store.url(name) for name, _ in manifest.files.get("purchases", ())]
            if files:
                query = f"SELECT count(*), count(DISTINCT position) FROM read_parquet({files})"
                with duckdb.connect() as conn:
                    row = conn.execute(query).fetchone()
                assert row is not None
                assert row[0] == row[1] == sum(n for _, n in manifest.files["purchases"])
                seen.append(row[0])

    reading = threading.Thread(target=read)
    reading.start()
    with company.connect() as conn:
        for _ in range(12):
            orders(company, 4)
            writing(company).catch_up(conn, batch=5)
    stop.set()
    reading.join()
    assert seen == sorted(seen)
    assert seen
    assert len(company.store.latest().files["purchases"]) <= 3
    assert_whole(company, company.store)


def test_what_does_not_count_is_swept_away_after_a_while(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "FILES", 2)
    with company.connect() as conn:
        for _ in range(5):
            orders(company, 3)
            writing(company).catch_up(conn)
        orphan = company.store.write("purchases", company.store.read(first_file(company.store)))[0]
        manifest = company.store.latest()
        company.store.sweep(manifest)
        assert company.store.fs.exists(company.store.path(orphan)), "it may still be read"
        monkeypatch.setattr(storing, "GRACE_SECONDS", -1.0)
        company.store.sweep(manifest)
    left = set(company.store.fs.find(company.store.root))
    counts = {company.store.path(n) for files in manifest.files.values() for n, _ in files}
    assert left == counts | {company.store.path(f"manifests/{manifest.number:012}.json")}
    assert company.store.latest() == manifest
    assert_whole(company, company.store)


def test_an_old_file_that_was_compacted_stays_for_those_who_read_it(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "FILES", 2)
    with company.connect() as conn:
        for _ in range(2):
            orders(company, 3)
            writing(company).catch_up(conn)
        old = company.store.path(first_file(company.store))
        long_ago = time.time() - 10 * storing.GRACE_SECONDS
        os.utime(old, (long_ago, long_ago))
        orders(company, 3)
        writing(company).catch_up(conn)
        assert old not in counted(company.store), "it was not compacted"
        company.store.sweep(company.store.latest())
        assert company.store.fs.exists(old)
        begin_anew(conn, company.store)
        company.store.sweep(company.store.latest())
        assert company.store.fs.exists(old)
        with monkeypatch.context() as later:
            later.setattr(storing.time, "time", lambda: long_ago + 20 * storing.GRACE_SECONDS)
            company.store.sweep(company.store.latest())
        assert not company.store.fs.exists(old)


def counted(store: Store) -> set[str]:
    return {store.path(n) for files in store.latest().files.values() for n, _ in files}


def first_file(store: Store) -> str:
    return store.latest().files["purchases"][0][0]


def test_a_writer_that_woke_up_late_changes_nothing(company: World) -> None:
    orders(company, 3)
    frozen = company.store.latest()
    company.write_facts()
    held = company.store.latest()
    with pytest.raises(WrittenByOthers):
        company.store.commit(Manifest(frozen.number, SHAPE, held.ledger_id))
    assert company.store.latest() == held


def test_a_ledger_restored_from_yesterday_halts_the_facts_until_they_are_written_anew(
    company: World,
) -> None:
    orders(company, 3)
    company.write_facts()
    found = company.store.latest()
    company.store.commit(Manifest(found.number, SHAPE, found.ledger_id, 99, uuid4(), found.files))
    company.write_facts()
    halted = company.store.latest().halted
    assert halted is not None
    assert halted.endswith(AGAIN)
    answer = company.ask("/analytics/customers", min_position=100)
    assert answer.status_code == 503
    assert "restored from a backup" in answer.json()["detail"]
    with company.connect() as conn:
        begin_anew(conn, company.store)
    company.write_facts()
    assert company.store.latest().halted is None
    assert_whole(company, company.store)


def test_an_event_that_cannot_be_read_halts_the_facts_in_front_of_it(company: World) -> None:
    orders(company, 3)
    poison = company.slip_in("order", UUID(int=7), "order.placed", b'{"total": "strange"}')
    company.write_facts()
    found = company.store.latest()
    assert found.position == poison - 1
    assert f"position {poison}" in str(found.halted)
    assert company.get("/analytics")["halted"] == found.halted
    with company.superuser() as conn:
        conn.execute("ALTER TABLE ledger.events DISABLE TRIGGER ALL")
        conn.execute(
            "UPDATE ledger.events SET payload = %s, type = 'order.shipped' WHERE position = %s",
            (b"{}", poison),
        )
    company.write_facts()
    found = company.store.latest()
    assert (found.position, found.halted) == (poison, None)


def test_files_of_another_code_are_written_anew(company: World) -> None:
    orders(company, 2)
    company.write_facts()
    found = company.store.latest()
    company.store.commit(Manifest(found.number, "another", found.ledger_id, found.position))
    company.write_facts()
    assert company.store.latest().shape == SHAPE
    assert_whole(company, company.store)


FIGURES = ("customers", "cohorts", "rfm/customers", "purchases", "leads")


def figures(company: World) -> list[tuple[int, bytes]]:
    answers = [company.ask(f"/analytics/{path}") for path in FIGURES]
    return [(answer.status_code, answer.content) for answer in answers]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for facts that no test is about to write."""
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
def test_the_facts_of_before_answer_until_those_written_anew_have_reached_them(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders(company, 9)
    company.write_facts()
    before, position = figures(company), company.head()
    assert {status for status, _ in before} == {200}
    orders(company, 2)
    monkeypatch.setattr(storing, "GRACE_SECONDS", -1.0)
    with company.connect() as conn:
        for steps in (2, 2, 100):  # begun anew in the middle of it, too
            begin_anew(conn, company.store)
            for _ in range(steps):
                writing(company).step(conn, batch=3)
                found = company.store.latest()
                if found.is_whole:
                    break
                company.store.sweep(found)
                assert figures(company) == before
                told = company.get("/analytics")
                assert (told["position"], told["rewritten_to"]) == (position, found.position)
                later = company.ask("/analytics/customers", min_position=position + 1)
                assert later.status_code == 503
        monkeypatch.setattr(storing, "GRACE_SECONDS", 600.0)
        writing(company).catch_up(conn)
    found = company.store.latest()
    assert (found.before, found.position) == (None, company.head())
    assert company.get("/analytics")["rewritten_to"] is None
    assert figures(company) != before
    assert_whole(company, company.store)


@pytest.mark.usefixtures("impatient")
def test_facts_that_are_written_for_the_first_time_answer_when_they_are_whole(
    company: World,
) -> None:
    orders(company, 9)
    with company.connect() as conn:
        writing(company).step(conn, batch=3)
        for path in FIGURES:
            answer = company.ask(f"/analytics/{path}")
            assert answer.status_code == 503
            assert f"3 of {company.head()} events" in answer.json()["detail"]
        writing(company).catch_up(conn)
    assert {status for status, _ in figures(company)} == {200}


@pytest.mark.usefixtures("impatient")
def test_facts_of_another_ledger_answer_no_more_once_they_are_written_anew(company: World) -> None:
    orders(company, 5)
    company.write_facts()
    found = company.store.latest()
    company.store.commit(replace(found, event_id=uuid4()))
    with company.connect() as conn:
        begin_anew(conn, company.store)
        assert {status for status, _ in figures(company)} == {503}
        writing(company).catch_up(conn)
    assert {status for status, _ in figures(company)} == {200}


@pytest.mark.usefixtures("impatient")
def test_facts_of_other_code_answer_what_their_columns_can(company: World) -> None:
    orders(company, 5)
    company.write_facts()
    before = figures(company)
    found = company.store.latest()
    company.store.commit(replace(found, shape="another"))
    assert figures(company) == before
    for columns in (
        {table: names for table, names in COLUMNS.items() if table != "leads"},
        {**COLUMNS, "leads": COLUMNS["leads"][:-1]},
    ):
        company.store.commit(replace(company.store.latest(), columns=columns))
        assert figures(company)[:-1] == before[:-1]
        answer = company.ask("/analytics/leads")
        assert answer.status_code == 503
        assert "written anew" in answer.json()["detail"]
        assert company.ask("/analytics/customers", min_position=found.position).status_code == 200
    with company.connect() as conn:
        writing(company).step(conn, batch=3)
        assert figures(company)[:-1] == before[:-1]
        writing(company).catch_up(conn)
    assert figures(company) == before


@pytest.mark.usefixtures("impatient")
def test_a_manifest_of_older_code_is_read_and_its_files_say_what_they_hold(company: World) -> None:
    orders(company, 5)
    company.write_facts()
    before, found = figures(company), company.store.latest()
    path = Path(company.store.path(f"manifests/{found.number:012}.json"))
    told = json.loads(path.read_text())
    for name in ("columns", "goal", "before"):
        del told[name]
    path.write_text(json.dumps({**told, "shape": "another", "told_by_newer_code": 1}))
    assert company.store.columns(company.store.latest()).keys() == found.files.keys()
    assert figures(company) == before
    [(name, rows), *_] = found.files["purchases"]
    held = company.store.read(name).drop_columns(["owner"])
    lacking = company.store.write("purchases", held)
    company.store.commit(
        replace(company.store.latest(), files={**found.files, "purchases": [lacking]})
    )
    assert rows == lacking[1]
    assert company.ask("/analytics/customers").status_code == 503
    assert company.ask("/analytics/leads").status_code == 200


def test_pieces_are_counted_and_lines_are_named_by_position_and_number(company: World) -> None:
    customer, order = uuid4(), uuid4()
    company.do("customers/register", customer, name="Ann")
    lines = [line("Pump", "2"), line("Hose", "0.5"), line("Pump", "12.125")]
    placed = company.do("orders/place", order, customer_id=customer, lines=lines)
    added = company.do("orders/add-line", order, line=line("Pump", "3"))
    company.write_facts()
    [(name, _)] = company.store.latest().files["purchase_lines"]
    held = company.store.read(name)
    assert str(held.schema.field("quantity").type) == "decimal128(18, 3)"
    assert [
        (row["position"], row["number"], row["product"], row["quantity"])
        for row in held.to_pylist()
    ] == [
        (placed, 1, "Pump", Decimal("2.000")),
        (placed, 2, "Hose", Decimal("0.500")),
        (placed, 3, "Pump", Decimal("12.125")),
        (added, 1, "Pump", Decimal("3.000")),
    ]


def line(product: str, quantity: str) -> dict[str, Any]:
    return {"product": product, "quantity": quantity, "unit_price": eur("8")}


def test_an_object_store_serves_as_well(company: World) -> None:
    """fsspec's own, in memory: not a folder of this machine, and without exclusive links."""
    store = Store(f"memory://facts-{uuid4().hex}")
    orders(company, 5)
    with company.connect() as conn:
        writing(company, store).catch_up(conn, batch=4)
    assert_whole(company, store)
    assert store.url("x").startswith("memory://")
    with duckdb.connect() as conn:
        conn.register_filesystem(fsspec.filesystem("memory"))
        files = [store.url(name) for name, _ in store.latest().files["purchases"]]
        assert conn.execute(f"SELECT count(*) FROM read_parquet({files})").fetchone() == (5,)


def test_the_same_question_has_the_same_answer_over_files_written_anew(company: World) -> None:
    orders(company, 9)
    head = company.head()
    with company.connect() as conn:
        writing(company).catch_up(conn, batch=3)
    paths = ("customers", "repurchase", "cohorts", "rfm", "rfm/customers", "purchases")
    before = [company.ask(f"/analytics/{path}", known_at=head).content for path in paths]
    orders(company, 2)
    with company.connect() as conn:
        begin_anew(conn, company.store)
        writing(company).catch_up(conn)
    after = [company.ask(f"/analytics/{path}", known_at=head).content for path in paths]
    assert before == after


@contextmanager
def process(company: World, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    key = folder / "master.key"
    key.write_bytes(base64.b64encode(MASTER))
    with (folder / "log").open("ab") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "pledge", "analytics", "run"],
            cwd=CHECKED_OUT,
            env=environment(
                folder / "home",
                company.url,
                master_key_file=str(key),
                facts=company.store.root,
            ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def standing_by(company: World) -> int:
    """How many writers have asked for the lead in vain."""
    with company.superuser() as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity a WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND query LIKE '%7203, 4%' AND NOT EXISTS ("
            "SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.locktype = 'advisory' "
            "AND l.classid = 7203 AND l.objid = 4)"
        ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.slow
def test_a_fact_reaches_the_files_once_however_often_the_writer_is_killed(
    company: World, tmp_path: Path
) -> None:
    deaths = 0
    for turn in range(6):
        with process(company, tmp_path) as running:
            before = company.store.latest().position
            for _ in range(6):
                orders(company, 5)
                time.sleep(0.05)
            wait_for(lambda before=before: company.store.latest().position > before, "no facts")
            orders(company, 5)
            time.sleep(0.07 * turn)
            running.send_signal(signal.SIGKILL)
            deaths += running.wait() == -signal.SIGKILL
    assert deaths == 6
    with process(company, tmp_path) as running, process(company, tmp_path) as standby:
        wait_for(lambda: company.store.latest().position == company.head(), "never caught up")
        wait_for(lambda: standing_by(company) == 1, "one has not begun")
        os.kill(running.pid, signal.SIGSTOP)
        orders(company, 5)
        wait_for(lambda: company.store.latest().position == company.head(), "nobody took over")
        os.kill(running.pid, signal.SIGCONT)
        orders(company, 5)
        wait_for(lambda: company.store.latest().position == company.head(), "they are in the way")
        for one in (running, standby):
            one.terminate()
            assert one.wait(30) == 0
    assert_whole(company, company.store)
    assert set(company.store.latest().files) <= {table.name for table in TABLES}
