"""Figures beside pandas over ``pledge export events``, written apart from the product's SQL."""

from __future__ import annotations

import base64
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pledge.cli import export
from tests.analytics.test_purchases import FIRST_DAY, HISTORIES, Action, act, registered, rounded
from tests.projections.conftest import NewWorld
from tests.projections.world import MASTER, World

TODAY = "2026-06-30"
"""Every question is asked as of this day or an earlier one, so that none depends on the clock."""
LOST_AFTER = 25
GRID = """
5 new new potential-loyalists potential-loyalists champions champions
4 promising promising potential-loyalists potential-loyalists loyal loyal
3 about-to-sleep about-to-sleep about-to-sleep need-attention loyal loyal
2 hibernating hibernating hibernating at-risk at-risk cannot-lose
1 hibernating hibernating hibernating at-risk at-risk cannot-lose
"""


def exported(company: World, folder: Path) -> pd.DataFrame:
    """One row an event, its payload's fields as columns, amounts in cents."""
    path = folder / f"{company.head()}.ndjson"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLEDGE_DATABASE_URL", company.url)
        patch.setenv("PLEDGE_MASTER_KEY", base64.b64encode(MASTER).decode())
        export("events", to=path)
    frame = pd.json_normalize(pd.read_json(path, lines=True, dtype=False).to_dict("records"))
    frame.columns = [name.removeprefix("data.") for name in frame.columns]
    for name in ("amount", "total", "line.total"):
        frame[name] = frame[f"{name}.amount"].map(cents) if f"{name}.amount" in frame else 0
    for name in ("order_id", "customer_id", "owner", "instalments", "tag", "amount.currency"):
        if name not in frame:
            frame[name] = None
    frame["at"] = pd.to_datetime(frame["occurred_at"], utc=True)
    frame["day"] = frame["at"].dt.date
    notes = frame[frame["type"] == "payment.credit-note-issued"]["stream_id"]
    frame["is_note"] = frame["stream_id"].isin(notes)
    return frame.sort_values("position")


def cents(text: Any) -> int:
    return 0 if pd.isna(text) else round(float(text) * 100)


def known(frame: pd.DataFrame, as_of: str, known_at: int) -> pd.DataFrame:
    until = pd.Timestamp(as_of, tz="UTC") + pd.Timedelta(days=1)
    return frame[(frame["at"] < until) & (frame["position"] <= known_at)]


def of_type(frame: pd.DataFrame, *types: str) -> pd.DataFrame:
    return frame[frame["type"].isin(types)]


def per_order(
    frame: pd.DataFrame, *types: str, by: str = "order_id", notes: bool | None = None
) -> pd.Series:
    found = of_type(frame, *types)
    if notes is not None:
        found = found[found["is_note"] == notes]
    return found.assign(cents=found["amount"] + found["line.total"]).groupby(by)["cents"].sum()


def orders(frame: pd.DataFrame) -> pd.DataFrame:
    """One row an order, by id, with all that became of its amount."""
    placed = of_type(frame, "order.placed").set_index("stream_id")
    sums = {
        "added": per_order(frame, "order.line-added", by="stream_id"),
        "returned": per_order(frame, "order.goods-returned", by="stream_id"),
        "refunded": per_order(frame, "payment.refunded", notes=False),
        "allocated": per_order(frame, "payment.allocated", notes=False),
        "released": per_order(frame, "payment.allocation-released", notes=False),
        "noted": per_order(frame, "payment.allocated", notes=True),
        "unnoted": per_order(frame, "payment.allocation-released", notes=True),
    }
    found = placed[["position", "customer_id", "owner", "at", "day", "total"]].copy()
    for name, amounts in sums.items():
        found[name] = amounts.reindex(found.index, fill_value=0)
    found["ordered"] = found["total"] + found["added"]
    found["cancelled"] = found.index.isin(of_type(frame, "order.cancelled")["stream_id"])
    return found


def purchases(frame: pd.DataFrame, basis: str) -> pd.DataFrame:
    found = orders(frame)
    found = found[~found["cancelled"]].sort_values(["at", "position"])
    if basis == "ordered":
        return found.assign(amount=found["ordered"])
    if basis == "received":
        return found.assign(amount=found["allocated"] - found["released"])
    found["amount"] = found["ordered"] - found[["returned", "refunded"]].max(axis=1)
    found["amount"] -= found["noted"] - found["unnoted"]
    used = per_order(frame, "payment.allocated", by="stream_id").sub(
        per_order(frame, "payment.allocation-released", by="stream_id"), fill_value=0
    )
    notes = of_type(frame, "payment.credit-note-issued")
    for note in notes[notes["amount.currency"] == "EUR"].itertuples():
        theirs = found[found["customer_id"] == note.customer_id]
        before = theirs[theirs["at"] <= note.at]
        after = theirs[theirs["at"] == theirs["at"].min()]
        if len(theirs):
            place = before.index[-1] if len(before) else after.index[-1]
            found.loc[place, "amount"] -= note.amount - used.get(note.stream_id, 0)
    return found


def inside(frame: pd.DataFrame, asked: dict[str, Any]) -> pd.DataFrame:
    days = frame["day"]
    return frame[(days >= asked.get("from", date.min)) & (days < asked.get("to", date.max))]


def months(first: date, last: date) -> list[tuple[date, date]]:
    """The parts of whole months between two days, the last one not included."""
    starts = [d.date() for d in pd.date_range(first.replace(day=1), last, freq="MS")]
    found = []
    for start in starts:
        end = (pd.Timestamp(start) + pd.DateOffset(months=1)).date()
        if start < last:
            found.append((max(start, first), min(end, last)))
    return found


def retention(bought: pd.DataFrame, asked: dict[str, Any], today: date) -> list[tuple[Any, ...]]:
    if bought.empty and "from" not in asked:
        return []
    tomorrow = today + timedelta(days=1)
    first = asked.get("from") or bought["day"].min()
    last = min(asked.get("to", tomorrow), tomorrow)
    firsts = bought.groupby("customer_id")["day"].min()

    def active(at: date) -> set[str]:
        ago = bought["day"].map(lambda day: (at - day).days)
        return set(bought[(ago > 0) & (ago <= LOST_AFTER)]["customer_id"])

    rows = []
    for begins, ends in months(first, last) if first < last else ():
        start, end = active(begins), active(ends)
        new = sum(firsts[c] >= begins for c in end - start)
        lost = len(start - end)
        rest = rounded(len(start) - lost, len(start))
        rows.append((str(begins), len(start), lost, new, len(end - start) - new, rest))
    return rows


def tiers(frame: pd.DataFrame, bought: pd.DataFrame) -> dict[str, tuple[Any, ...]]:
    each = bought.groupby("customer_id")["amount"].agg(["sum", "count"])
    total = each["sum"].clip(lower=0).sum()
    told = of_type(
        frame,
        "customer.registered",
        "customer.claimed",
        "customer.handed-over",
        "customer.released",
    )
    owners = told.groupby("stream_id").tail(1).set_index("stream_id")["owner"]
    free = owners.reindex(each.index).isna()

    def tier(amount: int) -> str:
        before = each["sum"][each["sum"] > amount].sum()
        for name, share in (("premium", 80), ("ordinary", 95)):
            if amount > 0 and before * 100 < total * share:
                return name
        return "potential"

    each["tier"] = [tier(amount) for amount in each["sum"]]
    return {
        name: (
            len(group),
            int(group["count"].sum()),
            int(group["sum"].sum()),
            int(free[group.index].sum()),
        )
        for name, group in each.groupby("tier")
    }


def receipts(frame: pd.DataFrame, *, tag: str | None = None) -> list[tuple[Any, ...]]:
    """Every month from the first to the last: due, received, refunded, behind."""
    every = orders(frame)
    notes = of_type(frame, "payment.credit-note-issued")
    money_in = of_type(frame, "payment.received", "payment.refunded")
    if tag is not None:
        told = of_type(frame, "customer.tagged", "customer.untagged")
        last = told[told["tag"] == tag].groupby("stream_id").tail(1)
        theirs = set(last[last["type"] == "customer.tagged"]["stream_id"])
        every = every[every["customer_id"].isin(theirs)]
        notes = notes[notes["customer_id"].isin(theirs)]
        given = of_type(frame, "payment.allocated", "payment.allocation-released")
        refunds = of_type(frame, "payment.refunded")
        money_in = pd.concat([given[~given["is_note"]], refunds])
        money_in = money_in[money_in["order_id"].isin(every.index)]
    moves: list[tuple[date, int, int, int]] = []
    plans = of_type(frame, "order.payments-planned").groupby("stream_id").tail(1)
    planned = plans.set_index("stream_id")["instalments"].to_dict()
    for order in every.itertuples():
        billed = 0 if order.cancelled else order.ordered - order.returned
        plan = [
            (date.fromisoformat(part["due"]), cents(part["amount"]["amount"]))
            for part in planned.get(order.Index, [])
        ]
        rest = billed - sum(amount for _, amount in plan)
        last = max((due for due, _ in plan), default=order.day)
        plan.sort(key=lambda part: part[0])
        left = billed
        for due, amount in [*plan, *([(last, rest)] if rest > 0 else [])]:
            part = max(min(amount, left), 0)
            moves.append((due, part, 0, 0))
            left -= part
        if billed < 0:
            moves.append((order.day, billed, 0, 0))
    counted = notes[notes["amount.currency"] == "EUR"]
    moves += [(note.day, -note.amount, 0, 0) for note in counted.itertuples()]
    for move in money_in.itertuples():
        match move.type:
            case "payment.received" | "payment.allocated":
                moves.append((move.day, 0, move.amount, 0))
            case "payment.allocation-released":
                moves.append((move.day, 0, -move.amount, 0))
            case "payment.refunded":
                moves.append((move.day, 0, 0, move.amount))
    if not moves:
        return []
    table = pd.DataFrame(moves, columns=["day", "due", "received", "refunded"])
    table["month"] = pd.PeriodIndex(pd.to_datetime(table["day"]), freq="M")
    sums = table.groupby("month")[["due", "received", "refunded"]].sum()
    sums = sums.reindex(pd.period_range(sums.index.min(), sums.index.max()), fill_value=0)
    sums["behind"] = (sums["due"] - sums["received"] + sums["refunded"]).cumsum()
    return [
        (str(month), *map(int, row)) for month, row in zip(sums.index, sums.values, strict=True)
    ]


def scored(
    bought: pd.DataFrame, asked: dict[str, Any], today: date, thresholds: dict[str, list[int]]
) -> pd.DataFrame:
    """One row a customer: r, f, m and the scores of each."""
    window = inside(bought, asked).groupby("customer_id")["amount"].agg(["count", "sum"])
    last = bought.groupby("customer_id")["day"].max()
    each = pd.DataFrame({"f": window["count"], "m": window["sum"]})
    each["r"] = [(today - day).days for day in last.reindex(each.index)]
    for name, sign in (("r", -1), ("f", 1), ("m", 1)):
        good = each[name] * sign
        if name in thresholds:
            edges = thresholds[name]
            each[f"{name}_score"] = [
                5 - sum(v > e for e in edges) if name == "r" else 1 + sum(v >= e for e in edges)
                for v in each[name]
            ]
        else:
            worse = [(good < value).sum() for value in good]
            each[f"{name}_score"] = [min(5, 1 + 5 * int(n) // len(each)) for n in worse]
    return each


def named(each: pd.DataFrame) -> pd.Series:
    grid = {int(line[0]): line.split()[1:] for line in GRID.strip().splitlines()}
    return pd.Series(
        [grid[r][f] for r, f in zip(each["r_score"], each["f_score"], strict=True)],
        index=each.index,
        dtype=object,
    )


def valued(each: pd.DataFrame, r: str, f: str, m: str) -> pd.Series:
    """The eight segments, of columns in which more is better."""
    names = {True: "important", False: "general"}
    kinds = {
        (True, True): "value",
        (True, False): "develop",
        (False, True): "keep",
        (False, False): "win-back",
    }
    better = each[[r, f, m]] * len(each) > each[[r, f, m]].sum()
    return pd.Series(
        [f"{names[row[2]]}-{kinds[row[0], row[1]]}" for row in better.to_numpy()],
        index=each.index,
        dtype=object,
    )


def behind(company: World, params: dict[str, str], since: str) -> None:
    """Every number has as many customers, or as much money, behind it as it says."""
    found = company.get("/analytics/customers", **params)
    for kind in ("new", "returning", "purchasing", "repeat", "recruited", "old", "repurchasing"):
        assert len(company.every("/analytics/customers/list", **params, kind=kind)) == found[kind]
    each = company.every("/analytics/customers/list", **params)
    assert len(each) == found["customers_ever"]
    assert sum(amount(one["amount"]) for one in each) == amount(found["amount"])
    cycles = company.get("/analytics/repurchase", **params)
    each = company.every("/analytics/repurchase/customers", **params)
    assert (len(each), sum(one["gaps"] for one in each)) == (cycles["customers"], cycles["gaps"])
    for month in company.get("/analytics/cohorts", **params)["items"]:
        of = {"cohort": month["cohort"][:7], "month": month["month"]}
        each = company.every("/analytics/cohorts/customers", **params, **of)
        assert len(each) == month["customers"]
        assert sum(one["purchases"] for one in each) == month["purchases"]
        assert sum(amount(one["amount"]) for one in each) == amount(month["amount"])
        del of["month"]
        assert len(company.every("/analytics/cohorts/customers", **params, **of)) == month["size"]
    lost = {"lost_after_days": LOST_AFTER}
    for month in company.get("/analytics/retention", **params, **lost)["items"]:
        of = {**lost, "month": month["from"][:7]}
        each = company.every("/analytics/retention/customers", **params, **of)
        counted = Counter(one["change"] for one in each)
        assert [counted[name] for name in ("lost", "new", "regained")] == [
            month[name] for name in ("lost", "new", "regained")
        ]
        assert counted["kept"] + counted["lost"] == month["customers"]
        gone = company.every("/analytics/retention/customers", **params, **of, change="lost")
        assert len(gone) == month["lost"]
    for move in company.get("/analytics/rfm/movement", **params, since=since)["items"]:
        ends = {name: move[name] or "none" for name in ("before", "after")}
        path = "/analytics/rfm/movement/customers"
        assert len(company.every(path, **params, **ends, since=since)) == move["customers"]
    clocks = {name: params[name] for name in ("as_of", "known_at", "currency")}
    for month in company.get("/analytics/receipts", **clocks)["items"]:
        each = company.every("/analytics/receipts/moves", **clocks, month=month["month"])
        for name in ("due", "received", "refunded"):
            assert sum(amount(one[name]) for one in each) == amount(month[name])


def amount(shown: dict[str, str] | None) -> int:
    return cents(shown["amount"]) if shown else 0


QUESTIONS = st.fixed_dictionaries(
    {
        "basis": st.sampled_from(("ordered", "received", "net")),
        "as_of": st.just(TODAY)
        | st.integers(20, 90).map(lambda n: str(FIRST_DAY + timedelta(days=n))),
    },
    optional={
        "from": st.integers(-5, 40).map(lambda n: FIRST_DAY + timedelta(days=n)),
        "to": st.integers(41, 80).map(lambda n: FIRST_DAY + timedelta(days=n)),
        "known_at": st.integers(3, 25),
    },
)


@pytest.mark.slow(60)
@settings(
    max_examples=8,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(actions=HISTORIES, questions=st.lists(QUESTIONS, min_size=2, max_size=4))
def test_any_history_gives_what_pandas_makes_of_the_export(
    new_world: NewWorld,
    tmp_path: Path,
    actions: list[Action],
    questions: list[dict[str, Any]],
) -> None:
    with new_world() as company:
        registered(company)
        company.do("customers/claim", company.recorded()[0].stream_id, "2025-12-02T00:00Z", by="r1")
        for action in actions:
            act(company, action)
        company.write_facts(batch=7)
        frame = exported(company, tmp_path)
        for number, question in enumerate(questions):
            position = min(question.pop("known_at", 2**60), company.head())
            until = known(frame, question["as_of"], position)
            params = {name: str(value) for name, value in question.items()}
            params |= {"known_at": str(position), "currency": "EUR"}
            compare(company, until, question, params)
            if number == 0:
                behind(company, params, str(since_of(question)))


def since_of(asked: dict[str, Any]) -> date:
    """The day from which customers moved between segments."""
    return min(date.fromisoformat(asked["as_of"]), FIRST_DAY + timedelta(days=30))


def compare(
    company: World, frame: pd.DataFrame, asked: dict[str, Any], params: dict[str, str]
) -> None:
    today, position = date.fromisoformat(asked["as_of"]), int(params["known_at"])
    bought = purchases(frame, asked["basis"])
    found = company.get("/analytics/retention", **params, lost_after_days=LOST_AFTER)["items"]
    names = ("from", "customers", "lost", "new", "regained", "retention")
    assert [tuple(row[name] for name in names) for row in found] == retention(bought, asked, today)
    found = company.get("/analytics/tiers", **params)["items"]
    assert {
        row["tier"]: (
            row["customers"],
            row["purchases"],
            amount(row["amount"]),
            row["without_owner"],
        )
        for row in found
    } == tiers(frame, inside(bought, asked))
    clocks = {name: params[name] for name in ("as_of", "known_at", "currency")}
    names = ("due", "received", "refunded", "behind")
    for tag in (None, "vip", "late"):
        chosen = {} if tag is None else {"tag": tag}
        found = company.get("/analytics/receipts", **clocks, **chosen)["items"]
        told = [(row["month"], *(amount(row[name]) for name in names)) for row in found]
        assert told == receipts(frame, tag=tag)
    edges = {"r": [5, 20, 40, 60], "f": [1, 2, 3, 4], "m": [300, 800, 1500, 4000]}
    given_edges = {
        "r_thresholds": "5,20,40,60",
        "f_thresholds": "1,2,3,4",
        "m_thresholds": "3,8,15,40",
    }
    for thresholds, more in (({}, {}), (edges, given_edges)):
        each = scored(bought, asked, today, thresholds)
        found = company.get("/analytics/rfm/customers", **params, **more, scheme="named")["items"]
        by_scores = company.get(
            "/analytics/rfm/customers", **params, **more, scheme="value-of-scores"
        )["items"]
        assert {row["customer_id"]: row["segment"] for row in by_scores} == valued(
            each, "r_score", "f_score", "m_score"
        ).to_dict()
        scores = ("r_score", "f_score", "m_score")
        expected = each[[*scores]].assign(segment=named(each))
        assert {
            row["customer_id"]: (*(row[name] for name in scores), row["segment"]) for row in found
        } == {key: tuple(row) for key, row in zip(expected.index, expected.values, strict=True)}
    since = since_of(asked)
    before = scored(purchases(known(frame, str(since), position), asked["basis"]), asked, since, {})
    then, now = named(before).to_dict(), named(scored(bought, asked, today, {})).to_dict()
    found = company.get("/analytics/rfm/movement", **params, since=str(since), scheme="named")
    assert {(row["before"], row["after"]): row["customers"] for row in found["items"]} == Counter(
        (then.get(who), now.get(who)) for who in {*then, *now}
    )
