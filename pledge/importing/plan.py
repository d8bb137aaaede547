"""A mapping made ready: each row in, its commands out, as the bytes that are sent."""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson

from pledge.importing.errors import UnfitError
from pledge.importing.mapping import CommandRule, FileRule, LookupRule, Mapping, RowCommandRule
from pledge.importing.templates import Condition, Text, Values

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
    once: bool = False


@dataclass(frozen=True, slots=True)
class CommandPlan:
    """One command of the mapping, compiled."""

    rule: CommandRule
    namespace: UUID
    scope: str
    when: Condition | None
    id: Text
    key: Text
    actor: Text
    default_actor: str
    occurred_at: Value
    data: Value

    def line(self, values: Values) -> Line | None:
        """Make the command of a row; None when its condition does not hold.

        Raises:
            UnfitError: a cell does not fit; the text begins with the field.
        """
        if self.when is not None and not within("when", self.when.holds, values):
            return None
        identity = within("id", self.id.render, values)
        if not identity:
            raise UnfitError("id: is empty")
        key_text = within("key", self.key.render, values)
        if not key_text:
            raise UnfitError("key: is empty")
        key = f"{self.scope}{uuid5(self.namespace, key_text)}"
        body: dict[str, Any] = {
            "command": self.rule.command,
            "id": stream_id(self.namespace, identity),
            "key": key,
        }
        occurred_at = self.occurred_at(values)
        if occurred_at is not LEFT_OUT:
            body["occurred_at"] = occurred_at
        body["actor"] = within("actor", self.actor.render, values) or self.default_actor
        data = self.data(values)
        body["data"] = {} if data is LEFT_OUT else data
        try:
            written = orjson.dumps(body)
        except TypeError as error:
            raise UnfitError(f"data: {error}") from error
        once = isinstance(self.rule, RowCommandRule) and self.rule.once
        return Line(self.rule.command, key, written, once)


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One file of the mapping, compiled; `columns` pairs a place with a column named there."""

    rule: FileRule
    place: str
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
    return text.lower() if _UUID.fullmatch(text) else str(uuid5(namespace, text))


def within(path: str, function: Callable[[_In], _Out], argument: _In) -> _Out:
    """Call the function; its UnfitError gets the path of the field in front."""
    try:
        return function(argument)
    except UnfitError as error:
        raise UnfitError(f"{path}: {error}") from error
