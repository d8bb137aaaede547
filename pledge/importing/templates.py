"""The little language of a mapping: sandboxed Jinja2 in which equal cells give equal text."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from decimal import ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation
from operator import itemgetter
from typing import Any, NamedTuple

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import SandboxedEnvironment

from events.texts import tidy
from pledge.importing.errors import UnfitError

Values = Mapping[str, Any]
"""What a template sees: the columns and counts by name, `row`, `_line`, `_file` and `_rows`."""

OWN_NAMES = frozenset({"row", "_line", "_file", "_rows"})
REMEMBERED = 1_000
"""How many of its latest results a template remembers."""

_BUILT_IN = (
    *("capitalize", "default", "first", "join", "last", "length"),
    *("lower", "replace", "title", "trim", "upper"),
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", re.ASCII)
_LONGEST_NUMBER = 60
_GROUP = 3
_LOOK_ALIKE = str.maketrans(
    {**dict.fromkeys("\u00a0\u2007\u2009\u202f", " "), "\u2019": "'", "\u2212": "-"}
)
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME_OF_DAY = re.compile(r"%[HIMSfpXcTzZ]")
_EXACT = Context(prec=200, traps=[Inexact, InvalidOperation])
_HALF_UP = Context(prec=200, rounding=ROUND_HALF_UP, traps=[InvalidOperation])
_SAMPLE = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
_RENDERING_FAULTS = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


class TemplateFault(ValueError):
    """A template or an expression that cannot be compiled."""


class Uses(NamedTuple):
    """What a template depends on.

    Attributes:
        columns: the names that it uses, of columns and counts.
        alone: whether it depends on nothing else, so that equal cells give equal results.
    """

    columns: frozenset[str] = frozenset()
    alone: bool = True


@dataclass(frozen=True, slots=True)
class Text:
    """A compiled template; `made` renders it, whatever white space is at its ends."""

    template: str
    made: Callable[[Values], str] | None = None
    uses: Uses = field(default_factory=Uses)

    def render(self, values: Values) -> str:
        """Return the text, without white space at its ends; UnfitError when a value is unfit."""
        if self.made is None:
            return self.template
        try:
            return tidy(self.made(values))
        except _RENDERING_FAULTS as error:
            raise UnfitError(_reason(error)) from error


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled expression."""

    expression: Callable[[Values], Any]
    uses: Uses

    def holds(self, values: Values) -> bool:
        """Say whether it is true, where an empty text is false; UnfitError as for a template."""
        try:
            return bool(self.expression(values))
        except _RENDERING_FAULTS as error:
            raise UnfitError(_reason(error)) from error


def remembering(function: Callable[[Values], Any], *uses: Uses) -> Callable[[Values], Any]:
    """The same function, which remembers its latest results by the cells that it depends on."""
    if not all(one.alone for one in uses):
        return function
    names = sorted(frozenset().union(*(one.columns for one in uses)))
    cells: Callable[[Values], Any] = itemgetter(*names) if names else lambda _: ()
    known: dict[Any, Any] = {}

    def remembered(values: Values) -> Any:
        try:
            return known[cells(values)]
        except KeyError:
            made = function(values)
        if len(known) >= REMEMBERED:
            known.clear()
        known[cells(values)] = made
        return made

    return remembered


class Language:
    """Compiles templates and conditions that know the mapping's tables of values.

    Args:
        tables: for ``fix``.
        lookups: for ``lookup``, to be filled before the first row.
        zone: in which ``date`` tells the day of an instant.
    """

    def __init__(
        self,
        tables: Mapping[str, Mapping[str, str]],
        lookups: Mapping[str, Mapping[str, str]] | None = None,
        zone: tzinfo = UTC,
    ) -> None:
        known = lookups or {}

        def fix(value: object, table: str) -> object:
            return tables[table].get(str(value), value)

        def lookup(value: object, table: str) -> str:
            return known[table].get(str(value), "")

        environment = SandboxedEnvironment(
            undefined=StrictUndefined,
            finalize=_written,
            keep_trailing_newline=True,
            autoescape=False,
        )
        built_in = environment.filters
        own = {
            "fix": fix,
            "lookup": lookup,
            "date": lambda value, form: _date(str(value), form, zone),
            "number": number,
            "times": _times,
            "round": _round,
        }
        environment.filters = {name: built_in[name] for name in _BUILT_IN} | own
        environment.globals.clear()
        self._environment = environment
        self._tables = tables
        self._lookups = known

    def text(self, source: str) -> Text:
        """Compile a template; TemplateFault says what is wrong with it."""
        if not any(mark in source for mark in ("{{", "{%", "{#")):
            return Text(source.strip())
        tree, uses = self._parsed(source)
        try:
            return Text(source, _joined(tree) or self._environment.from_string(source).render, uses)
        except TemplateSyntaxError as error:
            raise TemplateFault(_syntax(error, source)) from error

    def condition(self, source: str) -> Condition:
        """Compile an expression; TemplateFault says what is wrong with it."""
        if not source.strip():
            raise TemplateFault("an empty condition; leave `when` out instead")
        try:
            expression = self._environment.compile_expression(source, undefined_to_none=False)
        except TemplateSyntaxError as error:
            raise TemplateFault(_syntax(error, source)) from error
        return Condition(expression, self._parsed("{{ " + source + " }}")[1])

    def _parsed(self, source: str) -> tuple[nodes.Template, Uses]:
        try:
            tree = self._environment.parse(source)
            names = find_undeclared_variables(tree)
        except TemplateSyntaxError as error:
            raise TemplateFault(_syntax(error, source)) from error
        for used in tree.find_all(nodes.Filter):
            self._check_filter(used)
        for attribute in tree.find_all(nodes.Getattr):
            if isinstance(attribute.node, nodes.Name) and attribute.node.name == "row":
                raise TemplateFault(f"write row['{attribute.attr}'], not row.{attribute.attr}")
        cells = {
            item.arg.value
            for item in tree.find_all(nodes.Getitem)
            if _is_cell(item) and isinstance(item.arg, nodes.Const)
        }
        of_row = sum(1 for name in tree.find_all(nodes.Name) if name.name == "row")
        constant = sum(1 for item in tree.find_all(nodes.Getitem) if _is_cell(item))
        alone = not names & (OWN_NAMES - {"row"}) and of_row == constant and not cells & OWN_NAMES
        return tree, Uses(frozenset(names - OWN_NAMES | cells), alone)

    def _check_filter(self, used: nodes.Filter) -> None:
        match used.name, used.args:
            case "fix", [nodes.Const(value=str(table))]:
                if table not in self._tables:
                    raise TemplateFault(f"there is no [values.{table}] for fix({table!r})")
            case "fix", _:
                raise TemplateFault('fix takes the name of a table: fix("product")')
            case "lookup", [nodes.Const(value=str(table))]:
                if table not in self._lookups:
                    raise TemplateFault(f"there is no [lookups.{table}] for lookup({table!r})")
            case "lookup", _:
                raise TemplateFault('lookup takes the name of a lookup: lookup("rep")')
            case "date", [nodes.Const(value=str(form))]:
                _check_date_form(form)
            case _:
                pass


def _is_cell(item: nodes.Getitem) -> bool:
    of_row = isinstance(item.node, nodes.Name) and item.node.name == "row"
    return of_row and isinstance(item.arg, nodes.Const)


def _joined(tree: nodes.Template) -> Callable[[Values], str] | None:
    """What renders a template of texts and names alone, many times as fast as Jinja2 does."""
    if not all(isinstance(output, nodes.Output) for output in tree.body):
        return None
    parts = [part for output in tree.body for part in getattr(output, "nodes", ())]
    if not all(isinstance(part, nodes.TemplateData | nodes.Name) for part in parts):
        return None
    if len(parts) == 1 and isinstance(parts[0], nodes.Name):
        name = parts[0].name
        return lambda values: _cell(values, name)
    pattern = "".join(
        part.data.replace("%", "%%") if isinstance(part, nodes.TemplateData) else "%s"
        for part in parts
    )
    names = [part.name for part in parts if isinstance(part, nodes.Name)]
    return lambda values: pattern % tuple([_cell(values, name) for name in names])


def _cell(values: Values, name: str) -> str:
    try:
        value = values[name]
    except KeyError:
        raise UnfitError(f"{name!r} is undefined") from None
    return value if isinstance(value, str) else _written(value)


def instant(text: str, zone: tzinfo) -> str:
    """Return an ISO 8601 date or time as UTC, "2017-03-01T00:00:00Z".

    Without an offset it is a time of `zone`; a date alone is its midnight there. UnfitError when
    it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError) as error:
        raise UnfitError(
            f"{text!r} is no ISO 8601 date or time (another form is read with the filter date)"
        ) from error


def number(value: object, point: str = ".", group: str = "") -> Any:
    """Return the Decimal that a text means; an empty text stays empty, anything else: UnfitError.

    `point` parts the decimals, `group` is what stands between groups of digits: each of three, as
    in 1,234,567, or only the last one, as in 12,34,567. White space of any width is a space, and
    any apostrophe an apostrophe.
    """
    if isinstance(value, Decimal) or value == "":
        return value
    text = str(value).strip()
    written, point, group = (one.translate(_LOOK_ALIKE) for one in (text, point, group))
    sign = written[:1] if written[:1] in ("+", "-") else ""
    whole, mark, rest = written[len(sign) :].partition(point)
    if group and group in whole:
        first, *groups = whole.split(group)
        last = groups.pop()
        if not (
            1 <= len(first) <= _GROUP
            and len(last) == _GROUP
            and (all(len(one) == _GROUP for one in groups) or _is_indian(first, groups))
        ):
            raise UnfitError(f"{text!r} is not a number with {group!r} between its thousands")
        whole = "".join((first, *groups, last))
    plain = f"{sign}{whole}{'.' if mark else ''}{rest}"
    if len(plain) > _LONGEST_NUMBER or not _NUMBER.fullmatch(plain):
        raise UnfitError(f"{text!r} is not a number")
    return Decimal(plain)


def _is_indian(first: str, groups: list[str]) -> bool:
    return len(first) < _GROUP and all(len(one) == _GROUP - 1 for one in groups)


def rounded(amount: Decimal, digits: int) -> Decimal:
    """Return the amount with so many decimals, halves away from zero."""
    return _HALF_UP.quantize(amount, Decimal(1).scaleb(-digits))


def total_of(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum."""
    total = Decimal()
    for amount in amounts:
        total = _EXACT.add(total, amount)
    return total


def _times(value: object, factor: object) -> Any:
    amount = number(value)
    return amount if amount == "" else _EXACT.multiply(amount, number(factor))


def _round(value: object, digits: int = 0) -> Any:
    amount = number(value)
    return amount if amount == "" else rounded(amount, digits)


def _date(text: str, form: str, zone: tzinfo) -> str:
    if not text:
        return ""
    try:
        moment = datetime.strptime(text, form)  # noqa: DTZ007 - the mapping's zone comes later
    except ValueError as error:
        if not _ISO_DATE.match(text):
            raise UnfitError(f"{text!r} is no date of the form {form!r}") from error
        moment = datetime.fromisoformat(text)
    if _TIME_OF_DAY.search(form):
        return moment.isoformat()
    return (moment if moment.tzinfo is None else moment.astimezone(zone)).date().isoformat()


def _check_date_form(form: str) -> None:
    try:
        datetime.strptime(_SAMPLE.strftime(form), form).replace(tzinfo=UTC)
    except ValueError as error:
        raise TemplateFault(f"{form!r} is no form of a date: {error}") from error


def _written(value: object) -> str:
    match value:
        case StrictUndefined():
            return str(value)
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            return format(value, "f")
        case str() | int():
            return str(value)
        case float():
            raise UnfitError(f"{value!r} is inexact: write numbers with the filter number")
        case _:
            raise UnfitError(f"a {type(value).__name__} is no text")


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _syntax(error: TemplateSyntaxError, source: str) -> str:
    return f"{(error.message or 'not understood').rstrip('.')}, in {source!r}"
