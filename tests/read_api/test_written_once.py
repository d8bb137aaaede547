"""What was written once is answered for ever, whatever lists and limits say today."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, cast

import pytest
from fastapi import FastAPI

from commands.handling.writer import Writer
from events.ledger.keys import Keyring
from projections.catalog import MODELS
from projections.engine.rebuild import rebuild
from read_api.app import install
from read_api.files import FORMS
from read_api.reading import Reader
from tests.projections.conftest import NewWorld
from tests.projections.world import MASTER, World
from tests.read_api.things import ANN, DEAL, ORDER, PAYMENT, TICKET, fill_in, place_of, settle_in

SINCE = {
    "EUR": "QQQ",
    "call": "telex",
    "store": "kiosk",
    "complaint": "riddle",
    "urgent": "yesterday",
    "open": "ajar",
    "Europe/Paris": "Europe/Atlantis",
    "10.00": "10.12345",
    "4.00": "4000000000000000.00",
    "0.5": "1.5",
    "50": "150",
}
"""Values that were allowed once, by those that are now."""
CHANGE = """
ALTER TABLE ledger.events DISABLE TRIGGER ALL;
UPDATE ledger.events
   SET payload = convert_to(replace(convert_from(payload, 'UTF8'), '"{now}"', '"{once}"'), 'UTF8');
"""


NEEDED = {"cohort": "2026-03", "month": "2026-03", "since": "2026-03-31", "stage": "try"}


@cache
def routes() -> list[Any]:
    return list(install(FastAPI(), cast("Reader", None)))


@pytest.fixture(scope="module")
def company(new_world: NewWorld) -> Iterator[World]:
    """A company with a value of every closed list and of every limit."""
    with new_world() as made:
        settle_in(made)
        fill_in(made)
        with made.superuser() as conn:
            for now, once in SINCE.items():
                done = conn.execute(CHANGE.format(now=now, once=once).encode())
                done.nextset()
                found = conn.execute(
                    "SELECT count(*) FROM ledger.events "
                    "WHERE convert_from(payload, 'UTF8') LIKE %s",
                    (f'%"{once}"%',),
                ).fetchone()
                assert found is not None
                assert found[0] > 0, f"nothing in tests/read_api/things.py has the value {now}"
        made.writer.stop()
        made.writer = Writer(made.connect, Keyring(MASTER))
        made.project()
        made.write_facts()
        yield made


@pytest.mark.parametrize("path", sorted({route.path for route in routes()}))
@pytest.mark.parametrize("clocks", [{}, {"as_of": "2026-04-01"}], ids=["now", "then"])
def test_every_question_is_answered(company: World, path: str, clocks: dict[str, str]) -> None:
    place = place_of(path)
    answer = company.ask(place, **clocks)
    if answer.status_code == 422:
        errors = answer.json()["errors"]
        needed = {e["field"]: NEEDED[e["field"]] for e in errors if e["field"] != "as_of"}
        answer = company.ask(place, **needed)
    assert answer.status_code == 200, answer.text
    for form in FORMS:
        status = company.ask(f"{answer.url.path}?{answer.url.query.decode()}", {"Accept": form})
        assert status.status_code in (200, 406), form
    assert "unreadable" not in answer.text or '"unreadable":null' in answer.text


def test_amounts_are_as_they_were_written(company: World) -> None:
    shown = company.get(f"/payments/{PAYMENT}")
    assert shown["amount"] == {"amount": "4000000000000000.00", "currency": "QQQ"}
    assert company.get(f"/customers/{ANN}")["kind"] == "kiosk"
    entry, _ = company.get("/audit/streams/" + str(TICKET))["items"]
    assert (entry["data"]["channel"], entry["data"]["priority"]) == ("telex", "yesterday")


def test_a_rebuild_gives_the_same(company: World) -> None:
    with company.connect() as conn:
        for model in MODELS:
            rebuild(conn, company.reader.keyring, model)
    assert company.differing() == []


def test_commands_go_on_with_what_is_there(company: World) -> None:
    """The state is folded of the same events."""
    company.do("tickets/reply", TICKET, text="we are on it")
    company.do("orders/ship", ORDER)
    company.do("opportunities/lose", DEAL, reason="price")
