"""Figures on the command line: the API's own answers as tables, bars and charts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import orjson
import vl_convert
from fastapi import FastAPI
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analytics.catalog import BY_NAME
from analytics.facts.store import Store
from analytics.figure import Chart
from pledge.wiring import Parts
from read_api.answers import JSON
from read_api.app import install
from read_api.files import FORMS
from read_api.reading import Reader

BAR = 40
"""Characters of the longest bar."""
MEDIA = {"json": JSON, **{form.suffix: media for media, form in FORMS.items()}}
"""By a file's suffix."""
SHADES = " ░▒▓█"
LOOK = {
    "background": "white",
    "font": "sans-serif",
    "axis": {"grid": False},
    "range": {"category": ["#1f6feb", "#d97706", "#6b7280", "#059669"]},
}


class NoSuchFigure(ValueError):
    """The question cannot be answered; the message says why and what to ask instead."""


def ask(
    found: Parts,
    store: Store,
    figure: str,
    asked: Mapping[str, str],
    form: str = "json",
    *,
    every_page: bool = False,
) -> bytes:
    """What ``GET /analytics/{figure}`` answers, in the form of a file's suffix.

    Args:
        every_page: whether to answer all pages of a list as one; other forms than JSON do.

    Raises:
        NoSuchFigure: when there is no such figure, or a parameter is wrong.
    """
    if figure not in BY_NAME:
        there = ", ".join(sorted(BY_NAME))
        raise NoSuchFigure(f"No figure is called {figure}. There are: {there}.")
    accept = MEDIA[form]
    reader = Reader(found.conninfo, found.keyring(), size=1, facts=store)
    app = FastAPI()
    install(app, reader)

    async def answers() -> list[httpx2.Response]:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://pledge") as client:
            path, params = f"/analytics/{figure}", dict(asked)
            if every_page and form != "json":
                params.pop("limit", None)  # of pages; other forms are whole without it
            got = [await client.get(path, params=params, headers={"accept": accept})]
            while every_page and (link := _next(got[-1])) is not None:
                got.append(await client.get(link, headers={"accept": accept}))
            return got

    reader.open()
    try:
        pages = asyncio.run(answers())
    finally:
        reader.close()
    got = pages[-1]
    if got.status_code != httpx2.codes.OK:
        told = got.json()
        errors = [f"{e['field']}: {e['message']}" for e in told.get("errors", ())]
        raise NoSuchFigure("; ".join(errors) or told.get("detail") or told["title"])
    return got.content if len(pages) == 1 else _one_json([page.content for page in pages])


def _next(got: httpx2.Response) -> str | None:
    if got.status_code != httpx2.codes.OK or got.headers["content-type"] != JSON:
        return None
    link: str | None = got.json().get("next")
    return link


def _one_json(pages: list[bytes]) -> bytes:
    told = [orjson.loads(page) for page in pages]
    items = [item for page in told for item in page["items"]]
    return orjson.dumps({**told[0], "items": items, "next": None})


def show(answer: bytes, figure: str, console: Console) -> None:
    """Print an answer: what it is about, its rows, and bars where it has a chart."""
    told = orjson.loads(answer)
    chart = BY_NAME[figure].chart
    rows = told.get("items")
    head = {name: value for name, value in told.items() if not isinstance(value, list)}
    console.print(_facts(head))
    if rows == []:
        console.print("[dim]no row answers this question[/]")
    elif rows is not None:
        console.print(_facts(rows[0]) if len(rows) == 1 else _table(rows))
        if told.get("next"):
            console.print(
                "[dim]there is more: ask with cursor=… from --json, or a greater limit=[/]"
            )
    if chart is not None and _rows(told, chart):
        console.print(_map(told, chart) if chart.by else _bars(told, chart))


def plot(answer: bytes, figure: str, to: Path) -> None:
    """Write an answer's chart as SVG or PNG, by the file's ending.

    Raises:
        NoSuchFigure: when the figure has no chart, or the ending is another one.
    """
    chart = BY_NAME[figure].chart
    if chart is None:
        drawn = ", ".join(sorted(name for name, one in BY_NAME.items() if one.chart is not None))
        raise NoSuchFigure(f"{figure} has no chart. These have: {drawn}.")
    told = orjson.loads(answer)
    if not _rows(told, chart):
        raise NoSuchFigure(f"{figure} has nothing to draw: no row answers this question.")
    spec = _spec(told, figure, chart)
    match to.suffix.lower():
        case ".svg":
            to.write_text(vl_convert.vegalite_to_svg(spec))
        case ".png":
            to.write_bytes(vl_convert.vegalite_to_png(spec, scale=2))
        case _:
            raise NoSuchFigure(f"{to.name} should end with .svg or .png.")


def _rows(told: Any, chart: Chart) -> list[dict[str, Any]]:
    for name in chart.rows:
        told = told[name]
    return [_flat(row) for row in told]


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _plain(value: Any) -> Any:
    """An amount with its currency, a list as its length, all else as it is."""
    if isinstance(value, dict) and value.keys() == {"amount", "currency"}:
        return f"{value['amount']} {value['currency']}"
    return f"{len(value)} rows" if isinstance(value, list) else value


def _facts(head: Mapping[str, Any]) -> Table:
    table = Table(show_header=False, box=None)
    plain = {name: _plain(value) for name, value in head.items()}
    for name, value in _flat(plain).items():
        if value is not None and name != "next":
            table.add_row(f"[dim]{name}[/]", Text(str(_plain(value))))
    return table


def _table(rows: list[dict[str, Any]]) -> Table:
    flat = [{name: _plain(value) for name, value in row.items()} for row in rows]
    shown = list(dict.fromkeys(name for row in flat for name in row))
    table = Table()
    for name in shown:
        is_number = all(isinstance(row.get(name), int | float | None) for row in flat)
        table.add_column(name, justify="right" if is_number else "left")
    for row in flat:
        table.add_row(*("" if row.get(name) is None else Text(str(row[name])) for name in shown))
    return table


def _bars(told: Any, chart: Chart) -> Table:
    rows = _rows(told, chart)
    most = max((_number(row.get(y)) for row in rows for y in chart.y), default=0) or 1
    table = Table(box=None, show_header=False)
    for row in rows:
        for y in chart.y:
            value = row.get(y)
            bar = "█" * round(BAR * max(_number(value), 0) / most)
            told_ = "" if value is None else str(value)
            table.add_row(Text(_name(row.get(chart.x))), f"[dim]{y}[/]", bar, told_)
    return table


def _map(told: Any, chart: Chart) -> Table:
    rows = _rows(told, chart)
    assert chart.by is not None
    across = _across(rows, chart)
    most = max((_number(row[chart.y[0]]) for row in rows), default=0) or 1
    table = Table(f"{chart.by} / {chart.x}", *(str(at if at is not None else "—") for at in across))
    cells = {(row[chart.by], row[chart.x]): row[chart.y[0]] for row in rows}
    for down in dict.fromkeys(row[chart.by] for row in rows):
        found = [cells.get((down, at)) for at in across]
        table.add_row(str(down if down is not None else "—"), *(_cell(one, most) for one in found))
    return table


def _across(rows: list[dict[str, Any]], chart: Chart) -> list[Any]:
    return sorted({row[chart.x] for row in rows}, key=lambda at: (at is not None, at))


def _cell(value: Any, most: float) -> str:
    if value is None:
        return ""
    shade = SHADES[round((len(SHADES) - 1) * _number(value) / most)]
    return f"{shade} {value if isinstance(value, int) else f'{value:.2f}'}"


def _number(value: Any) -> float:
    return 0.0 if value is None else float(value)


def _spec(told: Any, figure: str, chart: Chart) -> dict[str, Any]:
    rows = _rows(told, chart)
    currency = told["parameters"].get("currency")
    money = f", {currency}" if currency else ""
    title = f"{figure}{money}, at position {told['position']}"
    common: dict[str, Any] = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": title,
        "config": LOOK,
    }
    if chart.by is not None:
        values = [
            {"x": _name(row[chart.x]), "y": _name(row[chart.by]), "value": _number(row[chart.y[0]])}
            for row in rows
        ]
        return {
            **common,
            "data": {"values": values},
            "mark": "rect",
            "encoding": {
                "x": {
                    "field": "x",
                    "type": "nominal",
                    "sort": [_name(at) for at in _across(rows, chart)],
                    "title": chart.x,
                },
                "y": {"field": "y", "type": "nominal", "sort": None, "title": chart.by},
                "color": {"field": "value", "type": "quantitative", "title": chart.y[0]},
            },
        }
    values = [
        {"x": _name(row[chart.x]), "what": y, "value": _number(row.get(y))}
        for row in rows
        for y in chart.y
    ]
    return {
        **common,
        "width": {"step": 14},
        "data": {"values": values},
        "mark": "bar",
        "encoding": {
            "x": {"field": "x", "type": "nominal", "sort": None, "title": chart.x},
            "xOffset": {"field": "what", "sort": None},
            "y": {"field": "value", "type": "quantitative", "title": None},
            "color": {"field": "what", "type": "nominal", "sort": None, "title": None},
        },
    }


def _name(value: Any) -> str:
    return "—" if value is None else str(value)
