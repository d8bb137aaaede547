"""A customer as the story knows them: their dice, their people, what they owe."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from random import Random

from faker import Faker

from pledge.demo import words
from pledge.demo.telling import DAYS
from pledge.demo.words import CHINESE, ENGLISH, Product, Rep, Speech

EUROPE = ("en_GB", "de_DE", "fr_FR", "it_IT")
CHINA = ("zh_CN",)
OLD = 15
"""Customers of the first days are those whom the company had before; the others are won."""
SLOW = 45
"""Days after the due day on which the slowest customers pay."""


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


def dice_of(seed: int, what: str) -> Random:
    """The dice of one thing in the story; no other thing's choices move them."""
    return Random(f"{seed}/{what}")  # noqa: S311 - a story, not a secret


def person_of(dice: Random, region: str) -> str:
    """The name of somebody there."""
    names = dice.choice(_names(CHINA if region == "asia" else EUROPE))
    names.seed_instance(dice.getrandbits(64))
    return str(names.name())


@cache
def _names(places: tuple[str, ...]) -> list[Faker]:
    return [Faker(place) for place in places]


def account_of(n: int, seed: int) -> Account:
    """The customer of this number."""
    dice = dice_of(seed, f"customer {n}")
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


def mail_of(person: str, account: Account) -> str:
    """The mail address of somebody who works there."""
    letters = "".join(c for c in person.lower().replace(" ", ".") if c.isascii())
    local = letters.strip(".-") or f"c{sum(map(ord, person))}"
    return f"{local}@{account.key.replace(' ', '')}.example.com"
