"""Made-up events of every class, for properties that hold for all of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_type_hints
from uuid import UUID

from hypothesis import strategies as st

from events.base import Event
from events.company import Stage
from events.currencies import MINOR_DIGITS
from events.ledger.keys import Keyring
from events.lines import PricedLine
from events.order import Instalment, ReturnedLine
from events.texts import tidy
from events.values import Money, StageKind

TEXTS = (st.text(max_size=60) | st.text('\t\n\r"\\\u030c\u0301\u0323\u0327ce', max_size=20)).map(
    tidy
)
IDS = st.uuids() | st.integers(1, 4).map(lambda n: UUID(int=n))


@st.composite
def amounts(draw: st.DrawFn) -> Money:
    """Any amount that a caller can write down."""
    currency = draw(st.sampled_from(["EUR", "JPY", "KWD"]) | st.sampled_from([*MINOR_DIGITS]))
    whole = draw(st.integers(0, 10**15 - 1) | st.integers(0, 100))
    digits = draw(st.text("0123456789", max_size=min(MINOR_DIGITS[currency], 6)))
    return Money.model_validate(
        {"amount": f"{whole}.{digits}" if digits else f"{whole}", "currency": currency}
    )


def _decimals(least: str, most: str, places: int) -> st.SearchStrategy[str]:
    return st.decimals(Decimal(least), Decimal(most), places=places).map(lambda d: f"{d:f}")


STAGES = st.builds(
    Stage,
    key=TEXTS,
    name=TEXTS,
    kind=st.sampled_from(StageKind),
    probability=st.none() | _decimals("0", "1", 4),
)
LINES = st.builds(
    PricedLine,
    product=TEXTS,
    quantity=_decimals("0.001", "999999", 3),
    unit_price=amounts(),
    discount=st.none() | _decimals("0", "100", 2),
    total=amounts(),
)
RETURNED = st.builds(
    ReturnedLine,
    number=st.integers(1, 500),
    product=TEXTS,
    quantity=_decimals("0.001", "999999", 3),
)
INSTALMENTS = st.builds(Instalment, due=st.dates(), amount=amounts())
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: st.integers(-(2**53), 2**53),
    int | None: st.none() | st.integers(-(2**53), 2**53),
    str | None: st.none() | TEXTS,
    dict[str, str] | None: st.none() | st.dictionaries(TEXTS, TEXTS, max_size=2),
    UUID: IDS,
    UUID | None: st.none() | IDS,
    Money: amounts(),
    Money | None: st.none() | amounts(),
    tuple[Stage, ...]: st.lists(STAGES, max_size=4).map(tuple),
    PricedLine: LINES,
    tuple[Instalment, ...]: st.lists(INSTALMENTS, max_size=3).map(tuple),
    tuple[PricedLine, ...]: st.lists(LINES, max_size=3).map(tuple),
    tuple[str, ...]: st.lists(TEXTS, max_size=4).map(tuple),
    tuple[ReturnedLine, ...]: st.lists(RETURNED, max_size=3).map(tuple),
}


def events_of(cls: type[Event]) -> st.SearchStrategy[Any]:
    """Any event of a class, every field given or left out."""
    hints = {name: kind for name, kind in get_type_hints(cls).items() if name in cls.model_fields}
    fields = {name: BY_TYPE.get(kind, st.from_type(kind)) for name, kind in hints.items()}
    return st.builds(cls, **fields)


def keyring_for(subjects: set[UUID]) -> Keyring:
    """A keyring without a vault that holds a new key of each of these."""
    keyring = Keyring(bytes(32))
    for subject in subjects:
        keyring.remember(subject, keyring.create(subject)[0])
    return keyring
