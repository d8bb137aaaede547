"""A company of two years: who it sells to, what was promised, what was paid, what broke."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from pledge.demo import people, sales, service, words
from pledge.demo.account import OLD, Account, account_of, dice_of, happens
from pledge.demo.telling import DAYS, NotYet, Telling


def happen(telling: Telling, size: int, seed: int) -> None:
    """Tell the story of ``size`` customers, and of the leads that never became one.

    Args:
        telling: takes down what happens.
        seed: of every choice; customer 7 is the same in a larger company.
    """
    for n in range(size):
        with suppress(NotYet):
            _customer(telling, account_of(n, seed), seed)
    for n in range(size * 3 // 2):
        lead = f"lead {n}"
        with suppress(NotYet):
            people.lead_that_stays_one(telling, lead, dice_of(seed, lead))
    people.competitors(telling)


def _customer(telling: Telling, account: Account, seed: int) -> None:
    """One customer from the first word to the story's end."""
    dice, day = account.dice, account.begins
    came_as_lead = account.begins > OLD and happens(dice, 0.7)
    if came_as_lead:
        people.begin_as_lead(telling, account, day - dice.uniform(4, 12))
    telling.tell(
        day,
        account.rep.name,
        "customers/register",
        account.key,
        name=account.name,
        kind="partner" if happens(dice, 0.05) else "customer",
        region=account.region,
        industry=account.industry,
        employees=dice.choice((12, 40, 85, 150, 320, 900, 2_400)),
        source=dice.choice(words.SOURCES),
        owner=account.rep.name,
    )
    people.add_contacts(telling, account, day)
    deals: list[str] = []
    while day < DAYS:
        deals.append(f"{account.key} deal {len(deals)}")
        with suppress(NotYet):
            sales.sell(telling, account, deals[-1], day + dice.uniform(0.5, 6))
        if came_as_lead and len(deals) == 1:
            people.convert(telling, account, deals[0], day + 7)
        day += dice.expovariate(1 / 150) + 15
    parts = (
        sales.payments,
        people.talks,
        service.questions,
        partial(people.standing, dice=dice_of(seed, f"{account.key} standing")),
        people.owners,
    )
    for part in parts:
        with suppress(NotYet):
            part(telling, account)
