"""Projectors: batches, rivals, events that cannot be taken, ledgers that are not theirs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from structlog.typing import EventDict

from events.base import Event
from events.ledger import ledger
from events.ledger.checkpoints import Overtaken
from events.ledger.migrate import migrate
from projections import promises
from projections.catalog import MODELS
from projections.engine import progress
from projections.engine.folding import readable
from projections.engine.model import ReadModel
from projections.engine.projector import Taken
from projections.engine.runner import Runner
from projections.engine.sources import FromLedger, Piece
from projections.engine.tables import Connection
from read_api import reading
from tests.projections.conftest import NewWorld
from tests.projections.world import World, carried, eur

ANN, BEN = UUID(int=101), UUID(int=102)
LEAD, DEAL = UUID(int=11), UUID(int=21)
PATIENCE_SECONDS = 120
WORDS = [UUID(int=n) for n in range(31, 40)]


@pytest.fixture(params=["ledger", pytest.param("topic", marks=pytest.mark.kafka)])
def company(request: pytest.FixtureRequest, new_world: NewWorld) -> Iterator[World]:
    """A company whose projectors follow the ledger, and another whose projectors follow Kafka."""
    with new_world() as made:
        if request.param == "ledger":
            yield made
        else:
            with carried(made, request.getfixturevalue("kafka_bootstrap")):
                yield made


@pytest.fixture
def by_ledger(new_world: NewWorld) -> Iterator[World]:
    """A company whose projectors follow the ledger."""
    with new_world() as made:
        yield made


def promise(company: World, customer: UUID, word: UUID) -> int:
    return company.do("customers/make-promise", customer, promise_id=word, what="a reply")


def some_history(company: World) -> None:
    for customer, name in ((ANN, "Ann"), (BEN, "Ben")):
        company.do("customers/register", customer, name=name)
    for n, word in enumerate(WORDS[:4]):
        promise(company, (ANN, BEN)[n % 2], word)
    company.do("customers/keep-promise", ANN, promise_id=WORDS[0])
    company.do("leads/capture", LEAD, name="Grace Hopper")
    company.do("opportunities/open", DEAL, title="a deal", customer_id=ANN, amount=eur("10"))
    company.do("opportunities/move-stage", DEAL, stage="proposal")


def positions(company: World) -> dict[str, int]:
    return {item["name"]: item["position"] for item in company.get("/projections")["items"]}


def halted(company: World) -> dict[str, str]:
    items = company.get("/projections")["items"]
    return {item["name"]: item["halted"] for item in items if item["status"] == "halted"}


def all_rows(company: World) -> dict[str, Any]:
    return {
        f"{model.name}.{table.name}": company.rows(f"{model.schema}.{table.name}")
        for model in MODELS
        for table in model.tables
    }


@contextmanager
def running(company: World, models: tuple[ReadModel, ...] = MODELS) -> Iterator[None]:
    """Inside, a runner is at work in a thread of its own."""
    stop = threading.Event()
    runner = Runner(company.connect, company.reader.keyring, models, source=company.source())
    thread = threading.Thread(target=runner.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def wait_until_shown(company: World) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while set(positions(company).values()) != {company.head()} or len(positions(company)) < 5:
        assert time.monotonic() < deadline, company.get("/projections")
        time.sleep(0.02)


@pytest.mark.parametrize("size", [1, 3, 5_000])
def test_any_size_of_batch_gives_the_same_rows(by_ledger: World, size: int) -> None:
    some_history(by_ledger)
    with by_ledger.connect() as conn:
        runner = by_ledger.runner(conn, batch=size)
        steps = 0
        while taken := runner.step(conn):
            assert taken <= size
            steps += 1
    assert steps == -(-by_ledger.head() // size)
    assert set(positions(by_ledger).values()) == {by_ledger.head()}
    assert by_ledger.differing() == []
    assert by_ledger.differing("shuffled") == []


def test_rows_and_checkpoint_move_together(company: World) -> None:
    some_history(company)
    with company.connect() as conn, closing(company.runner(conn, batch=3)) as runner:
        while min(positions(company).values()) < company.head():
            runner.step(conn)
            assert company.differing() == []


def test_a_zombie_with_an_old_checkpoint_changes_nothing(by_ledger: World) -> None:
    some_history(by_ledger)
    with by_ledger.connect() as mine, by_ledger.connect() as theirs:
        zombie = by_ledger.runner(mine)
        by_ledger.runner(theirs).catch_up(theirs)
        before = all_rows(by_ledger)
        rows = ledger.read(mine, 0, 1_000)
        batch = readable(mine, by_ledger.reader.keyring, rows)
        for projector in zombie.projectors:
            with pytest.raises(Overtaken):
                projector.take(mine, [Taken(Piece(0, rows), batch)])
        assert all_rows(by_ledger) == before
        zombie.catch_up(mine)
        assert all_rows(by_ledger) == before
        promise(by_ledger, ANN, WORDS[5])
        zombie.catch_up(mine)
    assert set(positions(by_ledger).values()) == {by_ledger.head()}
    assert by_ledger.differing() == []


def test_rivals_at_work_at_once_leave_the_rows_of_one(company: World) -> None:
    some_history(company)
    with running(company):
        wait_until_shown(company)
        with running(company), running(company):
            for n in range(150):
                promise(company, (ANN, BEN)[n % 2], UUID(int=1000 + n))
            wait_until_shown(company)
    assert company.differing() == []


def test_a_runner_outlives_the_loss_of_its_connection(company: World) -> None:
    some_history(company)
    with running(company):
        wait_until_shown(company)
        with company.superuser() as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name ~ '^pledge \\d{4}$'"
            )
        promise(company, ANN, WORDS[6])
        wait_until_shown(company)
    assert company.differing() == []


# Poison: an event of a known type that cannot be read.


@pytest.fixture
def poisoned(company: World) -> int:
    """A company with a promise of Ann's that nobody can read, and good events around it."""
    some_history(company)
    position = company.slip_in("customer", ANN, "customer.promise-made", b'{"nonsense": 1}')
    company.do("customers/register", UUID(int=103), name="Cid")
    promise(company, BEN, WORDS[7])
    company.do("leads/claim", LEAD)
    company.project()
    return position


def test_a_poison_event_halts_a_model_of_promises_after_the_good_ones_before_it(
    company: World, poisoned: int, logged: list[EventDict]
) -> None:
    assert list(halted(company)) == ["promises"]
    [said] = halted(company).values()
    assert f"customer.promise-made at position {poisoned}" in said
    items = {item["name"]: item for item in company.get("/projections")["items"]}
    assert (items["promises"]["position"], items["promises"]["halted_at"]) == (
        poisoned - 1,
        poisoned,
    )
    shown = {row[1] for row in company.rows("view_promises.promises")}
    # A topic's other partitions go on; Ben's later promise is in one of them.
    assert shown == {*WORDS[:4]} | ({WORDS[7]} if company.source is not FromLedger else set())
    assert [e["model"] for e in logged if e["event"] == "a read model halted"] == ["promises"]


def test_a_halt_is_told_by_health_and_metrics_and_at_once_to_whoever_waits(
    company: World, poisoned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAIT_SECONDS", 120)
    ready = company.ask("/health/ready")
    assert (ready.status_code, "halted: promises" in ready.json()["detail"]) == (503, True)
    assert 'pledge_projection_halted{name="promises"} 1.0' in company.ask("/metrics").text
    assert 'pledge_projection_halted{name="leads"} 0.0' in company.ask("/metrics").text
    begun = time.monotonic()
    answer = company.ask("/promises", min_position=company.head())
    assert time.monotonic() - begun < 60
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert f"halted at position {poisoned}" in answer.json()["detail"]
    assert company.get("/promises", min_position=poisoned - 1)["position"] == poisoned - 1


def test_elsewhere_the_stream_is_parked_and_named_and_the_others_go_on(
    company: World, poisoned: int
) -> None:
    head = company.head()
    items = {item["name"]: item for item in company.get("/projections")["items"]}
    assert {name: item["parked"] for name, item in items.items()} == {
        model.name: [str(ANN)] if model.name in ("customers", "timeline") else []
        for model in MODELS
    }
    assert {n: i["position"] for n, i in items.items() if n != "promises"} == {
        model.name: head for model in MODELS if model.name != "promises"
    }
    shown = company.get("/customers", min_position=head)
    assert shown["parked"] == [str(ANN)]
    assert {item["name"] for item in shown["items"]} == {"Ann", "Ben", "Cid"}
    assert company.get("/leads")["parked"] == []
    assert company.get("/opportunities")["parked"] == [str(ANN)]
    assert 'pledge_projection_parked_streams{name="customers"} 1.0' in company.ask("/metrics").text
    versions = {row[1] for row in company.rows("view_timeline.timeline_entries") if row[0] == ANN}
    assert max(versions) < poisoned


def test_a_parked_stream_stays_parked_for_later_events(company: World, poisoned: int) -> None:
    company.slip_in("customer", ANN, "customer.claimed", b'{"owner": "eve"}')
    company.project()
    found = {item["id"]: item for item in company.get("/customers")["items"]}
    assert found[str(ANN)]["owner"] is None
    assert company.get("/customers")["position"] == company.head()
    assert poisoned < company.head()


def test_a_past_view_that_needs_the_poison_is_a_clear_problem(
    company: World, poisoned: int
) -> None:
    answer = company.ask(f"/customers/{ANN}", as_of="2100-01-01")
    assert answer.status_code == 503, answer.text
    assert f"position {poisoned}" in answer.json()["detail"]
    early = company.get(f"/customers/{ANN}", known_at=poisoned - 1)
    assert len(early["promises"]) == 2


def test_audit_shows_the_poison_as_unreadable(company: World, poisoned: int) -> None:
    [shown] = company.get("/audit/events", after=poisoned - 1, until=poisoned)["items"]
    assert shown["data"] is None
    assert "customer.promise-made" in shown["unreadable"]
    assert len(company.get(f"/audit/streams/{ANN}")["items"]) == 5


def test_a_halted_model_stays_halted_when_nothing_was_mended(company: World, poisoned: int) -> None:
    with company.connect() as conn:
        progress.resume(conn, "promises")
    company.project()
    assert list(halted(company)) == ["promises"]
    assert positions(company)["promises"] == poisoned - 1


def test_a_skip_is_on_record_for_ever_and_lets_the_model_go_on(
    company: World, poisoned: int
) -> None:
    with company.connect() as conn:
        progress.skip(conn, "promises", poisoned, "olga", "a typing error, told the customer")
        progress.resume(conn, "promises")
        for attempt in ("DELETE FROM progress.skipped", "UPDATE progress.skipped SET actor = ''"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(attempt)
        [record] = conn.execute("SELECT name, position, actor, reason FROM progress.skipped")
    assert record == ("promises", poisoned, "olga", "a typing error, told the customer")
    company.project()
    assert halted(company) == {}
    assert positions(company)["promises"] == company.head()
    assert {row[1] for row in company.rows("view_promises.promises")} == {*WORDS[:4], WORDS[7]}
    assert company.differing() == []
    assert company.differing("shuffled") == []


def test_a_running_runner_notices_that_it_may_go_on(company: World, poisoned: int) -> None:
    with running(company):
        with company.connect() as conn:
            progress.skip(conn, "promises", poisoned, "olga", "a typing error")
            progress.resume(conn, "promises")
        wait_until_shown(company)
    assert halted(company) == {}


def test_what_a_projector_itself_cannot_do_is_poison_too(company: World) -> None:
    some_history(company)

    def choke(rows: Any, recorded: Any) -> None:
        if recorded.event.promise_id == WORDS[2]:
            raise ZeroDivisionError("on the third promise")
        promises.apply(rows, recorded)

    broken = ReadModel("promises", promises.MODEL.tables, promises.Events, choke, critical=True)
    company.project((broken,))
    [said] = halted(company).values()
    assert "ZeroDivisionError: on the third promise" in said
    shown = {row[1] for row in company.rows("view_promises.promises")}
    # The fourth promise is Ben's, in another partition of the topic.
    assert shown == {*WORDS[:2]} | ({WORDS[3]} if company.source is not FromLedger else set())
    with company.connect() as conn:
        progress.resume(conn, "promises")
    company.project((promises.MODEL,))
    assert halted(company) == {}
    assert len(company.rows("view_promises.promises")) == 4


def test_rows_that_the_database_does_not_take_halt_the_model_and_no_other(company: World) -> None:
    some_history(company)
    company.project()
    with company.superuser() as conn:
        conn.execute("ALTER TABLE view_leads.leads ADD CHECK (name <> 'Ada Byron')")
    company.do("leads/capture", UUID(int=12), name="Ada Byron")
    company.project()
    assert list(halted(company)) == ["leads"]
    assert "CheckViolation" in halted(company)["leads"]
    assert positions(company)["timeline"] == company.head()
    with company.superuser() as conn:
        conn.execute("ALTER TABLE view_leads.leads DROP CONSTRAINT leads_name_check")
    with company.connect() as conn:
        progress.resume(conn, "leads")
    company.project()
    assert halted(company) == {}
    assert company.differing() == []


# An event of a type that this version of the code has never heard of.


@pytest.fixture
def strange(company: World) -> int:
    some_history(company)
    position = company.slip_in("customer", ANN, "customer.vanished")
    promise(company, BEN, WORDS[7])
    company.project()
    return position


def test_an_event_of_unknown_type_halts_every_model(company: World, strange: int) -> None:
    assert len(halted(company)) == len(MODELS)
    assert all("customer.vanished" in said for said in halted(company).values())
    assert set(positions(company).values()) == {strange - 1}
    assert company.ask("/leads", min_position=strange).status_code == 503


@pytest.mark.usefixtures("registry")
def test_newer_code_that_knows_the_type_goes_on(company: World, strange: int) -> None:
    class CustomerVanished(Event, type="customer.vanished"):
        """Nobody knows where to."""

    with company.connect() as conn:
        for model in MODELS:
            progress.resume(conn, model.name)
    company.project()
    assert halted(company) == {}
    assert strange < company.head() == positions(company)["leads"]
    assert company.differing() == []


def test_an_unknown_type_that_was_skipped_does_not_stand_in_the_way_of_a_rebuild(
    company: World, strange: int
) -> None:
    with company.connect() as conn:
        for model in MODELS:
            progress.skip(conn, model.name, strange, "olga", "written by a test of another program")
            progress.resume(conn, model.name)
    company.project()
    assert halted(company) == {}
    assert set(positions(company).values()) == {company.head()}
    assert company.differing() == []


# A checkpoint that belongs to another ledger, or to an end of this one that was lost.


def change(company: World, statement: str) -> None:
    with company.superuser() as conn:
        conn.execute("SET session_replication_role = replica")
        conn.execute(statement.encode())


@pytest.mark.parametrize(
    "loss",
    [
        "UPDATE ledger.identity SET ledger_id = gen_random_uuid()",
        "DELETE FROM ledger.events WHERE position > 5",
        "UPDATE ledger.events SET event_id = gen_random_uuid()",
    ],
    ids=["another ledger", "a lost end", "another end"],
)
def test_a_ledger_that_is_not_the_one_read_before_halts_with_a_clear_word(
    company: World, loss: str
) -> None:
    some_history(company)
    company.project()
    before = all_rows(company)
    change(company, loss)
    company.do("leads/capture", UUID(int=12), name="Ada Byron")
    company.project()
    assert len(halted(company)) == len(MODELS)
    for name, said in halted(company).items():
        assert f"pledge project rebuild {name}" in said
    assert all_rows(company) == before


def test_a_resume_does_not_make_another_ledger_the_right_one(company: World) -> None:
    some_history(company)
    company.project()
    change(company, "UPDATE ledger.identity SET ledger_id = gen_random_uuid()")
    with running(company):
        wait_until_halted(company, *(model.name for model in MODELS))
        with company.connect() as conn:
            progress.resume(conn, "leads")
        wait_until_halted(company, "leads")


def wait_until_halted(company: World, *names: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not halted(company).keys() >= {*names}:
        assert time.monotonic() < deadline, company.get("/projections")
        time.sleep(0.02)


def test_a_database_that_is_away_at_the_start_is_waited_for(company: World) -> None:
    tried = []

    def connect() -> Connection:
        tried.append(1)
        if len(tried) == 1:
            raise psycopg.OperationalError("the database system is starting up")
        return company.connect()

    stop = threading.Event()
    runner = Runner(connect, company.reader.keyring, MODELS)
    some_history(company)
    thread = threading.Thread(target=runner.run, args=(stop,))
    thread.start()
    try:
        wait_until_shown(company)
    finally:
        stop.set()
        thread.join()
    assert len(tried) == 2
    assert set(positions(company).values()) == {company.head()}


def test_a_copy_of_a_database_serves_as_well_as_the_first(company: World) -> None:
    """PostgreSQL copies and restores everything but the rights on the database itself."""
    some_history(company)
    with company.superuser() as conn:
        [(name,)] = conn.execute("SELECT current_database()")
        conn.execute(f"REVOKE ALL ON DATABASE {name} FROM pledge_service".encode())
    migrate(company.url)
    company.project()
    assert set(positions(company).values()) == {company.head()}
