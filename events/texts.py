"""One form for equal texts: composed characters (Unicode NFC), and no invisible margins."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from unicodedata import combining, is_normalized, normalize

INVISIBLE = "\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
"""Characters without width or ink: zero-width spaces, marks of direction, the byte order mark."""
HAS_INVISIBLE = re.compile(f"[{INVISIBLE}]")
PILE = 30
"""Combining marks in a row, as in the Stream-Safe Text Format (UAX #15, 13): composing takes the
square of their number."""
SHORT = 500
"""Characters of a text that costs nothing whatever is piled up in it."""


def composed(text: str) -> str:
    """The text in NFC; a long one as it is where more than ``PILE`` marks are piled up."""
    if text.isascii() or _is_piled(text) or is_normalized("NFC", text):
        return text
    return normalize("NFC", text)


def tidy(text: str) -> str:
    """The text, ``composed``, without white space and invisible characters at its ends.

    Within a text they stay: a joiner may belong to a word or an emoji.
    """
    if text.isascii():
        return text.strip()
    text = composed(text)
    first, after = 0, len(text)
    while first < after and _is_margin(text[first]):
        first += 1
    while first < after and _is_margin(text[after - 1]):
        after -= 1
    return text[first:after]


def in_each(value: Any, change: Callable[[str], str]) -> Any:
    """The same value as of JSON, with each text in it changed."""
    match value:
        case str():
            return change(value)
        case dict():
            return {change(name): in_each(inner, change) for name, inner in value.items()}
        case list():
            return [in_each(inner, change) for inner in value]
        case _:
            return value


def is_tidy_within(text: str) -> bool:
    """Whether ``tidy`` would change no part of a text that is made of several."""
    if HAS_INVISIBLE.search(text) is not None or _is_piled(text):
        return False
    return is_normalized("NFC", text)


def _is_margin(char: str) -> bool:
    return char.isspace() or HAS_INVISIBLE.match(char) is not None


def _is_piled(text: str) -> bool:
    if len(text) <= SHORT:
        return False
    run = 0
    for char in text:
        run = run + 1 if combining(char) else 0
        if run > PILE:
            return True
    return False
