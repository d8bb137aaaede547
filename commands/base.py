"""What a command is: a validated wish, decided on by one aggregate."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
)
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from aggregates.base import Refused
from aggregates.company import Company
from events.base import Event
from events.company import ListName
from events.envelope import Actor
from events.values import Money

A = TypeVar("A")
E = TypeVar("E")
F = TypeVar("F", bound=Event)


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of a stream that a command refers to when the command is recorded.

    What is imported as history needs not meet it.

    Attributes:
        check: takes the stream's state and the value of a field; refuses by raising.
        of: that field, beside the reference.
        rules: by which it may refuse.
    """

    check: Callable[[Any, Any], None]
    of: str
    rules: tuple[type[Refused], ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """Marks a field that holds the id of another stream, which must exist.

    Attributes:
        currency_of: the field beside it whose amount must be in that stream's currency.
        condition: what else must hold of the stream; at most one field of a command has one, and
            none of the items in its lists.
    """

    stream_type: str
    currency_of: str | None = None
    condition: Condition | None = None


class Referred(NamedTuple):
    """A stream that a command refers to.

    Attributes:
        field: where the command names it.
        currency: the one that the stream must be in; None when any will do.
        check: refuses by the stream's state; None when any will do.
    """

    field: str
    stream_type: str
    stream_id: UUID
    currency: str | None
    check: Callable[[Any], None] | None


@dataclass(frozen=True, slots=True)
class Context:
    """What deciding needs and purity forbids to fetch.

    Attributes:
        stream_id: the stream that the command is about.
        rep: the actor, if that is a person; a service or an import acts for one or for nobody.
        settings: the company's settings in force.
        fresh_id: makes a new id, another at each call.
        keyed_hash: of a personal text and the id of its subject: what the state may remember of
            it. Equal for texts that differ in case and spaces only; nobody can tell the text from
            it once the subject's key is deleted.
        mark_of: likewise, equal for exactly the same text only.
    """

    stream_id: UUID
    occurred_at: datetime
    actor: Actor
    rep: str | None
    settings: Company
    fresh_id: Callable[[], UUID]
    keyed_hash: Callable[[str, UUID], str]
    mark_of: Callable[[str, UUID], str]

    def marked(self, event: F) -> F:
        """The event with the ``marks`` of its personal texts, by which a repetition is told."""
        fields = event.__dict__
        marks = {
            name: self.mark_of(fields[name], (of and fields[of]) or self.stream_id)
            for name, of in event.personal.items()
            if fields[name] is not None
        }
        return type(event).of(fields, marks=marks or None)

    def check_listed(self, name: ListName, value: str | None) -> None:
        """Refuse a value that the company's list does not have.

        Policies repeat what was accepted once, perhaps before the list was defined.

        Raises:
            Refused: the rule of that list.
        """
        if self.actor.kind != "policy":
            self.settings.check_listed(name, value)


class Records(Generic[F]):
    """Declares the event that a command records its own fields as.

    Fields of one name correspond. The declaration is checked when the command's class is made, so
    ``of`` need not look at the values again.

    Args:
        event: the event's class.
        without: fields of the command that the event does not have.
        derived: fields of the event that ``decide`` gives, instead of the command's or beside them.
    """

    def __init__(
        self, event: type[F], *, without: tuple[str, ...] = (), derived: tuple[str, ...] = ()
    ) -> None:
        self._event = event
        self._without = frozenset(without)
        self._derived = frozenset(derived)

    def of(self, command: Command[Any, Any], /, **derived: Any) -> F:
        """The event, made of the command's fields and of the derived ones.

        Raises:
            TypeError: when other fields are given than the declaration names.
        """
        if derived.keys() != self._derived:
            raise TypeError(
                f"{type(command).__name__} gives {self._event.__name__} the fields "
                f"{sorted(derived)}, and declares {sorted(self._derived)}"
            )
        return self._event.of(command.__dict__, **derived)

    @property
    def has_marks(self) -> bool:
        """Whether the event tells by marks which texts changed."""
        return "marks" in self._event.model_fields

    def check(self, command: type[Command[Any, Any]]) -> None:
        """Compare the fields of the command and of the event.

        Raises:
            TypeError: naming the command, the event and each field that does not fit.
        """
        faults = list(self._faults(command))
        if faults:
            raise TypeError("\n".join(faults))

    def _faults(self, command: type[Command[Any, Any]]) -> Iterator[str]:
        name, event = command.__name__, self._event.__name__
        given, wanted = command.model_fields, self._event.model_fields
        file = f"{self._event.__module__.replace('.', '/')}.py"
        for field in sorted(self._without - given.keys()):
            yield f"{name} leaves {field} out of {event}, but has no field {field}."
        for field in sorted(self._without & wanted.keys()):
            yield f"{name} leaves {field} out, but {event} has a field {field}."
        for field in sorted(self._derived - wanted.keys()):
            yield f"{name} derives {event}.{field}, but {event} has no field {field}."
        for field in sorted(given.keys() - self._without - wanted.keys()):
            yield (
                f"{name}.{field} is no field of {event}: add it there ({file}), "
                f"or name it in `without` of {name}'s Records."
            )
        for field, of_event in wanted.items():
            if field in self._derived:
                continue
            if field in given:
                others = _kinds(given[field].annotation) - _kinds(of_event.annotation)
                if others:
                    yield (
                        f"{name}.{field} may be {' or '.join(sorted(map(_called, others)))}, "
                        f"which {event}.{field} does not take ({file})."
                    )
            elif of_event.is_required():
                yield (
                    f"{event}.{field} is required, and {name} has no field {field}: add it, "
                    f"or name it in `derived` of {name}'s Records."
                )


class Command(BaseModel, Generic[A, E]):
    """Something asked of one aggregate ``A``, whose answer is events ``E`` or a refusal.

    Attributes:
        rules: those that ``decide`` may refuse by, for the API's documents; a test finds a history
            for each, and no other.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # errors are logged and kept; what is personal must not be
    )

    rules: ClassVar[tuple[type[Refused], ...]] = ()
    references: ClassVar[dict[str, Reference]]
    nested: ClassVar[dict[str, dict[str, Reference]]]
    refers: ClassVar[bool]
    marks: ClassVar[bool]
    holds_money: ClassVar[tuple[str, ...]]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: object) -> None:
        """Note which fields refer to other streams, and check what the command records.

        Raises:
            TypeError: when an event that it records has other fields.
        """
        super().__pydantic_init_subclass__(**kwargs)
        records = [declared for declared in vars(cls).values() if isinstance(declared, Records)]
        for declared in records:
            declared.check(cls)
        cls.marks = any(declared.has_marks for declared in records)
        cls.references = _references(cls)
        cls.nested = {
            name: found
            for name, field in cls.model_fields.items()
            for item in get_args(field.annotation)
            if isinstance(item, type)
            and issubclass(item, BaseModel)
            and (found := _references(item))
        }
        cls.refers = bool(cls.references or cls.nested)
        _check_conditions(cls)
        cls.holds_money = tuple(
            name for name, field in cls.model_fields.items() if _holds_money(field.annotation)
        )

    @classmethod
    def all_references(cls) -> list[Reference]:
        """Those of the command itself, then those of the items in its lists."""
        return [
            *cls.references.values(),
            *(reference for inner in cls.nested.values() for reference in inner.values()),
        ]

    def referred(self) -> Iterator[Referred]:
        """Each stream that the command refers to."""
        for name, reference in self.references.items():
            if self.__dict__[name] is not None:
                yield _referred(name, reference, name, self.__dict__)
        for name, inner in self.nested.items():
            for place, item in enumerate(self.__dict__[name]):
                for field, reference in inner.items():
                    yield _referred(f"{name}.{place}.{field}", reference, field, item.__dict__)

    def amounts(self) -> Iterator[tuple[str, Money]]:
        """Each amount of money in the command, and where it stands."""
        for name in self.holds_money:
            yield from _amounts(name, self.__dict__[name])

    @abstractmethod
    def decide(self, state: A, context: Context, /) -> list[E]:
        """The events that follow; none when what is asked is so already.

        Raises:
            Refused: when a rule says no.
        """


def refuse_no_change(command: Command[Any, Any], besides: Collection[str] = ()) -> None:
    """Refuse a change that gives nothing to change.

    Args:
        besides: fields that say what is to be changed.

    Raises:
        ValueError: when all other fields are null.
    """
    if all(value is None for name, value in command.__dict__.items() if name not in besides):
        raise ValueError("must hold at least one detail to change")


def _referred(place: str, reference: Reference, field: str, values: Mapping[str, Any]) -> Referred:
    amount = values[reference.currency_of] if reference.currency_of else None
    currency = amount.currency if amount is not None else None
    check = None
    if (condition := reference.condition) is not None:
        check = partial(_check, condition.check, values[condition.of])
    return Referred(place, reference.stream_type, values[field], currency, check)


def _check(check: Callable[[Any, Any], None], value: Any, state: Any) -> None:
    check(state, value)


def _check_conditions(command: type[Command[Any, Any]]) -> None:
    """See that the condition of a reference can be held against its stream.

    Raises:
        TypeError: when there are several, or one that names a field that there is not.
    """
    held = [one.condition for one in command.all_references() if one.condition is not None]
    own = [one for one in command.references.values() if one.condition is not None]
    if len(held) > 1 or len(held) > len(own):
        raise TypeError(
            f"{command.__name__} may have a condition on one of its own references: one other "
            "stream is held against its version under the ledger's lock."
        )
    for condition in held:
        if condition.of not in command.model_fields:
            raise TypeError(f"{command.__name__} has no field {condition.of!r} for its condition.")


def _references(model: type[BaseModel]) -> dict[str, Reference]:
    """The fields that refer to other streams.

    Raises:
        TypeError: when one names a field for its currency that the model does not have.
    """
    found = {
        name: mark
        for name, field in model.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Reference)
    }
    for name, mark in found.items():
        if mark.currency_of is not None and mark.currency_of not in model.model_fields:
            raise TypeError(
                f"{model.__name__}.{name} must be in the currency of {mark.currency_of!r}, which "
                f"{model.__name__} does not have: name a field beside it."
            )
    return found


def _holds_money(annotation: Any) -> bool:
    """Whether a value of this type is an amount of money or has one within."""
    if not isinstance(annotation, type) or get_origin(annotation) is not None:
        return any(map(_holds_money, get_args(annotation)))
    if not issubclass(annotation, BaseModel):
        return False
    within = (field.annotation for field in annotation.model_fields.values())
    return annotation is Money or any(map(_holds_money, within))


def _amounts(place: str, value: Any) -> Iterator[tuple[str, Money]]:
    if isinstance(value, Money):
        yield place, value
    elif isinstance(value, BaseModel):
        for name, inner in value.__dict__.items():
            yield from _amounts(f"{place}.{name}", inner)
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _amounts(f"{place}.{number}", item)


def _kinds(annotation: Any) -> frozenset[Any]:
    """The types that a field's value may have."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return frozenset().union(*map(_kinds, get_args(annotation)))
    return frozenset([annotation])


def _called(kind: Any) -> str:
    if kind is NoneType:
        return "null"
    return kind.__name__ if isinstance(kind, type) else str(kind)
