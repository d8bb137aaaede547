import importlib
import json
import pkgutil
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from pydantic_asyncapi.v3 import AsyncAPI as AsyncAPI3
from referencing import Registry, Resource

import events
from events.base import REGISTRY
from events.catalog import EVENTS
from events.kafka.records import WATERMARK, event_record, watermark_record
from pledge import generated
from pledge.generated import ROOT, SCHEMAS

every_event = pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.event_type)


def schema_of(name: str) -> Any:
    return json.loads((ROOT / SCHEMAS / f"{name}.schema.json").read_text("utf-8"))


def golden(name: str) -> Any:
    return json.loads((ROOT / generated.GOLDEN / f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("path", generated.files(), ids=str)
def test_a_generated_file_is_as_it_would_be_made_today(path: Path) -> None:
    assert (ROOT / path).read_text("utf-8") == generated.files()[path], "run make generated"


def test_no_schema_stands_for_nothing() -> None:
    assert generated.orphans() == [], "run make generated"


def test_no_event_version_lacks_its_golden_example() -> None:
    assert list(generated.missing_examples()) == [], "run make generated"


def test_the_catalog_names_every_module_that_defines_events() -> None:
    for module in pkgutil.iter_modules(events.__path__):
        importlib.import_module(f"events.{module.name}")
    assert {cls.event_type for cls in EVENTS} == {
        name for name, cls in REGISTRY.items() if cls.__module__.startswith("events.")
    }


@every_event
def test_a_schema_is_valid_and_says_what_it_is_about(cls: Any) -> None:
    schema = schema_of(f"{cls.event_type}.{cls.schema_version}")
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:pledge:event:{cls.event_type}:{cls.schema_version}"
    assert schema["title"] == cls.__name__
    assert schema["description"].endswith(".")
    assert set(schema["properties"]) == set(cls.model_fields)


@every_event
def test_a_schema_marks_what_is_personal(cls: Any) -> None:
    properties = schema_of(f"{cls.event_type}.{cls.schema_version}")["properties"]
    marked = {name for name, field in properties.items() if field.get("x-personal")}
    assert marked == set(cls.personal)


@every_event
def test_a_stored_payload_fits_its_schema(cls: Any) -> None:
    name = f"{cls.event_type}.{cls.schema_version}"
    validator = Draft202012Validator(schema_of(name), format_checker=FormatChecker())
    payload = json.loads(golden(name)["payload"])
    validator.validate(payload)
    for required in schema_of(name).get("required", []):
        rest = {field: value for field, value in payload.items() if field != required}
        assert not validator.is_valid(rest)


def test_the_catalogue_has_a_line_for_every_event() -> None:
    page = (ROOT / generated.CATALOGUE).read_text("utf-8")
    for cls in EVENTS:
        assert f"| [`{cls.event_type}`]" in page


def test_making_everything_anew_changes_nothing(tmp_path: Path) -> None:
    for folder in (SCHEMAS, generated.GOLDEN):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for file in (generated.RULES, generated.ASYNCAPI):
        shutil.copy(ROOT / file, tmp_path / file)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    generated.main(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_everything_is_made_where_nothing_was(tmp_path: Path) -> None:
    generated.main(tmp_path)
    assert generated.orphans(tmp_path) == []
    assert list(generated.missing_examples(tmp_path)) == []
    for path, text in generated.files().items():
        assert (tmp_path / path).read_text("utf-8") == text


def test_a_golden_example_is_never_written_again(tmp_path: Path) -> None:
    kept = tmp_path / generated.GOLDEN / "lead.claimed.1.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("as it was")
    generated.main(tmp_path)
    assert kept.read_text() == "as it was"


def test_a_schema_of_nothing_goes_and_one_of_an_earlier_version_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated.main(tmp_path)
    (tmp_path / SCHEMAS / "pump.exploded.1.schema.json").write_text("{}")
    (tmp_path / SCHEMAS / "lead.claimed.7.schema.json").write_text("{}")
    assert [path.name for path in generated.orphans(tmp_path)] == [
        "lead.claimed.7.schema.json",
        "pump.exploded.1.schema.json",
    ]
    monkeypatch.setattr(REGISTRY["lead.claimed"], "schema_version", 7)
    generated.main(tmp_path)
    left = {path.name for path in (tmp_path / SCHEMAS).glob("lead.claimed.*")}
    assert left == {"lead.claimed.1.schema.json", "lead.claimed.7.schema.json"}
    assert not (tmp_path / SCHEMAS / "pump.exploded.1.schema.json").exists()


def test_the_asyncapi_document_is_valid_and_names_every_event() -> None:
    made = json.loads((ROOT / generated.ASYNCAPI).read_text("utf-8"))
    AsyncAPI3.model_validate(made)
    messages = made["components"]["messages"]
    assert set(messages) == {cls.event_type for cls in EVENTS} | {WATERMARK}
    for name, message in messages.items():
        if name != WATERMARK:
            schema = ROOT / "docs" / message["payload"]["properties"]["data"]["$ref"]
            assert json.loads(schema.read_text("utf-8"))["title"] == message["title"]


@pytest.mark.parametrize("cause", [None, UUID(int=5)])
def test_the_asyncapi_document_describes_the_records_that_the_relay_makes(
    cause: UUID | None,
) -> None:
    now = datetime.now(UTC)
    ids = [UUID(int=n) for n in range(4)]
    envelope = (7, ids[0], "lead", ids[1], 2, now, now, "ada", "user", ids[2], ids[3], cause)
    row = (*envelope, "lead.claimed", 1, b'{"owner":"ada"}')
    record = json.loads(event_record(row, "urn:pledge:ledger:x", 5))
    mark = json.loads(watermark_record(7, 5, "urn:pledge:ledger:x", 3))
    made = generated.asyncapi()
    known = made["components"]["schemas"]["Envelope"]["properties"]
    assert set(record) - {"data"} == set(known) - (set() if cause else {"causationid"})
    event, watermark = (_payload(made, name) for name in ("lead.claimed", WATERMARK))
    event.validate(record)
    watermark.validate(mark)
    for wrong in ({"type": "lead.captured"}, {"position": "x"}, {"previous": -1}, {"data": {}}):
        assert not event.is_valid(record | wrong)
    assert not watermark.is_valid(record)


def _payload(made: dict[str, Any], name: str) -> Draft202012Validator:
    schema = {"$ref": f"#/components/messages/{name}/payload", "components": made["components"]}

    def fetch(uri: str) -> Resource[Any]:
        return Resource.from_contents(json.loads((ROOT / "docs" / uri).read_text("utf-8")))

    return Draft202012Validator(
        schema, format_checker=FormatChecker(), registry=Registry(retrieve=fetch)
    )
