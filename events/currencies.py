"""Currencies: the digits of each that ever was, and until when those were money that are no more.

Of today's, ISO 4217 gives the digits; the Unicode CLDR tells when others were withdrawn. It has no
digits of them but those in use at the end, which were often fewer.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from babel.core import get_global
from iso4217 import Currency


def _last_days() -> dict[str, date]:
    """By code, the last day of tender anywhere; only of those that have one."""
    ends: dict[str, list[tuple[int, int, int] | None]] = {}
    for spans in get_global("territory_currencies").values():
        for code, _, end, _ in spans:
            ends.setdefault(code, []).append(end)
    return {
        code: date(*max(end for end in found if end))
        for code, found in ends.items()
        if None not in found
    }


ACTIVE: dict[str, int] = {
    currency.code: currency.exponent for currency in Currency if currency.exponent is not None
}
"""Digits after the point, by the code of a currency of today: EUR 2, JPY 0, KWD 3."""
WITHDRAWN: dict[str, date] = {code: day for code, day in _last_days().items() if code not in ACTIVE}
"""By the code of a currency that is money no more, the last day on which it was."""
USUAL = 2
OTHER_DIGITS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF"), 0),
    **dict.fromkeys(("UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}
"""Digits of ISO 4217 as of 2026 that are not two: they stay what they are if one is withdrawn."""
MINOR_DIGITS: dict[str, int] = {
    **{code: OTHER_DIGITS.get(code, USUAL) for code in WITHDRAWN},
    **ACTIVE,
}
"""Digits after the point, by the code of any currency that ever was; at least those it had."""
COINS = {code: Decimal(1).scaleb(-digits) for code, digits in MINOR_DIGITS.items()}
"""The smallest amount of each currency."""
