"""What an event is: a named, versioned, immutable fact, and the closed registry of all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict

NAME = re.compile(r"[a-z][a-z-]*\.[a-z][a-z-]*")
ERASED = "[erased]"
"""What a personal field reads as once its subject's key is gone."""


class LaterVersion(LookupError):
    """The ledger holds an event that only a later version of the code can read."""


class UnknownEventType(LaterVersion):
    """The ledger holds an event that this version of the code has no class for."""


@dataclass(frozen=True, slots=True)
class Personal:
    """Marks a text field as personal data; it is encrypted with its subject's key from birth.

    Attributes:
        of: the event's field that holds the subject's id. None, or a field that holds nothing,
            stands for the stream.
        since: the schema version of the event from which on it is encrypted; older events hold the
            text in the clear.
    """

    of: str | None = None
    since: int = 1


class Event(BaseModel):
    """A fact that happened. Its type name and schema version never change.

    ``class LeadQualified(Event, type="lead.qualified", version=1)``. Unknown fields are ignored
    when read, so that a newer writer does not break an older reader.

    Raises:
        TypeError: at class creation, when the name is missing, malformed or taken, or when a
            personal field is not a text.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_type: ClassVar[str]
    schema_version: ClassVar[int]
    personal: ClassVar[dict[str, str | None]]
    sealed_since: ClassVar[dict[str, int]]
    _defaults: ClassVar[dict[str, Any]]
    _required: ClassVar[tuple[str, ...]]

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, type: str | None = None, version: int = 1, **kwargs: Any
    ) -> None:
        """Name the event and enter it into the registry."""
        super().__pydantic_init_subclass__(**kwargs)
        if type is None or not NAME.fullmatch(type):
            raise TypeError(f'{cls.__name__} needs type="stream.past-tense", not {type!r}')
        taken = REGISTRY.get(type)
        if taken is not None and (taken.__module__, taken.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise TypeError(f"{cls.__name__} and {taken.__name__} both claim {type!r}")
        cls.event_type = type
        cls.schema_version = version
        marks = {
            name: mark
            for name, field in cls.model_fields.items()
            for mark in field.metadata
            if isinstance(mark, Personal)
        }
        cls.personal = {name: mark.of for name, mark in marks.items()}
        cls.sealed_since = {name: mark.since for name, mark in marks.items()}
        for name, of in cls.personal.items():
            if cls.model_fields[name].annotation not in (str, str | None):
                raise TypeError(f"{cls.__name__}.{name} is personal, so it must be a text")
            if of is not None and of not in cls.model_fields:
                raise TypeError(f"{cls.__name__}.{name} names no field as its subject: {of!r}")
        cls._required = tuple(n for n, field in cls.model_fields.items() if field.is_required())
        cls._defaults = {
            name: None if field.is_required() else field.get_default()
            for name, field in cls.model_fields.items()
        }
        REGISTRY[type] = cls

    @classmethod
    def of(cls, values: Mapping[str, Any], /, **others: Any) -> Self:
        """The event made of values that a command has validated already, without a second look.

        Of ``values`` only the event's fields are taken; a field that is not given has its default.
        Commands call it through ``commands.base.Records``, which has compared the fields before.

        Args:
            values: by the name of the field.
            others: more of them; each must be a field of the event.

        Raises:
            KeyError: when a field without a default has no value.
            TypeError: when one of the others is no field of the event.
        """
        if not others.keys() <= cls._defaults.keys():
            raise TypeError(f"{cls.__name__} has no field {min(others.keys() - cls._defaults)}")
        fields = {
            name: others[name] if name in others else values.get(name, default)
            for name, default in cls._defaults.items()
        }
        for name in cls._required:
            if fields[name] is None:
                raise KeyError(f"{cls.__name__} needs {name}")
        fact = cls.__new__(cls)
        for attribute, value in (
            ("__dict__", fields),
            ("__pydantic_fields_set__", set(fields)),
            ("__pydantic_extra__", None),
            ("__pydantic_private__", None),
        ):
            object.__setattr__(fact, attribute, value)
        return fact

    def shown(self) -> dict[str, Any]:
        """What it says, as JSON has it: without nulls, and without the marks of its texts."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"marks"})

    def __init_subclass__(cls, *, type: str | None = None, version: int = 1) -> None:
        """Accept the class keywords that the registry reads."""
        super().__init_subclass__()


REGISTRY: dict[str, type[Event]] = {}
"""Every event type's current class. Older schema versions reach it through ``events.upcasters``."""

E = TypeVar("E", bound=Event)
