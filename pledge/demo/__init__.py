"""A believable company of two years, made through the very commands that users send."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime

from commands.handling.outcome import Appended, Outcome, Refused
from commands.handling.writer import Writer
from commands.http.wire import from_line
from events.envelope import Actor
from events.ledger.ledger import Connection
from pledge.demo import company, words
from pledge.demo.telling import Line, Telling

SIZE = 120
"""Customers that the company has unless told otherwise."""
SEED = 1
CHUNK = 500
SAMPLE = "sample"
OURS = Actor(SAMPLE, "import")
KEYS = """
SELECT key FROM ledger.outcomes
 WHERE actor = %s AND key >= %s AND key < %s AND actor_kind = 'import'
"""

NAMED = re.compile(rf"{SAMPLE}:(?P<size>\d+):(?P<seed>-?\d+):(?P<until>[\d-]+):\d+")

Report = Callable[[int, int], None]
"""Is told how many commands are done, and of how many."""


class StoryFailed(RuntimeError):
    """A command of the story got another answer than it should."""


def story(size: int, seed: int, until: date, key: str = "demo") -> list[Line]:
    """The company's two years before ``until`` as lines of commands, in order.

    The same size, seed and day give the same lines, byte for byte; sent again, they add nothing.
    """
    name = f"{key}:{size}:{seed}:{until}"
    telling = Telling(name, until)
    company.happen(telling, size, seed)
    return telling.lines(name)


def check(line: Line, told: str | None) -> None:
    """Let nothing pass but success, or the refusal that the story wants as evidence.

    Args:
        told: why the command was not carried out, with the rule's name if a rule refused it; None
            when it was.

    Raises:
        StoryFailed: with the line and why.
    """
    fits = told is None if line.refused_by is None else line.refused_by in (told or "")
    if not fits:
        raise StoryFailed(f"the company could not be made: {told or 'done'}: {line.raw.decode()}")


def cut_short(conn: Connection) -> tuple[int, int, date] | None:
    """Size, seed and day of a sample company that was begun and never finished."""
    rows = conn.execute(KEYS, (words.LEAD_OF_SALES, f"{SAMPLE}:", f"{SAMPLE};")).fetchall()
    keys = [str(key) for (key,) in rows]
    if not keys or any(key.endswith(":last") for key in keys):
        return None
    found = [NAMED.fullmatch(key) for key in keys]
    return next(
        ((int(m["size"]), int(m["seed"]), date.fromisoformat(m["until"])) for m in found if m), None
    )


def fill(writer: Writer, begun: tuple[int, int, date] | None, report: Report) -> None:
    """Make the sample company, or finish the one that was begun.

    Raises:
        StoryFailed: when a command was answered otherwise than it should.
    """
    lines = story(*(begun or (SIZE, SEED, datetime.now(UTC).date())), key=SAMPLE)
    for done in range(0, len(lines), CHUNK):
        chunk = lines[done : done + CHUNK]
        requests = [from_line(line.raw, OURS) for line in chunk]
        for line, outcome in zip(chunk, writer.handle(requests), strict=True):
            check(line, _told(outcome))
        report(done + len(chunk), len(lines))


def _told(outcome: Outcome) -> str | None:
    if isinstance(outcome, Appended):
        return None
    if isinstance(outcome, Refused):
        return f"{outcome.rule}: {outcome.detail}"
    return type(outcome).__name__
