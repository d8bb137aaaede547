"""Every event on one page: the modules that define them, and the class of each type."""

from __future__ import annotations

from events import company, customer, lead, opportunity, order, payment, ticket
from events.base import REGISTRY, Event, UnknownEventType

NOUNS = (company, customer, lead, opportunity, order, payment, ticket)
_SHIPPED = {noun.__name__ for noun in NOUNS}
EVENTS: tuple[type[Event], ...] = tuple(
    sorted(
        (cls for cls in REGISTRY.values() if cls.__module__ in _SHIPPED),
        key=lambda cls: cls.event_type,
    )
)
"""Every event class that the service ships, by type name."""


def class_of(name: str) -> type[Event]:
    """The class of an event type.

    Raises:
        UnknownEventType: when no class bears the name.
    """
    try:
        return REGISTRY[name]
    except KeyError:
        raise UnknownEventType(name) from None
