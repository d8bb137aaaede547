"""Whatever nonsense comes in: a clear problem goes out, and nothing is half done."""

from __future__ import annotations

import socket
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import orjson
import pytest

from tests.end_to_end.running import Service

NOBODY = "00000000-0000-0000-0000-00000000dead"
COMPANY = "00000000-0000-0000-0000-000000000001"
EUR = {"currency": "EUR"}
NAME = {"name": "Engines"}
DEAL = {"title": "Compilers"}


class Target:
    """A customer, a lead and a deal to aim at."""

    def __init__(self, service: Service) -> None:
        self.customer = service.made("/customers", NAME)["id"]
        self.lead = service.made("/leads", NAME)["id"]
        self.deal = service.made("/opportunities", DEAL)["id"]


@pytest.fixture(scope="module")
def target(service: Service) -> Target:
    return Target(service)


@pytest.fixture(autouse=True)
def nothing_is_recorded(service: Service, target: Target) -> Iterator[None]:
    assert target.deal, "what is made for the tests is made before the first of them"
    before, said = service.position(), len(service.said())
    yield
    assert service.position() == before
    assert "Traceback" not in service.said()[said:]


def problem(answer: httpx2.Response, status: int | tuple[int, ...] = 422) -> dict[str, Any]:
    """The problem that an answer is, whole and with the status expected."""
    allowed = (status,) if isinstance(status, int) else status
    assert answer.status_code in allowed, f"{answer.status_code} {answer.text}"
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == answer.status_code
    assert found["type"].startswith("/problems/")
    assert found["title"]
    assert found["detail"]
    assert "Traceback" not in answer.text
    return dict(found)


def fields(found: dict[str, Any]) -> set[str]:
    return {error["field"] for error in found["errors"]}


def send(service: Service, path: str, raw: bytes, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.client.post(path, content=raw, headers={"X-Actor": "ada"} | named)


BODIES: list[tuple[str, bytes, str]] = [
    ("/leads", b"", "name"),
    ("/leads", b"null", "body"),
    ("/leads", b"[]", "body"),
    ("/leads", b"true", "body"),
    ("/leads", b'"a text"', "body"),
    ("/leads", b"{", "body"),
    ("/leads", b"\xff\xfe", "body"),
    ("/leads", b'{"name": "x"} {"name": "y"}', "body"),
    ("/leads", b"[" * 100_000, "body"),
    ("/leads", b'{"name": "x", "budget": 1}', "budget"),
    ("/leads", b'{"name": "x", "": 1}', ""),
    ("/leads", b'{"name": 5}', "name"),
    ("/leads", b'{"name": null}', "name"),
    ("/leads", b'{"name": ["x"]}', "name"),
    ("/leads", b'{"name": ""}', "name"),
    ("/leads", b'{"name": "   "}', "name"),
    ("/leads", b'{"name": "' + b"x" * 201 + b'"}', "name"),
    ("/leads", b'{"name": "a\\u0000b"}', "name"),
    ("/leads", b'{"name": "a\\u001bb"}', "name"),
    ("/leads", b'{"name": "\\ud83d"}', "body"),
    ("/leads", b'{"name": "\xed\xa0\xbd"}', "body"),
    ("/leads", b'{"name": "x", "need": "a\\u0000b"}', "need"),
    ("/leads", b'{"name": "x", "email": "nobody"}', "email"),
    ("/leads", b'{"name": "x", "email": "a@b\\u0000"}', "email"),
    ("/leads", b'{"name": "x", "id": "1"}', "id"),
    ("/leads", b'{"name": "x", "id": 1}', "id"),
    ("/customers", b'{"name": "x", "kind": "friend"}', "kind"),
    ("/customers", b'{"name": "x", "founded": 12}', "founded"),
    ("/customers", b'{"name": "x", "founded": 1e400}', "founded"),
    ("/customers", b'{"name": "x", "employees": -1}', "employees"),
    ("/customers", b'{"name": "x", "employees": 1.5}', "employees"),
    ("/customers", b'{"name": "x", "employees": 1' + b"0" * 5000 + b"}", "body"),
    ("/opportunities", b'{"title": "x", "customer_id": "you"}', "customer_id"),
    ("/opportunities", b'{"title": "x", "expected_close": "soon"}', "expected_close"),
    ("/opportunities", b'{"title": "x", "expected_close": "2026-02-30"}', "expected_close"),
    ("/opportunities", b'{"title": "x", "expected_close": "10000-01-01"}', "expected_close"),
]


@pytest.mark.parametrize(("path", "raw", "field"), BODIES, ids=lambda value: repr(value)[:50])
def test_a_malformed_body_is_answered_with_the_field(
    service: Service, path: str, raw: bytes, field: str
) -> None:
    found = problem(send(service, path, raw))
    if field:
        assert fields(found) == {field}, found


AMOUNTS: list[Any] = [
    *("-1", "-0.01", "1.005", "0.001", "1e3", "1E-2", "NaN", "Infinity", "1,5", "1 000"),
    *("", ".5", "5.", "+5", " 5", "\u0665", "0x10", "1" * 16, "1_000"),
    *(5, 5.5, -1, True, None, [], {}, "5\n"),
]


@pytest.mark.parametrize("amount", AMOUNTS, ids=repr)
def test_money_is_a_plain_decimal_in_quotes_and_never_negative(
    service: Service, target: Target, amount: Any
) -> None:
    raw = orjson.dumps({"amount": {"amount": amount, **EUR}})
    found = problem(send(service, f"/opportunities/{target.deal}/win", raw))
    assert all(field.startswith("amount") for field in fields(found)), found


@pytest.mark.parametrize("raw", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-0"])
def test_money_is_no_bare_number(service: Service, target: Target, raw: bytes) -> None:
    body = b'{"amount": {"amount": ' + raw + b', "currency": "EUR"}}'
    problem(send(service, f"/opportunities/{target.deal}/win", body))


@pytest.mark.parametrize(
    "money",
    [
        {"amount": "5"},
        {"currency": "EUR"},
        {"amount": "5", "currency": "EURO"},
        {"amount": "5", "currency": "eur"},
        {"amount": "5", "currency": None},
        {"amount": "5", "currency": "XXX\0"},
        {"amount": "5.5", "currency": "JPY"},
        {"amount": "5", "currency": "EUR", "rounding": "up"},
        "5 EUR",
    ],
    ids=repr,
)
def test_money_has_a_known_currency_and_its_coins(
    service: Service, target: Target, money: Any
) -> None:
    raw = orjson.dumps({"amount": money})
    found = problem(send(service, f"/opportunities/{target.deal}/win", raw))
    assert all(field.startswith("amount") for field in fields(found)), found


def soon() -> str:
    return (datetime.now(UTC) + timedelta(minutes=10)).isoformat()


TIMES: list[Any] = [
    *("2026-01-31T12:00:00", "2026-01-31", "yesterday", "2026-13-01T00:00Z", ""),
    *("1899-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
    *("2200-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "0000-00-00T00:00:00Z"),
    *("2026-01-31T12:00:00+99:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
    *(True, [], {}, 1e300, -1e300),
]


@pytest.mark.parametrize("moment", TIMES, ids=repr)
def test_an_absurd_time_is_named(service: Service, moment: Any) -> None:
    found = problem(send(service, "/leads", orjson.dumps({**NAME, "occurred_at": moment})))
    assert fields(found) == {"occurred_at"}


def test_a_fact_has_happened_already(service: Service) -> None:
    found = problem(send(service, "/leads", orjson.dumps({**NAME, "occurred_at": soon()})))
    assert fields(found) == {"occurred_at"}
    assert "future" in found["detail"]


@pytest.mark.parametrize("moment", [0, 1_700_000_000, 1_700_000_000_000, "1700000000"], ids=repr)
def test_a_number_is_no_time(service: Service, moment: Any) -> None:
    found = problem(send(service, "/leads", orjson.dumps({**NAME, "occurred_at": moment})))
    assert fields(found) == {"occurred_at"}


@pytest.mark.parametrize("day", [0, 86_400, "86400", "0001-01-01", "9999-12-31"], ids=repr)
def test_a_due_date_is_a_date_of_our_times(service: Service, target: Target, day: Any) -> None:
    raw = orjson.dumps({"what": "A reply", "due": day})
    found = problem(send(service, f"/customers/{target.customer}/make-promise", raw))
    assert fields(found) == {"due"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/leads/{lead}/clam", 404),
        ("/lead/{lead}/claim", 404),
        ("/leads/{lead}", 405),
        ("/leads/{lead}/claim/now", 404),
        ("/", 405),
        ("//", 405),
        ("/leads/1/claim", 422),
        ("/leads/{lead}0/claim", 422),
        ("/leads/%00/claim", 422),
        ("/leads/%FF/claim", 422),
        (f"/leads/{NOBODY}/claim", 404),
        ("/leads/{customer}/claim", 404),
        ("/customers/{lead}/claim", 404),
        (f"/companies/{NOBODY}/set-time-zone", 404),
    ],
)
def test_what_is_not_there_is_said_to_be_not_there(
    service: Service, target: Target, path: str, status: int
) -> None:
    body = {"time_zone": "Europe/Paris"} if "time-zone" in path else {}
    problem(send(service, path.format(**vars(target)), orjson.dumps(body)), status)


@pytest.mark.parametrize(
    ("path", "body", "rule", "field"),
    [
        ("/opportunities", {**DEAL, "customer_id": NOBODY}, "CustomerUnknown", "customer_id"),
        ("/opportunities", {**DEAL, "customer_id": "{lead}"}, "CustomerUnknown", "customer_id"),
        ("/opportunities", {**DEAL, "pipeline": "none"}, "PipelineUnknown", "pipeline"),
        ("/opportunities", {**DEAL, "stage": "none"}, "StageUnknown", "stage"),
        ("/opportunities", {**DEAL, "stage": "won"}, "StageCloses", "stage"),
        (
            "/customers/{customer}/keep-promise",
            {"promise_id": NOBODY},
            "PromiseUnknown",
            "promise_id",
        ),
        (
            "/customers/{customer}/make-promise",
            {"what": "A reply", "contact_id": NOBODY},
            "ContactUnknown",
            "contact_id",
        ),
        ("/leads", {**NAME, "id": "{lead}"}, "LeadExists", "id"),
    ],
)
def test_an_unknown_reference_is_refused_by_name_and_the_refusal_is_on_record(
    service: Service, target: Target, path: str, body: Any, rule: str, field: str
) -> None:
    raw = orjson.dumps(body)
    for name, value in vars(target).items():
        raw = raw.replace(b"{%s}" % name.encode(), value.encode())
    found = problem(send(service, path.format(**vars(target)), raw), 409)
    assert (found["rule"], found["fields"]) == (rule, [field])
    [refusal] = service.get("/audit/refusals", limit=1)["items"]
    assert (refusal["rule"], refusal["fields"]) == (rule, [field])
    assert "Engines" not in orjson.dumps(refusal).decode()


def test_who_acts_must_be_said(service: Service) -> None:
    answer = service.client.post("/leads", content=orjson.dumps(NAME))
    found = problem(answer, 401)
    assert fields(found) == {"X-Actor"}
    assert "www-authenticate" in answer.headers
    problem(service.client.post("/commands", content=b"{}\n"), 401)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Actor", ""),
        ("X-Actor", "x" * 201),
        ("X-Actor", "a\tb"),
        ("X-Actor-Kind", "king"),
        ("X-Actor-Kind", "policy"),
        ("If-Match", "1"),
        ("If-Match", "*"),
        ("If-Match", 'W/"1"'),
        ("If-Match", '"1", "2"'),
        ("If-Match", '"-1"'),
        ("If-Match", '"\u0663"'),
        ("If-Match", '"' + "9" * 19 + '"'),
        ("If-Match", ""),
        ("Idempotency-Key", ""),
        ("Idempotency-Key", "x" * 201),
        ("Idempotency-Key", "ключ"),
        ("X-Correlation-Id", "mine"),
        ("X-Correlation-Id", "{" + NOBODY + "}"),
    ],
)
def test_a_malformed_header_is_named(
    service: Service, target: Target, header: str, value: str
) -> None:
    headers = {"X-Actor": "ada", header: value}
    answer = service.client.post(
        f"/leads/{target.lead}/claim",
        headers=[(name.encode(), text.encode()) for name, text in headers.items()],
    )
    assert {field.lower() for field in fields(problem(answer))} == {header.lower()}


def test_if_match_of_another_version_asks_to_look_again(service: Service, target: Target) -> None:
    answer = send(service, f"/leads/{target.lead}/claim", b"", If_Match='"7"')
    assert problem(answer, 412)["version"] == 1
    assert answer.headers["etag"] == '"1"'


def test_a_body_of_two_megabytes_is_too_large(service: Service) -> None:
    answer = send(service, "/leads", orjson.dumps({**NAME, "need": "x" * 2_000_000}))
    assert "1000000 bytes" in problem(answer, 413)["detail"]


def test_a_long_text_is_named_and_not_repeated(service: Service) -> None:
    answer = send(service, "/leads", orjson.dumps({**NAME, "need": "x" * 900_000}))
    assert fields(problem(answer)) == {"need"}
    assert len(answer.content) < 1_000


def test_a_quote_of_too_many_lines_is_refused_as_a_whole(service: Service, target: Target) -> None:
    one = {"product": "p", "quantity": "1", "unit_price": {"amount": "1", **EUR}}
    raw = orjson.dumps({"lines": [one] * 501})
    assert fields(problem(send(service, f"/opportunities/{target.deal}/quote", raw))) == {"lines"}


def test_an_amount_too_large_for_its_quote_is_no_fault_of_ours(
    service: Service, target: Target
) -> None:
    one = {
        "product": "p",
        "quantity": "999999999999.999",
        "unit_price": {"amount": "999999999999999", **EUR},
    }
    raw = orjson.dumps({"lines": [one] * 3})
    problem(send(service, f"/opportunities/{target.deal}/quote", raw), (409, 422))


@pytest.mark.parametrize(
    "stages",
    [
        [],
        [{"name": "won", "kind": "won"}],
        [{"name": n, "kind": k} for n, k in (("a", "open"), ("a", "won"), ("c", "lost"))],
        [{"name": n, "kind": k} for n, k in (("a", "open"), ("b", "won"), ("c", "won"))],
        [{"name": n, "kind": k} for n, k in (("a\0", "open"), ("b", "won"), ("c", "lost"))],
    ],
)
def test_half_a_pipeline_is_none(service: Service, stages: Any) -> None:
    raw = orjson.dumps({"name": "half", "stages": stages})
    found = problem(send(service, f"/companies/{COMPANY}/define-pipeline", raw))
    assert all(field.startswith("stages") for field in fields(found))


def good(key: str) -> bytes:
    return orjson.dumps({"command": "leads/claim", "id": NOBODY, "key": key})


LINES: list[tuple[bytes, str]] = [
    (b"nonsense", "body"),
    (b'{"command": "leads/claim", "id"', "body"),
    (b"[1, 2]", "body"),
    (b"null", "body"),
    (b"\x00", "body"),
    (b"\xff\xff", "body"),
    (b"{}", "command"),
    (b'{"command": "leads/fly", "key": "1"}', "command"),
    (b'{"command": 7, "key": "1"}', "command"),
    (b'{"command": "leads/claim", "key": "1"}', "id"),
    (b'{"command": "leads/claim", "id": "x", "key": "1"}', "id"),
    (b'{"command": "leads/claim", "id": "%s"}' % NOBODY.encode(), "key"),
    (b'{"command": "leads/claim", "id": "%s", "key": ""}' % NOBODY.encode(), "key"),
    (b'{"command": "leads/claim", "id": "%s", "key": "a\\u0000"}' % NOBODY.encode(), "key"),
    (b'{"command": "leads/claim", "id": "%s", "key": "a\\n"}' % NOBODY.encode(), "key"),
    (b'{"command": "leads/claim", "id": "%s", "key": 1}' % NOBODY.encode(), "key"),
    (b'{"command": "leads/claim", "id": "%s", "key": "1", "by": 1}' % NOBODY.encode(), "by"),
    (
        b'{"command": "leads/claim", "id": "%s", "key": "1", "if_match": -1}' % NOBODY.encode(),
        "if_match",
    ),
    (
        b'{"command": "leads/claim", "id": "%s", "key": "1", "actor": "a\\u0000"}'
        % NOBODY.encode(),
        "actor",
    ),
    (b'{"command": "leads/capture", "key": "1"}', "data"),
    (b'{"command": "leads/capture", "key": "1", "data": {}}', "data.name"),
    (b'{"command": "leads/capture", "key": "1", "data": {"name": "\\ud800"}}', "body"),
    (
        orjson.dumps({"command": "leads/capture", "key": "1", "data": NAME, "occurred_at": "2026"}),
        "occurred_at",
    ),
]


@pytest.mark.parametrize(("broken", "field"), LINES, ids=lambda value: repr(value)[:60])
def test_a_broken_line_between_good_ones_is_named_and_they_are_handled(
    service: Service, broken: bytes, field: str
) -> None:
    answers = service.send([good(str(uuid4())), broken, good(str(uuid4()))])
    assert [(answer["line"], answer["status"]) for answer in answers] == [
        (1, 404),
        (2, 422),
        (3, 404),
    ]
    assert fields(answers[1]) == {field}, answers[1]


def test_a_version_beyond_all_numbers_is_another_version(service: Service, target: Target) -> None:
    line = {"command": "leads/claim", "id": target.lead, "key": "v", "if_match": 2**63}
    raw = orjson.dumps(line).replace(str(2**63).encode(), b"9" * 40)
    [answer] = service.send([raw])
    assert answer["status"] in (412, 422)


QUERIES = [
    *("/leads?cursor=nonsense", "/leads?cursor=W10", "/leads?cursor=%00", "/leads?cursor=bnVsbA"),
    *("/leads?limit=0", "/leads?limit=1001", "/leads?limit=many", "/leads?limit=1e9"),
    *("/leads?owner=%00", "/leads?owner=", "/leads?owner=" + "x" * 201, "/leads?source=a%00b"),
    *("/leads?status=lost", "/leads?in_pool=perhaps", "/leads?captured_from=2026-01-01T00:00"),
    *("/leads?min_position=-1", "/leads?min_position=" + "9" * 30, "/leads?captured_to=soon"),
    *("/customers?name=%00", "/customers?in_public_sea=2", "/opportunities?customer_id=1"),
    *("/opportunities?kind=half", "/opportunities?closed_from=%00", "/promises?due_from=soon"),
    *("/promises?status=%00", "/promises?overdue=maybe", "/promises?due_to=2026-02-30"),
    *("/funnel?pipeline=none", "/funnel?as_of=2026-02-30", "/funnel?as_of=2026-01-01T00:00"),
    *("/funnel?as_of=1899-01-01", "/funnel?as_of=9999-12-31", "/funnel?as_of=%00"),
    *("/funnel?as_of=", "/funnel?as_of=2026-01-01T00:00+99:00", "/funnel?as_of=" + "9" * 41),
    *("/funnel?known_at=99999999", "/funnel?known_at=-1", "/funnel?known_at=1.5"),
    *("/funnel?known_at=" + "9" * 40, "/promises?known_at=never", "/promises?as_of=%D9%A3"),
    *("/customers/1", "/customers/%00", "/leads/none", "/audit/streams/1"),
    *("/audit/events?after=-1", "/audit/events?until=x", "/audit/events?order=random"),
    *("/audit/events?actor=%00", "/audit/events?cursor=%FF", "/audit/refusals?rule=%00"),
    "/audit/events?recorded_from=2026-02-01T00:00:00Z&recorded_to=2026-01-01T00:00:00Z",
    "/audit/refusals?recorded_from=2026-02-01T00:00:00Z&recorded_to=2026-01-01T00:00:00Z",
]


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path[:60])
def test_a_malformed_question_is_answered_with_the_parameter(service: Service, path: str) -> None:
    found = problem(service.client.get(path))
    assert fields(found) <= set(path.replace("?", "&").replace("=", "&").split("&")) | {"id"}


@pytest.mark.parametrize(
    "cursor",
    [
        [1, 2],
        ["2026-01-01T00:00:00Z", 1],
        [1, NOBODY],
        ["2026-01-01T00:00:00Z", NOBODY],
        [10**18, 10**18],
        [-1, 0],
        ["0001-01-01T00:00:00+14:00", NOBODY],
        [True, False],
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "path",
    ["/customers", "/leads", "/opportunities", "/promises", "/audit/events", "/audit/refusals"],
)
def test_a_cursor_of_another_list_is_no_fault_of_ours(
    service: Service, path: str, cursor: list[Any]
) -> None:
    text = httpx2.QueryParams({"cursor": _base64(cursor)})
    answer = service.client.get(f"{path}?{text}")
    if answer.status_code != 200:
        assert fields(problem(answer)) == {"cursor"}


def _base64(cursor: list[Any]) -> str:
    return urlsafe_b64encode(orjson.dumps(cursor)).decode().rstrip("=")


@pytest.mark.parametrize(
    "path", ["/nothing", "/leads/", "/customers/" + NOBODY, "/leads/" + NOBODY]
)
def test_what_does_not_exist_is_a_problem_too(service: Service, path: str) -> None:
    answer = service.client.get(path, follow_redirects=True)
    if answer.status_code != 200:
        problem(answer, 404)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_another_method_is_a_problem_too(service: Service, target: Target, method: str) -> None:
    answer = service.client.request(method, f"/leads/{target.lead}", headers={"X-Actor": "ada"})
    problem(answer, (404, 405))


def test_what_is_no_http_at_all_does_not_hurt(service: Service) -> None:
    for nonsense in (b"\0" * 100, b"GET\r\n\r\n", b"POST /leads HTTP/1.1\r\nX-Actor: \0\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", service.port), timeout=60) as conn:
            conn.sendall(nonsense)
            conn.shutdown(socket.SHUT_WR)
            answer = conn.recv(1000)
        assert b" 500 " not in answer.partition(b"\r\n")[0]
    assert service.get("/health/live") == {"status": "live"}
