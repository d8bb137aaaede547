"""Every event on one page: the modules that define them, and the class of each type."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from events import company, customer, lead, opportunity, order, payment, ticket
from events.base import REGISTRY, Event, UnknownEventType
from events.upcasters import UPCASTERS

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


def check(events: Collection[type[Event]], upcasters: Mapping[tuple[str, int], Any]) -> None:
    """See that every version of every event that was ever stored can be read.

    Raises:
        TypeError: saying which type is another stream's, or which upcaster is missing or leads
            nowhere.
    """
    faults = list(_faults(events, upcasters))
    if faults:
        raise TypeError("\n".join(faults))


def _faults(
    events: Collection[type[Event]], upcasters: Mapping[tuple[str, int], Any]
) -> Iterator[str]:
    for event in events:
        noun = event.__module__.rpartition(".")[2]
        if event.event_type.partition(".")[0] != noun:
            yield (
                f"{event.__name__} in {event.__module__.replace('.', '/')}.py has the type "
                f"{event.event_type!r}: begin it with '{noun}.', the kind of its stream."
            )
    steps = {(c.event_type, version) for c in events for version in range(1, c.schema_version)}
    for name, version in sorted(steps - upcasters.keys()):
        yield (
            f"{name} has a version {version + 1}, to which nothing leads from version {version}: "
            f'add UPCASTERS[("{name}", {version})] to events/upcasters.py.'
        )
    for name, version in sorted(upcasters.keys() - steps):
        yield (
            f'UPCASTERS[("{name}", {version})] leads to a version that no event has: '
            "raise `version=` in the event's class line, or remove it from events/upcasters.py."
        )


check(EVENTS, UPCASTERS)
