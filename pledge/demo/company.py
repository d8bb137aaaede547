"""A company of two years: who it sells to, what was promised, what was paid, what broke."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from faker import Faker

from pledge.demo import words
from pledge.demo.telling import DAYS, NotYet, Telling
from pledge.demo.words import CHINESE, ENGLISH, Product, Rep, Speech

PATHS = {
    "sales": ("discovery", "proposal"),
    "contract": ("intent", "negotiation", "purchase"),
}
LARGE = 60_000
"""Euros from which a deal goes through the long pipeline, and a colleague looks after it too."""
OLD = 15
"""Customers of the first days are those whom the company had before; the others are won."""
NET_DAYS = 22
"""Working days from delivery to the day a bill is due."""
TOGETHER_DAYS = 4
SLOW = 45
"""Days after the due day on which the slowest customers pay."""
"""Bills that a customer pays within so many days are paid by one transfer."""


@dataclass
class Account:
    """A customer as the story knows them; its dice are its own, so it never moves another's.

    Attributes:
        late: how many working days after the due date they pay; None for those who do not.
        bills: of each order, what is to be paid when: (day, order, amount).
        prices: by deal, what two people promised it for: (promise, who).
    """

    key: str
    dice: Random
    name: str
    region: str
    industry: str
    rep: Rep
    colleague: Rep
    late: float | None
    begins: float
    contacts: list[str] = field(default_factory=list)
    bills: list[tuple[float, str, int]] = field(default_factory=list)
    prices: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    @property
    def speech(self) -> Speech:
        """The sentences of their language."""
        return CHINESE if self.region == "asia" else ENGLISH

    @property
    def currency(self) -> str:
        """What they pay in."""
        return words.CURRENCIES[self.region]

    def owner(self, day: float) -> str:
        """Whose customer they are on this day, unless a colleague claimed them meanwhile."""
        left = self.rep.leaves is not None and day >= self.rep.leaves
        return (self.colleague if left else self.rep).name

    def money(self, amount: int) -> dict[str, str]:
        """An amount in cents, as commands have it."""
        return {"amount": f"{amount // 100}.{amount % 100:02d}", "currency": self.currency}

    def price(self, product: Product) -> int:
        """Of one piece, in cents."""
        return product.price * words.RATE[self.currency] * 100

    def called(self, product: Product) -> str:
        """The product, in the customer's language."""
        return product.chinese if self.region == "asia" else product.english


def happens(dice: Random, chance: float) -> bool:
    """Whether a thing of this probability happens this time."""
    return dice.random() < chance


class Company:
    """Tells the story of ``size`` customers, and of the leads that never became one.

    Args:
        telling: takes down what happens.
        seed: of every choice; customer 7 is the same in a larger company.
    """

    def __init__(self, telling: Telling, size: int, seed: int) -> None:
        self._telling = telling
        self._tell = telling.tell
        self._size = size
        self._seed = seed
        self._english = [Faker(place) for place in ("en_GB", "de_DE", "fr_FR", "it_IT")]
        self._chinese = [Faker("zh_CN")]

    def happen(self) -> None:
        """Tell everything, customer by customer."""
        for n in range(self._size):
            account = self._account(n)
            with suppress(NotYet):
                self._customer(account)
        for n in range(self._size * 3 // 2):
            with suppress(NotYet):
                self._lead_that_stays_one(n)
        self._competitors()

    def _dice(self, what: str) -> Random:
        return Random(f"{self._seed}/{what}")  # noqa: S311 - a story, not a secret

    def _person(self, dice: Random, region: str) -> str:
        names = dice.choice(self._chinese if region == "asia" else self._english)
        names.seed_instance(dice.getrandbits(64))
        return str(names.name())

    def _account(self, n: int) -> Account:
        dice = self._dice(f"customer {n}")
        region = dice.choices(words.REGIONS, (35, 25, 40))[0]
        industry = dice.choice([*words.INDUSTRIES])
        english, chinese = words.INDUSTRIES[industry]
        if region == "asia":
            name = dice.choice(words.CHINESE_PLACES) + dice.choice(words.CHINESE_STEMS) + chinese
        else:
            name = f"{dice.choice(words.STEMS)} {english} {dice.choice(words.PLACES)}"
        rep, colleague = dice.sample([rep for rep in words.REPS if rep.region == region], 2)
        begins = dice.uniform(0, OLD) if happens(dice, 0.45) else dice.uniform(OLD, DAYS - 20)
        if rep.leaves is not None and begins > rep.leaves - 5:
            rep, colleague = colleague, rep
        return Account(
            key=f"customer {n}",
            dice=dice,
            name=name,
            region=region,
            industry=industry,
            rep=rep,
            colleague=colleague,
            late=dice.choices((-4, 12, SLOW, None), (60, 25, 10, 5))[0],
            begins=begins,
        )

    def _customer(self, account: Account) -> None:
        """One customer from the first word to the story's end."""
        dice, day = account.dice, account.begins
        came_as_lead = account.begins > OLD and happens(dice, 0.7)
        if came_as_lead:
            self._lead(account, day - dice.uniform(4, 12))
        self._tell(
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
        self._contacts(account, day)
        deals: list[str] = []
        while day < DAYS:
            deals.append(f"{account.key} deal {len(deals)}")
            with suppress(NotYet):
                self._deal(account, deals[-1], day + dice.uniform(0.5, 6))
            if came_as_lead and len(deals) == 1:
                self._converted(account, deals[0], day + 7)
            day += dice.expovariate(1 / 150) + 15
        parts = (self._payments, self._talks, self._questions, self._standing, self._owners)
        for part in parts:
            with suppress(NotYet):
                part(account)

    def _lead(self, account: Account, day: float) -> None:
        dice, lead, rep = account.dice, f"{account.key} lead", account.rep
        person = self._person(dice, account.region)
        self._tell(
            day,
            words.MARKETING,
            "leads/capture",
            lead,
            name=person,
            company=account.name,
            email=_mail(person, account),
            source=dice.choice(words.SOURCES),
            region=account.region,
            industry=account.industry,
            need=account.speech.need.format(account.called(dice.choice(words.PRODUCTS))),
        )
        self._tell(day + 0.2, rep.name, "leads/claim", lead)
        if happens(dice, 0.2):
            colleague = account.colleague.name
            self._tell(day + 0.3, colleague, "leads/claim", lead, refused_by="LeadOwned")
        budget = account.money(dice.randrange(5, 90) * 100_000 * words.RATE[account.currency])
        self._tell(day + 2, rep.name, "leads/qualify", lead, budget=budget)
        account.contacts.append(person)

    def _converted(self, account: Account, deal: str, day: float) -> None:
        with suppress(NotYet):
            self._tell(
                day,
                account.owner(day),
                "leads/convert",
                f"{account.key} lead",
                customer_id=self._telling.id_of(account.key),
                opportunity_id=self._telling.id_of(deal),
            )

    def _contacts(self, account: Account, day: float) -> None:
        dice = account.dice
        people = account.contacts or [self._person(dice, account.region)]
        people += [self._person(dice, account.region) for _ in range(dice.choice((0, 1, 1, 2)))]
        account.contacts = people
        for n, person in enumerate(people):
            self._tell(
                day + 0.1 + n / 10,
                account.rep.name,
                "customers/add-contact",
                account.key,
                contact_id=self._telling.id_of(f"{account.key} {person} {n}"),
                name=person,
                email=_mail(person, account),
                phone=f"+{'86 571' if account.region == 'asia' else '49 30'} 5550 "
                f"{dice.randrange(10_000):04d}",
                role=words.ROLES[n % len(words.ROLES)],
            )
        self._interaction(account, day + 1, "call", account.speech.first_call.format(people[0]))

    def _interaction(self, account: Account, day: float, channel: str, summary: str) -> None:
        person = account.contacts[0]
        self._tell(
            day,
            account.owner(day),
            "customers/log-interaction",
            account.key,
            channel=channel,
            contact_id=self._telling.id_of(f"{account.key} {person} 0"),
            minutes=account.dice.randrange(4, 50) if channel in ("call", "visit") else None,
            inbound=happens(account.dice, 0.3),
            summary=summary,
        )

    def _talks(self, account: Account) -> None:
        day = account.begins + 3
        while True:
            day += account.dice.expovariate(1 / 45) + 2
            channel = account.dice.choice(("call", "call", "email", "visit", "meeting", "chat"))
            self._interaction(account, day, channel, account.dice.choice(account.speech.talks))

    # Deals

    def _deal(self, account: Account, deal: str, day: float) -> None:
        """From the first stage to won, lost or still open; a won one becomes an order."""
        dice = account.dice
        product = dice.choice(words.PRODUCTS)
        pieces = max(1, round(dice.lognormvariate(10.1, 0.9) / product.price))
        amount = account.price(product) * pieces
        large = product.price * pieces >= LARGE
        pipeline = "contract" if large else "sales"
        stages = PATHS[pipeline]
        self._tell(
            day,
            account.owner(day),
            "opportunities/open",
            deal,
            title=f"{account.called(product)} ({pieces})",
            customer_id=self._telling.id_of(account.key),
            pipeline=pipeline,
            product=product.code,
            amount=account.money(amount),
            expected_close=self._telling.date_of(day + dice.uniform(20, 60)).isoformat(),
        )
        fate = dice.choices(("won", "lost", "stuck"), (52, 34, 14))[0]
        reached = len(stages) if fate == "won" else dice.randint(1, len(stages))
        for stage in stages[1:reached]:
            day += dice.uniform(3, 18)
            self._tell(day, account.owner(day), "opportunities/move-stage", deal, stage=stage)
        if reached > 1:
            amount = self._negotiated(account, deal, product, pieces, day + 0.5, large=large)
        day += dice.uniform(4, 25)
        if fate == "lost":
            reason = dice.choice(words.LOST_BECAUSE)
            self._tell(day, account.owner(day), "opportunities/lose", deal, reason=reason)
            self._prices_settled(account, deal, day + 0.1, won=False)
        elif fate == "won":
            price = account.money(amount)
            self._tell(day, account.owner(day), "opportunities/win", deal, amount=price)
            self._prices_settled(account, deal, day + 0.1, won=True)
            self._order(account, deal, product, pieces, amount, day + dice.uniform(0.1, 2))

    def _negotiated(
        self,
        account: Account,
        deal: str,
        product: Product,
        pieces: int,
        day: float,
        *,
        large: bool,
    ) -> int:
        """Quoted once or twice and perhaps promised; the amount in the end, in cents."""
        dice, amount = account.dice, account.price(product) * pieces
        self._quote(account, deal, product, pieces, amount, day)
        if happens(dice, 0.35):
            amount = amount * (100 - dice.choice((3, 5, 8, 10))) // 100
            self._quote(account, deal, product, 1, amount, day + dice.uniform(1, 3))
        if happens(dice, 0.4 if large else 0.08):
            self._two_prices(account, deal, product, amount, day + 1)
        return amount

    def _quote(
        self, account: Account, deal: str, product: Product, pieces: int, amount: int, day: float
    ) -> None:
        line = {
            "product": product.code,
            "quantity": str(pieces),
            "unit_price": account.money(amount // pieces),
        }
        self._tell(
            day,
            account.owner(day),
            "opportunities/quote",
            deal,
            quote_id=self._telling.id_of(f"{deal} quote {amount} {pieces}"),
            lines=[line],
            valid_until=self._telling.date_of(day + NET_DAYS).isoformat(),
        )

    # Promises

    def _promise(
        self, account: Account, by: str, what: str, day: float, due: float, **more: Any
    ) -> tuple[str, float]:
        """A promise and when it is due; later it is kept, broken or stays open."""
        promise = f"{account.key} promise {what} {day}"
        self._tell(
            day,
            by,
            "customers/make-promise",
            account.key,
            promise_id=self._telling.id_of(promise),
            what=what,
            due=self._telling.date_of(due).isoformat(),
            **more,
        )
        return promise, due

    def _settle(
        self, account: Account, promised: tuple[str, float], day: float, why: str | None = None
    ) -> None:
        """The promised thing happened on this day: in time, or it was broken before."""
        promise, due = promised
        kept = int(day) <= int(due)
        self._tell(
            day if kept else max(due + 1.05, day),
            account.owner(day),
            f"customers/{'keep' if kept else 'break'}-promise",
            account.key,
            promise_id=self._telling.id_of(promise),
            reason=None if kept else why or account.speech.late,
        )

    def _two_prices(
        self, account: Account, deal: str, product: Product, amount: int, day: float
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
            promise, _ = self._promise(
                account, by, what, when, when + 30, topic=topic, amount=money
            )
            account.prices.setdefault(deal, []).append((promise, by))

    def _prices_settled(self, account: Account, deal: str, day: float, *, won: bool) -> None:
        """One price was kept at most; mostly somebody takes the other back, in so many words."""
        for n, (promise, by) in enumerate(account.prices.get(deal, ())):
            if happens(account.dice, 0.25):
                continue
            kept = won and n == 0
            self._tell(
                day,
                account.owner(day) if kept else by,
                f"customers/{'keep' if kept else 'withdraw'}-promise",
                account.key,
                promise_id=self._telling.id_of(promise),
                reason=None if kept else account.speech.taken_back,
            )

    # Orders and money

    def _order(
        self,
        account: Account,
        deal: str,
        product: Product,
        pieces: int,
        amount: int,
        day: float,
    ) -> None:
        dice, order = account.dice, f"order {deal}"
        number = f"S-{account.key.split()[1]}-{deal.rpartition(' ')[2]}"
        called = account.called(product)
        lines = [{"product": product.code, "quantity": "1", "unit_price": account.money(amount)}]
        if amount == account.price(product) * pieces:
            price = account.money(account.price(product))
            lines = [{"product": product.code, "quantity": str(pieces), "unit_price": price}]
        self._tell(
            day,
            account.owner(day),
            "orders/place",
            order,
            customer_id=self._telling.id_of(account.key),
            opportunity_id=self._telling.id_of(deal),
            number=number,
            title=f"{called} ({pieces})",
            lines=lines,
        )
        parts = 3 if amount > account.price(words.PRODUCTS[3]) * 3 else dice.choice((1, 1, 2))
        dues = [day + NET_DAYS * (n + 1) + dice.uniform(0, 3) for n in range(parts)]
        shares = [amount // parts] * (parts - 1)
        shares.append(amount - sum(shares))
        self._tell(
            day + 0.1,
            words.ACCOUNTS,
            "orders/plan-payments",
            order,
            instalments=[
                {"due": self._telling.date_of(due).isoformat(), "amount": account.money(share)}
                for due, share in zip(dues, shares, strict=True)
            ],
        )
        if happens(dice, 0.03):
            self._tell(
                day + 2,
                account.owner(day + 2),
                "orders/cancel",
                order,
                reason="The customer's budget was cut.",
            )
            return
        if account.late is not None:
            account.bills += [
                (due + account.late + dice.uniform(0, max(6, account.late)), order, share)
                for due, share in zip(dues, shares, strict=True)
            ]
        self._delivery(account, order, product, amount, day)

    def _delivery(
        self, account: Account, order: str, product: Product, amount: int, day: float
    ) -> None:
        dice, called, owner = account.dice, account.called(product), account.owner(day)
        promised = None
        if happens(dice, 0.5):
            what = account.speech.delivery.format(called)
            due = day + dice.randint(8, 18)
            promised = self._promise(account, owner, what, day + 0.3, due, topic=f"{what} {order}")
        if happens(dice, 0.15):
            manual = account.speech.manual.format(called)
            kept = self._promise(account, owner, manual, day + 0.4, day + 25)
            if happens(dice, 0.7):
                with suppress(NotYet):
                    self._settle(account, kept, day + dice.uniform(10, 24))
        shipped = day + dice.uniform(5, 16)
        carrier = dice.choice(words.CARRIERS)
        self._tell(shipped, words.WAREHOUSE, "orders/ship", order, carrier=carrier)
        if promised is not None and happens(dice, 0.9):
            self._settle(account, promised, shipped + 0.5)
        if happens(dice, 0.12):
            training = account.speech.training.format(called)
            made = self._promise(account, owner, training, shipped + 1, shipped + 30)
            with suppress(NotYet):
                if happens(dice, 0.6):
                    self._settle(account, made, shipped + dice.uniform(8, 34))
        self._afterwards(account, order, product, amount, shipped)

    def _afterwards(
        self, account: Account, order: str, product: Product, amount: int, shipped: float
    ) -> None:
        """Tickets, quarrels, goods that come back, and the end."""
        dice = account.dice
        for n in range(dice.choices((0, 1, 2), (50, 35, 15))[0]):
            with suppress(NotYet):
                day = shipped + dice.uniform(1, 80)
                self._ticket(account, f"{order} ticket {n}", product, day, order)
        if happens(dice, 0.06):
            day = shipped + dice.uniform(1, 8)
            reason = dice.choice(words.DISPUTED)
            self._tell(day, account.owner(day), "orders/dispute", order, reason=reason)
            day += dice.uniform(5, 40)
            self._tell(
                day, account.owner(day), "orders/resolve", order, outcome="We agreed on a rebate."
            )
            rebate = account.money(amount // 20)
            self._tell(
                day + 0.1,
                words.ACCOUNTS,
                "orders/return",
                order,
                amount=rebate,
                reason="rebate after the dispute",
            )
            shipped = day
        self._tell(shipped + dice.uniform(2, 8), words.WAREHOUSE, "orders/complete", order)

    def _payments(self, account: Account) -> None:
        """What the customer pays, several bills by one transfer where they fall together."""
        dice, transfers = account.dice, list[list[tuple[float, str, int]]]()
        for bill in sorted(account.bills):
            if transfers and bill[0] - transfers[-1][0][0] < TOGETHER_DAYS:
                transfers[-1].append(bill)
            else:
                transfers.append([bill])
        for n, bills in enumerate(transfers):
            day = bills[-1][0]
            fate = dice.choices(("exact", "part", "too much"), (90, 6, 4))[0]
            shares = [cents if fate != "part" else cents * 6 // 10 for _, _, cents in bills]
            extra = dice.randrange(5_000, 90_000) if fate == "too much" else 0
            late_entry = dice.uniform(3, 12) if happens(dice, 0.05) else 0
            payment = f"{account.key} payment {n}"
            whole: dict[str, int] = {}
            for (_, order, _), cents in zip(bills, shares, strict=True):
                whole[order] = whole.get(order, 0) + cents
            self._tell(
                day,
                words.ACCOUNTS,
                "payments/receive",
                payment,
                entered=day + late_entry,
                customer_id=self._telling.id_of(account.key),
                amount=account.money(sum(shares) + extra),
                method="transfer",
                reference=f"{account.key.split()[1]}/{n}",
                allocations=[
                    {"order_id": self._telling.id_of(order), "amount": account.money(cents)}
                    for order, cents in whole.items()
                ],
            )
            if extra and happens(dice, 0.4):
                self._tell(
                    day + late_entry + dice.uniform(2, 9),
                    words.ACCOUNTS,
                    "payments/refund",
                    payment,
                    amount=account.money(extra),
                    reason="paid too much",
                )

    # Service

    def _ticket(
        self, account: Account, ticket: str, product: Product, day: float, order: str | None
    ) -> None:
        """From the call to the rating; where the story ends before, it is open."""
        dice, speech, called = account.dice, account.speech, account.called(product)
        kind, subject = dice.choice(speech.tickets)
        first, second = words.TECHNICIANS[account.region]
        self._tell(
            day,
            words.SERVICE_DESK,
            "tickets/open",
            ticket,
            customer_id=self._telling.id_of(account.key),
            order_id=None if order is None else self._telling.id_of(order),
            subject=subject.format(called),
            channel=dice.choice(("call", "email", "chat")),
            kind=kind,
            priority=dice.choices(("low", "normal", "high", "urgent"), (15, 60, 20, 5))[0],
            product=product.code,
        )
        promised = None
        if kind == "complaint":
            credit = speech.complaint_promise.format(called)
            promised = self._promise(account, account.owner(day), credit, day + 0.3, day + 12)
            if happens(dice, 0.4):
                reason = "no answer for a week"
                self._tell(day + 5, words.SERVICE_DESK, "tickets/escalate", ticket, reason=reason)
                day += 5
        day += dice.uniform(0.05, 1.5)
        self._tell(day, words.SERVICE_DESK, "tickets/dispatch", ticket, technician=first)
        if happens(dice, 0.12):
            self._tell(day + 0.2, first, "tickets/decline", ticket, reason="on another site")
            day, first = day + 0.5, second if second != first else words.TECHNICIANS["south"][0]
            self._tell(day, words.SERVICE_DESK, "tickets/dispatch", ticket, technician=first)
        self._tell(day + 0.1, first, "tickets/confirm", ticket)
        self._tell(day + 0.2, first, "tickets/reply", ticket, text=dice.choice(speech.replies))
        if happens(dice, 0.3):
            reason = "waits for the serial number"
            self._tell(day + 0.3, first, "tickets/wait", ticket, reason=reason)
            day += dice.uniform(1, 6)
        day += dice.uniform(0.3, 3)
        minutes = dice.randrange(10, 180)
        self._tell(day, first, "tickets/log-work", ticket, minutes=minutes)
        self._tell(day + 0.1, first, "tickets/resolve", ticket, text=speech.done)
        if promised is not None:
            with suppress(NotYet):
                self._settle(account, promised, day + dice.uniform(0, 8))
        day += dice.uniform(1, 4)
        if happens(dice, 0.07):
            desk = words.SERVICE_DESK
            self._tell(day, desk, "tickets/reopen", ticket, reason="it came back")
            day += 2
            self._tell(day, first, "tickets/resolve", ticket, text=speech.done)
        self._tell(day + 0.1, words.SERVICE_DESK, "tickets/close", ticket)
        if happens(dice, 0.6):
            score = dice.choices((1, 2, 3, 4, 5), (4, 6, 15, 35, 40))[0]
            self._tell(day + 1, words.SERVICE_DESK, "tickets/rate", ticket, score=score)

    def _questions(self, account: Account) -> None:
        """What they ask for besides their orders."""
        day, n = account.begins, 0
        while True:
            day += account.dice.expovariate(1 / 170) + 10
            product = account.dice.choice(words.PRODUCTS)
            self._ticket(account, f"{account.key} question {n}", product, day, None)
            n += 1

    # Who looks after whom

    def _standing(self, account: Account) -> None:
        """Tags for who pays late and for who matters, and a bonus at the end of their year."""
        dice = self._dice(f"{account.key} standing")
        desk, day = words.LEAD_OF_SALES, account.begins + dice.uniform(60, 120)
        if account.late == SLOW:
            self._tell(day, words.ACCOUNTS, "customers/tag", account.key, tag="pays late")
        elif happens(dice, 0.15):
            self._tell(day, desk, "customers/tag", account.key, tag="key account")
            self._tell(
                day + 260,
                words.ACCOUNTS,
                "payments/receive",
                f"{account.key} bonus",
                kind="credit-note",
                customer_id=self._telling.id_of(account.key),
                amount=account.money(dice.randrange(20, 60) * 1_000 * words.RATE[account.currency]),
                note="Bonus of the year",
            )

    def _owners(self, account: Account) -> None:
        """Whoever leaves hands over; whoever is silent falls into the public sea."""
        dice, leaves = account.dice, account.rep.leaves
        if leaves is not None:
            self._tell(
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
            self._tell(day, words.LEAD_OF_SALES, "customers/release", account.key, reason=reason)
            if happens(dice, 0.5):
                self._tell(day + 8, account.owner(day), "customers/claim", account.key)

    def _lead_that_stays_one(self, n: int) -> None:
        dice, lead = self._dice(f"lead {n}"), f"lead {n}"
        region, day = dice.choice(words.REGIONS), dice.uniform(0, DAYS + 4)
        rep, colleague = (rep for rep in words.REPS if rep.region == region)
        if rep.leaves is not None or happens(dice, 0.5):
            rep, colleague = colleague, rep
        if rep.leaves is not None and day + 20 > rep.leaves:
            rep = colleague
        speech = CHINESE if region == "asia" else ENGLISH
        product = dice.choice(words.PRODUCTS)
        self._tell(
            day,
            words.MARKETING,
            "leads/capture",
            lead,
            name=self._person(dice, region),
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
        self._tell(day + dice.uniform(0.1, 2), rep.name, "leads/claim", lead)
        day += dice.uniform(2, 9)
        if fate == "returned":
            self._tell(day, rep.name, "leads/return", lead, reason="no time before the fair")
        elif fate == "qualified":
            self._tell(day, rep.name, "leads/qualify", lead)
        elif fate == "disqualified":
            reason = dice.choice(words.NOT_WORTH_IT)
            self._tell(day, rep.name, "leads/disqualify", lead, reason=reason)

    def _competitors(self) -> None:
        """The story's first line and its last are here; see ``cut_short``."""
        for n, name in enumerate(("Vantage Systems", "Polar Metrics", "深圳天衡仪器")):
            self._tell(
                30.0 * n,
                words.LEAD_OF_SALES,
                "customers/register",
                f"competitor {n}",
                name=name,
                kind="competitor",
                source="trade fair",
            )
        self._tell(
            DAYS - 1e-6,
            words.LEAD_OF_SALES,
            "customers/log-interaction",
            "competitor 0",
            channel="other",
            summary="They showed a sensor at half our price at the fair.",
        )


def _mail(person: str, account: Account) -> str:
    letters = "".join(c for c in person.lower().replace(" ", ".") if c.isascii())
    local = letters.strip(".-") or f"c{sum(map(ord, person))}"
    return f"{local}@{account.key.replace(' ', '')}.example.com"
