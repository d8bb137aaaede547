"""What is promised, and what becomes of it."""

from __future__ import annotations

from typing import Any

from pledge.demo import words
from pledge.demo.account import Account, happens
from pledge.demo.telling import Telling
from pledge.demo.words import Product


def make(
    telling: Telling, account: Account, by: str, what: str, day: float, due: float, **more: Any
) -> tuple[str, float]:
    """A promise and when it is due; later it is kept, broken or stays open."""
    promise = f"{account.key} promise {what} {day}"
    telling.tell(
        day,
        by,
        "customers/make-promise",
        account.key,
        promise_id=telling.id_of(promise),
        what=what,
        due=telling.date_of(due).isoformat(),
        **more,
    )
    return promise, due


def settle(
    telling: Telling,
    account: Account,
    promised: tuple[str, float],
    day: float,
    why: str | None = None,
) -> None:
    """The promised thing happened on this day: in time, or it was broken before."""
    promise, due = promised
    kept = int(day) <= int(due)
    telling.tell(
        day if kept else max(due + 1.05, day),
        account.owner(day),
        f"customers/{'keep' if kept else 'break'}-promise",
        account.key,
        promise_id=telling.id_of(promise),
        reason=None if kept else why or account.speech.late,
    )


def two_prices(
    telling: Telling, account: Account, deal: str, product: Product, amount: int, day: float
) -> None:
    """Rep and colleague promise one customer one thing at two prices."""
    called = account.called(product)
    topic = f"{account.speech.price_topic.format(called)} ({deal.rpartition(' ')[2]})"
    what = account.speech.price.format(called)
    other = words.KEY_ACCOUNTS if happens(account.dice, 0.5) else account.colleague.name
    leaves = account.colleague.leaves
    if other == account.owner(day) or (leaves is not None and day + 5 > leaves):
        other = words.KEY_ACCOUNTS
    for by, when, cents in (
        (account.owner(day), day, amount),
        (other, day + account.dice.uniform(0.5, 2.5), amount * 94 // 100),
    ):
        money = account.money(cents)
        promise, _ = make(telling, account, by, what, when, when + 30, topic=topic, amount=money)
        account.prices.setdefault(deal, []).append((promise, by))


def prices_settled(telling: Telling, account: Account, deal: str, day: float, *, won: bool) -> None:
    """One price was kept at most; mostly somebody takes the other back, in so many words."""
    for n, (promise, by) in enumerate(account.prices.get(deal, ())):
        if happens(account.dice, 0.25):
            continue
        kept = won and n == 0
        telling.tell(
            day,
            account.owner(day) if kept else by,
            f"customers/{'keep' if kept else 'withdraw'}-promise",
            account.key,
            promise_id=telling.id_of(promise),
            reason=None if kept else account.speech.taken_back,
        )
