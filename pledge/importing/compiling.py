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
    FileRule,
    LookupRule,
    Mapping,
    RowCommandRule,
    SourceRule,
    currency_code,
    time_zone,
)
from pledge.importing.plan import (
    LEFT_OUT,
    CommandPlan,
    CountPlan,
    FilePlan,
    LookupPlan,
    Plan,
    Value,
    named,
    namespace_of,
    stream_id,
    within,
)
from pledge.importing.templates import (
    Language,
    TemplateFault,
    Text,
    Uses,
    Values,
    instant,
    number,
    remembering,
    rounded,
    total_of,
)

_TRUE = frozenset({"true", "yes", "y", "t", "1"})
_FALSE = frozenset({"false", "no", "n", "f", "0"})
_MARKERS = frozenset({"text", "int", "bool", "time", "money", "ref", "table", "each"})
_SUMMED = frozenset({"text", "int", "money"})


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
    files = tuple(
        compiler.file(rule, f"files[{index}] ({rule.file})")
        for index, rule in enumerate(mapping.files, 1)
    )
    if compiler.faults:
        faults = dict.fromkeys(compiler.faults)
        raise MappingError("\n".join(f"{label}: {fault}" for fault in faults))
    return Plan(label, mapping, lookups, tuple(before), files)


@dataclass
class _Compiler:
    mapping: Mapping
    known: frozenset[str] | None
    faults: list[str] = field(default_factory=list)
    columns: list[tuple[str, str]] = field(default_factory=list)
    counts: frozenset[str] = frozenset()
    groups: bool = False

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
        columns = self._filled(rule, f"lookups.{name}")
        return LookupPlan(rule, key, value, columns, self.lookups[name])

    def file(self, rule: FileRule, place: str) -> FilePlan:
        group = None
        if rule.group is not None:
            group = self._named(rule.group, f"{place}.group", "group", str)
        counts = tuple(
            CountPlan(
                name,
                self._rendered(count.of, f"{place}.count.{name}.of", f"count.{name}.of"),
                self._condition(count.when, f"{place}.count.{name}.when", f"count.{name}.when"),
                self._condition(count.since, f"{place}.count.{name}.since", f"count.{name}.since"),
            )
            for name, count in rule.count.items()
        )
        self.counts, self.groups = frozenset(rule.count), group is not None
        commands = tuple(
            self.command(one, f"{place}.commands[{number_}] ({one.command})")
            for number_, one in enumerate(rule.commands, 1)
        )
        self.counts, self.groups = frozenset(), False
        return FilePlan(rule, place, group, counts, commands, self._filled(rule, place))

    def _filled(self, rule: SourceRule, place: str) -> tuple[tuple[str, str], ...]:
        self.columns += [(f"{place}.fill", column) for column in rule.fill]
        return self.take_columns()

    def command(self, rule: CommandRule, place: str) -> CommandPlan:
        if self.known is not None and rule.command not in self.known:
            near = difflib.get_close_matches(rule.command, self.known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            self.faults.append(f"{place}: there is no command {rule.command!r}{hint}")
        when = rule.when if isinstance(rule, RowCommandRule) else None
        name = partial(named, self.namespace)
        return CommandPlan(
            rule=rule,
            namespace=self.namespace,
            scope=f"{self.mapping.name}:{rule.command}:",
            when=self._condition(when, f"{place}.when", "when"),
            id=self._named(rule.id, f"{place}.id", "id", self._stream_id),
            key=self._named(rule.id, f"{place}.id", "id", name)
            if rule.key is None
            else self._named(rule.key, f"{place}.key", "key", name),
            actor=self._rendered(rule.actor or "", f"{place}.actor", "actor"),
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
        self._note(text.uses, place)
        return text

    def _note(self, uses: Uses, place: str) -> None:
        self.columns += [(place, column) for column in sorted(uses.columns - self.counts)]

    def _rendered(self, source: Any, place: str, path: str) -> Value:
        text = self._text(source, place)
        return remembering(lambda values: within(path, text.render, values), text.uses)

    def _named(self, source: str, place: str, path: str, convert: Callable[[str], str]) -> Value:
        text = self._text(source, place)

        def value(values: Values) -> str:
            rendered = within(path, text.render, values)
            if not rendered:
                raise UnfitError(f"{path}: is empty")
            return convert(rendered)

        return remembering(value, text.uses)

    def _condition(self, source: Any, place: str, path: str) -> Value | None:
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
        self._note(condition.uses, place)
        return remembering(lambda values: within(path, condition.holds, values), condition.uses)

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
        extra = {"when"} | ({"currency"} if kind == "money" else set())
        extra |= {"sum"} if kind in _SUMMED else set()
        for key in raw.keys() - extra - {kind}:
            self.faults.append(f"{where}: there is no key {key!r} beside {kind!r}")
        if (kind == "each" or "sum" in raw) and not self.groups:
            self.faults.append(f"{where}: {kind if kind == 'each' else 'sum'} needs `group`")
        value = self._typed(kind, raw, place, path)
        when = self._condition(raw.get("when"), f"{where}.when", f"{path}.when")
        if when is None:
            return value
        return lambda values: value(values) if when(values) else LEFT_OUT

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
            return self._converted(source, where, path, conversions[kind], raw.get("sum", False))
        if kind == "each":
            return self._each(source, place, path)
        if not isinstance(source, dict):
            self.faults.append(f"{where}: table takes a table, not {source!r}")
            return partial(_constant, LEFT_OUT)
        return self._table(source, place, path)

    def _each(self, source: Any, place: str, path: str) -> Value:
        item = self._value(source, place, f"{path}.each")

        def value(values: Values) -> Any:
            made = [item(row) for row in values["_rows"]]
            return [one for one in made if one is not LEFT_OUT] or LEFT_OUT

        return value

    def _converted(
        self,
        source: Any,
        where: str,
        path: str,
        convert: Callable[[str], Any],
        summed: Any = False,
    ) -> Value:
        rendered, uses = self._cells(source, where, path, summed)

        def value(values: Values) -> Any:
            text = rendered(values)
            return within(path, convert, text) if text else LEFT_OUT

        return remembering(value, uses)

    def _cells(self, source: Any, where: str, path: str, summed: Any) -> tuple[Value, Uses]:
        """The text of a template; or, summed, of the sum of its numbers in the rows of a group."""
        text = self._text(source, where)
        if not isinstance(summed, bool):
            self.faults.append(f"{where}.sum: must be true or false, not {summed!r}")
        if not summed:
            return lambda values: within(path, text.render, values), text.uses

        def amount(values: Values) -> Any:
            return within(path, lambda row: number(text.render(row)), values)

        one = remembering(amount, text.uses)

        def total(values: Values) -> str:
            found = [number_ for row in values["_rows"] if (number_ := one(row)) != ""]
            return format(total_of(found), "f") if found else ""

        return total, Uses(alone=False)

    def _money(self, raw: dict[str, Any], where: str, path: str) -> Value:
        currency = raw.get("currency", self.mapping.currency)
        if currency is None:
            self.faults.append(f"{where}: money without a currency; name one, or the mapping's own")
            currency = ""
        rendered, uses = self._cells(raw["money"], where, path, raw.get("sum", False))
        code = self._text(currency, f"{where}.currency")
        if code.made is None and code.template:
            try:
                currency_code(code.template)
            except ValueError as error:
                self.faults.append(f"{where}.currency: {error}")

        def value(values: Values) -> Any:
            amount = rendered(values)
            if not amount:
                return LEFT_OUT
            return within(path, lambda it: _amount(amount, code.render(it)), values)

        return remembering(value, uses, code.uses)

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
