"""Equal texts are equal, however they were typed."""

from __future__ import annotations

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.texts import composed, in_each, is_tidy_within, tidy

NAME = "Çelik Şirketi"


@given(st.text())
def test_a_tidy_text_stays_as_it_is(text: str) -> None:
    assert tidy(tidy(text)) == tidy(text)
    assert composed(tidy(text)) == tidy(text)


MARKS = st.text('\t\n\r"\\\u030c\u0301\u0323e\u0663', max_size=30)


@given(MARKS | st.text())
def test_texts_that_are_canonically_equivalent_become_one(text: str) -> None:
    assert tidy(normalize("NFD", text)) == tidy(normalize("NFC", text)) == tidy(text)
    assert composed(normalize("NFD", text)) == normalize("NFC", text)


def test_marks_without_end_are_left_as_they_are() -> None:
    """Composing them takes the square of their number."""
    piled = "a" + "\u0301\u0316" * 50_000
    assert tidy(f" {piled} ") == composed(piled) == piled
    assert not is_tidy_within(piled)
    assert tidy("\u200b " * 100_000) == ""


def test_each_text_within_a_value_is_changed() -> None:
    value = {"a": [" x ", 1, None, {"b": " y "}], "c": True}
    assert in_each(value, tidy) == {"a": ["x", 1, None, {"b": "y"}], "c": True}


@pytest.mark.parametrize(
    "margin",
    ["\u200b", "\ufeff", "\u00a0", " \u200b ", "\u2060", "\u200e", "\u00ad", "\u3000", "\n\ufeff"],
    ids=ascii,
)
@pytest.mark.parametrize("text", [NAME, "plain", "a\u200bb", "ein\u00a0Wort"], ids=ascii)
def test_margins_that_nobody_sees_are_none(text: str, margin: str) -> None:
    assert tidy(f"{margin}{text}{margin}") == text
    assert tidy(margin) == ""


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f469\u200d\U0001f33e",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    ],
    ids=["a farmer", "the flag of England", "Persian with a joiner"],
)
def test_what_belongs_to_a_text_stays(text: str) -> None:
    assert tidy(text) == text
