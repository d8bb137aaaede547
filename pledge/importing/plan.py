"""A mapping made ready: each row in, its commands out, as the bytes that are sent."""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson

from pledge.importing.errors import UnfitError
from pledge.importing.mapping import CommandRule, FileRule, LookupRule, Mapping, RowCommandRule
from pledge.importing.templates import Text, Values

_UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
LEFT_OUT: Any = object()
"""Stands for a field that the row does not fill."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")

Value = Callable[[Values], Any]
"""Makes one JSON value of a row, or says that it is left out."""


@dataclass(frozen=True, slots=True)
class Line:
    """One command, ready to be sent; `once` says that a line with a known key adds nothing."""

    command: str
    key: str
    body: bytes
    id: str
    once: bool = False


@dataclass(frozen=True, slots=True)
class CommandPlan:
    """One command of the mapping, compiled."""

    rule: CommandRule
    namespace: UUID
    scope: str
    when: Value | None
    id: Value
    key: Value
    actor: Value
    default_actor: str
    occurred_at: Value
    data: Value

    @property
    def once(self) -> bool:
        """Whether a row whose key is known adds nothing."""
        return isinstance(self.rule, RowCommandRule) and self.rule.once

    def key_of(self, values: Values) -> str | None:
        """The idempotency key of a row's command; None when its condition does not hold.

        Raises:
            UnfitError: a cell does not fit; the text begins with the field.
        """
        if self.when is not None and not self.when(values):
            return None
        key: str = self.key(values)
        return self.scope + key

    def line(self, values: Values, key: str) -> Line:
        """Make the command of a row, which has this key.

        Raises:
            UnfitError: a cell does not fit; the text begins with the field.
        """
        stream: str = self.id(values)
        body: dict[str, Any] = {"command": self.rule.command, "id": stream, "key": key}
        occurred_at = self.occurred_at(values)
        if occurred_at is not LEFT_OUT:
            body["occurred_at"] = occurred_at
        body["actor"] = self.actor(values) or self.default_actor
        data = self.data(values)
        body["data"] = {} if data is LEFT_OUT else data
        try:
            written = orjson.dumps(body)
        except TypeError as error:
            raise UnfitError(f"data: {error}") from error
        return Line(self.rule.command, key, written, stream, self.once)


@dataclass(frozen=True, slots=True)
class CountPlan:
    """One count of a file, compiled."""

    name: str
    of: Value
    when: Value | None
    since: Value | None


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One file of the mapping, compiled; `columns` pairs a place with a column named there.

    `group` gives the text that the rows of one group have in common, if rows are grouped.
    """

    rule: FileRule
    place: str
    group: Value | None
    counts: tuple[CountPlan, ...]
    commands: tuple[CommandPlan, ...]
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class LookupPlan:
    """One lookup of the mapping, compiled; ``found`` is what its rows say."""

    rule: LookupRule
    key: Text
    value: Text
    columns: tuple[tuple[str, str], ...]
    found: dict[str, str]


def check_header(plan: FilePlan | LookupPlan, header: Sequence[str]) -> list[str]:
    """Return what the mapping asks of this file's columns and does not find, if anything."""
    faults = []
    for place, column in plan.columns:
        count = header.count(column)
        if count == 0:
            near = difflib.get_close_matches(column, header, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(header)}"
            faults.append(f"{place}: {plan.rule.file} has no column {column!r}; {hint}")
        elif count > 1:
            faults.append(f"{place}: {plan.rule.file} has {count} columns named {column!r}")
    faults += [
        f"count.{name}: {plan.rule.file} has a column of this name; rename the count"
        for name in (plan.rule.count if isinstance(plan.rule, FileRule) else ())
        if name in header
    ]
    return faults


@dataclass(frozen=True, slots=True)
class Plan:
    """A mapping, compiled; `label` names it in messages."""

    label: str
    mapping: Mapping
    lookups: tuple[LookupPlan, ...]
    before: tuple[CommandPlan, ...]
    files: tuple[FilePlan, ...]


def namespace_of(name: str) -> UUID:
    """Return the uuid under which the natural keys of a mapping of this name become uuids."""
    return uuid5(NAMESPACE_URL, f"pledge:import:{name}")


def stream_id(namespace: UUID, text: str) -> str:
    """Return a text that is a uuid as it is, in lower case; any other becomes its uuid5."""
    return text.lower() if _UUID.fullmatch(text) else named(namespace, text)


def named(namespace: UUID, text: str) -> str:
    """Return the uuid of version 5 that a text has in a namespace."""
    digest = sha1(namespace.bytes + text.encode(), usedforsecurity=False).digest()
    number = int.from_bytes(digest[:16]) & ~(0xF000 << 64 | 0xC000 << 48) | 5 << 76 | 0x8000 << 48
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def within(path: str, function: Callable[[_In], _Out], argument: _In) -> _Out:
    """Call the function; its UnfitError gets the path of the field in front."""
    try:
        return function(argument)
    except UnfitError as error:
        raise UnfitError(f"{path}: {error}") from error
