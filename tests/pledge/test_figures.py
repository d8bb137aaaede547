"""Figures on the command line."""

from __future__ import annotations

import io
from pathlib import Path
from uuid import UUID

import orjson
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from analytics.catalog import BY_NAME
from pledge.figures import NoSuchFigure, ask, plot, show
from pledge.wiring import Parts
from tests.projections.world import MASTER, World, day, eur

ANN, BEN = (UUID(int=n) for n in (101, 102))


@pytest.fixture
def shop(company: World) -> World:
    for number, customer in enumerate((ANN, BEN)):
        company.do("customers/register", customer, day("2025-12-01"), name="Ann")
        for month in ("01", "03"):
            order = UUID(int=200 + 10 * number + int(month))
            line = {"product": "Loom", "quantity": "1", "unit_price": eur("9")}
            at = day(f"2026-{month}-10")
            company.do("orders/place", order, at, customer_id=customer, lines=[line])
    company.do("opportunities/open", UUID(int=402), day("2026-01-01"), title="Yarn")
    company.do("leads/capture", UUID(int=501), day("2026-01-01"), name="Lea")
    company.do("tickets/open", UUID(int=601), day("2026-01-01"), subject="Torn")
    company.do(
        "opportunities/open",
        UUID(int=401),
        day("2026-01-01"),
        title="Looms",
        owner="[bo]",
        amount=eur("7"),
    )
    company.do("opportunities/win", UUID(int=401), day("2026-02-01"))
    company.write_facts()
    return company


NEEDED = {
    "cohorts/customers": {"cohort": "2026-01"},
    "deals/conversion/deals": {"stage": "discovery"},
    "deals/stages/deals": {"stage": "discovery"},
    "receipts/moves": {"month": "2026-01"},
    "retention/customers": {"month": "2026-02"},
    "rfm/movement": {"since": "2026-02-01"},
    "rfm/movement/customers": {"since": "2026-02-01"},
}
"""What a figure cannot do without."""


def answer(company: World, figure: str, form: str = "json", **asked: str) -> bytes:
    return ask(Parts(company.url, MASTER), company.store, figure, asked, form)


def printed(got: bytes, figure: str) -> str:
    console = Console(file=io.StringIO(), width=200)
    show(got, figure, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("figure", sorted(BY_NAME))
def test_every_figure_can_be_shown(shop: World, figure: str) -> None:
    text = printed(answer(shop, figure, **NEEDED.get(figure, {})), figure)
    assert str(shop.head()) in text
    if figure == "deals/closings":
        assert "7.00 EUR" in text
        assert "[bo]" in text


def test_charts_are_drawn(shop: World, tmp_path: Path) -> None:
    for figure in [name for name, one in BY_NAME.items() if one.chart is not None]:
        asked = NEEDED.get(figure, {})
        to = tmp_path / "chart.svg"
        plot(answer(shop, figure, **asked), figure, to)
        assert to.read_text().startswith("<svg")
    plot(answer(shop, "cohorts"), "cohorts", tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_all_pages_of_a_list_are_written_as_one(shop: World) -> None:
    def whole(form: str) -> bytes:
        parts, asked = Parts(shop.url, MASTER), {"limit": "1"} if form == "json" else {}
        return ask(parts, shop.store, "purchases", asked, form, every_page=True)

    told = orjson.loads(whole("json"))
    assert (len(told["items"]), told["next"]) == (4, None)
    lines = whole("csv").decode("utf-8-sig").splitlines()
    assert len(lines) == 5
    assert pq.read_table(io.BytesIO(whole("parquet"))).num_rows == 4


def test_what_cannot_be_shown_is_said(shop: World, tmp_path: Path) -> None:
    with pytest.raises(NoSuchFigure, match="There are: cohorts"):
        answer(shop, "cohort")
    with pytest.raises(NoSuchFigure, match="froom: is no parameter"):
        answer(shop, "cohorts", form="json", froom="x")
    with pytest.raises(NoSuchFigure, match=r"\.svg or \.png"):
        plot(answer(shop, "cohorts"), "cohorts", tmp_path / "chart.gif")
    with pytest.raises(NoSuchFigure, match="nothing to draw"):
        plot(answer(shop, "rfm", currency="USD"), "rfm", tmp_path / "chart.svg")
    with pytest.raises(NoSuchFigure, match="has no chart"):
        plot(answer(shop, "purchases"), "purchases", tmp_path / "chart.svg")
    assert orjson.loads(answer(shop, "rfm"))["items"]
    assert answer(shop, "rfm", form="csv").startswith(b"\xef\xbb\xbfsegment")


def test_the_command_line_knows_every_figure(company: World) -> None:
    paths = company.app.openapi()["paths"]
    figures = (path.removeprefix("/analytics/") for path in paths if "/analytics/" in path)
    assert sorted(figures) == sorted(BY_NAME)
