"""Whatever was ever written can still be read: one stored example of every event version."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from events.base import ERASED
from events.catalog import EVENTS
from events.ledger.codec import decode_sealed, subjects, unseal
from events.ledger.keys import Keyring, SubjectKey
from events.upcasters import upcast

GOLDEN = Path(__file__).parent / "golden"
EXAMPLES = sorted(path.stem for path in GOLDEN.glob("*.json"))

every_example = pytest.mark.parametrize("name", EXAMPLES)


def stored(name: str) -> tuple[dict[str, Any], Any]:
    """An example, and its payload decoded but still sealed."""
    example = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    payload = example["payload"].encode()
    return example, decode_sealed(example["type"], example["version"], payload)


def opened(name: str, *, forgotten: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """An example, and its fields as a reader sees them."""
    example, event = stored(name)
    keyring = Keyring(bytes(32))
    for subject, secret in example["subject_keys"].items():
        key = None if forgotten else SubjectKey(bytes.fromhex(secret))
        keyring.remember(UUID(subject), key)
    stream_id = UUID(example["stream_id"])
    for subject in () if forgotten else subjects(event, stream_id):
        if keyring.get(subject) is None:  # of whom this event held nothing that was sealed
            keyring.remember(subject, SubjectKey(bytes(32)))
    unseal(event, UUID(example["event_id"]), stream_id, keyring, example["version"])
    return example, event.model_dump(mode="json", exclude_none=True)


def expected(example: dict[str, Any], event: Any) -> dict[str, Any]:
    """The example's plain fields in the shape of today."""
    name, version = example["type"], example["version"]
    return upcast(name, version, event.schema_version, example["plain"])


def sealed_in(example: dict[str, Any], event: Any) -> set[str]:
    """The fields that this version of the event holds sealed."""
    return {name for name, since in event.sealed_since.items() if since <= example["version"]}


@every_example
def test_what_was_written_once_is_read_for_ever(name: str) -> None:
    example, plain = opened(name)
    _, event = stored(name)
    assert plain.items() >= expected(example, event).items()


@every_example
def test_of_a_person_who_was_forgotten_nothing_personal_is_left(name: str) -> None:
    example, plain = opened(name, forgotten=True)
    _, event = stored(name)
    for field, value in expected(example, event).items():
        if field in sealed_in(example, event):
            assert plain[field] == ERASED
        else:
            assert plain[field] in ((ERASED, value) if field in event.personal else (value,))


@every_example
def test_an_examples_personal_fields_are_sealed(name: str) -> None:
    example, event = stored(name)
    for field in sealed_in(example, event):
        assert expected(example, event)[field] not in example["payload"]
        assert example["subject_keys"]


@every_example
def test_an_example_is_filed_under_what_it_is(name: str) -> None:
    example, _ = stored(name)
    assert name == f"{example['type']}.{example['version']}"


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.event_type)
def test_every_version_ever_shipped_has_an_example(cls: Any) -> None:
    for version in range(1, cls.schema_version + 1):
        assert f"{cls.event_type}.{version}" in EXAMPLES, "run make generated"


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.event_type)
def test_an_example_of_todays_version_gives_every_field(cls: Any) -> None:
    example, _ = stored(f"{cls.event_type}.{cls.schema_version}")
    assert set(example["plain"]) == set(cls.model_fields)
