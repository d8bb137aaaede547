"""Equal texts are equal, however they were typed."""

from __future__ import annotations

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.texts import composed, tidy

NAME = "Çelik Şirketi"


@given(st.text())
def test_a_tidy_text_stays_as_it_is(text: str) -> None:
    assert tidy(tidy(text)) == tidy(text)
    assert composed(tidy(text)) == tidy(text)


@given(st.text())
def test_texts_that_are_canonically_equivalent_become_one(text: str) -> None:
    assert tidy(normalize("NFD", text)) == tidy(normalize("NFC", text)) == tidy(text)
    assert composed(normalize("NFD", text)) == normalize("NFC", text)


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
