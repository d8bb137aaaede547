"""How a payload of an older schema version becomes one of the next: pure, dict to dict.

``UPCASTERS[("lead.captured", 1)] = from_1_to_2`` turns version 1 into version 2. A personal field
keeps its name for ever: the name is part of what its ciphertext was sealed with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from events.base import LaterVersion

Payload = dict[str, Any]


def _every_conversion_opened_a_deal(payload: Payload) -> Payload:
    return {**payload, "new_opportunity": True}


def _as_it_was(payload: Payload) -> Payload:
    """The next version encrypts a text (see ``Personal``), or takes more than this one did."""
    return payload


def _a_stage_was_known_by_its_name(payload: Payload) -> Payload:
    return {**payload, "stages": [{"key": one["name"], **one} for one in payload["stages"]]}


UPCASTERS: dict[tuple[str, int], Callable[[Payload], Payload]] = {
    ("lead.converted", 1): _every_conversion_opened_a_deal,
    ("order.goods-returned", 1): _as_it_was,
    **{
        (name, 1): _as_it_was  # without marks
        for name in (
            *("customer.registered", "customer.details-changed"),
            *("customer.contact-added", "customer.contact-changed", "lead.details-changed"),
            *("opportunity.details-changed", "order.held", "order.disputed"),
            "ticket.rated",
        )
    },
    **{
        (name, 2): _as_it_was
        for name in ("lead.captured", "opportunity.opened", "order.placed", "ticket.waiting")
    },
    ("opportunity.handed-over", 1): _as_it_was,
    ("company.pipeline-defined", 1): _a_stage_was_known_by_its_name,
    **{
        (name, 1): _as_it_was
        for name in (
            *("lead.captured", "lead.returned"),
            *("customer.released", "customer.handed-over", "customer.promise-made"),
            *("ticket.dispatch-declined", "ticket.waiting", "ticket.escalated", "ticket.reopened"),
            *("opportunity.opened", "opportunity.lost", "opportunity.reopened", "order.placed"),
        )
    },
}


def reads_as_it_was(name: str, version: int, current: int) -> bool:
    """Whether a payload of this version is one of the current version too."""
    return all(UPCASTERS.get((name, v)) is _as_it_was for v in range(version, current))


def upcast(name: str, version: int, current: int, payload: Payload) -> Payload:
    """The payload in its current shape.

    Raises:
        LaterVersion: when ``version`` is above ``current``.
        LookupError: when a step from ``version`` to ``current`` is missing.
    """
    if version > current:
        raise LaterVersion(f"{name} version {version} is newer than this code's {current}")
    while version < current:
        step = UPCASTERS.get((name, version))
        if step is None:
            raise LookupError(f"no upcaster leads {name} from version {version} to {version + 1}")
        payload = step(payload)
        version += 1
    return payload
