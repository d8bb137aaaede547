"""Whoever types a person's name somewhere does not defeat their erasure."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from projections.catalog import MODELS
from projections.engine.rebuild import rebuild
from tests.projections.conftest import NewWorld
from tests.projections.world import World, eur

ANN, LEAD, DEAL, ORDER, TICKET, BARE = (UUID(int=n) for n in range(101, 107))
WORD = "Hopperlike"
SAID = f"as {WORD} said"
PATHS = (
    *("/customers", f"/customers/{ANN}", f"/customers/{ANN}/timeline", "/promises"),
    *("/leads", f"/leads/{LEAD}", "/opportunities", f"/opportunities/{DEAL}"),
    *("/orders", f"/orders/{ORDER}", "/tickets", f"/tickets/{TICKET}", f"/tickets/{BARE}"),
    *("/audit/events?limit=1000", f"/audit/streams/{TICKET}", f"/audit/streams/{LEAD}"),
)


@pytest.fixture(scope="module")
def company(new_world: NewWorld) -> Iterator[World]:
    """Wherever there is room for a text, somebody wrote the person's name."""
    with new_world() as made:
        made.do("customers/register", ANN, name=WORD, owner="ada")
        made.do("customers/hand-over", ANN, owner="ben", reason=SAID)
        made.do("customers/release", ANN, reason=SAID, by="ben")
        promise = {"promise_id": UUID(int=1), "what": SAID, "topic": SAID}
        made.do("customers/make-promise", ANN, **promise)
        made.do("leads/capture", LEAD, name=WORD, company=f"{WORD} & Co")
        made.do("leads/claim", LEAD)
        made.do("leads/return", LEAD, reason=SAID)
        made.do("opportunities/open", DEAL, title=SAID, customer_id=ANN)
        made.do("opportunities/lose", DEAL, reason="price", comment=SAID)
        made.do("opportunities/reopen", DEAL, reason=SAID)
        made.do("orders/place", ORDER, title=SAID, customer_id=ANN, amount=eur("10"), note=SAID)
        for ticket, of in ((TICKET, {"customer_id": ANN}), (BARE, {})):
            made.do("tickets/open", ticket, subject=SAID, **of)
            made.do("tickets/dispatch", ticket, technician="bob")
            made.do("tickets/decline", ticket, reason=SAID, by="bob")
            made.do("tickets/wait", ticket, reason=SAID)
            made.do("tickets/escalate", ticket, reason=SAID)
            made.do("tickets/resolve", ticket, text=SAID)
            made.do("tickets/reopen", ticket, reason=SAID)
        made.project()
        yield made


def test_nothing_that_was_typed_is_in_the_ledger_in_the_clear(company: World) -> None:
    with company.superuser() as conn:
        found = conn.execute(
            "SELECT type FROM ledger.events WHERE convert_from(payload, 'UTF8') LIKE %s",
            (f"%{WORD}%",),
        ).fetchall()
    assert found == []


def test_all_of_it_is_gone_with_the_keys(company: World) -> None:
    assert sum(WORD in company.ask(path).text for path in PATHS) == len(PATHS)
    with company.superuser() as conn:
        subjects = [ANN, LEAD, BARE]
        conn.execute("DELETE FROM vault.keys WHERE subject = ANY (%s)", (subjects,))
    company.reader.keyring.forget()
    with company.connect() as conn:
        for model in MODELS:
            rebuild(conn, company.reader.keyring, model)
    assert [path for path in PATHS if WORD in company.ask(path).text] == []
