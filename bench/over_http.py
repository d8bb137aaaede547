"""Commands over HTTP.

http.command  requests a second of POST /leads, 64 keep-alive connections, against the real server
              process, every answer a durable new lead; beside a bare FastAPI endpoint under the
              same uvicorn that only validates the same body
http.bulk     commands a second of one NDJSON request that registers customers, streamed both ways;
              beside write.create.c32, our writer without HTTP, measured in the same run
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import orjson
from bodies import CUSTOMER, LEAD, customer_lines
from databases import Server, count
from load import post, requests, stream
from measuring import Contender, Result, compare, process_of
from servers import pledge, running
from write import ours as our_writer
from yardsticks import plain_fastapi

NAMES = ("http.command", "http.bulk")
CONNECTIONS = 64
BUSY = 0.9
LINES_PER_SECOND = 10_000
JSON = {"Content-Type": "application/json", "X-Actor": "bench"}
NDJSON = {"Content-Type": "application/x-ndjson", "X-Actor": "bench", "Connection": "close"}


def measure(server: Server, names: list[str], seconds: float) -> Iterator[Result]:
    url = server.database("http_ours")
    with running(pledge, url) as port:
        if "http.command" in names:
            yield _command(url, port, seconds)
        if "http.bulk" in names:
            yield _bulk(server, url, port, seconds)


def _command(url: str, port: int, seconds: float) -> Result:
    request = post("/leads", orjson.dumps(LEAD), JSON)
    busy: list[float] = []

    def ask(where: int, seconds: float) -> tuple[int, float]:
        used = time.process_time()
        done, took = requests(where, request, CONNECTIONS, seconds)
        busy.append((time.process_time() - used) / took)
        return done, took

    def ours(seconds: float) -> tuple[int, float]:
        before = count(url, "ledger.events")
        done, took = ask(port, seconds)
        assert count(url, "ledger.events") - before == done
        return done, took

    with running(plain_fastapi.serve) as plain:
        result = compare(
            "http.command",
            "requests/s",
            Contender(ours, url),
            Contender(lambda s: ask(plain, s)),
            seconds,
        )
    verdict = "it is the bottleneck" if max(busy) > BUSY else "not the bottleneck"
    result.note = f"the load generator used {max(busy):.0%} of a core at most, so {verdict}"
    return result


def _bulk(server: Server, url: str, port: int, seconds: float) -> Result:
    def ours(seconds: float) -> tuple[int, float]:
        lines = int(LINES_PER_SECOND * seconds)
        request = post("/commands", customer_lines(lines), NDJSON)
        before = count(url, "ledger.events")
        answer, took = stream(port, request)
        assert answer.count(b'"status":201,') == answer.count(b"\n") == lines, answer[:1000]
        assert count(url, "ledger.events") - before == lines
        assert CUSTOMER["email"].encode() not in answer
        return lines, took

    writer_url = server.database("http_writer")
    with process_of(our_writer, writer_url) as writer:
        return compare(
            "http.bulk",
            "commands/s",
            Contender(ours, url),
            Contender(lambda s: writer("create", 32, s), writer_url),
            seconds,
        )
