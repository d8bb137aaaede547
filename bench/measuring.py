"""How two things are measured: in turn, in short rounds, each in a process of its own; medians."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

from databases import analyze
from rich.console import Console

ROUNDS = 5
SPAWN = multiprocessing.get_context("spawn")
STOP_SECONDS = 10

console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)

Measure = Callable[..., tuple[int, float]]
"""Works for a while; how much was done, and in how many seconds."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One side of a comparison: works about so many seconds; its database, if it has one."""

    measure: Callable[[float], tuple[int, float]]
    url: str | None = None


@dataclass(slots=True)
class Result:
    """Rates of both sides, one a round."""

    name: str
    unit: str
    ours: list[float] = field(default_factory=list)
    yardstick: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def ratio(self) -> float:
        return median(self.ours) / median(self.yardstick)

    def as_json(self) -> dict[str, str | float]:
        return {
            "name": self.name,
            "ours": round(median(self.ours), 1),
            "yardstick": round(median(self.yardstick), 1),
            "ratio": round(self.ratio, 3),
            "unit": self.unit,
        }


def compare(name: str, unit: str, ours: Contender, yardstick: Contender, seconds: float) -> Result:
    """Warm both up, let the planner see their tables, then measure A/B/A/B."""
    console.print(f"[bold]{name}[/] [dim]warming up")
    for side in (ours, yardstick):
        side.measure(seconds)
        if side.url is not None:
            analyze(side.url)
    result = Result(name, unit)
    for turn in range(1, ROUNDS + 1):
        result.ours.append(_rate(ours, seconds))
        result.yardstick.append(_rate(yardstick, seconds))
        console.print(
            f"  [dim]{turn}/{ROUNDS}[/]  ours {result.ours[-1]:>9,.0f}   "
            f"yardstick {result.yardstick[-1]:>9,.0f}  [dim]{unit}"
        )
    return result


def _rate(side: Contender, seconds: float) -> float:
    done, took = side.measure(seconds)
    assert done > 0
    return done / took


@contextmanager
def process_of(
    side: Callable[..., AbstractContextManager[Measure]], *arguments: Any
) -> Iterator[Measure]:
    """Runs a side in a process of its own, so that neither shares an interpreter with the other."""
    here, there = SPAWN.Pipe()
    child = SPAWN.Process(target=_work, args=(there, side, arguments))
    child.start()
    there.close()

    def measure(*asked: Any) -> tuple[int, float]:
        here.send(asked)
        found: tuple[int, float] = _received(here)
        return found

    try:
        _received(here)
        yield measure
    finally:
        here.close()
        child.join(STOP_SECONDS)
        if child.is_alive():
            child.kill()
            child.join()


def _received(pipe: Connection) -> Any:
    answer, failure = pipe.recv()
    if failure is not None:
        raise RuntimeError(failure)
    return answer


def _work(
    pipe: Connection,
    side: Callable[..., AbstractContextManager[Measure]],
    arguments: tuple[Any, ...],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with side(*arguments) as measure:
            pipe.send((None, None))
            while True:
                asked = pipe.recv()
                pipe.send((measure(*asked), None))
    except (EOFError, BrokenPipeError):
        pass
    except Exception:  # told whole to the parent, which raises it
        pipe.send((None, traceback.format_exc()))
