"""The product on a machine that has nothing: started, looked at, stopped, started again."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.openapi.models import OpenAPI
from jsonschema import Draft202012Validator

from pledge import demo
from tests.end_to_end.running import STOP_SECONDS, Service, environment, free_port, run

pytestmark = pytest.mark.slow(5)

ERASED = "[erased]"
CUSTOMERS = demo.SIZE + 3
"""With the competitors."""
TABLES = """
SELECT c.oid::regclass::text FROM pg_class c
 WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind = 'r'
"""


class Links(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if (tag, name) in (("a", "href"), ("link", "href"), ("script", "src")) and value:
                self.found.add(value)


@pytest.fixture
def started(folder: Path) -> Iterator[Service]:
    """The product started for the first time, in a fresh folder."""
    with Service(folder / "home", demo=True) as service:
        yield service


def database(service: Service) -> str:
    return f"postgresql://postgres@/pledge?host={service.home / 'postgres'}"


def postmaster(service: Service) -> int:
    return int((service.home / "postgres" / "postmaster.pid").read_text().partition("\n")[0])


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def in_one_line(said: str) -> str:
    return " ".join(said.split())


def readable_dump(service: Service) -> str:
    """Every column of every table of the ledger as text, its bytes decoded too."""
    parts = []
    with psycopg.connect(database(service)) as conn:
        for (table,) in conn.execute(TABLES).fetchall():
            parts += [row[0] for row in conn.execute(f"SELECT t::text FROM {table} t".encode())]
        for (payload,) in conn.execute("SELECT payload FROM ledger.events"):
            raw = bytes(payload).decode()
            parts += [raw, raw.encode().decode("unicode_escape", errors="replace")]
    return "\n".join(parts)


def people(service: Service) -> set[str]:
    """Every name, mail address and phone number that the sample company knows.

    A company that a lead works for is not a person, and is no secret where that lead names it.
    """
    found: set[str | None] = set()
    companies: set[str | None] = set()
    for item in service.pages("/customers"):
        one = service.get(f"/customers/{item['id']}")
        for person in (one, *one["contacts"]):
            found |= {person["name"], person["email"], person["phone"]}
    for lead in service.pages("/leads"):
        found |= {lead["name"], lead["email"], lead["phone"]}
        companies.add(lead["company"])
    return {text for text in found - companies if text}


def test_the_product_starts_with_a_sample_company_and_stops_without_a_trace(
    started: Service,
) -> None:
    assert "Pledge runs on" in started.said()
    started.wait_until_shown()
    assert len(started.pages("/customers")) == CUSTOMERS
    assert {item["status"] for item in started.pages("/promises")} == {
        "open",
        "kept",
        "broken",
        "withdrawn",
    }
    assert started.get("/promises", contradicting="true")["items"]
    server = postmaster(started)
    assert lives(server)
    assert started.stop(signal.SIGTERM) == 0
    assert not lives(server)
    assert "Traceback" not in started.said()

    before = started.said()
    started.start()
    assert len(started.pages("/customers")) == CUSTOMERS
    server = postmaster(started)
    assert started.stop(signal.SIGINT) == 0
    assert not lives(server)
    assert "Traceback" not in started.said()
    assert "Aborted" not in started.said()
    assert "sample company" not in started.said()[len(before) :]


def test_every_link_of_the_start_page_leads_somewhere(started: Service) -> None:
    started.wait_until_shown()
    page = started.client.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    links = Links(page.text).found
    assert {"/docs", "/customers", "/promises", "/audit/events", "/health/ready"} <= links
    answers = {link: started.client.get(link).status_code for link in links}
    assert answers == dict.fromkeys(links, 200)
    docs = started.client.get("/docs")
    assert docs.status_code == 200
    used = Links(docs.text).found
    assert used
    assert [link for link in used if "://" in link and started.url not in link] == []
    assert {link: started.client.get(link).status_code for link in used} == dict.fromkeys(used, 200)


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref" and isinstance(value, str):
                yield value
            yield from references(value)
    elif isinstance(part, list):
        for item in part:
            yield from references(item)


def test_the_openapi_document_is_valid_and_whole(started: Service) -> None:
    document = started.get("/openapi.json")
    OpenAPI.model_validate(document)
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert name
    for reference in references(document):
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step.replace("~1", "/")]
    asked = {command["command"] for command in started.get("/commands")}
    routes = [path for path, item in document["paths"].items() if "post" in item]
    assert len(routes) == len(asked) + len(["/commands", "/commands/check"])
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["responses"], (path, method)
    names = [o["operationId"] for i in document["paths"].values() for o in i.values()]
    assert len(set(names)) == len(names)


def test_nobody_is_readable_in_a_dump_of_the_ledger(started: Service) -> None:
    started.wait_until_shown()
    known = people(started)
    assert len(known) > 30
    dump = readable_dump(started)
    assert "customer.registered" in dump
    assert [text for text in known if text in dump] == []


def figures(service: Service) -> dict[str, Any]:
    """Counts and money, which an erased name must not change."""
    return {
        "funnel": service.get("/funnel")["stages"],
        "deals": [(deal["id"], deal["amount"]) for deal in service.pages("/opportunities")],
        "promises": [
            (item["id"], item["status"], item["amount"], item["due"], item["contradicts"])
            for item in service.pages("/promises")
        ],
        "customers": [
            (one["id"], one["owner"], one["version"]) for one in service.pages("/customers")
        ],
    }


def test_an_erased_customer_and_contact_are_gone_and_every_figure_stays(started: Service) -> None:
    started.wait_until_shown()
    before = figures(started)
    customer, name, contact = next(
        (item["id"], item["name"], shown["contacts"][0])
        for item in started.pages("/customers")
        for shown in [started.get(f"/customers/{item['id']}")]
        if len(shown["contacts"]) == 1 and shown["promises"] and shown["orders"]
    )
    with psycopg.connect(database(started)) as conn:
        conn.execute("DELETE FROM vault.keys WHERE subject IN (%s, %s)", (customer, contact["id"]))
    done = started.run("project", "rebuild")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = started.get(f"/customers/{customer}")
    assert (shown["name"], shown["contacts"][0]["name"]) == (ERASED, ERASED)
    assert {promise["what"] for promise in shown["promises"]} == {ERASED}
    assert figures(started) == before
    assert name not in started.client.get("/").text

    assert started.stop() == 0
    started.start()
    for path in asked_about(started, customer):
        answer = started.client.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert name not in answer.text, path
        assert contact["name"] not in answer.text, path
    assert ERASED in started.client.get(f"/audit/streams/{customer}").text
    started.made(f"/customers/{customer}/log-interaction", {"channel": "call", "summary": "again"})
    started.wait_until_shown()
    again = started.get(f"/customers/{customer}")
    assert (again["name"], again["interactions"][0]["summary"]) == (ERASED, "again")
    done = started.run("audit", "replay", "--shuffle", "seven")
    assert done.returncode == 0, done.stdout + done.stderr


def asked_about(service: Service, customer: str) -> list[str]:
    head = service.position()
    return [
        "/customers?limit=1000",
        f"/customers/{customer}",
        f"/customers/{customer}?as_of=2100-01-01",
        f"/customers/{customer}?known_at={head}",
        f"/customers/{customer}/timeline?limit=1000",
        "/opportunities?limit=1000",
        "/promises?limit=1000",
        f"/promises?limit=1000&known_at={head}",
        "/leads?limit=1000",
        "/audit/events?limit=1000",
        f"/audit/streams/{customer}",
        "/audit/refusals",
        "/funnel",
        "/",
    ]


def test_data_and_port_are_kept_over_a_restart(folder: Path) -> None:
    with Service(folder / "home") as service:
        lead = service.made("/leads", {"name": "Grace Hopper"})["id"]
        assert service.stop() == 0
        service.start()
        assert service.get(f"/leads/{lead}")["name"] == "Grace Hopper"
        service.kill()
        service.start()
        assert service.get(f"/leads/{lead}")["name"] == "Grace Hopper"


def test_clients_that_hang_on_do_not_keep_it_from_stopping(folder: Path) -> None:
    with (
        Service(folder / "home") as service,
        socket.create_connection(("127.0.0.1", service.port)) as idle,
        socket.create_connection(("127.0.0.1", service.port)) as talking,
    ):
        idle.sendall(b"GET /leads HTTP/1.1\r\nHost: x\r\n")
        talking.sendall(
            b"POST /commands HTTP/1.1\r\nHost: x\r\nX-Actor: ada\r\nContent-Length: 1000\r\n\r\n{"
        )
        time.sleep(0.3)
        begun = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun < STOP_SECONDS / 2
        assert "Traceback" not in service.said(), service.said()


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_it_can_be_stopped_while_it_starts(folder: Path, kind: signal.Signals) -> None:
    with Service(folder / "home") as service:
        service.stop()
        before = len(service.said())
        service.start(wait=False)
        while "starting PostgreSQL" not in service.said()[before:]:
            time.sleep(0.01)
        assert service.stop(kind) == 0, service.said()
        assert "Traceback" not in service.said()
        assert not (service.home / "postgres" / "postmaster.pid").exists()


def failure(done: Any) -> str:
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    said = in_one_line(done.stderr)
    assert said.count("pledge:") == 1
    return said


def test_a_taken_port_is_told_in_a_sentence(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = failure(run(environment(folder / "home", port=str(port)), "serve"))
    assert f"Port {port} on 127.0.0.1 cannot be used" in said
    assert "PLEDGE_PORT" in said
    assert not (folder / "home" / "postgres").exists()


def test_a_second_service_on_the_same_port_is_told_in_a_sentence(folder: Path) -> None:
    with Service(folder / "home") as service:
        assert "cannot be used" in failure(run(service.env, "serve"))
        assert service.get("/health/live") == {"status": "live"}


def test_a_folder_of_another_version_is_told_in_a_sentence(folder: Path) -> None:
    with Service(folder / "home") as service:
        with psycopg.connect(database(service)) as conn:
            conn.execute("INSERT INTO ledger.migrations VALUES ('9999_later.sql', 'x')")
        service.stop()
        said = failure(run(service.env, "serve"))
        assert "another version of Pledge" in said
        assert "9999_later.sql" in said
        (folder / "home" / "postgres" / "PG_VERSION").write_text("17\n")
        said = failure(run(service.env, "serve"))
        assert "belongs to PostgreSQL 17" in said


def test_a_lost_master_key_is_told_in_a_sentence(folder: Path) -> None:
    with Service(folder / "home") as service:
        service.stop()
        key = folder / "home" / "master.key"
        assert key.stat().st_mode & 0o777 == 0o600
        key.unlink()
        said = failure(run(service.env, "serve"))
        assert "master key" in said
        key.write_text("nonsense")
        assert "32 bytes in base64" in failure(run(service.env, "serve"))


def test_a_database_that_does_not_answer_is_told_in_a_sentence(folder: Path) -> None:
    env = environment(
        folder / "home", "postgresql://nobody@127.0.0.1:1/none", port=str(free_port())
    )
    assert "PLEDGE_DATABASE_URL" in failure(run(env, "serve"))


def test_a_folder_that_cannot_be_made_is_told_in_a_sentence(folder: Path) -> None:
    (folder / "taken").write_text("a file stands where the folder should")
    homes = [folder / "taken", folder / "taken" / "home"]
    if os.geteuid() != 0:  # nothing keeps root from writing
        closed = folder / "closed"
        closed.mkdir(mode=0o555)
        homes.append(closed / "home")
    for home in homes:
        assert "PLEDGE_HOME" in failure(run(environment(home, port=str(free_port())), "serve"))
