"""A client that means harm, and a good one beside it that notices nothing."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import orjson
import psycopg
import pytest
from psycopg import sql

from pledge.embedded import create_database
from tests.end_to_end.running import READY_SECONDS, Service

PATIENCE = 3.0
"""Seconds in which the good client is answered, on a machine that does much else; alone it takes
milliseconds, and behind a flood it took from four seconds to forty."""
HEAD = b"GET /leads HTTP/1.1\r\nHost: pledge\r\n"
WAITING = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name LIKE 'pledge read%'
   AND wait_event_type = 'Lock'
"""
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def attacked(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One running service with a customer and two leads."""
    name = f"test_{uuid4().hex}"
    home = tmp_path_factory.mktemp("home")
    with Service(home, create_database(postgres_url, name)) as running:
        running.made("/customers", {"id": CUSTOMER, "name": "Engines"})
        for lead in ("Ada", "Ben"):
            running.made("/leads", {"name": lead})
        running.wait_until_shown()
        running.wait_for_figures()
        yield running
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


CUSTOMER = str(uuid4())


def connected(service: Service, seconds: float = READY_SECONDS) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=seconds)


def answer_to(service: Service, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what comes back, until the server closes."""
    with connected(service) as conn:
        with suppress(ConnectionError):
            conn.sendall(raw)
        return parted(read_all(conn))


def read_all(conn: socket.socket) -> bytes:
    parts = []
    while part := conn.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def parted(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(one.lower().split(": ", 1) for one in lines)
    return int(first.split(" ")[1]), headers, body


def problem(found: tuple[int, dict[str, str], bytes], status: int) -> Any:
    """The problem that an answer is."""
    got, headers, body = found
    assert (got, headers["content-type"]) == (status, "application/problem+json"), found
    told = orjson.loads(body)
    assert told["status"] == status
    return told


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: pledge", "Connection: close", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


@contextmanager
def good_client(service: Service) -> Iterator[None]:
    """Somebody who reads, commands and looks at the health meanwhile, and is answered at once."""
    done, slowest, faults = threading.Event(), {"": 0.0}, []
    lead = service.made("/leads", {"name": "Grace"})["id"]
    asks: dict[str, Callable[[], httpx2.Response]] = {
        "a live read": lambda: service.client.get(f"/customers/{CUSTOMER}"),
        "a list": lambda: service.client.get("/leads"),
        "a command": lambda: service.post(f"/leads/{lead}/change-details", {"need": str(uuid4())}),
        "health": lambda: service.client.get("/health/ready"),
    }

    def go_on() -> None:
        while not done.is_set():
            for name, ask in asks.items():
                begun = time.monotonic()
                try:
                    answer = ask()
                    if not answer.is_success:
                        faults.append(f"{name}: {answer.status_code} {answer.text}")
                except httpx2.TransportError as error:
                    faults.append(f"{name}: {error!r}")
                slowest[name] = max(slowest.get(name, 0), time.monotonic() - begun)
            time.sleep(0.01)

    client = threading.Thread(target=go_on)
    client.start()
    try:
        yield
    finally:
        done.set()
        client.join()
    assert not faults, faults[:3]
    assert max(slowest.values()) < PATIENCE, slowest


CHUNKED = (
    b"POST /leads HTTP/1.1\r\nHost: pledge\r\nX-Actor: ada\r\nConnection: close\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
REFUSED: dict[str, tuple[bytes, int]] = {
    "what is no HTTP": (b"\0\0\0\r\n\r\n", 400),
    "a method that there is not": (b"BREW / HTTP/1.1\r\nHost: pledge\r\n\r\n", 400),
    "another version of HTTP": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a tunnel": (b"CONNECT evil:1 HTTP/1.1\r\nHost: evil\r\n\r\n", 400),
    "no host": (b"GET /leads HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
    "two hosts": (HEAD + b"Host: evil\r\nConnection: close\r\n\r\n", 400),
    "two lengths": (post("/leads", b"{}", "Content-Length: 7", "X-Actor: ada"), 400),
    "a length and chunks": (post("/leads", b"{}", "Transfer-Encoding: chunked"), 400),
    "compressed chunks": (
        CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n",
        501,
    ),
    "many headers": (HEAD + b"".join(b"A%d: b\r\n" % n for n in range(200)) + b"\r\n", 431),
    "a long header": (HEAD + b"A: " + b"x" * 100_000 + b"\r\n\r\n", 431),
    "an endless header": (HEAD + b"A: " + b"x" * 3_000_000, 431),
    "an endless name of a header": (HEAD + b"x" * 3_000_000, 431),
    "endless lines before the first": (b"\r\n" * 100_000, 431),
    "a long URL": (b"GET /leads?" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: pledge\r\n\r\n", 414),
    "an endless URL": (b"GET /" + b"x" * 3_000_000, 414),
    "an endless extension of a chunk": (
        CHUNKED + b"1;" + b"e" * 300_000,
        431,
    ),
    "an endless trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nA: " + b"e" * 300_000, 431),
    "a method that the path has not": (
        b"PATCH /leads HTTP/1.1\r\nHost: pledge\r\nConnection: close\r\n\r\n",
        405,
    ),
    "a path that there is not": (
        b"GET /%2e%2e/etc HTTP/1.1\r\nHost: pledge\r\nConnection: close\r\n\r\n",
        404,
    ),
    "a body too large": (post("/leads", b"x" * 1_100_000, "X-Actor: ada"), 413),
    "a parameter of a command": (post("/leads?name=x", b"{}", "X-Actor: ada"), 422),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_taken_is_a_problem(attacked: Service, case: str) -> None:
    raw, status = REFUSED[case]
    problem(answer_to(attacked, raw), status)


def test_an_endless_header_keeps_nobody_else_waiting(attacked: Service) -> None:
    with good_client(attacked), ExitStack() as stack:
        conns = [stack.enter_context(connected(attacked)) for _ in range(20)]
        for conn in conns:
            with suppress(ConnectionError):
                conn.sendall(HEAD + b"A: " + b"x" * 2_000_000)
        for conn in conns:
            problem(parted(read_all(conn)), 431)


@pytest.mark.slow
def test_whoever_does_not_go_on_is_let_go(attacked: Service) -> None:
    """All wait side by side: 10 seconds for a head, 5 for the rest of an answered body."""

    def drip(conn: socket.socket) -> None:
        with suppress(OSError):
            while True:
                conn.sendall(b"A: b\r\n")
                time.sleep(0.5)

    answered = b"GET /leads HTTP/1.1\r\nHost: pledge\r\nContent-Length: 1000000\r\n\r\n"
    with good_client(attacked), ExitStack() as stack:
        silent, half, dripping, unsent, idle = (
            stack.enter_context(connected(attacked, 60)) for _ in range(5)
        )
        half.sendall(HEAD)
        dripping.sendall(HEAD)
        thread = threading.Thread(target=drip, args=(dripping,), daemon=True)
        thread.start()
        unsent.sendall(answered)
        idle.sendall(HEAD + b"\r\n")
        assert read_all(silent) == b""
        problem(parted(read_all(half)), 408)
        problem(parted(read_all(dripping)), 408)
        for conn in (unsent, idle):
            assert parted(read_all(conn))[0] == 200
        thread.join()


def test_idle_connections_do_not_keep_a_good_client_out(attacked: Service) -> None:
    before = resource.prlimit(attacked.pid, resource.RLIMIT_NOFILE)
    with good_client(attacked), ExitStack() as stack:
        resource.prlimit(attacked.pid, resource.RLIMIT_NOFILE, (64, before[1]))
        stack.callback(resource.prlimit, attacked.pid, resource.RLIMIT_NOFILE, before)
        for number in range(200):
            conn = stack.enter_context(connected(attacked))
            with suppress(ConnectionError):
                if number % 3 == 1:
                    conn.sendall(HEAD)
                elif number % 3 == 2:
                    conn.sendall(b"POST /leads HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            if number % 20 == 0:
                with httpx2.Client(base_url=attacked.url, trust_env=False) as fresh:
                    assert fresh.get("/leads").status_code == 200


@contextmanager
def past_held_up(service: Service) -> Iterator[Callable[[], int]]:
    """Inside, no question about the past is answered; gives how many wait in PostgreSQL."""
    url = service.env["PLEDGE_DATABASE_URL"]
    with psycopg.connect(url) as holding, psycopg.connect(url, autocommit=True) as looking:
        holding.execute("LOCK TABLE progress.skipped IN ACCESS EXCLUSIVE MODE")

        def waiting() -> int:
            row = looking.execute(WAITING).fetchone()
            assert row is not None
            return int(row[0])

        yield waiting
        holding.rollback()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


PAST = f"GET /customers/{CUSTOMER}?as_of=2199-01-01 HTTP/1.1\r\nHost: pledge\r\n\r\n".encode()


def test_nobody_waits_for_those_who_left(attacked: Service) -> None:
    with past_held_up(attacked) as waiting, good_client(attacked):
        conns = [connected(attacked) for _ in range(150)]
        for conn in conns:
            conn.sendall(PAST)
        until(lambda: waiting() == 2)
        for conn in conns:
            conn.close()
        until(lambda: waiting() == 0)
    assert attacked.get(f"/customers/{CUSTOMER}", as_of="2199-01-01")["name"] == "Engines"


def test_nobody_waits_for_those_who_ask_much(attacked: Service) -> None:
    with ExitStack() as stack:
        conns = [stack.enter_context(connected(attacked)) for _ in range(45)]
        with past_held_up(attacked) as waiting, good_client(attacked):
            for conn in conns:
                conn.sendall(PAST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            until(lambda: waiting() == 2)
            told = httpx2.get(
                f"{attacked.url}/customers/{CUSTOMER}?as_of=2199-01-01", trust_env=False
            )
            assert (told.status_code, told.headers["retry-after"]) == (503, "1")
            assert told.json()["type"] == "/problems/busy"
        statuses = [parted(read_all(conn))[0] for conn in conns]
    assert statuses.count(200) == 18  # two at work and sixteen in the queue
    assert statuses.count(503) == 27


OTHERS = (
    "/leads?min_position=4000000000000000000",
    "/analytics/rfm?min_position=4000000000000000000",
    "/analytics/rfm?currency=EUR&as_of=2199-01-01",
    "/audit/events?actor=nobody",
    "/projections",
    "/openapi.json",
    "/commands",
)


def test_floods_of_all_other_questions_hold_up_nobody(attacked: Service) -> None:
    asked = [
        f"GET {path} HTTP/1.1\r\nHost: pledge\r\nConnection: close\r\n\r\n".encode()
        for path in OTHERS
    ]
    with good_client(attacked), ExitStack() as stack:
        for ask in asked:
            leaving = [connected(attacked) for _ in range(100)]
            for conn in leaving:
                conn.sendall(ask)
            for conn in leaving:
                conn.close()
        staying = [stack.enter_context(connected(attacked)) for _ in range(10 * len(asked))]
        for number, conn in enumerate(staying):
            conn.sendall(asked[number % len(asked)])
        for conn in staying:
            assert parted(read_all(conn))[0] in (200, 503)


def test_answers_that_nobody_reads_take_a_bounded_place(attacked: Service) -> None:
    def spooled() -> int:
        folder, size = Path(f"/proc/{attacked.pid}/fd"), 0
        for one in folder.iterdir():
            with suppress(OSError):
                size += one.stat().st_size if "(deleted)" in str(one.readlink()) else 0
        return size

    before = spooled()
    with good_client(attacked), connected(attacked) as conn:
        conn.sendall(
            b"POST /commands HTTP/1.1\r\nHost: pledge\r\nX-Actor: ada\r\n"
            b"Content-Length: 40000000\r\n\r\n"
        )

        def send() -> None:
            with suppress(OSError):
                conn.sendall(b"x\n" * 20_000_000)

        sending = threading.Thread(target=send)
        sending.start()
        until(lambda: spooled() - before > 10 * MEGABYTE)
        size, seen = 0, spooled()
        while size < seen:  # until no more lines are taken
            time.sleep(1)
            size, seen = seen, spooled()
        assert seen - before < 40 * MEGABYTE
        conn.shutdown(socket.SHUT_RDWR)
        sending.join()
    until(lambda: spooled() <= before + MEGABYTE)


SAID_TWICE = {
    "a parameter": (b"GET /leads?owner=a&owner=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    "who acts": post("/leads", b'{"name": "x"}', "X-Actor: ada", "X-Actor: ben"),
    "who asks": HEAD + b"X-Actor: ada\r\nx-actor: ben\r\nConnection: close\r\n\r\n",
    "the key": post("/leads", b"{}", "X-Actor: a", "Idempotency-Key: 1", "Idempotency-Key: 1"),
    "the version": post("/leads", b"{}", "X-Actor: a", 'If-Match: "1"', 'If-Match: "2"'),
    "another header": post("/leads", b"{}", "X-Actor: a", "X-Anything: 1", "X-Anything: 1"),
    "a field": post("/leads", b'{"name": "a", "name": "b"}', "X-Actor: ada"),
    "an escaped field": post("/leads", b'{"name": "a", "n\\u0061me": "b"}', "X-Actor: ada"),
    "a field within": post(
        f"/leads/{CUSTOMER}/qualify",
        b'{"budget": {"amount": "1", "currency": "EUR", "amount": "2"}}',
        "X-Actor: ada",
    ),
}


@pytest.mark.parametrize("case", SAID_TWICE)
def test_what_is_said_twice_is_refused(attacked: Service, case: str) -> None:
    told = problem(answer_to(attacked, SAID_TWICE[case]), 422)
    assert told["errors"][0]["message"] == "is given more than once"


def test_what_a_line_says_twice_is_refused(attacked: Service) -> None:
    one = '{"command": "leads/capture", "key": "%s", "data": {"name": "a"%s}%s}'
    answers = attacked.send(
        [
            (one % (uuid4(), ', "name": "b"', "")).encode(),
            (one % (uuid4(), "", ', "key": "other"')).encode(),
            (one % (uuid4(), "", "")).encode(),
        ]
    )
    assert [answer["status"] for answer in answers] == [422, 422, 201]


@pytest.mark.parametrize(
    "header",
    [
        "Content-Encoding: gzip",
        "Content-Encoding: br",
        "Content-Type: text/plain",
        "Content-Type: multipart/form-data; boundary=x",
        "Content-Type: application/json; charset=iso-8859-1",
        'Content-Type: application/json; charset="utf-16"',
        "Content-Type: application/jsonp",
    ],
)
@pytest.mark.parametrize("path", ["/leads", "/commands"])
def test_a_body_in_another_encoding_is_not_taken(attacked: Service, header: str, path: str) -> None:
    problem(answer_to(attacked, post(path, b"{}", "X-Actor: ada", header)), 415)


@pytest.mark.parametrize(
    "header",
    [
        "Content-Encoding: identity",
        "Content-Type: application/json",
        "Content-Type: Application/JSON; Charset=UTF-8",
        "Content-Type: application/merge-patch+json",
        "Content-Type: application/x-www-form-urlencoded",
    ],
)
def test_json_is_taken_however_it_is_called(attacked: Service, header: str) -> None:
    status, _, _ = answer_to(attacked, post("/leads", b'{"name": "x"}', "X-Actor: a", header))
    assert status == 201


@pytest.mark.parametrize("actor", ["ada\u200b lace", "a\u202eda", "a\tb", "", "\u200b", "x" * 201])
def test_an_actor_is_refused_by_one_rule_wherever_it_is_named(
    attacked: Service, actor: str
) -> None:
    raw = b"X-Actor: " + actor.encode()
    head = b"POST /leads HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n"
    problem(answer_to(attacked, head + raw + b"\r\n\r\n{}"), 422)
    problem(answer_to(attacked, HEAD + b"Connection: close\r\n" + raw + b"\r\n\r\n"), 422)
    line = {"command": "leads/capture", "key": str(uuid4()), "data": {"name": "x"}, "actor": actor}
    [answer] = attacked.send([orjson.dumps(line)])
    assert answer["status"] == 422


@pytest.mark.parametrize(
    "path", ["/leads", "/health/live", "/health/ready", "/commands", "/", "/nothing", "/funnel"]
)
def test_head_says_what_get_would(attacked: Service, path: str) -> None:
    got, told = attacked.client.get(path), attacked.client.head(path)
    assert (told.status_code, told.content) == (got.status_code, b"")
    assert told.headers["content-type"] == got.headers["content-type"]
    assert "content-length" in told.headers


def test_a_method_that_is_not_allowed_names_those_that_are(attacked: Service) -> None:
    assert attacked.client.put("/leads").headers["allow"] == "GET, HEAD, POST"
    assert attacked.client.put("/funnel").headers["allow"] == "GET, HEAD"


def test_no_link_leads_to_the_host_that_a_request_names(attacked: Service) -> None:
    headers = {"Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    page = attacked.client.get("/leads", params={"limit": 1}, headers=headers)
    assert page.json()["next"].startswith("/leads?")
    file = attacked.client.get(
        "/leads", params={"limit": 1}, headers={**headers, "Accept": "text/csv"}
    )
    assert file.headers["link"].startswith("</leads?")
    for path in ("/", "/leads/", "/docs", f"/customers/{CUSTOMER}"):
        answer = attacked.client.get(path, headers=headers)
        assert "evil.example" not in answer.text + str(answer.headers)


def test_a_refusal_is_no_larger_than_need_be(attacked: Service) -> None:
    many = b"{" + b",".join(b'"f%d":1' % n for n in range(15_000)) + b"}"
    told = problem(answer_to(attacked, post("/leads", many, "X-Actor: ada")), 422)
    assert len(orjson.dumps(told)) < 5_000
    some = b"{" + b",".join(b'"f%d":1' % n for n in range(500)) + b"}"
    told = problem(answer_to(attacked, post("/leads", some, "X-Actor: ada")), 422)
    assert len(told["errors"]) == 20
    assert "501" in told["detail"]
    long = b'{"name": "x", "' + b"y" * 900_000 + b'": 1}'
    told = problem(answer_to(attacked, post("/leads", long, "X-Actor: ada")), 422)
    assert len(orjson.dumps(told)) < 2_000


def test_no_answer_tells_where_files_lie(attacked: Service) -> None:
    attacked.wait_for_figures()
    for path in ("/analytics", "/analytics/rfm", "/projections", "/health/ready", "/", "/relay"):
        assert str(attacked.home) not in attacked.client.get(path).text
    tables = attacked.get("/analytics")["tables"]
    assert all(not name.startswith("/") for table in tables for name in table["files"])


def test_many_requests_on_one_connection_are_answered_in_their_order(attacked: Service) -> None:
    with good_client(attacked), connected(attacked) as conn:
        conn.sendall((HEAD + b"\r\n") * 199 + HEAD + b"Connection: close\r\n\r\n")
        assert read_all(conn).count(b"HTTP/1.1 200 OK") == 200
