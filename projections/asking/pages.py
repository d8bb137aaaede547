"""Cursors: where the next page of a list begins, as a text that only that list takes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from events.values import EARLIEST, LATEST
from projections.asking.clocks import FOREVER, Unanswerable

LIMIT = 50
MAX_LIMIT = 1_000
DECIMAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,10})?")


def closed(of: str, key: Sequence[Any]) -> str:
    """The cursor behind the row with this key.

    Args:
        of: the list; another one refuses the cursor.
    """
    return base64.urlsafe_b64encode(orjson.dumps([of, *key], default=str)).decode().rstrip("=")


def opened(of: str, cursor: str, kinds: Sequence[type]) -> list[Any]:
    """The key that a cursor holds.

    Args:
        kinds: of its values: datetime, date, UUID, bool, int, Decimal or str.

    Raises:
        Unanswerable: when the cursor is none that this list gave.
    """
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        whose, *key = orjson.loads(raw)
        found = [_part(part, kind) for part, kind in zip(key, kinds, strict=True)]
    except (ValueError, TypeError, binascii.Error):
        whose, found = None, []
    if whose != of:
        raise Unanswerable("cursor", "is not one that this list gave")
    return found


def _part(part: Any, kind: type) -> Any:
    if kind is bool and type(part) is bool:
        return part
    if kind is int and type(part) is int and -FOREVER <= part <= FOREVER:
        return part
    if kind is date and isinstance(part, str):
        return date.fromisoformat(part)
    if kind is UUID and isinstance(part, str):
        return UUID(part)
    if kind is str and isinstance(part, str) and "\0" not in part:
        part.encode()  # a lone surrogate is no text
        return part
    if kind is Decimal and isinstance(part, str) and DECIMAL.fullmatch(part):
        return Decimal(part)
    if kind is datetime and isinstance(part, str):
        moment = datetime.fromisoformat(part)
        if moment.tzinfo is not None and EARLIEST <= moment < LATEST:
            return moment
    raise ValueError(part)
