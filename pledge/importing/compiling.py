"""From the mapping as written to the plan: every template, expression and typed value compiled."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any

from iso4217 import Currency

from pledge.importing.errors import MappingError, UnfitError
from pledge.importing.mapping import (
    CommandRule,
    LookupRule,
    Mapping,
    RowCommandRule,
    currency_code,
    time_zone,
)
from pledge.importing.plan import (
    LEFT_OUT,
    CommandPlan,
    FilePlan,
    LookupPlan,
    Plan,
    Value,
    namespace_of,
    stream_id,
    within,
)
from pledge.importing.templates import (
    Condition,
    Language,
    TemplateFault,
    Text,
    Values,
    instant,
    number,
    rounded,
)

_TRUE = frozenset({"true", "yes", "y", "t", "1"})
_FALSE = frozenset({"false", "no", "n", "f", "0"})
_MARKERS = frozenset({"text", "int", "bool", "time", "money", "ref", "table"})


def compile_mapping(mapping: Mapping, label: str, known: Iterable[str] | None = None) -> Plan:
    """Compile every template and expression of a mapping.

    Args:
        mapping: what was read.
        label: how messages name it.
        known: the commands that there are, "customers/register"; None when nobody knows.

    Raises:
        MappingError: one line for each mistake, with mapping, section and reason.
    """
    compiler = _Compiler(mapping, None if known is None else frozenset(known))
    lookups = tuple(compiler.lookup(name, rule) for name, rule in mapping.lookups.items())
    before = []
    for index, rule in enumerate(mapping.before, 1):
        place = f"before[{index}] ({rule.command})"
        before.append(compiler.command(rule, place))
        compiler.faults += [
            f"{where}: nothing is read before the first row, so there is no column {column!r}"
            for where, column in compiler.take_columns()
        ]
    files = []
    for index, file in enumerate(mapping.files, 1):
        place = f"files[{index}] ({file.file})"
        commands = tuple(
            compiler.command(rule, f"{place}.commands[{number_}] ({rule.command})")
            for number_, rule in enumerate(file.commands, 1)
        )
        files.append(FilePlan(file, place, commands, compiler.take_columns()))
    if compiler.faults:
        raise MappingError("\n".join(f"{label}: {fault}" for fault in compiler.faults))
    return Plan(label, mapping, lookups, tuple(before), tuple(files))


@dataclass
class _Compiler:
    mapping: Mapping
    known: frozenset[str] | None
    faults: list[str] = field(default_factory=list)
    columns: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lookups: dict[str, dict[str, str]] = {name: {} for name in self.mapping.lookups}
        self.zone = time_zone(self.mapping.time_zone)
        self.language = Language(self.mapping.values, self.lookups, self.zone)
        self.namespace = namespace_of(self.mapping.name)

    def take_columns(self) -> tuple[tuple[str, str], ...]:
        taken = tuple(dict.fromkeys(self.columns))
        self.columns.clear()
        return taken

    def lookup(self, name: str, rule: LookupRule) -> LookupPlan:
        key = self._text(rule.key, f"lookups.{name}.key")
        value = self._text(rule.value, f"lookups.{name}.value")
        return LookupPlan(rule, key, value, self.take_columns(), self.lookups[name])

    def command(self, rule: CommandRule, place: str) -> CommandPlan:
        if self.known is not None and rule.command not in self.known:
            near = difflib.get_close_matches(rule.command, self.known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self.faults.append(f"{place}: there is no command {rule.command!r}{hint}")
        when = rule.when if isinstance(rule, RowCommandRule) else None
        identity = self._text(rule.id, f"{place}.id")
        return CommandPlan(
            rule=rule,
            namespace=self.namespace,
            scope=f"{self.mapping.name}:{rule.command}:",
            when=self._condition(when, f"{place}.when"),
            id=identity,
            key=identity if rule.key is None else self._text(rule.key, f"{place}.key"),
            actor=self._text(rule.actor or "", f"{place}.actor"),
            default_actor=self.mapping.actor,
            occurred_at=self._time(rule.occurred_at or "", f"{place}.occurred_at"),
            data=self._table(rule.data, place, "data"),
        )

    def _text(self, source: Any, place: str) -> Text:
        if not isinstance(source, str):
            self.faults.append(f"{place}: must be a text, not {source!r}")
            return Text("")
        try:
            text = self.language.text(source)
        except TemplateFault as fault:
            self.faults.append(f"{place}: {fault}")
            return Text("")
        self.columns += [(place, column) for column in sorted(text.columns)]
        return text

    def _condition(self, source: Any, place: str) -> Condition | None:
        if source is None:
            return None
        if not isinstance(source, str):
            self.faults.append(f"{place}: must be a text, not {source!r}")
            return None
        try:
            condition = self.language.condition(source)
        except TemplateFault as fault:
            self.faults.append(f"{place}: {fault}")
            return None
        self.columns += [(place, column) for column in sorted(condition.columns)]
        return condition

    def _value(self, raw: Any, place: str, path: str) -> Value:
        where = f"{place}.{path}"
        value: Value
        match raw:
            case str():
                value = self._plain(raw, where, path)
            case int():
                value = partial(_constant, raw)
            case datetime() | date():
                value = self._plain(raw.isoformat(), where, path)
            case list():
                value = self._list(raw, place, path)
            case dict() if _MARKERS & raw.keys():
                value = self._marked(raw, place, path)
            case dict():
                value = self._table(raw, place, path)
            case _:
                self.faults.append(f'{where}: write {raw!r} as a text, "{raw}"')
                value = partial(_constant, LEFT_OUT)
        return value

    def _plain(self, raw: Any, where: str, path: str) -> Value:
        return self._converted(raw, where, path, str)

    def _list(self, raw: list[Any], place: str, path: str) -> Value:
        items = [self._value(item, place, f"{path}[{at}]") for at, item in enumerate(raw, 1)]

        def value(values: Values) -> Any:
            made = [item(values) for item in items]
            return [item for item in made if item is not LEFT_OUT] or LEFT_OUT

        return value

    def _table(self, raw: dict[str, Any], place: str, path: str) -> Value:
        fields = {name: self._value(item, place, f"{path}.{name}") for name, item in raw.items()}

        def value(values: Values) -> Any:
            made = {name: item(values) for name, item in fields.items()}
            return {k: item for k, item in made.items() if item is not LEFT_OUT} or LEFT_OUT

        return value

    def _marked(self, raw: dict[str, Any], place: str, path: str) -> Value:
        where = f"{place}.{path}"
        kind = next(key for key in raw if key in _MARKERS)
        extra = {"when", "currency"} if kind == "money" else {"when"}
        for key in raw.keys() - extra - {kind}:
            self.faults.append(f"{where}: there is no key {key!r} beside {kind!r}")
        value = self._typed(kind, raw, place, path)
        when = self._condition(raw.get("when"), f"{where}.when")
        if when is None:
            return value

        def conditional(values: Values) -> Any:
            holds = within(f"{path}.when", when.holds, values)
            return value(values) if holds else LEFT_OUT

        return conditional

    def _typed(self, kind: str, raw: dict[str, Any], place: str, path: str) -> Value:
        where = f"{place}.{path}"
        source = raw[kind]
        conversions: dict[str, Callable[[str], Any]] = {
            "text": str,
            "int": _integer,
            "bool": _boolean,
            "time": self._instant,
            "ref": self._stream_id,
        }
        if kind == "money":
            return self._money(raw, where, path)
        if kind in conversions:
            return self._converted(source, where, path, conversions[kind])
        if not isinstance(source, dict):
            self.faults.append(f"{where}: table takes a table, not {source!r}")
            return partial(_constant, LEFT_OUT)
        return self._table(source, place, path)

    def _converted(
        self, source: Any, where: str, path: str, convert: Callable[[str], Any]
    ) -> Value:
        text = self._text(source, where)

        def value(values: Values) -> Any:
            rendered = within(path, text.render, values)
            return within(path, convert, rendered) if rendered else LEFT_OUT

        return value

    def _money(self, raw: dict[str, Any], where: str, path: str) -> Value:
        currency = raw.get("currency", self.mapping.currency)
        if currency is None:
            self.faults.append(f"{where}: money without a currency; name one, or the mapping's own")
            currency = ""
        text = self._text(raw["money"], where)
        code = self._text(currency, f"{where}.currency")
        if isinstance(code.template, str) and code.template:
            try:
                currency_code(code.template)
            except ValueError as error:
                self.faults.append(f"{where}.currency: {error}")

        def value(values: Values) -> Any:
            amount = within(path, text.render, values)
            if not amount:
                return LEFT_OUT
            return within(path, lambda it: _amount(amount, code.render(it)), values)

        return value

    def _time(self, source: str, where: str) -> Value:
        return self._converted(source, where, "occurred_at", self._instant)

    def _instant(self, text: str) -> str:
        return instant(text, self.zone)

    def _stream_id(self, text: str) -> str:
        return stream_id(self.namespace, text)


def _constant(value: Any, _: Values) -> Any:
    return value


def _integer(text: str) -> int:
    value: Decimal = number(text)
    if value != value.to_integral_value():
        raise UnfitError(f"{text!r} is not a whole number")
    return int(value)


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise UnfitError(f"{text!r} is neither true nor false")


def _amount(text: str, code: str) -> dict[str, str]:
    try:
        currency = Currency(code)
    except ValueError as error:
        raise UnfitError(f"{code!r} is no ISO 4217 currency code") from error
    value: Decimal = number(text)
    digits = currency.exponent or 0
    shortened = rounded(value, digits)
    if shortened != value:
        raise UnfitError(f"{text} has more than the {digits} decimals of {code}")
    written = value if -int(value.as_tuple().exponent) <= digits else shortened
    return {"amount": format(written, "f"), "currency": code}
