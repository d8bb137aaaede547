"""What follows from an event: done once, in its name, parked in sight when a rule says no."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from structlog.testing import capture_logs

from commands import policies
from commands.customer import RegisterCustomer
from commands.handling.writer import Writer
from commands.policies import Policies, retry
from events.company import COMPANY
from events.customer import CustomerRegistered
from events.envelope import Actor, Recorded
from events.lead import LeadConverted
from events.ledger import checkpoints, ledger
from events.ledger.following import leads
from events.ledger.keys import Keyring
from events.ledger.locks import Lock
from events.opportunity import OpportunityOpened
from tests.commands.making import (
    MASTER,
    claim,
    events_of,
    register,
    request,
    tell,
    types_of,
    writer_on,
)


@contextmanager
def acting(url: str) -> Iterator[tuple[Policies, ledger.Connection]]:
    """Policies that lead, and the session they lead on."""
    writer = Writer(lambda: ledger.connect(url), Keyring(MASTER))
    made = Policies(lambda: ledger.connect(url), Keyring(MASTER), writer)
    try:
        with ledger.connect(url) as conn:
            # PostgreSQL lets go of a closed session's lock a moment later.
            wait_for(lambda: leads(conn, Lock.POLICIES))
            made.begin(conn)
            yield made, conn
    finally:
        writer.stop()


def caught_up(made: Policies, conn: ledger.Connection) -> None:
    while made.step(conn):
        pass


def converted(
    url: str,
    *,
    by: Actor | None = None,
    customer: UUID | None = None,
    deal: UUID | None = None,
    **lead: Any,
) -> Recorded:
    """A lead's way to its conversion; that event."""
    lead_id = uuid4()
    details = {"name": "Grace Hopper", "email": "grace@example.org", **lead}
    known = {"customer_id": customer, "opportunity_id": deal}
    data = {name: str(id_) for name, id_ in known.items() if id_ is not None}
    with writer_on(url) as writer:
        for asked in (
            request("leads/capture", details, of=lead_id),
            claim(lead_id, by="ada"),
            request("leads/qualify", {"budget": {"amount": "500", "currency": "EUR"}}, of=lead_id),
            request("leads/convert", data, of=lead_id),
        ):
            named = asked if by is None else replace(asked, actor=by)
            assert tell(writer, named).status < 300
    return events_of(url, lead_id)[-1]


def follow_ups(url: str, cause: Recorded) -> list[Recorded]:
    return [recorded for recorded in events_of(url) if recorded.causation_id == cause.event_id]


def parked(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as conn:
        return conn.execute(
            "SELECT command, rule, attempts FROM progress.parked_policies ORDER BY position"
        ).fetchall()


def test_a_converted_lead_becomes_customer_contact_and_deal(ledger_url: str) -> None:
    with acting(ledger_url) as (made, conn):
        cause = converted(ledger_url, company="Navy", source="fair", need="A compiler")
        caught_up(made, conn)
    registered, contact, deal = follow_ups(ledger_url, cause)
    assert isinstance(cause.event, LeadConverted)
    assert (registered.type, registered.stream_id) == (
        "customer.registered",
        cause.event.customer_id,
    )
    told: Any = registered.event
    assert (told.name, told.source, told.owner, told.email) == ("Navy", "fair", "ada", None)
    person: Any = contact.event
    assert (contact.type, person.name, person.email) == (
        "customer.contact-added",
        "Grace Hopper",
        "grace@example.org",
    )
    opened: Any = deal.event
    assert (deal.type, deal.stream_id) == ("opportunity.opened", cause.event.opportunity_id)
    assert (opened.customer_id, opened.owner, str(opened.amount.amount)) == (
        cause.event.customer_id,
        "ada",
        "500.00",
    )
    for follow_up in (registered, contact, deal):
        assert follow_up.actor == "open_a_deal_when_a_lead_converts"
        assert follow_up.actor_kind == "policy"
        assert follow_up.correlation_id == cause.correlation_id
        assert follow_up.occurred_at == cause.occurred_at


def test_a_person_without_a_company_is_the_customer(ledger_url: str) -> None:
    with acting(ledger_url) as (made, conn):
        cause = converted(ledger_url)
        caught_up(made, conn)
    registered, deal = follow_ups(ledger_url, cause)
    told: Any = registered.event
    assert (told.name, told.email) == ("Grace Hopper", "grace@example.org")
    assert "Grace" not in str(deal.event)


def test_who_gave_a_lead_back_does_not_own_its_customer(ledger_url: str) -> None:
    with acting(ledger_url) as (made, conn):
        lead_id = uuid4()
        with writer_on(ledger_url) as writer:
            for asked in (
                request("leads/capture", {"name": "Grace Hopper", "company": "Navy"}, of=lead_id),
                claim(lead_id, by="ada"),
                request("leads/qualify", {}, of=lead_id),
                request("leads/return", {"reason": "no time"}, of=lead_id),
                replace(request("leads/convert", {}, of=lead_id), actor=Actor("ben")),
            ):
                assert tell(writer, asked).status < 300
        cause = events_of(ledger_url, lead_id)[-1]
        caught_up(made, conn)
    registered, _, deal = follow_ups(ledger_url, cause)
    assert isinstance(registered.event, CustomerRegistered)
    assert isinstance(deal.event, OpportunityOpened)
    assert (registered.event.owner, deal.event.owner) == ("ben", "ben")


def test_what_was_corrected_and_handed_over_becomes_the_customer(ledger_url: str) -> None:
    lead_id = uuid4()
    with acting(ledger_url) as (made, conn):
        with writer_on(ledger_url) as writer:
            for name, data in (
                ("capture", {"name": "Grace Hoper", "email": "g@example.org", "source": "fair"}),
                ("hand-over", {"owner": "bob"}),
                ("change-details", {"name": "Grace Hopper", "company": "Navy"}),
                ("qualify", {}),
                ("convert", {}),
            ):
                assert tell(writer, request(f"leads/{name}", data, of=lead_id)).status < 300
        caught_up(made, conn)
    registered, contact, deal = follow_ups(ledger_url, events_of(ledger_url, lead_id)[-1])
    told: Any = registered.event
    assert (told.name, told.source, told.owner) == ("Navy", "fair", "bob")
    person: Any = contact.event
    assert (person.name, person.email) == ("Grace Hopper", "g@example.org")
    opened: Any = deal.event
    assert opened.owner == "bob"


def test_a_list_that_was_defined_meanwhile_does_not_keep_a_customer_from_coming(
    ledger_url: str,
) -> None:
    lead_id = uuid4()
    with acting(ledger_url) as (made, conn):
        with writer_on(ledger_url) as writer:
            listed = {"name": "sources", "values": ["web"]}
            for name, data, of in (
                ("leads/capture", {"name": "Grace", "source": "fair"}, lead_id),
                ("companies/define-list", listed, COMPANY),
                ("leads/claim", {}, lead_id),
                ("leads/qualify", {}, lead_id),
                ("leads/convert", {}, lead_id),
            ):
                assert tell(writer, request(name, data, of=of)).status < 300
        caught_up(made, conn)
    registered, *_ = follow_ups(ledger_url, events_of(ledger_url, lead_id)[-1])
    told: Any = registered.event
    assert (told.name, told.source) == ("Grace", "fair")
    assert parked(ledger_url) == []


def test_a_customer_known_already_gets_a_contact_and_a_deal(ledger_url: str) -> None:
    customer = uuid4()
    with acting(ledger_url) as (made, conn):
        with writer_on(ledger_url) as writer:
            tell(writer, register(customer))
        cause = converted(ledger_url, customer=customer)
        caught_up(made, conn)
    types = [recorded.type for recorded in follow_ups(ledger_url, cause)]
    assert types == ["customer.contact-added", "opportunity.opened"]


def test_a_deal_known_already_is_not_opened_again(ledger_url: str) -> None:
    customer, deal = uuid4(), uuid4()
    with acting(ledger_url) as (made, conn):
        with writer_on(ledger_url) as writer:
            tell(writer, register(customer))
            tell(writer, request("opportunities/open", {"title": "Looms"}, of=deal))
        cause = converted(ledger_url, customer=customer, deal=deal)
        caught_up(made, conn)
    assert [recorded.type for recorded in follow_ups(ledger_url, cause)] == [
        "customer.contact-added",
        "opportunity.customer-identified",
    ]


@pytest.mark.parametrize("kind", ["import", "library"])
def test_history_that_was_brought_along_fires_nothing(ledger_url: str, kind: str) -> None:
    with acting(ledger_url) as (made, conn):
        cause = converted(ledger_url, by=Actor("ada", kind))
        caught_up(made, conn)
    assert follow_ups(ledger_url, cause) == []


def test_what_was_done_is_not_done_again(ledger_url: str) -> None:
    with acting(ledger_url) as (made, conn):
        cause = converted(ledger_url)
        before = checkpoints.fetch(conn, policies.NAME)
        assert before is not None
        caught_up(made, conn)
        done = types_of(ledger_url)
        now = checkpoints.fetch(conn, policies.NAME)
        assert now is not None
        checkpoints.move(conn, now, before)  # as after a crash before the checkpoint moved
        caught_up(made, conn)
        assert types_of(ledger_url) == done
    assert len(follow_ups(ledger_url, cause)) == 2


def test_what_was_done_is_not_done_again_although_its_person_was_forgotten_meanwhile(
    ledger_url: str,
) -> None:
    with acting(ledger_url) as (made, conn):
        cause = converted(ledger_url)
        before = checkpoints.fetch(conn, policies.NAME)
        assert before is not None
        caught_up(made, conn)
        done = types_of(ledger_url)
        now = checkpoints.fetch(conn, policies.NAME)
        assert now is not None
        with psycopg.connect(ledger_url, autocommit=True) as superuser:
            superuser.execute("DELETE FROM vault.keys WHERE subject = %s", (cause.stream_id,))
    with acting(ledger_url) as (made, conn):
        checkpoints.move(conn, now, before)  # as after a crash before the checkpoint moved
        caught_up(made, conn)
        assert types_of(ledger_url) == done
    assert parked(ledger_url) == []


def test_policies_begin_at_the_end_of_a_ledger_that_is_older(ledger_url: str) -> None:
    old = converted(ledger_url)
    with acting(ledger_url) as (made, conn):
        caught_up(made, conn)
        assert follow_ups(ledger_url, old) == []
        new = converted(ledger_url)
        caught_up(made, conn)
    assert len(follow_ups(ledger_url, new)) == 2


def test_policies_halt_on_a_ledger_that_is_not_the_one_they_read(ledger_url: str) -> None:
    with acting(ledger_url) as (made, conn):
        converted(ledger_url)
        caught_up(made, conn)
    with psycopg.connect(ledger_url, autocommit=True) as superuser:
        superuser.execute("UPDATE progress.checkpoints SET event_id = gen_random_uuid()")
    with acting(ledger_url) as (made, conn):
        cause = converted(ledger_url)
        caught_up(made, conn)
        stands = checkpoints.fetch(conn, policies.NAME)
        assert stands is not None
        assert "not this one" in (stands.halted or "")
        assert follow_ups(ledger_url, cause) == []
        policies.begin_at_the_end(conn)
        later = converted(ledger_url)
        caught_up(made, conn)
    assert len(follow_ups(ledger_url, later)) == 2
    assert follow_ups(ledger_url, cause) == []


def test_an_event_that_a_policy_fails_on_keeps_no_other_waiting(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = policies.open_a_deal_when_a_lead_converts

    def fails_at_bad_luck(history: Any, deals: Any) -> list[policies.Wish]:
        if history[0].event.company == "Bad Luck":
            raise RuntimeError("no luck")
        return sentence(history, deals)

    fails_at_bad_luck.__name__ = sentence.__name__
    monkeypatch.setattr(policies, "POLICIES", {"lead.converted": (fails_at_bad_luck,)})
    with acting(ledger_url) as (made, conn):
        bad = converted(ledger_url, company="Bad Luck")
        good = converted(ledger_url)
        caught_up(made, conn)
    assert parked(ledger_url) == [("", "PolicyFailed", 1)]
    assert follow_ups(ledger_url, bad) == []
    assert len(follow_ups(ledger_url, good)) == 2


def test_what_is_parked_of_a_failure_holds_no_personal_text(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def writes_too_much(*_: Any) -> list[policies.Wish]:
        return [policies.Wish(RegisterCustomer(name="Grace Hopper " * 100), uuid4())]

    monkeypatch.setattr(policies, "POLICIES", {"lead.converted": (writes_too_much,)})
    with acting(ledger_url) as (made, conn), capture_logs() as logged:
        converted(ledger_url)
        caught_up(made, conn)
        [(detail,)] = conn.execute("SELECT detail FROM progress.parked_policies").fetchall()
    assert "ValidationError" in detail
    assert "Hopper" not in detail
    [failure] = [entry for entry in logged if entry["event"] == "a policy failed"]
    assert "Hopper" not in str(failure)


def test_a_person_who_was_forgotten_meanwhile_still_gets_a_deal(ledger_url: str) -> None:
    with acting(ledger_url) as (made, conn):
        cause = converted(ledger_url)
        with psycopg.connect(ledger_url, autocommit=True) as superuser:
            superuser.execute("DELETE FROM vault.keys WHERE subject = %s", (cause.stream_id,))
        caught_up(made, conn)
    assert parked(ledger_url) == []
    assert len(follow_ups(ledger_url, cause)) == 2


def test_one_process_acts_and_another_takes_over(ledger_url: str) -> None:
    with acting(ledger_url), ledger.connect(ledger_url) as standby:
        assert not leads(standby, Lock.POLICIES)
    with acting(ledger_url):
        pass


def test_a_refused_command_is_parked_and_tried_again_when_an_operator_asks(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = uuid4()
    sentence = policies.open_a_deal_when_a_lead_converts

    def with_a_missing_customer(history: Any, deals: Any) -> list[policies.Wish]:
        *before, deal = sentence(history, deals)
        command = deal.command.model_copy(update={"customer_id": missing})
        return [*before, deal._replace(command=command)]

    with_a_missing_customer.__name__ = sentence.__name__
    monkeypatch.setattr(policies, "POLICIES", {"lead.converted": (with_a_missing_customer,)})
    monkeypatch.setitem(policies.BY_NAME, sentence.__name__, with_a_missing_customer)
    with acting(ledger_url) as (made, conn):
        cause = converted(ledger_url)
        caught_up(made, conn)
        assert parked(ledger_url) == [("opportunities/open", "CustomerUnknown", 1)]
        assert [r.type for r in follow_ups(ledger_url, cause)] == ["customer.registered"]
        assert retry(conn, cause.position + 1, "olga") == []
        assert retry(conn, cause.position, "olga") == [sentence.__name__]
        made.retry_wanted(conn)
        assert parked(ledger_url) == [("opportunities/open", "CustomerUnknown", 2)]
        with writer_on(ledger_url) as writer:
            tell(writer, register(missing))
        made.retry_wanted(conn)
        assert len(parked(ledger_url)) == 1, "nobody asked"
        retry(conn, cause.position, "olga")
        made.retry_wanted(conn)
        assert parked(ledger_url) == []
    types = [recorded.type for recorded in follow_ups(ledger_url, cause)]
    assert types == ["customer.registered", "opportunity.opened"]
    with ledger.connect(ledger_url) as conn:
        refused = conn.execute(
            "SELECT actor, rule FROM ledger.outcomes WHERE status = 'refused'"
        ).fetchall()
    assert refused == [(sentence.__name__, "CustomerUnknown")] * 2


def test_policies_go_on_after_their_connection_is_lost(ledger_url: str) -> None:
    writer = Writer(lambda: ledger.connect(ledger_url), Keyring(MASTER))
    made = Policies(lambda: ledger.connect(ledger_url, "policies"), Keyring(MASTER), writer)
    stop = threading.Event()
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    try:
        wait_for(lambda: has_begun(ledger_url))
        with psycopg.connect(ledger_url, autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name ~ '^policies \\d{4}$'"
            )
        cause = converted(ledger_url)
        wait_for(lambda: len(follow_ups(ledger_url, cause)) == 2)
    finally:
        stop.set()
        thread.join()
        writer.stop()


def has_begun(url: str) -> bool:
    with ledger.connect(url) as conn:
        return checkpoints.fetch(conn, policies.NAME) is not None


def wait_for(holds: Any) -> None:
    waited = threading.Event()
    for _ in range(2_400):
        if holds():
            return
        waited.wait(0.05)
    raise AssertionError("it did not come to pass")
