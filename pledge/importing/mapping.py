"""A mapping as it is written: the TOML file, read and validated."""

import codecs
import tomllib
from collections.abc import Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from events.currencies import MINOR_DIGITS
from events.texts import composed, in_each
from events.values import ActorId
from pledge.importing.errors import MappingError

SHIPPED = Path(__file__).parent.parent / "mappings"
DUMP = ".sql"
SPACE = "space"
PARQUET = ".parquet"
WORKBOOKS = frozenset({".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"})


def time_zone(name: str) -> tzinfo:
    """Return the zone of an IANA name; ValueError when there is none of that name."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name!r}; write it as 'Europe/Rome'") from error


def _zone_name(name: str) -> str:
    time_zone(name)
    return name


def currency_code(code: str) -> str:
    """Return an ISO 4217 code as it is; ValueError when there never was such a currency."""
    if code not in MINOR_DIGITS:
        raise ValueError(f"{code!r} is no ISO 4217 currency code")
    return code


def _encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError as error:
        raise ValueError(f"there is no encoding {name!r}") from error
    return name


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CommandRule(_Section):
    """One command to make: every text is a template."""

    command: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*/[a-z][a-z0-9-]*$")]
    id: str
    key: str | None = None
    actor: str | None = None
    occurred_at: str | None = None
    data: dict[str, Any] = {}


class RowCommandRule(CommandRule):
    """One command that a row may give."""

    when: str | None = None
    once: bool = False


class SourceRule(_Section):
    """One file, one sheet of a workbook, or one table of a dump, and how it is read."""

    file: str
    sheet: str | None = None
    table: str | None = None
    encoding: Annotated[str, AfterValidator(_encoding)] = "utf-8-sig"
    delimiter: Annotated[str, Field(pattern=r"^(.|space)$")] = ","
    skip: Annotated[int, Field(ge=0)] = 0
    header: bool = True
    columns: list[str] | None = None
    fill: list[str] = []

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        suffix = Path(self.file).suffix.lower()
        if self.header and self.columns is not None:
            raise ValueError("columns are given only with header = false")
        if not self.header and not self.columns:
            raise ValueError("header = false needs columns = [...], the names from left to right")
        if self.sheet is not None and suffix not in WORKBOOKS:
            raise ValueError("only a workbook has a sheet")
        if (self.table is not None) != (suffix == DUMP):
            raise ValueError('a dump (.sql) needs table = "…", and nothing else has one')
        if Path(self.file).name != self.file:
            raise ValueError("file is a plain file name, without a folder")
        return self


class CountRule(_Section):
    """How many rows of a group there were so far, this one included: a number for templates.

    With `when` only the rows for which it holds are counted; with `since` those after the last row
    for which that holds.
    """

    of: str
    when: str | None = None
    since: str | None = None


class FileRule(SourceRule):
    """A source and the commands of each of its rows, or of each group of them, in order."""

    group: str | None = None
    count: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")], CountRule] = {}
    commands: Annotated[list[RowCommandRule], Field(min_length=1)]


class LookupRule(SourceRule):
    """A source whose rows say what stands for what: ``key`` and ``value`` are templates."""

    key: str
    value: str


class Mapping(_Section):
    """How the rows of some files become commands."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)]
    about: str = ""
    currency: Annotated[str, AfterValidator(currency_code)] | None = None
    time_zone: Annotated[str, AfterValidator(_zone_name)] = "UTC"
    actor: ActorId = "import"
    values: dict[str, dict[str, str]] = {}
    lookups: dict[str, LookupRule] = {}
    before: list[CommandRule] = []
    files: Annotated[list[FileRule], Field(min_length=1)]


def shipped_mappings() -> list[str]:
    """Return the names of the mappings that come with Pledge, in alphabetical order."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_mapping(name_or_file: str | Path) -> Mapping:
    """Read a shipped mapping by its name, or a mapping file by its path.

    Raises:
        MappingError: there is none, it is not TOML, or a key or a value is wrong. The text has
            one line for each mistake, with file and section.
    """
    path = _locate(name_or_file)
    try:
        written = in_each(tomllib.loads(path.read_text(encoding="utf-8-sig")), composed)
    except (OSError, UnicodeDecodeError) as error:
        raise MappingError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise MappingError(f"{path}: not valid TOML: {error}") from error
    try:
        return Mapping.model_validate(written)
    except ValidationError as error:
        mistakes = [
            f"{path}: {_place(fault['loc'], written)}: {_mistake(fault['type'], fault['msg'])}"
            for fault in error.errors()
        ]
        raise MappingError("\n".join(mistakes)) from error


def _locate(name_or_file: str | Path) -> Path:
    path = Path(name_or_file)
    if path.suffix == ".toml" or path.parent != Path():
        return path
    shipped = SHIPPED / f"{name_or_file}.toml"
    if shipped.is_file():
        return shipped
    if path.is_file():
        return path
    raise MappingError(
        f"there is no mapping {str(name_or_file)!r}: give the path of a .toml file, or one of the "
        f"shipped names: {', '.join(shipped_mappings())}"
    )


def _mistake(kind: str, message: str) -> str:
    match kind:
        case "extra_forbidden":
            return "there is no such key"
        case "missing":
            return "is missing"
        case _:
            return message.removeprefix("Value error, ")


def _place(location: Sequence[int | str], written: Any) -> str:
    words: list[str] = []
    for step in location:
        written = _inside(written, step)
        if isinstance(step, str):
            words.append(step)
        else:
            hint = _inside(written, "file") or _inside(written, "command")
            words[-1] += f"[{step + 1}]" + (f" ({hint})" if isinstance(hint, str) else "")
    return ".".join(words) or "the mapping"


def _inside(written: Any, step: int | str) -> Any:
    match written, step:
        case dict(), str():
            return written.get(step)
        case list(), int() if step < len(written):
            return written[step]
        case _:
            return None
