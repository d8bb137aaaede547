"""The files that follow from the event classes: schemas, catalogue, golden examples.

``python -m pledge.generated`` writes them; a test fails when they differ from the classes.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints
from uuid import UUID, uuid5

import orjson
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from aggregates.base import Unknown
from commands import catalog
from events.base import Event
from events.catalog import EVENTS
from events.ledger.codec import encode, subjects
from events.ledger.keys import SubjectKey
from events.values import Money
from pledge.asyncapi import document

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = Path("docs/events")
GOLDEN = Path("tests/events/golden")
CATALOGUE = SCHEMAS / "README.md"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMESPACE = UUID("6a7e5f1c-3c34-4bb0-9a51-9f0a3a3a2b61")

ASYNCAPI = Path("docs/asyncapi.json")
RULES = Path("docs/rules.md")
RULES_HEAD = """\
# Rules

Every rule that may refuse a command; made from the rules in `aggregates/` by `make generated`. A
refusal is on record: `GET /audit/refusals` tells who tried what, when and at which version.
"""
HEAD = """\
# Events

Every event that the ledger may hold, in its current version; made from the classes in `events/`
by `make generated`. Fields marked • are personal: they are stored and sent sealed with their
subject's key, and read `[erased]` once that key is gone. Fields in *italics* may be missing. Each
event's JSON Schema lies beside this page.
"""


class _StoredShape(GenerateJsonSchema):
    """A payload as it is stored: what is not given is left out, never null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - names suffice
        return False


def schema_of(cls: type[Event]) -> dict[str, Any]:
    """The JSON Schema of an event's stored payload, personal fields sealed."""
    schema = cls.model_json_schema(schema_generator=_StoredShape)
    properties = schema.get("properties", {})
    for name, of in cls.personal.items():
        properties[name] |= {
            "contentEncoding": "base64",
            "x-personal": True,
            "x-subject": of or "stream",
        }
    return {
        "$schema": DIALECT,
        "$id": f"urn:pledge:event:{cls.event_type}:{cls.schema_version}",
        **schema,
        "title": cls.__name__,
        "description": _meaning(cls),
    }


def catalogue() -> str:
    """All events on one page."""
    lines = [HEAD.rstrip()]
    stream = ""
    for cls in EVENTS:
        kind = cls.event_type.partition(".")[0]
        if kind != stream:
            stream = kind
            lines += ["", f"## {kind}", "", "| event | meaning | fields |", "|---|---|---|"]
        name = f"[`{cls.event_type}`]({_stem(cls)}.schema.json) v{cls.schema_version}"
        lines.append(f"| {name} | {_meaning(cls)} | {', '.join(_fields(cls))} |")
    return "\n".join([*lines, ""])


def rules() -> str:
    """Every way in which a command can be refused, on one page."""
    lines = [
        RULES_HEAD.rstrip(),
        "",
        "| rule | status | what it says | fields |",
        "|---|---|---|---|",
    ]
    for rule in catalog.rules():
        status = 404 if issubclass(rule, Unknown) else 409
        fields = ", ".join(f"`{field}`" for field in rule.fields)
        lines.append(f"| `{rule.__name__}` | {status} | {rule().detail} | {fields} |")
    return "\n".join([*lines, ""])


def asyncapi() -> dict[str, Any]:
    """What Kafka carries."""
    return document(EVENTS, lambda cls: f"{SCHEMAS.name}/{_stem(cls)}.schema.json")


def files() -> dict[Path, str]:
    """What must stand on disk, by path from the root: a function of the code alone."""
    schemas = {SCHEMAS / f"{_stem(cls)}.schema.json": _json(schema_of(cls)) for cls in EVENTS}
    return {**schemas, CATALOGUE: catalogue(), RULES: rules(), ASYNCAPI: _json(asyncapi())}


def orphans(root: Path = ROOT) -> list[Path]:
    """Schemas on disk of events, or versions of them, that were never shipped.

    Schemas of earlier versions are kept: what they describe is in the ledger for ever.
    """
    current = {cls.event_type: cls.schema_version for cls in EVENTS}
    found = []
    for path in sorted((root / SCHEMAS).glob("*.json")):
        name, _, version = path.name.removesuffix(".schema.json").rpartition(".")
        if not version.isdigit() or not 1 <= int(version) <= current.get(name, 0):
            found.append(path.relative_to(root))
    return found


def missing_examples(root: Path = ROOT) -> dict[Path, str]:
    """Golden examples for the event versions that have none, by path from the root.

    An example once written is never written again: it stands for bytes that lie in some ledger,
    and one made anew by today's code would only prove that today's code can read itself.
    """
    wanted = {GOLDEN / f"{_stem(cls)}.json": cls for cls in EVENTS}
    return {path: _json(_golden(cls)) for path, cls in wanted.items() if not (root / path).exists()}


def main(root: Path = ROOT) -> None:
    """Bring the generated files up to date."""
    for path in orphans(root):
        (root / path).unlink()
    for path, text in {**files(), **missing_examples(root)}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def example_of(cls: type[BaseModel]) -> Any:
    """An instance with every field given."""
    hints = get_type_hints(cls)
    return cls.model_validate({name: _value(name, hints[name]) for name in cls.model_fields})


def _value(name: str, kind: Any) -> Any:
    arguments = [argument for argument in get_args(kind) if argument is not type(None)]
    if get_origin(kind) in (Union, types.UnionType):
        return _value(name, arguments[0])
    if get_origin(kind) is dict:
        return {"field": hashlib.sha256(name.encode()).hexdigest()[:16]}
    if get_origin(kind) is tuple:
        return (_value(name, arguments[0]),)
    if kind is Money:
        return Money(amount=Decimal("1250.50"), currency="EUR")
    if issubclass(kind, BaseModel):
        return example_of(kind)
    if issubclass(kind, Enum):
        return list(kind)[-1]
    plain = {
        str: f"{name} “é” 例",
        UUID: uuid5(NAMESPACE, name),
        date: date(2026, 3, 31),
        bool: True,
        int: 1949,
        Decimal: Decimal("0.5"),
    }
    return plain[kind]


def _golden(cls: type[Event]) -> dict[str, Any]:
    event = example_of(cls)
    stream_id, event_id = uuid5(NAMESPACE, cls.event_type), uuid5(NAMESPACE, _stem(cls))
    secrets = {s: hashlib.sha256(s.bytes).digest() for s in subjects(event, stream_id)}
    keys = {subject: SubjectKey(secret) for subject, secret in secrets.items()}
    return {
        "type": cls.event_type,
        "version": cls.schema_version,
        "stream_id": str(stream_id),
        "event_id": str(event_id),
        "subject_keys": {str(subject): secret.hex() for subject, secret in secrets.items()},
        "payload": encode(event, event_id, stream_id, keys).decode(),
        "plain": event.model_dump(mode="json", exclude_none=True),
    }


def _fields(cls: type[Event]) -> Iterator[str]:
    for name, field in cls.model_fields.items():
        shown = f"`{name}`{' •' if name in cls.personal else ''}"
        yield shown if field.is_required() else f"*{shown}*"


def _meaning(cls: type[Event]) -> str:
    return " ".join((cls.__doc__ or "").split())


def _stem(cls: type[Event]) -> str:
    return f"{cls.event_type}.{cls.schema_version}"


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"


if __name__ == "__main__":
    main()
