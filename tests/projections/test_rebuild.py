"""Building anew beside the live tables, while commands and questions keep coming."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count
from multiprocessing import Pipe
from typing import Any
from uuid import UUID

import pytest

from events.ledger.keys import Keyring
from projections import customers, leads, promises
from projections.asking.listing import Asked
from projections.asking.view import Caller
from projections.catalog import MODELS
from projections.engine import building, progress
from projections.engine import rebuild as rebuilding
from projections.engine.building import Build, CannotBuild
from projections.engine.model import ReadModel
from projections.engine.rebuild import rebuild
from projections.engine.runner import Runner
from projections.leads import AskLeads
from read_api import reading
from tests.projections.world import MASTER, World, eur

ANN = UUID(int=101)
PATIENCE_SECONDS = 120


def some_history(company: World, n: int = 20) -> None:
    company.do("customers/register", ANN, name="Ann")
    for i in range(n):
        company.do("customers/make-promise", ANN, promise_id=UUID(int=200 + i), what="a reply")
        company.do("opportunities/open", UUID(int=400 + i), title="a deal", amount=eur("10"))
        company.do("leads/capture", UUID(int=600 + i), name="Grace Hopper")


def build(company: World, *models: ReadModel) -> None:
    with company.connect() as conn:
        for model in models or MODELS:
            rebuild(conn, Keyring(MASTER), model)


@pytest.fixture(params=[1, 3], ids=["alone", "on three cores"])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """So many processes build, and at the end it is seen that they did."""
    number: int = request.param
    forked: list[int] = []
    fork = os.fork

    def counted() -> int:
        forked.append(pid := fork())
        return pid

    monkeypatch.setattr(building, "SHARE", 1)
    monkeypatch.setattr(building.os, "cpu_count", lambda: number)
    monkeypatch.setattr(building.os, "fork", counted)
    monkeypatch.setattr(building.threading, "active_count", lambda: 1)  # those here are idle
    yield number
    assert bool(forked) == (number > 1)


@contextmanager
def meanwhile(*jobs: Any) -> Iterator[None]:
    """Inside, these go on and on, each in a thread; what one raises is raised at the end."""
    stop = threading.Event()
    raised: list[BaseException] = []

    def repeat(job: Any) -> None:
        try:
            while not stop.is_set():
                job()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=repeat, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
    if raised:
        raise raised[0]


@contextmanager
def running(company: World) -> Iterator[None]:
    stop = threading.Event()
    runner = Runner(company.connect, Keyring(MASTER), MODELS)
    thread = threading.Thread(target=runner.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


@pytest.mark.usefixtures("cores")
def test_a_rebuild_gives_the_rows_that_were_there(company: World) -> None:
    some_history(company)
    company.project()
    build(company)
    assert company.differing() == []
    assert company.differing("seed") == []


def test_a_rebuild_mends_rows_that_went_wrong(company: World) -> None:
    some_history(company)
    company.project()
    with company.superuser() as conn:
        conn.execute("UPDATE view_customers.customers SET name = 'Eve'")
        conn.execute("DELETE FROM view_leads.leads WHERE lead_id = %s", (UUID(int=600),))
    wrong = company.differing()
    assert {(d.table, d.side) for d in wrong} == {
        ("customers", "live"),
        ("customers", "replay"),
        ("leads", "replay"),
    }
    assert {d.row["name"] for d in wrong if d.table == "customers"} == {"Ann", "Eve"}
    build(company)
    assert company.differing() == []


@pytest.mark.slow
def test_a_rebuild_under_writing_and_a_live_runner_loses_nothing(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAIT_SECONDS", 120)
    some_history(company)
    numbers = count(10_000)

    def write() -> None:
        n = next(numbers)
        company.do("customers/make-promise", ANN, promise_id=UUID(int=n), what="a reply")
        company.do("opportunities/open", UUID(int=n + 10**6), title="a deal")
        company.do("customers/keep-promise", ANN, promise_id=UUID(int=n))
        time.sleep(0.002)

    company.project()
    with running(company):
        with meanwhile(write):
            for _ in range(4):
                build(company)
        head = company.head()
        for path in ("/customers", "/promises", "/opportunities", "/leads"):
            assert company.get(path, min_position=head, limit=1)["position"] == head
    assert company.differing() == []
    assert company.differing("seed") == []
    assert company.get("/projections")["items"][0]["halted"] is None


def test_a_rebuild_ends_although_writing_never_does(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_history(company)
    company.project()
    follow, numbers = rebuilding._follow, count()

    def follow_while_others_write(*how: Any) -> int:
        n = next(numbers)
        assert n < 50, "it waits for a moment in which nobody writes"
        company.do("leads/capture", UUID(int=800 + n), name="Ada Byron")
        return follow(*how)

    monkeypatch.setattr(rebuilding, "_follow", follow_while_others_write)
    build(company, leads.MODEL)
    company.project()
    assert company.differing() == []


@pytest.mark.slow
def test_questions_are_answered_in_full_all_through_a_rebuild(company: World) -> None:
    some_history(company)
    company.project()
    whole = {"/customers": 1, "/promises": 20, "/opportunities": 20, "/leads": 20}

    def ask() -> None:
        for path, number in whole.items():
            answer = company.ask(path)
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["items"]) == number, path

    with meanwhile(ask, ask):
        for _ in range(15):
            build(company)


def test_an_answer_begun_before_the_swap_is_whole(company: World) -> None:
    some_history(company)
    company.project()
    with company.reader.view(Caller("ada"), (leads.MODEL,), Asked()) as view:
        builder = threading.Thread(target=build, args=(company, leads.MODEL))
        builder.start()
        builder.join(2)
        found, _ = leads.LIST.rows(view.conn, view.when, AskLeads())
    builder.join(PATIENCE_SECONDS)
    assert len(found) == 20


def test_two_rebuilds_at_once_do_each_other_no_harm(company: World) -> None:
    some_history(company)
    company.project()
    failed: list[BaseException] = []

    def again() -> None:
        try:
            for _ in range(5):
                build(company, leads.MODEL)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=again) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert company.differing() == []
    assert failed == []


def test_another_shape_is_built_anew_at_the_start(company: World) -> None:
    some_history(company)
    company.project()

    def shout(rows: Any, recorded: Any) -> None:
        leads.apply(rows, recorded)
        row = rows.get(leads.LEADS, recorded.stream_id)
        row.name = row.name.upper()

    newer = replace(leads.MODEL, apply=shout, revision=leads.MODEL.revision + 1)
    company.project((newer,))
    with company.superuser() as conn:
        names = conn.execute("SELECT DISTINCT name FROM view_leads.leads").fetchall()
        [(shape,)] = conn.execute("SELECT shape FROM progress.checkpoints WHERE name = 'leads'")
    assert names == [("GRACE HOPPER",)]
    assert shape == newer.shape != leads.MODEL.shape


@pytest.mark.usefixtures("cores")
def test_what_cannot_be_built_leaves_the_live_rows_as_they_are(company: World) -> None:
    some_history(company)
    company.project()
    company.slip_in("customer", ANN, "customer.promise-made", b"{}")
    with pytest.raises(CannotBuild, match=r"customer\.promise-made"):
        build(company, promises.MODEL)
    assert len(company.get("/promises")["items"]) == 20
    company.slip_in("customer", ANN, "customer.vanished")
    with pytest.raises(CannotBuild, match=r"customer\.vanished"):
        build(company, leads.MODEL)
    assert len(company.get("/leads")["items"]) == 20


def older(model: ReadModel) -> ReadModel:
    """The read model of a version before."""
    return replace(model, revision=model.revision - 1)


def test_rows_of_another_version_are_no_answer(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither their columns nor their meaning are what this version takes them for."""
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.1)
    some_history(company)
    company.project([model for model in MODELS if model is not promises.MODEL])
    company.project((older(promises.MODEL),))
    for path in ("/promises", f"/customers/{ANN}"):
        answer = company.ask(path)
        assert (answer.status_code, "being built" in answer.json()["detail"]) == (503, True)
    assert "not built yet: promises" in company.ask("/health/ready").text
    assert len(company.get("/leads")["items"]) == 20
    company.project()
    assert len(company.get("/promises")["items"]) == 20
    assert company.get(f"/customers/{ANN}")["name"] == "Ann"


@pytest.mark.usefixtures("cores")
def test_what_cannot_be_built_at_the_start_halts_until_it_is_skipped(
    company: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAIT_SECONDS", 120)
    some_history(company)
    company.project((older(promises.MODEL),))
    place = company.slip_in("customer", ANN, "customer.promise-made", b"{}")
    with company.connect() as conn, closing(company.runner(conn)) as runner:
        runner.catch_up(conn)
        assert len(company.get("/leads")["items"]) == 20
        answer = company.ask("/promises")
        assert answer.status_code == 503
        assert f"halted at position {place}: cannot be built" in answer.json()["detail"]
        items = {item["name"]: item for item in company.get("/projections")["items"]}
        assert (items["promises"]["status"], items["promises"]["halted_at"]) == ("halted", place)

        progress.skip(conn, "promises", place, "olga", "a typing error, told the customer")
        progress.resume(conn, "promises")
        runner._next_look = 0.0
        runner.catch_up(conn)
        assert len(company.get("/promises")["items"]) == 20
        company.do("customers/register", UUID(int=102), name="Ben")
        a_call = {"promise_id": UUID(int=299), "what": "a call"}
        company.do("customers/make-promise", UUID(int=102), **a_call)
        runner.catch_up(conn)
    assert len(company.get("/promises")["items"]) == 21
    assert company.differing() == []


@pytest.mark.usefixtures("cores")
def test_rows_that_the_database_does_not_take_at_the_start_halt_their_model_alone(
    company: World,
) -> None:
    some_history(company)
    company.project()
    company.do("leads/capture", UUID(int=599), name="Ada Byron")

    def choke(rows: Any, recorded: Any) -> None:
        leads.apply(rows, recorded)
        rows.get(leads.LEADS, recorded.stream_id).name = "no \0 in PostgreSQL"

    newer = replace(leads.MODEL, apply=choke, revision=leads.MODEL.revision + 1)
    company.project([newer if model is leads.MODEL else model for model in MODELS])
    items = {item["name"]: item for item in company.get("/projections")["items"]}
    assert {name for name, item in items.items() if item["halted"]} == {"leads"}
    assert "cannot be built: " in items["leads"]["halted"]
    assert items["leads"]["halted_at"] is None, "no event is at fault, so none can be skipped"
    assert items["timeline"]["position"] == company.head()
    with company.connect() as conn:
        progress.resume(conn, "leads")
    company.project()  # by the version before
    assert len(company.every("/leads")) == 21


@pytest.mark.usefixtures("cores")
def test_a_rebuild_parks_what_the_runner_would_park(company: World) -> None:
    some_history(company)
    company.project()
    company.slip_in("customer", ANN, "customer.claimed", b"{}")
    company.do("customers/register", UUID(int=102), name="Ben")
    build(company, customers.MODEL)
    shown = company.get("/customers")
    assert shown["parked"] == [str(ANN)]
    assert [item["name"] for item in shown["items"]] == ["Ann", "Ben"]


@pytest.mark.usefixtures("cores")
def test_an_erased_person_is_gone_from_a_rebuilt_view(company: World) -> None:
    some_history(company)
    company.project()
    with company.superuser() as conn:
        conn.execute("DELETE FROM vault.keys WHERE subject = %s", (ANN,))
    build(company)
    assert company.get(f"/customers/{ANN}")["name"] == "[erased]"
    assert {item["what"] for item in company.get("/promises")["items"]} == {"[erased]"}
    with company.superuser() as conn:
        rows = conn.execute("SELECT to_jsonb(t)::text FROM view_timeline.timeline_entries t")
        assert not [text for (text,) in rows if "Ann" in text]


def test_a_share_whose_process_dies_fails_the_build(
    company: World, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_history(company)
    company.project()
    build_share, here = building._build_share, os.getpid()

    def die_elsewhere(*how: Any) -> Any:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return build_share(*how)

    monkeypatch.setattr(building, "_build_share", die_elsewhere)
    if cores == 1:
        build(company)
    else:
        with pytest.raises(CannotBuild, match="died"):
            build(company)
    monkeypatch.setattr(building, "_build_share", build_share)
    assert company.differing() == []
    build(company)
    assert company.differing() == []


def test_a_share_without_a_parent_writes_nothing(company: World) -> None:
    """A later build may have the tables by then."""
    some_history(company)
    company.project()
    with company.superuser() as conn:
        conn.execute("TRUNCATE view_leads.leads")
    here, there = Pipe(duplex=False)
    asked = Build(Keyring(MASTER), leads.MODEL, "view_leads.", 1_000, set())
    with company.connect() as conn:
        dsn = conn.info.dsn
    building._work(there, os.getpid(), dsn, asked, 0, 1)
    there.close()
    with pytest.raises(EOFError):
        here.recv()
    here.close()
    assert company.get("/leads")["items"] == []
