"""Tickets, from the call to the rating."""

from __future__ import annotations

from contextlib import suppress

from pledge.demo import promises, words
from pledge.demo.account import Account, happens
from pledge.demo.telling import NotYet, Telling
from pledge.demo.words import Product


def serve(
    telling: Telling, account: Account, ticket: str, product: Product, day: float, order: str | None
) -> None:
    """From the call to the rating; where the story ends before, it is open."""
    dice, speech, called = account.dice, account.speech, account.called(product)
    kind, subject = dice.choice(speech.tickets)
    first, second = words.TECHNICIANS[account.region]
    telling.tell(
        day,
        words.SERVICE_DESK,
        "tickets/open",
        ticket,
        customer_id=telling.id_of(account.key),
        order_id=None if order is None else telling.id_of(order),
        subject=subject.format(called),
        channel=dice.choice(("call", "email", "chat")),
        kind=kind,
        priority=dice.choices(("low", "normal", "high", "urgent"), (15, 60, 20, 5))[0],
        product=product.code,
    )
    promised = None
    if kind == "complaint":
        credit = speech.complaint_promise.format(called)
        promised = promises.make(telling, account, account.owner(day), credit, day + 0.3, day + 12)
        if happens(dice, 0.4):
            reason = "no answer for a week"
            telling.tell(day + 5, words.SERVICE_DESK, "tickets/escalate", ticket, reason=reason)
            day += 5
    day += dice.uniform(0.05, 1.5)
    telling.tell(day, words.SERVICE_DESK, "tickets/dispatch", ticket, technician=first)
    if happens(dice, 0.12):
        telling.tell(day + 0.2, first, "tickets/decline", ticket, reason="on another site")
        day, first = day + 0.5, second if second != first else words.TECHNICIANS["south"][0]
        telling.tell(day, words.SERVICE_DESK, "tickets/dispatch", ticket, technician=first)
    telling.tell(day + 0.1, first, "tickets/confirm", ticket)
    telling.tell(day + 0.2, first, "tickets/reply", ticket, text=dice.choice(speech.replies))
    if happens(dice, 0.3):
        reason = "waits for the serial number"
        telling.tell(day + 0.3, first, "tickets/wait", ticket, reason=reason)
        day += dice.uniform(1, 6)
    day += dice.uniform(0.3, 3)
    minutes = dice.randrange(10, 180)
    telling.tell(day, first, "tickets/log-work", ticket, minutes=minutes)
    telling.tell(day + 0.1, first, "tickets/resolve", ticket, text=speech.done)
    if promised is not None:
        with suppress(NotYet):
            promises.settle(telling, account, promised, day + dice.uniform(0, 8))
    day += dice.uniform(1, 4)
    if happens(dice, 0.07):
        desk = words.SERVICE_DESK
        telling.tell(day, desk, "tickets/reopen", ticket, reason="it came back")
        day += 2
        telling.tell(day, first, "tickets/resolve", ticket, text=speech.done)
    telling.tell(day + 0.1, words.SERVICE_DESK, "tickets/close", ticket)
    if happens(dice, 0.6):
        score = dice.choices((1, 2, 3, 4, 5), (4, 6, 15, 35, 40))[0]
        telling.tell(day + 1, words.SERVICE_DESK, "tickets/rate", ticket, score=score)


def questions(telling: Telling, account: Account) -> None:
    """What they ask for besides their orders."""
    day, n = account.begins, 0
    while True:
        day += account.dice.expovariate(1 / 170) + 10
        product = account.dice.choice(words.PRODUCTS)
        serve(telling, account, f"{account.key} question {n}", product, day, None)
        n += 1
