"""The web shop of docs/import-mappings.md, imported and asked about as its readers would."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from commands.http.rehearsal import Rehearsal
from commands.http.wire import check_line
from pledge.importing import Report, run_import
from tests.end_to_end.running import CHECKED_OUT, Service, run

pytestmark = pytest.mark.slow(5)

FOUND_BY = ("PLEDGE_URL", "PLEDGE_HOST", "PLEDGE_PORT")
HEADER = "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID\n"
FIRST = """\
700001,A,6,1/1/2011 8:00,2.00,{customer}
700001,A,6,1/1/2011 8:00,2.00,{customer}
700001,B,1,1/1/2011 8:00,5.00,{customer}
"""
SECOND = (
    FIRST
    + """\
C700002,B,-1,1/2/2011 8:00,5.00,{customer}
C700002,A,-2,1/2/2011 8:00,2.00,{customer}
700003,C,1,1/3/2011 8:00,1.00,{customer}
"""
)


def blocks_of(title: str) -> dict[str, str]:
    page = (CHECKED_OUT / "docs" / "import-mappings.md").read_text(encoding="utf-8")
    section = page.partition(f"## {title}\n")[2]
    return dict(reversed(re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)))


def written(folder: Path, name: str, rows: str) -> Path:
    file = folder / name
    file.write_text(HEADER + rows, encoding="utf-8")
    return file


def imported(service: Service, source: Path, mapping: Path, *, dry_run: bool = False) -> Report:
    return run_import(
        source,
        mapping,
        url=service.url,
        dry_run=dry_run,
        check=check_line,
        rehearsal=Rehearsal(),
    )


def added(report: Report) -> int:
    assert (report.rejected, report.changed) == (0, 0)
    return sum(tally.accepted for tally in report.commands.values())


@pytest.fixture(scope="module")
def shop(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Service:
    blocks = blocks_of("Several rows, one thing")
    folder: Path = tmp_path_factory.mktemp("shop")
    for kind, name in (("csv", "sales.csv"), ("toml", "sales.toml")):
        (folder / name).write_text(blocks[kind], encoding="utf-8")
    for _ in range(2):
        done = service.run("import", folder / "sales.csv", "--mapping", folder / "sales.toml")
        assert done.returncode == 0, done.stdout + done.stderr
    service.wait_until_shown()
    return service


def test_rows_are_lines_of_one_order(shop: Service) -> None:
    [order] = shop.pages("/orders")
    assert (order["number"], order["billed"]["amount"]) == ("536365", "35.64")
    lines = shop.get(f"/orders/{order['id']}")["lines"]
    assert [line["product"] for line in lines] == ["85123A", "71053"]


def test_what_came_back_is_billed_no_more(shop: Service) -> None:
    [account] = shop.pages("/payments/receivables")
    assert account["billed"]["amount"] == account["receivable"]["amount"] == "32.25"
    [note] = shop.pages("/payments", kind="credit-note")
    assert (note["reference"], note["amount"]["amount"]) == ("C536379", "3.39")
    position = shop.get("/customers")["position"]
    net = shop.get("/analytics/customers", basis="net", min_position=position)
    assert net["amount"]["amount"] == "32.25"
    assert shop.get("/analytics/customers")["amount"]["amount"] == "35.64"


@pytest.fixture(params=["Several rows, one thing", "Several rows, one command"])
def mapping(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    written = tmp_path / "shop.toml"
    own = re.sub(r'name = "\w+"', f'name = "s{uuid4().hex[:8]}"', blocks_of(request.param)["toml"])
    written.write_text(own, encoding="utf-8")
    return written


def test_deliveries_that_overlap_add_only_what_is_new(
    service: Service, mapping: Path, tmp_path: Path
) -> None:
    customer = "1" + uuid4().hex[:6]
    first = written(tmp_path, "first.csv", FIRST.format(customer=customer))
    assert added(imported(service, first, mapping)) > 0
    assert added(imported(service, first.rename(tmp_path / "other.csv"), mapping)) == 0
    rows = SECOND.format(customer=customer).splitlines(keepends=True)
    shuffled = [rows[5], rows[3], rows[4], *rows[:3]]
    second = written(tmp_path, "second.csv", "".join(shuffled))
    would_be = added(imported(service, second, mapping, dry_run=True))
    assert added(imported(service, second, mapping)) == would_be > 0
    for dry_run in (False, True):
        assert added(imported(service, second, mapping, dry_run=dry_run)) == 0
    service.wait_until_shown()
    [found] = service.pages("/customers", name=f"Customer {customer}")
    orders = service.pages("/orders", customer_id=found["id"])
    assert {order["number"]: order["billed"]["amount"] for order in orders} == {
        "700001": "29.00",
        "700003": "1.00",
    }
    assert {order["owner"] for order in orders} == {None}
    notes = service.pages("/payments", customer_id=found["id"], kind="credit-note")
    assert sum(float(note["amount"]["amount"]) for note in notes) == 9.0


def test_two_imports_at_once_add_everything_once(
    service: Service, mapping: Path, tmp_path: Path
) -> None:
    customer = "2" + uuid4().hex[:6]
    files = [
        written(tmp_path, f"{n}.csv", SECOND.format(customer=customer)) for n in ("one", "two")
    ]
    with ThreadPoolExecutor(2) as both:
        done = list(both.map(lambda file: imported(service, file, mapping), files))
    twice = [sum(tally.made for tally in report.commands.values()) for report in done]
    assert sum(map(added, done)) == twice[0] == twice[1]
    service.wait_until_shown()
    [found] = service.pages("/customers", name=f"Customer {customer}")
    orders = service.pages("/orders", customer_id=found["id"])
    assert sorted(order["billed"]["amount"] for order in orders) == ["1.00", "29.00"]


def test_a_changed_record_is_told_and_stays(service: Service, tmp_path: Path) -> None:
    mapping = tmp_path / "m.toml"
    mapping.write_text(
        blocks_of("Several rows, one command")["toml"].replace(
            '"invoices"', f'"s{uuid4().hex[:8]}"'
        ),
        encoding="utf-8",
    )
    customer = "3" + uuid4().hex[:6]
    rows = FIRST.format(customer=customer)
    file = written(tmp_path, "f.csv", rows)
    assert added(imported(service, file, mapping)) == 2
    file = written(tmp_path, "f.csv", rows.replace("B,1,", "B,2,"))
    assert imported(service, file, mapping, dry_run=True).changed == 3
    done = service.run("import", file, "--mapping", mapping)
    assert (done.returncode, "changed: 3 lines" in done.stdout) == (2, True)
    assert not (tmp_path / "f.csv.rejected.csv").exists()
    assert "is there already with other content" in (tmp_path / "f.csv.changed.csv").read_text()


def test_an_import_finds_the_product_that_runs_on_its_home(
    service: Service, tmp_path: Path
) -> None:
    env = {name: value for name, value in service.env.items() if name not in FOUND_BY}
    file = written(tmp_path, "f.csv", FIRST.format(customer="4" + uuid4().hex[:6]))
    mapping = tmp_path / "m.toml"
    mapping.write_text(blocks_of("Several rows, one thing")["toml"], encoding="utf-8")
    done = run(env, "import", file, "--mapping", mapping)
    assert done.returncode == 0, done.stdout + done.stderr
