"""The OpenAPI document held against the service: every operation, every error, every link."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from random import Random
from typing import Any
from uuid import UUID, uuid4

import httpx2
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.generation.meta import CoveragePhaseData
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from commands.http.wire import ENTRIES
from events.company import COMPANY, ListName
from events.ledger.keys import Keyring
from pledge.app import openapi_of
from read_api.reading import Reader
from tests.commands.proxy import Proxy
from tests.commands.witnesses import (
    CUSTOMERS,
    DEAL,
    DOLLAR_ORDER,
    LISTED,
    OF_A_LEAD,
    ORDERS,
    Step,
    Witness,
    asked_at_random,
    witnesses,
)
from tests.end_to_end.running import Service

pytestmark = pytest.mark.slow(0.5)

HELD = [
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]
ADA = {"X-Actor": "ada"}
TEN_EUROS = {"amount": "10", "currency": "EUR"}
TEN_DOLLARS = {"amount": "10", "currency": "USD"}
RULED = ("pipeline", "stage")
NAMED = re.compile(r"on record: (.*)\.$")


@schemathesis.serializer("application/x-ndjson")
def _one_line(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


@schemathesis.deserializer("application/x-ndjson")
def _first_line(_context: Any, response: Any) -> Any:
    return orjson.loads(response.content.partition(b"\n")[0])


DOCUMENT = openapi_of(Reader("", Keyring(bytes(32))))
"""What ``GET /openapi.json`` answers, without a service."""
OPERATIONS = [
    (method.upper(), path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]
MANY = (("POST", "/commands"), ("POST", "/commands/check"))
NAME_OF = {entry.path: name for name, entry in ENTRIES.items()}
BEGUN = sorted(name.partition("/")[0] for name, entry in ENTRIES.items() if entry.creates)
ACTED_ON = rf"^/({'|'.join(BEGUN)})(/\{{id\}}(/[a-z-]+)?)?$"
ACTING = [name for name, entry in ENTRIES.items() if not entry.creates]
BY_COMMAND = {
    name: DOCUMENT["paths"][entry.path]["post"]["responses"] for name, entry in ENTRIES.items()
}


def as_somebody(case: Case) -> None:
    case.headers = {**(case.headers or {}), "X-Actor": "schemathesis"}
    # To wait for what is never written would take five seconds and give the documented 503.
    # What is no position stays: a case that is to be refused must not be made right.
    if case.query and str(case.query.get("min_position")).isdecimal():
        del case.query["min_position"]


@pytest.fixture(scope="module")
def described() -> BaseSchema:
    """The document as Schemathesis understands it; it adds links of its own."""
    load_all_checks()
    return schemathesis.openapi.from_dict(deepcopy(DOCUMENT))


def is_new(case: Case, tried: set[tuple[object, ...]]) -> bool:
    """Whether no case with the same mistake was tried yet.

    Schemathesis makes some 170 cases of an operation to cover its schema, most of them alike. A
    parameter that many operations share is tried once for commands, lists and figures each, for
    the routes of each are made by one function.
    """
    about = case.meta and case.meta.phase.data
    if not isinstance(about, CoveragePhaseData):
        return True
    path = case.operation.path
    whose = path if about.parameter is None else path.startswith("/analytics/")
    key = (whose, case.method, about.parameter, about.location, about.scenario, about.description)
    is_known = key in tried
    tried.add(key)
    return not is_known


TRIED: set[tuple[object, ...]] = set()


def held(
    described: BaseSchema, method: str, path: str, examples: int, test: Callable[[Case], None]
) -> None:
    """Test many cases of one operation.

    Parametrized by Schemathesis, all cases of all operations would be made while tests are
    collected, and that by each worker.
    """

    def once(case: Case) -> None:
        if is_new(case, TRIED):
            test(case)

    build_operation_test(
        config=described.config,
        operation=described[path][method],
        test_func=once,
        given_kwargs={},
        feedback=FeedbackSources(),
        explicit_settings=settings(
            max_examples=examples,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        ),
    )()


@pytest.mark.parametrize(
    ("method", "path"),
    [one[:2] for one in OPERATIONS if one[:2] not in MANY],
    ids=lambda part: part,
)
def test_an_operation_answers_as_documented(
    service: Service, described: BaseSchema, method: str, path: str
) -> None:
    def answers(case: Case) -> None:
        as_somebody(case)
        answer = case.call(base_url=service.url)
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, checks=HELD)

    held(described, method, path, 6, answers)


@pytest.mark.parametrize(("method", "path"), MANY, ids=lambda part: part)
def test_a_line_of_many_is_answered_as_documented(
    service: Service, described: BaseSchema, method: str, path: str
) -> None:
    def answers(case: Case) -> None:
        as_somebody(case)
        answer = case.call(base_url=service.url)
        if answer.status_code == 200 and not answer.content:
            return  # to no line at all
        checks = [check for check in HELD if check is not negative_data_rejection]
        case.validate_response(answer, checks=checks)
        if answer.status_code == 200:
            line = orjson.loads(answer.content.partition(b"\n")[0])
            assert line["line"] == 1
            malformed = case.meta is not None and case.meta.generation.mode.is_negative
            assert line["status"] == 422 if malformed else line["status"] < 500

    held(described, method, path, 20, answers)


@pytest.fixture(scope="module")
def stocked(service: Service) -> Service:
    """With the streams that the witnesses' commands refer to."""
    for customer in CUSTOMERS:
        sent(service, "customers/register", {"id": str(customer), "name": "Looms & Sons"})
    for deal in (DEAL, OF_A_LEAD):
        sent(service, "opportunities/open", {"id": str(deal), "title": "Looms"})
    for order in (*ORDERS, DOLLAR_ORDER):
        amount = TEN_DOLLARS if order == DOLLAR_ORDER else TEN_EUROS
        details = {"id": str(order), "customer_id": str(CUSTOMERS[0]), "amount": amount}
        sent(service, "orders/place", details)
    return service


def _operation_of(name: str) -> str:
    return str(DOCUMENT["paths"][ENTRIES[name].path]["post"]["operationId"])


def test_a_chain_of_operations_answers_as_documented(stocked: Service) -> None:
    """Each command has data that follow from its place alone, so that a repeat is one."""
    answered: Counter[tuple[str, int]] = Counter()

    acted_on = schemathesis.openapi.from_dict(deepcopy(DOCUMENT)).include(
        method="POST", path_regex=ACTED_ON
    )
    acted_on.config.generation.update(modes=[GenerationMode.POSITIVE])

    class Linked(acted_on.as_state_machine()):  # type: ignore[misc] - made at run time
        def setup(self) -> None:
            self.calls = 0

        def before_call(self, case: Case) -> None:
            case.headers = dict(ADA)  # no version and no key that was guessed at
            self.calls += 1
            name = NAME_OF[case.operation.path]
            dice = Random(f"{self.calls} {name}")
            case.body = asked_at_random(name, ENTRIES[name].command, dice)[0].data

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:  # noqa: ARG002 - its contract
            return {"base_url": stocked.url}

        def validate_response(self, response: Any, case: Case, **_: Any) -> None:
            answered[case.operation.definition.raw["operationId"], response.status_code] += 1
            assert response.status_code < 500, response.text
            case.validate_response(response, checks=HELD)

    run_state_machine_as_test(
        Linked,
        settings=settings(
            max_examples=25,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )
    followed = {name for name, status in answered if status == 200}
    assert followed & {_operation_of(name) for name in ACTING}, answered


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.creates])
def test_every_link_leads_on(stocked: Service, name: str) -> None:
    links = BY_COMMAND[name]["201"]["links"]
    plural = name.partition("/")[0]
    acting = {_operation_of(other): other for other in ACTING if other.startswith(plural)}
    reading = {f"one_{ENTRIES[name].streams.stream_type}"}
    assert links.keys() == acting.keys() | reading
    for operation, link in links.items():
        assert link == {"operationId": operation, "parameters": {"id": "$response.body#/id"}}
        made = sent(stocked, name, some(name)).json()
        if operation in acting:
            answer = sent(stocked, acting[operation], some(acting[operation]), UUID(made["id"]))
        else:
            params = {"min_position": str(made["position"])}
            answer = stocked.client.get(f"/{plural}/{made['id']}", params=params)
        assert answer.status_code in (200, 409), answer.text


def sent(
    service: Service,
    name: str,
    data: dict[str, Any],
    stream_id: UUID | None = None,
    headers: dict[str, str] = ADA,
) -> httpx2.Response:
    path = ENTRIES[name].path.replace("{id}", str(stream_id))
    return service.client.post(path, content=orjson.dumps(data), headers=headers)


def take(service: Service, step: Step, stream_id: UUID) -> httpx2.Response:
    own = {"id": str(stream_id)} if ENTRIES[step.command].creates else {}
    return sent(service, step.command, {**step.data, **own}, stream_id, {"X-Actor": step.actor})


def some(name: str) -> dict[str, Any]:
    """Data that the command's model accepts; what begins a stream, no rule refuses."""
    data = asked_at_random(name, ENTRIES[name].command, Random(name))[0].data
    if ENTRIES[name].creates:
        data = {field: value for field, value in data.items() if field not in RULED}
    return data


def rules_of(name: str) -> set[str]:
    """Those that the document says may answer 409."""
    conflict = BY_COMMAND[name].get("409")
    if conflict is None:
        return set()
    named = NAMED.search(conflict["description"])
    assert named is not None
    return set(named[1].split(", "))


def found_by(service: Service, witness: Witness) -> str:
    stream_id = COMPANY if witness.refused.command.startswith("companies/") else uuid4()
    with listed(service) if witness.is_listed else nullcontext():
        for step in witness.history:
            assert take(service, step, stream_id).status_code < 300, step
        answer = take(service, witness.refused, stream_id)
    assert answer.status_code == 409, answer.text
    return str(answer.json()["rule"])


@contextmanager
def listed(service: Service) -> Iterator[None]:
    """Inside, the company's lists are those of ``LISTED``."""

    def define(values: Mapping[str, Sequence[str]]) -> None:
        for name in ListName:
            asked = {"name": name, "values": values.get(name, ())}
            assert sent(service, "companies/define-list", asked, COMPANY).status_code == 200

    define(LISTED.lists)
    yield
    define({})


def test_every_documented_rule_refuses_over_http_and_no_other(stocked: Service) -> None:
    refused: dict[str, set[str]] = {name: set() for name in ENTRIES}
    for (name, _), witness in witnesses().items():
        refused[name].add(found_by(stocked, witness))
    for name, entry in ENTRIES.items():
        if entry.creates:
            for taken in (CUSTOMERS[0], DEAL):
                answer = sent(stocked, name, {**some(name), "id": str(taken)})
                refused[name].add(answer.json()["rule"])
                assert answer.status_code == 409
            mine = str(uuid4())
            step = Step(name, "ada", some(name))
            assert take(stocked, step, UUID(mine)).status_code == 201
            refused[name].add(take(stocked, step, UUID(mine)).json()["rule"])
    assert {name: rules for name, rules in refused.items() if rules - rules_of(name)} == {}
    missing = {name: rules_of(name) - rules for name, rules in refused.items()}
    by_deal = {"OpportunityIsLost", "OpportunityOfAnotherCustomer"}
    for name, absent in missing.items():
        for rule in absent - {"OrderInOtherCurrency"} - by_deal:
            assert rule == absent_reference(stocked, name, rule)
    other_currency = {name for name, absent in missing.items() if "OrderInOtherCurrency" in absent}
    assert other_currency == {"payments/receive", "payments/allocate"}
    for name in other_currency:
        assert order_in_other_currency(stocked, name) == "OrderInOtherCurrency"
    assert {name for name, absent in missing.items() if absent & by_deal} == {"orders/place"}
    assert orders_refused_by_their_deal(stocked) == by_deal


def order_in_other_currency(service: Service, name: str) -> str:
    """The rule that refuses euros for an order in dollars."""
    payment = {"customer_id": str(CUSTOMERS[0]), "amount": TEN_EUROS}
    data: dict[str, Any] = {"allocations": [{"order_id": str(DOLLAR_ORDER), "amount": TEN_EUROS}]}
    stream_id = uuid4()
    if ENTRIES[name].creates:
        data |= payment
    else:
        first = Step("payments/receive", "ada", payment)
        assert take(service, first, stream_id).status_code == 201
    return str(take(service, Step(name, "ada", data), stream_id).json()["rule"])


def orders_refused_by_their_deal(service: Service) -> set[str]:
    """The rules that refuse orders of a lost deal, and of another customer's."""
    rules = set()
    for customer, verb, data in (
        (CUSTOMERS[0], "lose", {"reason": "price"}),
        (CUSTOMERS[1], "win", {}),
    ):
        deal = uuid4()
        opened = {"title": "Looms", "customer_id": str(customer)}
        assert take(service, Step("opportunities/open", "ada", opened), deal).status_code == 201
        closed = Step(f"opportunities/{verb}", "ada", data)
        assert take(service, closed, deal).status_code == 200
        placed = {"customer_id": str(CUSTOMERS[0]), "opportunity_id": str(deal)}
        step = Step("orders/place", "ada", {**placed, "amount": TEN_EUROS})
        rules.add(str(take(service, step, uuid4()).json()["rule"]))
    return rules


def absent_reference(service: Service, name: str, rule: str) -> str:
    """The rule that refuses the command when every stream that it may refer to is unknown."""
    kind = rule.removesuffix("Unknown").lower()
    command = ENTRIES[name].command
    nowhere = str(uuid4())
    data = some(name)
    for field, refers_to in command.references.items():
        if refers_to.stream_type == kind:
            data[field] = nowhere
    for field, inner in command.nested.items():
        if kind in {refers_to.stream_type for refers_to in inner.values()}:
            data[field] = [{"order_id": nowhere, "amount": TEN_EUROS}]
    stream_id = uuid4()
    plural = name.partition("/")[0]
    if not ENTRIES[name].creates:
        creating = next(e.name for e in ENTRIES.values() if e.creates and e.name.startswith(plural))
        first = Step(creating, "ada", some(creating))
        assert take(service, first, stream_id).status_code == 201
    return str(take(service, Step(name, "ada", data), stream_id).json()["rule"])


@pytest.mark.parametrize("name", ENTRIES)
def test_every_other_documented_error_of_a_command_can_be_had(stocked: Service, name: str) -> None:
    entry, data, stream_id = ENTRIES[name], some(name), uuid4()
    existing = COMPANY if entry.streams.creates is None else stream_id
    path = entry.path.replace("{id}", str(existing))
    errors = {
        401: sent(stocked, name, data, existing, {}),
        412: sent(stocked, name, data, existing, {**ADA, "If-Match": '"99"'}),
        413: stocked.client.post(path, content=b" " * 1_100_000, headers=ADA),
        415: stocked.client.post(path, content=b"x", headers={**ADA, "content-type": "text/html"}),
        422: stocked.client.post(path, content=b"[", headers=ADA),
    }
    if not entry.creates:
        errors[404] = sent(stocked, name, data, stream_id)
    assert {status: answer.status_code for status, answer in errors.items()} == {
        status: status for status in errors
    }
    documented = {int(status) for status in BY_COMMAND[name] if int(status) >= 400}
    # A body that comes too slowly is tried in tests/pledge/test_front.py: 408.
    assert documented - {408, 409, 503} == errors.keys()


@pytest.mark.parametrize(
    ("path", "operation"),
    [(path, operation) for method, path, operation in OPERATIONS if method == "GET"],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_every_documented_error_of_a_query_can_be_had(
    stocked: Service, path: str, operation: dict[str, Any]
) -> None:
    documented = {int(status) for status in operation["responses"] if int(status) >= 400}
    somewhere = path.replace("{id}", str(uuid4()))
    if 404 in documented:
        assert stocked.client.get(somewhere).status_code == 404
    answer = stocked.client.get(f"{somewhere}?nonsense=1")
    assert (answer.status_code == 422) == (422 in documented), answer.text
    image = stocked.client.get(somewhere, params=needed(operation), headers={"accept": "image/png"})
    assert (image.status_code == 406) == (406 in documented), image.text
    assert documented <= {404, 406, 422, 503}


def needed(operation: dict[str, Any]) -> dict[str, Any]:
    """An example of each parameter that a query has to have."""
    return {
        parameter["name"]: parameter["schema"]["examples"][0]
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query" and parameter["required"]
    }


@pytest.fixture(scope="module")
def cut_off(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose database has gone."""
    with (
        Proxy(postgres_url) as proxy,
        Service(tmp_path_factory.mktemp("cut-off"), proxy.url) as running,
    ):
        running.wait_until_shown()
        proxy.refuse()
        yield running


def test_without_the_database_everything_answers_503_where_it_is_documented(
    cut_off: Service,
) -> None:
    def ask(asked: tuple[str, str, dict[str, Any]]) -> tuple[str, str, int, set[int]]:
        method, path, operation = asked
        where = path.replace("{id}", str(uuid4()))
        content = b""
        if method == "POST":
            name = next((n for n, e in ENTRIES.items() if e.path == path), None)
            content = orjson.dumps(some(name)) if name else b""
        given = needed(operation)
        answer = cut_off.client.request(method, where, params=given, content=content, headers=ADA)
        known = {int(status) for status in operation["responses"]}
        if answer.status_code == 503:
            assert answer.headers["retry-after"]
        return method, path, answer.status_code, known

    with ThreadPoolExecutor(len(OPERATIONS)) as at_once:
        answers = [*at_once.map(ask, OPERATIONS)]
    assert [one for one in answers if one[2] not in one[3]] == []
    # Many commands are answered line by line; as a whole only a service that stops refuses them.
    unanswered = [one for one in answers if 503 in one[3] and one[2] != 503]
    assert [path for _, path, _, _ in unanswered] == ["/commands", "/commands/check"]
