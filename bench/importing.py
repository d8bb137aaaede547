"""``pledge import`` of a web shop's lines, against the real server process.

import.new    commands a second of an import in which everything is new: rows read, commands made of
              them and sent; beside the same number of commands whose NDJSON was made beforehand,
              sent in one request, all new too
import.again  the same of an import that was done before; beside the same new NDJSON
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from databases import Server
from load import post, stream
from measuring import Contender, Result, compare
from servers import pledge, running

from pledge.importing import Check, run_import

NAMES = ("import.new", "import.again")
ROWS_PER_SECOND = 2_000
LINES_OF_AN_ORDER = 20
NDJSON = {
    "Content-Type": "application/x-ndjson",
    "X-Actor": "import",
    "X-Actor-Kind": "import",
    "Connection": "close",
}
MAPPING = """\
name = "{name}"
currency = "GBP"
[[files]]
file = "sales.csv"
count.nth = {{ of = "{{{{ Invoice }}}} {{{{ Article }}}} {{{{ Quantity }}}}" }}
[[files.commands]]
command = "customers/register"
once = true
id = "customer {{{{ Customer }}}}"
occurred_at = "{{{{ Date | date('%m/%d/%Y %H:%M') }}}}"
data.name = "Customer {{{{ Customer }}}}"
[[files.commands]]
command = "orders/place"
once = true
id = "invoice {{{{ Invoice }}}}"
occurred_at = "{{{{ Date | date('%m/%d/%Y %H:%M') }}}}"
data.customer_id = {{ ref = "customer {{{{ Customer }}}}" }}
data.amount = {{ money = "0" }}
[[files.commands]]
command = "orders/add-line"
id = "invoice {{{{ Invoice }}}}"
key = "{{{{ Invoice }}}} {{{{ Article }}}} {{{{ Quantity }}}} {{{{ nth }}}}"
occurred_at = "{{{{ Date | date('%m/%d/%Y %H:%M') }}}}"
data.line.product = "{{{{ Article }}}}"
data.line.quantity = "{{{{ Quantity }}}}"
data.line.unit_price = {{ money = "{{{{ Price }}}}" }}
"""

_names = count(1)


def measure(server: Server, names: list[str], seconds: float) -> Iterator[Result]:
    url = server.database("imports")
    with running(pledge, url) as port, tempfile.TemporaryDirectory() as folder:
        service = f"http://127.0.0.1:{port}"
        sales = _sales(Path(folder), int(ROWS_PER_SECOND * seconds))
        used: list[float] = []

        def new(_: float) -> tuple[int, float]:
            return _imported(sales, _mapping(Path(folder)), service, used)

        known = _mapping(Path(folder))

        def again(_: float) -> tuple[int, float]:
            return _imported(sales, known, service, used)

        def bare(_: float) -> tuple[int, float]:
            lines: list[bytes] = []
            mapping = _mapping(Path(folder))
            run_import(
                sales, mapping, url="http://127.0.0.1:9", dry_run=True, check=_kept_in(lines)
            )
            answer, took = stream(port, post("/commands", b"\n".join(lines) + b"\n", NDJSON))
            assert answer.count(b"\n") == len(lines)
            assert b'"type":"/problems' not in answer, answer[:1000]
            return len(lines), took

        for name, ours in (("import.new", new), ("import.again", again)):
            if name in names:
                used.clear()
                result = compare(name, "commands/s", Contender(ours, url), Contender(bare), seconds)
                result.note = f"the importer used {sum(used) / len(used):.0f} us of CPU a command"
                yield result


def _imported(sales: Path, mapping: Path, service: str, used: list[float]) -> tuple[int, float]:
    began, cpu = time.perf_counter(), time.process_time()
    report = run_import(sales, mapping, url=service)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert report.rejects is None
    done = sum(tally.made for tally in report.commands.values())
    used.append(cpu / done * 1e6)
    return done, took


def _kept_in(lines: list[bytes]) -> Check:
    def check(line: bytes) -> list[str]:
        lines.append(line)
        return []

    return check


def _mapping(folder: Path) -> Path:
    name = f"bench-{next(_names)}"
    file = folder / f"{name}.toml"
    file.write_text(MAPPING.format(name=name), encoding="utf-8")
    return file


def _sales(folder: Path, rows: int) -> Path:
    file = folder / "sales.csv"
    with file.open("w", encoding="utf-8") as out:
        out.write("Invoice,Article,About,Quantity,Date,Price,Customer\n")
        for n in range(rows):
            order = n // LINES_OF_AN_ORDER
            out.write(
                f"{536365 + order},A{n * 7919 % 4000},AN ARTICLE,{n % 12 + 1},"
                f"{order // 60 % 12 + 1}/1/2011 8:{order % 60:02},{n % 900 / 100 + 1:.2f},"
                f"{12346 + order * 31 % 4300}\n"
            )
    return file
