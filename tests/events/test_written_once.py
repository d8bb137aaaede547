from uuid import uuid4

import pytest
from psycopg import errors

from events.ledger import ledger
from events.ledger.ledger import Connection, append
from tests.events.proposals import propose

WRITTEN_ONCE = ["events", "outcomes"]
CHANGES = {
    "update": "UPDATE ledger.{table} SET actor = 'mallory'",
    "delete": "DELETE FROM ledger.{table}",
    "truncate": "TRUNCATE ledger.{table}",
    "update of nothing": "UPDATE ledger.{table} SET actor = actor WHERE false",
}


def counts(conn: Connection) -> tuple[int, int]:
    """How many events and outcomes there are."""
    query = "SELECT (SELECT count(*) FROM ledger.events), (SELECT count(*) FROM ledger.outcomes)"
    row = conn.execute(query).fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize("table", WRITTEN_ONCE)
@pytest.mark.parametrize("change", CHANGES)
def test_the_service_cannot_change_what_was_written(
    service: Connection, table: str, change: str
) -> None:
    append(service, [propose(uuid4())])
    with pytest.raises(errors.InsufficientPrivilege):
        service.execute(CHANGES[change].format(table=table))
    assert counts(service) == (1, 1)


@pytest.mark.parametrize("table", WRITTEN_ONCE)
@pytest.mark.parametrize("change", CHANGES)
def test_a_superuser_cannot_change_it_by_mistake_either(
    service: Connection, superuser: Connection, table: str, change: str
) -> None:
    append(service, [propose(uuid4())])
    with pytest.raises(errors.InsufficientPrivilege, match="written once and never changed"):
        superuser.execute(CHANGES[change].format(table=table))
    assert counts(superuser) == (1, 1)


@pytest.mark.parametrize(
    "change", ["UPDATE ledger.identity SET one = true", "DELETE FROM ledger.identity"]
)
def test_a_ledger_keeps_its_identity(superuser: Connection, change: str) -> None:
    before = ledger.ledger_id(superuser)
    with pytest.raises(errors.InsufficientPrivilege):
        superuser.execute(change)
    with pytest.raises(errors.UniqueViolation):
        superuser.execute("INSERT INTO ledger.identity DEFAULT VALUES")
    assert ledger.ledger_id(superuser) == before


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE ledger.events DISABLE TRIGGER ALL",
        "DROP TABLE ledger.events",
        "SET session_replication_role = replica",
        "CREATE TABLE ledger.other (x int)",
        "CREATE OR REPLACE FUNCTION ledger.immutable() RETURNS trigger LANGUAGE plpgsql AS ''",
        "UPDATE ledger.migrations SET sha256 = ''",
        "UPDATE vault.keys SET wrapped = ''",
        "UPDATE vault.master SET master_check = ''",
        "DELETE FROM vault.master",
        "TRUNCATE vault.keys",
    ],
)
def test_the_service_cannot_open_a_back_door(service: Connection, change: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        service.execute(change)
