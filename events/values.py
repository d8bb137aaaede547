"""The values that events are made of: instants, texts, money."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from enum import StrEnum
from typing import Annotated, Any, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    TypeAdapter,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from events.base import Personal
from events.currencies import COINS, MINOR_DIGITS
from events.texts import tidy

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)


DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}.*")


LONGEST_TEXT = 40_000
"""Characters, before they are composed; every kind of text is shorter."""


def tidied(value: Any) -> Any:
    """A text as ``texts.tidy`` makes it; anything else, or longer than any, is left as it is."""
    return tidy(value) if isinstance(value, str) and len(value) <= LONGEST_TEXT else value


def _only_iso(value: Any) -> Any:
    if isinstance(value, datetime) or (isinstance(value, str) and MOMENT.fullmatch(value)):
        return value
    raise ValueError("must be a moment with a zone, like 2026-03-02T12:00:00Z")


def _in_utc(moment: datetime) -> datetime:
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie between the years 1900 and 2200") from None
    if not EARLIEST <= moment < LATEST:
        raise ValueError("must lie between the years 1900 and 2200")
    return moment


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    for char in text:
        if unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\r\t":
            raise ValueError(f"must not contain the control character U+{ord(char):04X}")
    return text


def _one_line(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ValueError("must be a single line")
    return _printable(text)


def _shown(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be 1 to 200 printable characters")
    return text


DECIMAL = r"^[0-9]{1,15}(\.[0-9]{1,6})?$"


class Quoted:
    """Marks a Decimal that JSON must give as a text, so that no float slips in.

    It checks in pydantic's compiled core: money is read far more often than anything else here.

    Args:
        limits: as of ``pydantic_core.core_schema.decimal_schema``.
    """

    def __init__(self, **limits: Any) -> None:
        self._limits = limits

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> CoreSchema:
        """From JSON a text, in Python a Decimal or a text."""
        number = core_schema.decimal_schema(**self._limits)
        text = core_schema.custom_error_schema(
            core_schema.str_schema(pattern=DECIMAL, strict=True),
            "decimal_text",
            custom_error_message='must be a decimal number of at least 0 in quotes, like "12.50"',
        )
        quoted = core_schema.chain_schema([text, number])
        given = core_schema.chain_schema([core_schema.is_instance_schema(Decimal), number])
        return core_schema.json_or_python_schema(
            quoted,
            core_schema.union_schema([given, quoted], mode="left_to_right"),
            serialization=core_schema.to_string_ser_schema(when_used="json"),
        )

    def __get_pydantic_json_schema__(self, _schema: Any, _handler: Any) -> dict[str, Any]:
        """A text with a pattern."""
        return {"type": "string", "pattern": DECIMAL, "examples": ["12.50"]}


class OneOf:
    """Marks a text that is one of many, checked in pydantic's compiled core."""

    def __init__(self, known: Collection[str], message: str, pattern: str) -> None:
        self._known = list(known)
        self._message = message
        self._pattern = pattern

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> CoreSchema:
        """A literal with one plain message."""
        literal = core_schema.literal_schema(self._known)
        return core_schema.custom_error_schema(
            literal,
            "one_of",
            custom_error_message=self._message,
            serialization=core_schema.simple_ser_schema("str"),
        )

    def __get_pydantic_json_schema__(self, _schema: Any, _handler: Any) -> dict[str, Any]:
        """A text with a pattern, for the whole list would be long."""
        return {"type": "string", "pattern": self._pattern}


Instant = Annotated[AwareDatetime, BeforeValidator(_only_iso), AfterValidator(_in_utc)]
"""A moment with a zone, kept in UTC, of the years 1900 to 2199."""


def _only_day(value: Any) -> Any:
    if isinstance(value, date) or (isinstance(value, str) and DAY.fullmatch(value)):
        return value
    raise ValueError("must be a day, like 2026-03-02")


Day = Annotated[date, BeforeValidator(_only_day), Field(ge=EARLIEST.date(), lt=LATEST.date())]
"""A calendar day as ISO text, of the years 1900 to 2199."""

Line = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, strip_whitespace=True),
    AfterValidator(_one_line),
    BeforeValidator(tidied),
]
"""One line of text, 1 to 200 characters."""

Text = Annotated[
    str,
    StringConstraints(min_length=1, max_length=10_000, strip_whitespace=True),
    AfterValidator(_printable),
    BeforeValidator(tidied),
]
"""Some text, 1 to 10,000 characters."""

EMAIL = r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+$"
Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=254, pattern=EMAIL),
    AfterValidator(_printable),
    BeforeValidator(tidied),
]
"""A mail address, as loosely checked as RFC 5321 in the wild asks for."""

ActorId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, strip_whitespace=True),
    AfterValidator(_shown),
    BeforeValidator(tidied),
]
"""Who acts: the id of a person, a service or a policy. Ids that look the same are the same."""

Quantity = Annotated[Decimal, Quoted(gt=0, max_digits=15, decimal_places=3)]
"""How many, more than 0, with at most three decimals."""

Percent = Annotated[Decimal, Quoted(ge=0, le=100, decimal_places=2)]
"""0 to 100, with at most two decimals."""

Probability = Annotated[Decimal, Quoted(ge=0, le=1, decimal_places=4)]
"""0 to 1, with at most four decimals."""

DecimalText = Annotated[Decimal, Quoted()]
"""At least 0, with at most 15 digits before the point and six behind it."""

CurrencyCode = Annotated[
    str, OneOf(MINOR_DIGITS, "must be an ISO 4217 currency code, like EUR", "^[A-Z]{3}$")
]

PersonalText = Annotated[str, Personal()]
"""Personal data about the stream's own subject."""

PersonalTextOrNone = Annotated[str | None, Personal()]
"""Personal data about the stream's own subject, when given."""

CustomersText = Annotated[str, Personal(of="customer_id")]
"""Personal data about the customer that the event names, else about the stream's own subject."""

CustomersTextOrNone = Annotated[str | None, Personal(of="customer_id")]
"""The same, when given."""

PersonalSince2 = Personal(since=2)
"""Personal data about the stream's own subject, which the event's first version held in clear."""

CustomersSince2 = Personal(of="customer_id", since=2)
"""Likewise, about the customer that the event names, else about the stream's own subject."""


Marks = dict[str, str] | None
"""By personal field, a keyed hash of exactly its text: it tells whether a text changed, not what it
is. Older events have none."""


LARGEST = 10**15
"""Every amount of money is less."""


class Money(BaseModel):
    """An amount of a currency, never negative, never finer than the currency's smallest coin."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"amount": "1250.00", "currency": "EUR"}]},
    )

    amount: Annotated[Decimal, Quoted(ge=0, lt=LARGEST)]
    currency: CurrencyCode

    @model_validator(mode="after")
    def _in_whole_coins(self) -> Self:
        coin = COINS[self.currency]
        if not self.amount.same_quantum(coin):
            digits = MINOR_DIGITS[self.currency]
            if int(self.amount.as_tuple().exponent) < -digits:
                raise ValueError(f"{self.currency} has {digits} decimals, {self.amount} has more")
            self.__dict__["amount"] = self.amount.quantize(coin)
        return self

    def times(self, factor: Decimal) -> Money:
        """This amount times a factor of at least 0, rounded half up to the smallest coin."""
        with localcontext(prec=60):
            product = (self.amount * factor).quantize(COINS[self.currency], ROUND_HALF_UP)
        return Money(amount=product, currency=self.currency)

    def plus(self, other: Money) -> Money:
        """The sum of two amounts of one currency.

        Raises:
            ValueError: when the currencies differ.
        """
        if other.currency != self.currency:
            raise ValueError(f"{self.currency} and {other.currency} do not add up")
        return Money(amount=self.amount + other.amount, currency=self.currency)


class AsWritten:
    """Marks a field of an event whose values are limited: what was written is read for ever.

    Lists and limits hold for commands. They may shrink and be tightened later; then a stored value
    is read as it was written.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Any value of the kind."""
        limited = handler(source)
        self._is_named = issubclass(source, BaseModel | StrEnum)
        self._limited = TypeAdapter(source).core_schema if self._is_named else limited
        return _unlimited(source, limited)

    def __get_pydantic_json_schema__(self, _: Any, handler: Any) -> Any:
        """What commands allow; of a class by reference, as of a field without this mark."""
        generate = handler.generate_json_schema.generate_inner if self._is_named else handler
        return generate(self._limited)


def _unlimited(kind: Any, limited: CoreSchema) -> CoreSchema:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    number = core_schema.decimal_schema(
        serialization=core_schema.to_string_ser_schema(when_used="json")
    )
    if kind is Decimal:
        return number
    if kind is Money:
        fields = {
            "amount": core_schema.model_field(number),
            "currency": core_schema.model_field(core_schema.str_schema()),
        }
        return core_schema.model_schema(Money, core_schema.model_fields_schema(fields))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        choices: list[Any] = [limited, core_schema.str_schema()]
        return core_schema.union_schema(choices, mode="left_to_right")
    raise TypeError(f"AsWritten marks no {kind}: name what to read where its limits are left out")


StoredMoney = Annotated[Money, AsWritten()]
"""An amount in an event."""


class StageKind(StrEnum):
    """What a stage means for the deal that stands in it."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"
