"""A customer's hand-over takes along the open deals that its former owner held; no others."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from commands import policies, remembered
from commands.handling.request import Request
from events.envelope import Actor, Recorded
from events.ledger import checkpoints, ledger
from events.opportunity import OpportunityHandedOver
from tests.commands.making import events_of, handle, request, types_of, writer_on
from tests.commands.test_policies import acting, caught_up, follow_ups, parked

CUSTOMER = UUID(int=0xC1 + (4 << 76) + (1 << 63))


def registered(customer: UUID = CUSTOMER, owner: str = "ada") -> Request:
    data = {"name": "Analytical Engines", "owner": owner}
    return request("customers/register", data, of=customer)


def opened(deal: UUID, customer: UUID | None = CUSTOMER, owner: str = "ada") -> Request:
    data: dict[str, Any] = {"title": "Looms", "owner": owner}
    if customer is not None:
        data["customer_id"] = str(customer)
    return request("opportunities/open", data, of=deal)


def handed_over(to: str, reason: str | None = None) -> Request:
    data = {"owner": to} | ({} if reason is None else {"reason": reason})
    return request("customers/hand-over", data, of=CUSTOMER)


def tell_all(url: str, *asked: Request, by: Actor | None = None) -> None:
    with writer_on(url) as writer:
        answers = handle(writer, [one if by is None else _by(one, by) for one in asked])
    assert [answer.body for answer in answers if answer.status >= 300] == []


def _by(asked: Request, actor: Actor) -> Request:
    asked.actor = actor
    return asked


def owner_of(url: str, deal: UUID) -> str:
    owners = [r.event.owner for r in events_of(url, deal) if hasattr(r.event, "owner")]
    return str(owners[-1])


def last_of(url: str, stream: UUID = CUSTOMER) -> Recorded:
    return events_of(url, stream)[-1]


def test_open_deals_of_the_former_owner_follow_their_customer_and_nothing_is_reset(
    ledger_url: str,
) -> None:
    deal, named_later = uuid4(), uuid4()
    with acting(ledger_url) as (made, conn):
        tell_all(ledger_url, registered(), opened(deal), opened(named_later, customer=None))
        tell_all(
            ledger_url,
            request("opportunities/move-stage", {"stage": "proposal"}, of=deal),
            request(
                "opportunities/identify-customer", {"customer_id": str(CUSTOMER)}, of=named_later
            ),
            handed_over("bob", "Ada left"),
        )
        caught_up(made, conn)
    cause = last_of(ledger_url)
    found = follow_ups(ledger_url, cause)
    assert [(r.stream_id, r.type) for r in found] == [
        (deal, "opportunity.handed-over"),
        (named_later, "opportunity.handed-over"),
    ]
    for follow_up in found:
        assert follow_up.event == OpportunityHandedOver(
            previous_owner="ada", owner="bob", reason="Ada left", customer_id=CUSTOMER
        )
        assert follow_up.occurred_at == cause.occurred_at
        assert follow_up.actor == "hand_open_deals_over_with_their_customer"


def test_a_deal_that_is_closed_or_somebody_elses_or_another_customers_stays(
    ledger_url: str,
) -> None:
    won, lost, eves, other, unnamed = (uuid4() for _ in range(5))
    elsewhere = uuid4()
    with acting(ledger_url) as (made, conn):
        tell_all(ledger_url, registered(), registered(elsewhere))
        tell_all(
            ledger_url,
            *(opened(deal) for deal in (won, lost)),
            opened(eves, owner="eve"),
            opened(other, customer=elsewhere),
            opened(unnamed, customer=None),
            request("opportunities/win", {}, of=won),
            request("opportunities/lose", {"reason": "price"}, of=lost),
            handed_over("bob"),
        )
        caught_up(made, conn)
    assert follow_ups(ledger_url, last_of(ledger_url)) == []
    assert parked(ledger_url) == []


def test_deals_follow_a_customer_that_is_handed_on_before_anybody_looked(ledger_url: str) -> None:
    deal = uuid4()
    with acting(ledger_url) as (made, conn):
        tell_all(ledger_url, registered(), opened(deal))
        tell_all(ledger_url, handed_over("bob"), handed_over("cyd"))
        caught_up(made, conn)
    assert owner_of(ledger_url, deal) == "cyd"


def test_a_deal_that_the_former_owner_got_after_the_hand_over_stays_with_them(
    ledger_url: str,
) -> None:
    opened_later, handed_later, old = uuid4(), uuid4(), uuid4()
    with acting(ledger_url) as (made, conn):
        tell_all(ledger_url, registered(), opened(old), opened(handed_later, owner="eve"))
        tell_all(ledger_url, handed_over("bob"))
        cause = last_of(ledger_url)
        tell_all(ledger_url, opened(opened_later))
        tell_all(ledger_url, request("opportunities/hand-over", {"owner": "ada"}, of=handed_later))
        caught_up(made, conn)
    assert [r.stream_id for r in follow_ups(ledger_url, cause)] == [old]
    owners = [owner_of(ledger_url, deal) for deal in (opened_later, handed_later)]
    assert owners == ["ada", "ada"]


def test_a_deal_that_changes_hands_while_the_policy_acts_is_not_snatched_away(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, won = uuid4(), uuid4()
    sentence = policies.hand_open_deals_over_with_their_customer

    def after_others(history: Any, deals: Any) -> list[policies.Wish]:
        wishes = sentence(history, deals)
        tell_all(
            ledger_url,
            request("opportunities/hand-over", {"owner": "eve"}, of=taken),
            request("opportunities/win", {}, of=won),
        )
        return wishes

    after_others.__name__ = sentence.__name__
    monkeypatch.setattr(policies, "POLICIES", {"customer.handed-over": (after_others,)})
    with acting(ledger_url) as (made, conn):
        tell_all(ledger_url, registered(), opened(taken), opened(won))
        tell_all(ledger_url, handed_over("bob"))
        caught_up(made, conn)
    assert [owner_of(ledger_url, deal) for deal in (taken, won)] == ["eve", "ada"]
    assert parked(ledger_url) == []


def test_deals_followed_once_do_not_follow_again(ledger_url: str) -> None:
    deals = [uuid4(), uuid4()]
    with acting(ledger_url) as (made, conn):
        tell_all(ledger_url, registered(), *map(opened, deals))
        tell_all(ledger_url, handed_over("bob"))
        before = checkpoints.fetch(conn, policies.NAME)
        assert before is not None
        caught_up(made, conn)
        tell_all(ledger_url, request("opportunities/hand-over", {"owner": "ada"}, of=deals[0]))
        done = types_of(ledger_url)
        now = checkpoints.fetch(conn, policies.NAME)
        assert now is not None
        checkpoints.move(conn, now, before)  # as after a crash before the checkpoint moved
        caught_up(made, conn)
        assert types_of(ledger_url) == done
    assert [owner_of(ledger_url, deal) for deal in deals] == ["ada", "bob"]


def test_a_hand_over_that_is_imported_as_history_takes_no_deal_along(ledger_url: str) -> None:
    deal = uuid4()
    with acting(ledger_url) as (made, conn):
        tell_all(ledger_url, registered(), opened(deal))
        tell_all(ledger_url, handed_over("bob"), by=Actor("import", "import"))
        caught_up(made, conn)
    assert owner_of(ledger_url, deal) == "ada"


def test_deals_that_are_older_than_the_policies_follow_also_imported_ones(
    ledger_url: str,
) -> None:
    deal = uuid4()
    tell_all(ledger_url, registered(), opened(deal), by=Actor("import", "import"))
    with acting(ledger_url) as (made, conn):
        tell_all(ledger_url, handed_over("bob"))
        caught_up(made, conn)
    assert owner_of(ledger_url, deal) == "bob"


@pytest.mark.parametrize("batch", [1, 2, 500])
def test_the_memory_made_anew_is_the_memory_kept_up(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(remembered, "BATCH", batch)
    other = uuid4()
    deals = [uuid4() for _ in range(4)]
    with ledger.connect(ledger_url) as conn:
        tell_all(ledger_url, registered(), registered(other), opened(deals[0]))
        remembered.catch_up(conn, ledger.head(conn))
        tell_all(ledger_url, opened(deals[1], customer=other), opened(deals[2], customer=None))
        tell_all(
            ledger_url,
            request("opportunities/identify-customer", {"customer_id": str(CUSTOMER)}, of=deals[2]),
            opened(deals[3], customer=None),
        )
        head = ledger.head(conn)
        kept = [remembered.deals_of(conn, one, head + 1) for one in (CUSTOMER, other)]
        assert kept == [[deals[0], deals[2]], [deals[1]]]
        with psycopg.connect(ledger_url, autocommit=True) as superuser:
            superuser.execute(
                "UPDATE progress.checkpoints SET event_id = gen_random_uuid() WHERE name = %s",
                (remembered.NAME,),
            )
        anew = [remembered.deals_of(conn, one, head + 1) for one in (CUSTOMER, other)]
        assert anew == kept
        assert remembered.deals_of(conn, CUSTOMER, 3) == []
