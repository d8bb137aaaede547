"""The OpenAPI document held against the service: every operation, by schemathesis."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from events.keys import Keyring
from pledge.app import openapi_of
from read_api.reading import Reader
from tests.end_to_end.running import Service

pytestmark = pytest.mark.slow

HELD = [
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]


def document() -> dict[str, Any]:
    """What ``GET /openapi.json`` answers, without a service."""
    reader = Reader("", Keyring(bytes(32)))
    return openapi_of(reader)


described = schemathesis.openapi.from_dict(document())


@described.exclude(path="/commands", method="POST").parametrize()
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
def test_an_operation_answers_as_documented(case: Case, service: Service) -> None:
    case.headers = {**(case.headers or {}), "X-Actor": "schemathesis"}
    if case.query:
        # To wait for what is never written would take five seconds and give the documented 503.
        case.query.pop("min_position", None)
    answer = case.call(base_url=service.url)
    assert answer.status_code < 500, answer.text
    case.validate_response(answer, checks=HELD)
