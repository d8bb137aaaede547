"""Whom the company knows: leads, contacts, talks, and who looks after whom."""

from __future__ import annotations

from contextlib import suppress
from random import Random

from pledge.demo import words
from pledge.demo.account import SLOW, Account, happens, mail_of, person_of
from pledge.demo.telling import DAYS, NotYet, Telling
from pledge.demo.words import CHINESE, ENGLISH


def begin_as_lead(telling: Telling, account: Account, day: float) -> None:
    """The customer before the deal: a lead that marketing captures and a rep qualifies."""
    dice, lead, rep = account.dice, f"{account.key} lead", account.rep
    person = person_of(dice, account.region)
    telling.tell(
        day,
        words.MARKETING,
        "leads/capture",
        lead,
        name=person,
        company=account.name,
        email=mail_of(person, account),
        source=dice.choice(words.SOURCES),
        region=account.region,
        industry=account.industry,
        need=account.speech.need.format(account.called(dice.choice(words.PRODUCTS))),
    )
    telling.tell(day + 0.2, rep.name, "leads/claim", lead)
    if happens(dice, 0.2):
        colleague = account.colleague.name
        telling.tell(day + 0.3, colleague, "leads/claim", lead, refused_by="LeadOwned")
    budget = account.money(dice.randrange(5, 90) * 100_000 * words.RATE[account.currency])
    telling.tell(day + 2, rep.name, "leads/qualify", lead, budget=budget)
    account.contacts.append(person)


def convert(telling: Telling, account: Account, deal: str, day: float) -> None:
    """Their lead becomes a customer and a deal."""
    with suppress(NotYet):
        telling.tell(
            day,
            account.owner(day),
            "leads/convert",
            f"{account.key} lead",
            customer_id=telling.id_of(account.key),
            opportunity_id=telling.id_of(deal),
        )


def add_contacts(telling: Telling, account: Account, day: float) -> None:
    """Who speaks for the customer, and the first call."""
    dice = account.dice
    people = account.contacts or [person_of(dice, account.region)]
    people += [person_of(dice, account.region) for _ in range(dice.choice((0, 1, 1, 2)))]
    account.contacts = people
    for n, person in enumerate(people):
        telling.tell(
            day + 0.1 + n / 10,
            account.rep.name,
            "customers/add-contact",
            account.key,
            contact_id=telling.id_of(f"{account.key} {person} {n}"),
            name=person,
            email=mail_of(person, account),
            phone=f"+{'86 571' if account.region == 'asia' else '49 30'} 5550 "
            f"{dice.randrange(10_000):04d}",
            role=words.ROLES[n % len(words.ROLES)],
        )
    log_interaction(telling, account, day + 1, "call", account.speech.first_call.format(people[0]))


def log_interaction(
    telling: Telling, account: Account, day: float, channel: str, summary: str
) -> None:
    """Somebody is in touch with the customer."""
    person = account.contacts[0]
    telling.tell(
        day,
        account.owner(day),
        "customers/log-interaction",
        account.key,
        channel=channel,
        contact_id=telling.id_of(f"{account.key} {person} 0"),
        minutes=account.dice.randrange(4, 50) if channel in ("call", "visit") else None,
        inbound=happens(account.dice, 0.3),
        summary=summary,
    )


def talks(telling: Telling, account: Account) -> None:
    """Whatever else is talked about, to the story's end."""
    day = account.begins + 3
    while True:
        day += account.dice.expovariate(1 / 45) + 2
        channel = account.dice.choice(("call", "call", "email", "visit", "meeting", "chat"))
        log_interaction(telling, account, day, channel, account.dice.choice(account.speech.talks))


def standing(telling: Telling, account: Account, dice: Random) -> None:
    """Tags for who pays late and for who matters, and a bonus at the end of their year."""
    desk, day = words.LEAD_OF_SALES, account.begins + dice.uniform(60, 120)
    if account.late == SLOW:
        telling.tell(day, words.ACCOUNTS, "customers/tag", account.key, tag="pays late")
    elif happens(dice, 0.15):
        telling.tell(day, desk, "customers/tag", account.key, tag="key account")
        telling.tell(
            day + 260,
            words.ACCOUNTS,
            "payments/receive",
            f"{account.key} bonus",
            kind="credit-note",
            customer_id=telling.id_of(account.key),
            amount=account.money(dice.randrange(20, 60) * 1_000 * words.RATE[account.currency]),
            note="Bonus of the year",
        )


def owners(telling: Telling, account: Account) -> None:
    """Whoever leaves hands over; whoever is silent falls into the public sea."""
    dice, leaves = account.dice, account.rep.leaves
    if leaves is not None:
        telling.tell(
            leaves + dice.uniform(0, 1),
            words.LEAD_OF_SALES,
            "customers/hand-over",
            account.key,
            owner=account.colleague.name,
            reason=f"{account.rep.name} has left the company",
        )
    elif happens(dice, 0.1):
        day = dice.uniform(account.begins + 30, DAYS + 60)
        reason = "no project this year"
        telling.tell(day, words.LEAD_OF_SALES, "customers/release", account.key, reason=reason)
        if happens(dice, 0.5):
            telling.tell(day + 8, account.owner(day), "customers/claim", account.key)


def lead_that_stays_one(telling: Telling, lead: str, dice: Random) -> None:
    """A lead that is never converted."""
    region, day = dice.choice(words.REGIONS), dice.uniform(0, DAYS + 4)
    rep, colleague = (rep for rep in words.REPS if rep.region == region)
    if rep.leaves is not None or happens(dice, 0.5):
        rep, colleague = colleague, rep
    if rep.leaves is not None and day + 20 > rep.leaves:
        rep = colleague
    speech = CHINESE if region == "asia" else ENGLISH
    product = dice.choice(words.PRODUCTS)
    telling.tell(
        day,
        words.MARKETING,
        "leads/capture",
        lead,
        name=person_of(dice, region),
        source=dice.choice(words.SOURCES),
        region=region,
        industry=dice.choice([*words.INDUSTRIES]),
        need=speech.need.format(product.chinese if region == "asia" else product.english),
    )
    fate = dice.choices(
        ("pool", "claimed", "returned", "qualified", "disqualified"), (20, 15, 10, 15, 40)
    )[0]
    if fate == "pool" and day < DAYS - 60:
        fate = "disqualified"  # nobody lies in the pool for two years
    if fate == "pool":
        return
    telling.tell(day + dice.uniform(0.1, 2), rep.name, "leads/claim", lead)
    day += dice.uniform(2, 9)
    if fate == "returned":
        telling.tell(day, rep.name, "leads/return", lead, reason="no time before the fair")
    elif fate == "qualified":
        telling.tell(day, rep.name, "leads/qualify", lead)
    elif fate == "disqualified":
        reason = dice.choice(words.NOT_WORTH_IT)
        telling.tell(day, rep.name, "leads/disqualify", lead, reason=reason)


def competitors(
    telling: Telling,
) -> None:
    """The story's first line and its last are here; see ``cut_short``."""
    for n, name in enumerate(("Vantage Systems", "Polar Metrics", "深圳天衡仪器")):
        telling.tell(
            30.0 * n,
            words.LEAD_OF_SALES,
            "customers/register",
            f"competitor {n}",
            name=name,
            kind="competitor",
            source="trade fair",
        )
    telling.tell(
        DAYS - 1e-6,
        words.LEAD_OF_SALES,
        "customers/log-interaction",
        "competitor 0",
        channel="other",
        summary="They showed a sensor at half our price at the fair.",
    )
