"""Many commands in one request, from clients that take liberties."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import orjson
import psutil
import pytest

from tests.end_to_end.running import READY_SECONDS, Service

LINES = 100_000
SOME = 500
MEGABYTE = 1_000_000
GROWTH = 150 * MEGABYTE
"""Far less than the 100,000 questions and answers of one request need."""


def line(command: str, key: str, **rest: Any) -> bytes:
    return orjson.dumps({"command": command, "key": key, **rest}) + b"\n"


def capture(key: str, **rest: Any) -> bytes:
    return line("leads/capture", key, data={"name": "Grace Hopper"}, **rest)


@contextmanager
def request(service: Service, *headers: str) -> Iterator[socket.socket]:
    """A connection on which a request to /commands has begun."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=READY_SECONDS) as conn:
        head = ["POST /commands HTTP/1.1", "Host: pledge", "X-Actor: ada", *headers]
        conn.sendall("\r\n".join([*head, "", ""]).encode())
        yield conn


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def read_all(conn: socket.socket) -> bytes:
    parts = []
    while part := conn.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def unchunked(raw: bytes) -> bytes:
    body, parts = raw.partition(b"\r\n\r\n")[2], []
    while True:
        size, _, body = body.partition(b"\r\n")
        if not int(size, 16):
            return b"".join(parts)
        parts.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]


@contextmanager
def peak_of(pid: int) -> Iterator[list[int]]:
    """The most memory that a process takes meanwhile, in bytes."""
    process = psutil.Process(pid)
    peak = [process.memory_info().rss]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


@pytest.mark.slow
def test_a_client_may_send_a_hundred_thousand_lines_before_it_reads_one(service: Service) -> None:
    lead = str(uuid4())
    service.send([capture("the lead", id=lead).strip()])
    begun = psutil.Process(service.pid).memory_info().rss
    with (
        peak_of(service.pid) as peak,
        request(service, "Transfer-Encoding: chunked", "Connection: close") as conn,
    ):
        for n in range(0, LINES, SOME):
            lines = [
                line("leads/claim", f"claim {k}", id=lead)
                if k % 10
                else b'{"command": "leads/claim\n'
                for k in range(n, n + SOME)
            ]
            conn.sendall(chunk(b"".join(lines)))
        conn.sendall(chunk(b""))
        answers = [orjson.loads(answer) for answer in unchunked(read_all(conn)).splitlines()]
    assert [answer["line"] for answer in answers] == list(range(1, LINES + 1))
    assert Counter(answer["status"] for answer in answers) == {
        200: LINES * 9 // 10,
        422: LINES // 10,
    }
    assert [answer["status"] for answer in answers[:3]] == [422, 200, 200]
    assert peak[0] - begun < GROWTH, f"grew by {(peak[0] - begun) // MEGABYTE} MB"
    assert len(service.pages(f"/audit/streams/{lead}")) == 2


@pytest.mark.parametrize("rest", [b'{"command": "leads/capt', capture("half")[:-1]])
def test_a_client_that_breaks_off_has_sent_its_whole_lines_and_no_half_one(
    service: Service, rest: bytes
) -> None:
    before = service.position()
    name = str(uuid4())
    lines = [capture(f"{name} {n}") for n in range(10)]
    with request(service, "Content-Length: 1000000") as conn:
        conn.sendall(b"".join(lines) + rest)
        time.sleep(0.3)
    deadline = time.monotonic() + READY_SECONDS
    while service.position() < before + 10 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    events = service.pages("/audit/events", after=before, limit=1000)
    assert [event["type"] for event in events] == ["lead.captured"] * 10


def test_a_last_line_needs_no_line_feed(service: Service) -> None:
    before = service.position()
    [answer] = service.client.post(
        "/commands", content=capture("no line feed")[:-1], headers={"X-Actor": "ada"}
    ).content.splitlines()
    assert orjson.loads(answer)["status"] == 201
    assert service.position() == before + 1


def test_empty_lines_count_as_lines_and_have_no_answer(service: Service) -> None:
    body = b"\n" + capture("second") + b"\r\n  \n" + capture("fifth")
    answers = service.client.post("/commands", content=body, headers={"X-Actor": "ada"}).content
    assert [orjson.loads(answer)["line"] for answer in answers.splitlines()] == [2, 5]


def test_a_body_of_nothing_has_no_answers(service: Service) -> None:
    answer = service.client.post("/commands", content=b"", headers={"X-Actor": "ada"})
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("pieces", [(1_100_000,), (900_000, 200_000)], ids=["at once", "in two"])
@pytest.mark.parametrize("end", [b"\n", b""], ids=["ended", "not ended"])
def test_a_line_too_long_is_answered_and_its_neighbours_are_handled(
    service: Service, pieces: tuple[int, ...], end: bytes
) -> None:
    with request(service, "Transfer-Encoding: chunked", "Connection: close") as conn:
        conn.sendall(chunk(capture(str(uuid4()))))
        for size in pieces:
            conn.sendall(chunk(b"x" * size))
            time.sleep(0.2)
        if end:
            conn.sendall(chunk(end + capture(str(uuid4()))))
        conn.sendall(chunk(b""))
        answers = [orjson.loads(answer) for answer in unchunked(read_all(conn)).splitlines()]
    expected = [(1, 201), (2, 413), (3, 201)] if end else [(1, 201), (2, 413)]
    assert [(answer["line"], answer["status"]) for answer in answers] == expected


def test_a_line_just_too_long_at_the_very_end_is_answered_too(service: Service) -> None:
    with request(service, "Transfer-Encoding: chunked", "Connection: close") as conn:
        for size in (999_990, 20):
            conn.sendall(chunk(b"x" * size))
            time.sleep(0.5)
        conn.sendall(chunk(b""))
        answers = [orjson.loads(answer) for answer in unchunked(read_all(conn)).splitlines()]
    assert [(answer["line"], answer["status"]) for answer in answers] == [(1, 413)]


def test_later_lines_build_on_earlier_ones(service: Service) -> None:
    customer, deal = str(uuid4()), str(uuid4())
    answers = service.send(
        [
            line("customers/register", f"{deal} 1", id=customer, data={"name": "Engines"})[:-1],
            line(
                "opportunities/open",
                f"{deal} 2",
                id=deal,
                data={"title": "A deal", "customer_id": customer},
            )[:-1],
            line("opportunities/win", f"{deal} 3", id=deal)[:-1],
            line("opportunities/win", f"{deal} 4", id=deal)[:-1],
            line("opportunities/lose", f"{deal} 5", id=deal, if_match=1, data={"reason": "-"})[:-1],
            line("opportunities/win", f"{deal} 4", id=deal)[:-1],
        ]
    )
    assert [answer["status"] for answer in answers] == [201, 201, 200, 409, 412, 409]
    assert answers[3] == {**answers[5], "line": 4}


@pytest.mark.slow
def test_many_clients_at_once_each_get_their_own_answers(service: Service) -> None:
    def client(number: int) -> list[int]:
        streams = [str(uuid4()) for _ in range(SOME // 2)]
        lines = [
            one
            for stream in streams
            for one in (
                capture(f"{number} capture {stream}", id=stream)[:-1],
                line("leads/claim", f"{number} claim {stream}", id=stream)[:-1],
            )
        ]
        answers = service.send(lines)
        assert [answer["line"] for answer in answers] == list(range(1, SOME + 1))
        assert [answer["id"] for answer in answers[::2]] == streams
        return [answer["status"] for answer in answers]

    with ThreadPoolExecutor(20) as clients:
        statuses = Counter(status for one in clients.map(client, range(20)) for status in one)
    assert statuses == {200: 20 * SOME // 2, 201: 20 * SOME // 2}


def answers_to(service: Service, *lines: bytes, path: str = "/commands", **headers: str) -> bytes:
    sent = {"X-Actor": "ada", **headers}
    return service.client.post(path, content=b"".join(lines), headers=sent).content


def test_an_answer_that_is_repeated_is_marked_for_those_who_ask_and_the_same_for_others(
    service: Service,
) -> None:
    key = str(uuid4())
    first = answers_to(service, capture(key))
    assert answers_to(service, capture(key)) == first
    marked = answers_to(service, capture(key), capture(f"{key} 2"), Prefer="mark-repeated")
    old, new = map(orjson.loads, marked.splitlines())
    assert old.pop("repeated")
    assert old == orjson.loads(first)
    assert "repeated" not in new
    alone = {"X-Actor": "ada", "Idempotency-Key": f"{key} alone"}
    told = [
        service.client.post("/leads", content=b'{"name": "Ada"}', headers=alone) for _ in range(2)
    ]
    assert told[0].content == told[1].content
    assert [answer.headers.get("idempotent-replayed") for answer in told] == [None, "true"]


def test_a_repeated_refusal_is_marked_too(service: Service) -> None:
    claim = line("leads/claim", str(uuid4()), id=str(uuid4()))
    for times in range(2):
        answer = orjson.loads(answers_to(service, claim, Prefer="mark-repeated"))
        assert (answer["status"], answer.get("repeated", False)) == (404, times > 0)


def test_a_reused_key_tells_what_became_of_the_command_that_it_stands_for(
    service: Service,
) -> None:
    key, lead = str(uuid4()), str(uuid4())
    answers_to(service, capture(key, id=lead))
    answer = orjson.loads(answers_to(service, line("leads/claim", key, id=lead)))
    assert answer["status"] == 422
    assert answer["first"]["status"] == 201
    assert answer["first"]["id"] == lead


def test_a_check_says_what_is_there_and_records_nothing(service: Service) -> None:
    key = str(uuid4())
    answers_to(service, capture(key))
    before = service.position()
    checked = answers_to(
        service,
        capture(f"{key} new"),
        capture(key),
        line("leads/capture", key, data={"name": "Grace Murray"}),
        line("leads/capture", f"{key} bad", data={}),
        path="/commands/check",
    )
    answers = [orjson.loads(answer) for answer in checked.splitlines()]
    assert [(answer["status"], answer.get("repeated", False)) for answer in answers] == [
        (202, False),
        (201, True),
        (422, False),
        (422, False),
    ]
    assert [answer.get("first", {}).get("status") for answer in answers[2:]] == [201, None]
    assert service.position() == before


def test_a_repeat_of_many_batches_gets_every_answer_again(service: Service) -> None:
    key = str(uuid4())
    lines = [capture(f"{key} {n}") for n in range(600)]
    first = answers_to(service, *lines)
    half = b"".join(first.splitlines(keepends=True)[:300])
    again = answers_to(service, *lines[:300], capture(f"{key} between"), *lines[300:])
    assert again.startswith(half)
    assert [orjson.loads(answer)["status"] for answer in again.splitlines()] == [201] * 601
    assert answers_to(service, *lines) == first


def test_who_acts_for_nobody_is_no_rep(service: Service) -> None:
    customer = str(uuid4())
    orders = [str(uuid4()) for _ in range(4)]

    def order(n: int, **rest: Any) -> bytes:
        data = {"customer_id": customer, "amount": {"amount": "1", "currency": "EUR"}}
        return line("orders/place", orders[n], id=orders[n], data=data, **rest)

    lines = [
        line("customers/register", customer, id=customer, data={"name": "Acme"}),
        order(0, actor="legacy"),
        order(1, actor="eva"),
        order(2),
    ]
    sent = {"X-Actor": "legacy", "X-Actor-Kind": "import"}
    answers_to(service, *lines, **sent)
    answers_to(service, order(3), **{"X-Actor": "ada"})
    by = {"X-Actor": "shop", "X-Actor-Kind": "service"}
    deal = service.client.post("/opportunities", content=b'{"title": "Looms"}', headers=by).json()
    service.wait_until_shown()
    assert [service.get(f"/orders/{one}")["owner"] for one in orders] == [None, "eva", None, "ada"]
    assert service.get(f"/opportunities/{deal['id']}")["owner"] is None
    service.made(f"/opportunities/{deal['id']}/hand-over", {"owner": "eva"})
    service.wait_until_shown()
    assert service.get(f"/opportunities/{deal['id']}")["owner"] == "eva"
