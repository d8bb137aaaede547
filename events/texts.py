"""One form for equal texts: composed characters (Unicode NFC), and no invisible margins."""

from __future__ import annotations

from unicodedata import normalize

INVISIBLE = "".join(
    map(chr, (0xAD, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F)))
) + "".join(map(chr, (*range(0x2060, 0x2065), *range(0x2066, 0x2070), 0xFEFF)))
"""Characters without width or ink: zero-width spaces, marks of direction, the byte order mark."""


def composed(text: str) -> str:
    """The text in NFC: equal for texts that Unicode calls canonically equivalent."""
    return text if text.isascii() else normalize("NFC", text)


def tidy(text: str) -> str:
    """The text in NFC without white space and invisible characters at its ends.

    Within a text they stay: a joiner may belong to a word or an emoji.
    """
    if text.isascii():
        return text.strip()
    before, text = "", normalize("NFC", text)
    while before != text:
        before, text = text, text.strip().strip(INVISIBLE)
    return text
