from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from events.values import (
    ActorId,
    DecimalText,
    Email,
    Instant,
    Line,
    Money,
    Percent,
    Probability,
    Quantity,
    Text,
)
from tests.events.examples import amounts


def from_json(kind: Any, raw: str) -> Any:
    return TypeAdapter(kind).validate_json(raw)


def refuses(kind: Any, raw: str) -> None:
    with pytest.raises(ValidationError):
        from_json(kind, raw)


def money(amount: str, currency: str = "EUR") -> Money:
    return Money.model_validate({"amount": amount, "currency": currency})


NOT_A_NUMBER = ['"1e2"', '"1E2"', '"NaN"', '"Infinity"', '"-Infinity"', '"0x10"', '"1_000"', '""']
MISWRITTEN = ['"-1"', '"+1"', '"1,5"', '" 1"', '"1 "', '"1\\n"', '".5"', '"5."', '"1.1234567"']
NOT_A_TEXT = ["1", "1.5", "true", "null", "[]", "{}", "1e999", "NaN"]


@pytest.mark.parametrize("raw", NOT_A_NUMBER + MISWRITTEN + NOT_A_TEXT)
@pytest.mark.parametrize("kind", [DecimalText, Quantity, Percent, Probability])
def test_a_decimal_is_written_plainly_and_in_quotes(kind: Any, raw: str) -> None:
    refuses(kind, raw)


def test_a_decimal_has_ascii_digits() -> None:
    refuses(DecimalText, '"١٢"')


@pytest.mark.parametrize("value", [0.1, 1, True, None, float("nan")])
def test_no_float_ever_becomes_a_decimal(value: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(DecimalText).validate_python(value)


@pytest.mark.parametrize("value", ["NaN", "sNaN", "Infinity", "-1"])
def test_a_decimal_that_is_no_amount_is_refused_from_our_own_code_too(value: str) -> None:
    with pytest.raises((ValidationError, InvalidOperation)):
        Money(amount=Decimal(value), currency="EUR")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Quantity, ["0.001", "1", "999999999999.999"], ["0", "0.000", "0.0001"]),
        (Percent, ["0", "12.5", "100", "100.00"], ["100.01", "12.345"]),
        (Probability, ["0", "0.2", "1", "0.1234"], ["1.01", "0.12345"]),
    ],
)
def test_each_kind_of_number_has_its_range(kind: Any, good: list[str], bad: list[str]) -> None:
    for raw in good:
        assert from_json(kind, f'"{raw}"') == Decimal(raw)
    for raw in bad:
        refuses(kind, f'"{raw}"')


def test_money_is_kept_in_its_currencys_smallest_coin() -> None:
    assert str(money("1250").amount) == "1250.00"
    assert str(money("1250.5").amount) == "1250.50"
    assert str(money("1250", "JPY").amount) == "1250"
    assert str(money("1.5", "KWD").amount) == "1.500"


@pytest.mark.parametrize(
    ("amount", "currency"), [("0.001", "EUR"), ("1.50", "JPY"), ("0.0001", "KWD"), ("1.0", "JPY")]
)
def test_money_is_never_finer_than_a_coin(amount: str, currency: str) -> None:
    with pytest.raises(ValidationError, match="decimals"):
        money(amount, currency)


@pytest.mark.parametrize(
    ("currency", "shown"), [("DEM", "1.00"), ("SLL", "1.00"), ("BGN", "1.00"), ("HRK", "1.00")]
)
def test_the_digits_of_withdrawn_currencies_stay_known(currency: str, shown: str) -> None:
    assert str(money("1", currency).amount) == shown


@pytest.mark.parametrize("currency", ["eur", "EURO", "XXX", "", "€", "EUR ", "QQQ"])
def test_money_has_a_currency_of_iso_4217(currency: str) -> None:
    with pytest.raises(ValidationError, match="ISO 4217"):
        money("1", currency)


@pytest.mark.parametrize(
    "raw",
    [
        '{"amount": 1.5, "currency": "EUR"}',
        '{"amount": 1, "currency": "EUR"}',
        '{"amount": "-1", "currency": "EUR"}',
        '{"amount": "1", "currency": "EUR", "cents": 5}',
        '{"amount": "1"}',
        '{"currency": "EUR"}',
        '"1 EUR"',
    ],
)
def test_money_is_an_amount_and_a_currency(raw: str) -> None:
    refuses(Money, raw)


def test_sums_of_two_currencies_do_not_exist() -> None:
    assert money("1.10").plus(money("2.20")) == money("3.30")
    with pytest.raises(ValueError, match="EUR and USD do not add up"):
        money("1").plus(money("1", "USD"))


@pytest.mark.parametrize(
    ("amount", "factor", "product"),
    [("0.01", "0.5", "0.01"), ("0.01", "0.49", "0.00"), ("10.05", "3", "30.15"), ("9", "0", "0")],
)
def test_a_product_is_rounded_half_up(amount: str, factor: str, product: str) -> None:
    assert money(amount).times(Decimal(factor)) == money(product)


@settings(deadline=None)
@given(amounts())
@example(money("999999999999999.99"))
@example(money("999999999999999", "CLF"))
def test_money_survives_being_written(amount: Money) -> None:
    assert Money.model_validate_json(amount.model_dump_json()) == amount


@settings(deadline=None)
@given(amounts(), st.sampled_from([Decimal("0.5"), Decimal(1), Decimal(2), Decimal(1000)]))
@example(money("999999999999999.99"), Decimal(2))
@example(money("999999999999999", "JPY"), Decimal(100))
def test_money_that_was_worked_out_can_be_written_and_read(amount: Money, factor: Decimal) -> None:
    try:
        product = amount.times(factor)
    except ValueError:
        return
    assert Money.model_validate_json(product.model_dump_json()) == product


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("2026-03-02T12:00:00Z", datetime(2026, 3, 2, 12, tzinfo=UTC)),
        ("2026-03-02T12:00:00+02:00", datetime(2026, 3, 2, 10, tzinfo=UTC)),
        ("2026-03-02T00:00:00-11:30", datetime(2026, 3, 2, 11, 30, tzinfo=UTC)),
        ("2026-03-02T12:00:00.123456Z", datetime(2026, 3, 2, 12, 0, 0, 123456, tzinfo=UTC)),
        ("1900-01-01T00:00:00Z", datetime(1900, 1, 1, tzinfo=UTC)),
        ("2199-12-31T23:59:59Z", datetime(2199, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_an_instant_is_kept_in_utc(raw: str, expected: datetime) -> None:
    instant = from_json(Instant, f'"{raw}"')
    assert instant == expected
    assert instant.tzinfo is UTC


@pytest.mark.parametrize(
    "raw",
    [
        "2026-03-02T12:00:00",
        "2026-03-02",
        "12:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-03-02T25:00:00Z",
        "1899-12-31T23:59:59Z",
        "1900-01-01T00:00:00+01:00",
        "2200-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
        "10000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "yesterday",
        "",
    ],
)
def test_an_instant_without_a_zone_or_a_sane_year_is_refused(raw: str) -> None:
    refuses(Instant, f'"{raw}"')


@pytest.mark.parametrize("raw", ["1767225600", "1e300", "1.5", "true", "null", '"1767225600"'])
def test_an_instant_is_not_a_number(raw: str) -> None:
    refuses(Instant, raw)


@pytest.mark.parametrize("kind", [Line, Text, ActorId])
@pytest.mark.parametrize(
    "raw",
    [
        '""',
        '"   "',
        "1",
        "null",
        '"a\\u0000b"',
        '"a\\u0007b"',
        '"\\u007f"',
        '"\\u009f"',
        '"\\ud800"',
        '"x\\udfffx"',
        '"\\udc00\\ud800"',
    ],
)
def test_a_text_has_printable_characters(kind: Any, raw: str) -> None:
    refuses(kind, raw)


@pytest.mark.parametrize("kind", [Line, Text, ActorId])
def test_a_lone_surrogate_is_refused_from_our_own_code_too(kind: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python("a\ud800b")


ANY_SCRIPT = ["Grace", "葛丽丝", "🙂", "Zoë", "עברית"]
JOINED = ["🙂 👩‍👩‍👧", "a\u200db", "x\u00a0y"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((kind, text) for kind in (Line, Text) for text in (*ANY_SCRIPT, *JOINED)),
        *((ActorId, text) for text in ANY_SCRIPT),
    ],
)
def test_a_text_may_be_of_any_script(kind: Any, text: str) -> None:
    assert TypeAdapter(kind).validate_python(text) == text


@pytest.mark.parametrize("text", JOINED)
def test_an_actors_id_has_no_marks_that_nobody_sees(text: str) -> None:
    refuses(ActorId, text)


def test_a_pair_of_surrogates_in_json_is_one_character() -> None:
    assert from_json(Line, '"\\ud83d\\ude42"') == "🙂"


def test_a_text_keeps_its_lines_and_loses_its_margins() -> None:
    assert from_json(Text, '"  one\\n\\ttwo\\r\\n "') == "one\n\ttwo"


@pytest.mark.parametrize("kind", [Line, ActorId])
@pytest.mark.parametrize("text", ["one\ntwo", "one\rtwo"])
def test_a_line_is_one_line(kind: Any, text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(text)


@pytest.mark.parametrize(("kind", "most"), [(Line, 200), (ActorId, 200), (Text, 10_000)])
def test_a_text_has_a_length(kind: Any, most: int) -> None:
    assert from_json(kind, f'"{"x" * most}"') == "x" * most
    refuses(kind, f'"{"x" * (most + 1)}"')


@pytest.mark.parametrize("raw", ["a@b", " grace@example.com ", "ü@ü.example", "a.b+c@d"])
def test_a_mail_address_is_loosely_checked(raw: str) -> None:
    assert from_json(Email, f'"{raw}"') == raw.strip()


@pytest.mark.parametrize(
    "raw", ["", "a", "@b", "a@", "a@@b", "a b@c", "a@b\\nc", "a\\n@b", "a\\u0000@b", "a@b\\u0007"]
)
def test_what_cannot_be_a_mail_address_is_refused(raw: str) -> None:
    refuses(Email, f'"{raw}"')


@pytest.mark.parametrize("raw", ["a\\u007f@b", "a\\u009f@b", "a@b\\ud800"])
def test_a_mail_address_has_printable_characters(raw: str) -> None:
    refuses(Email, f'"{raw}"')


@pytest.mark.parametrize("day", [date(1900, 1, 1), date(2199, 12, 31)])
def test_a_date_is_written_in_iso_8601(day: date) -> None:
    assert from_json(date, f'"{day.isoformat()}"') == day
