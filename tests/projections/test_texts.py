"""Who types a text in decomposed Unicode, or with invisible margins, means the same text."""

from __future__ import annotations

from unicodedata import normalize
from uuid import UUID

import orjson
import pytest

from commands.http.routes import actor_of
from commands.http.wire import Unprocessable
from tests.projections.world import World

NAME = "Çelik Şirketi"
TYPED = normalize("NFD", NAME)
REP = "Zoë"
ODD_REP = f"\u200b{normalize('NFD', REP)}\u00a0"
ANN, BEN, LEAD = UUID(int=101), UUID(int=102), UUID(int=103)


def test_a_customer_is_found_however_its_name_and_the_question_are_typed(company: World) -> None:
    company.do("customers/register", ANN, name=f"\ufeff{TYPED}\u200b", owner=ODD_REP, region=TYPED)
    company.project()
    for name in (NAME, TYPED, f"\u00a0{TYPED}", "çelik"):
        [found] = company.get("/customers", name=name)["items"]
        assert found["name"] == NAME
    for owner in (REP, ODD_REP):
        assert company.get("/customers", owner=owner)["items"][0]["owner"] == REP
    assert company.get("/customers", region=TYPED)["items"][0]["region"] == NAME


def test_what_was_stored_as_it_was_typed_compares_equal(company: World) -> None:
    """Events of versions that did not compose texts."""
    company.do("customers/register", ANN, name="Ann")
    for name, data in (
        ("customer.tagged", {"tag": TYPED}),
        ("customer.claimed", {"owner": normalize("NFD", REP)}),
    ):
        company.slip_in("customer", ANN, name, orjson.dumps(data))
    head = company.head()
    company.do("customers/tag", ANN, tag=NAME)
    assert company.head() == head, "it was tagged with an equal tag already"
    company.project()
    [found] = company.get("/customers", tag=NAME)["items"]
    assert (found["tags"], found["owner"]) == ([NAME], REP)
    assert company.differing() == []


def test_a_mark_behind_a_line_feed_is_stored_and_read(company: World) -> None:
    """In JSON the letter of an escape stands before it, and is not to be composed with it."""
    odd = "a\t\u030cb\n\u0301c"
    company.do("customers/register", ANN, name="Ann", note=odd)
    company.do("customers/make-promise", ANN, promise_id=UUID(int=9), what=odd, topic="a\t\u030cb")
    company.slip_in("customer", ANN, "customer.tagged", orjson.dumps({"tag": odd}))
    company.project()
    assert company.get(f"/customers/{ANN}")["note"] == odd
    assert company.get("/promises")["items"][0]["topic"] == "a\t\u030cb"
    assert odd in company.get("/customers")["items"][0]["tags"]
    company.do("customers/claim", ANN, by="ada")  # the state is folded of the same events


def test_margins_that_were_stored_are_none_either(company: World) -> None:
    company.do("customers/register", ANN, name="Ann")
    company.slip_in("customer", ANN, "customer.claimed", orjson.dumps({"owner": "\u200bada\u200b"}))
    company.project()
    for owner in ("ada", " ada ", "\u200bada"):
        assert len(company.get("/customers", owner=owner)["items"]) == 1


def test_an_actor_is_one_however_it_is_typed(company: World) -> None:
    typed = normalize("NFD", REP)
    assert actor_of({b"x-actor": ODD_REP.encode()}).id == REP
    company.do("leads/capture", LEAD, name="Grace", by=typed)  # as it was stored once
    for actor in (REP, typed):
        [entry] = company.get("/audit/events", actor=actor)["items"]
        assert normalize("NFC", entry["actor"]) == REP


def test_a_text_of_nothing_but_invisible_characters_is_empty(company: World) -> None:
    with pytest.raises(Unprocessable, match=r"data\.name: .* at least 1 character"):
        company.try_("customers/register", ANN, name="\u200b\ufeff")
