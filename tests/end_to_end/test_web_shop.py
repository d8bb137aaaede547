"""The web shop of docs/import-mappings.md, imported and asked about as its readers would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.end_to_end.running import CHECKED_OUT, Service

pytestmark = pytest.mark.slow(5)


@pytest.fixture(scope="module")
def shop(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Service:
    page = (CHECKED_OUT / "docs" / "import-mappings.md").read_text(encoding="utf-8")
    section = page.partition("## Several rows, one thing")[2]
    blocks = dict(reversed(re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)))
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
