"""What is asked in the benchmarks: the same facts for us and for the yardsticks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

import orjson

CUSTOMER = {
    "name": "Nordwind Logistik Hamburg",
    "email": "greta.lindqvist@nordwind.example",
    "phone": "+49 40 123 45 67",
    "source": "webform",
    "website": "https://www.nordwind-logistik.example/en/cold-chain/contact",
    "region": "Northern Germany, Denmark and southern Sweden",
}
PROMISE: dict[str, Any] = {
    "promised_by": "rep-north",
    "what": "Deliver 100 sensors by the end of the year with a discount of 5 per cent",
    "due": "2030-12-31",
    "topic": "delivery of sensors",
    "amount": {"amount": "12345.67", "currency": "EUR"},
}
LEAD = {
    "name": "Camille Aubert",
    "email": "camille.aubert@saint-roch.example",
    "phone": "+33 6 12 34 56 78",
    "need": "Ward monitoring for 40 beds, with alarms on the nurses' own telephones",
    "company": "Hôpital Saint-Roch",
    "source": "fair",
    "region": "south",
}
STEPS = 4
"""Events of a deal: opened, moved, quoted, won."""


def customer_lines(lines: int) -> bytes:
    """NDJSON that registers so many customers, each line with a key of its own."""
    batch = uuid4().hex
    return b"".join(
        orjson.dumps({"command": "customers/register", "key": f"{batch}-{n}", "data": CUSTOMER})
        + b"\n"
        for n in range(lines)
    )


def deals(number: int) -> Iterator[tuple[UUID, str, dict[str, Any]]]:
    """Deals that begin one after another and overlap: (id, verb, data) in the order of happening.

    A tenth of all deals lies between two steps of one deal, so that most steps come long after
    the row they change was written.
    """
    apart = max(1, number // 10)
    for n in range(number + (STEPS - 1) * apart):
        for step in range(STEPS):
            deal = n - step * apart
            if 0 <= deal < number:
                yield _step(deal, step)


def _step(deal: int, step: int) -> tuple[UUID, str, dict[str, Any]]:
    deal_id = uuid5(NAMESPACE_URL, f"pledge:bench:{deal}")
    worth = {"amount": f"{1000 + deal % 900}.50", "currency": "EUR"}
    match step:
        case 0:
            return (
                deal_id,
                "open",
                {
                    "title": f"Cold-chain sensors, phase {deal}",
                    "product": "sensors",
                    "owner": f"rep-{deal % 40}",
                    "amount": worth,
                    "expected_close": "2030-06-30",
                },
            )
        case 1:
            return deal_id, "move-stage", {"stage": "proposal"}
        case 2:
            line = {"product": "sensors", "quantity": "10", "unit_price": worth}
            return (
                deal_id,
                "quote",
                {
                    "quote_id": str(uuid5(deal_id, "quote")),
                    "lines": [line],
                    "valid_until": "2030-03-31",
                },
            )
        case _:
            return deal_id, "win", {"amount": worth}
