"""What ``pledge export`` writes: every event, or the whole of a list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import IO, Any, get_args

import orjson
from pydantic import ValidationError

from events.ledger import ledger
from pledge.console import Failed
from pledge.wiring import Parts
from projections.asking.clocks import Unanswerable
from projections.asking.listing import Question
from projections.asking.view import Caller
from projections.catalog import QUESTIONS
from projections.engine.folding import readable
from projections.engine.tables import Connection
from read_api.files import FORMS
from read_api.listing import following
from read_api.reading import NotThereYet, Reader

EVENTS = "events"
CHUNK = 1_000
BY_SUFFIX = {form.suffix: form for form in FORMS.values()}
LISTS: dict[str, Question[Any, Any]] = {
    question.path.strip("/"): question
    for question in QUESTIONS
    if not question.is_about_one and "next" in question.shape.model_fields
}
"""By name, as in ``customers`` and ``payments/receivables``."""

Report = Callable[[int], None]
"""Is told how many rows are written."""


def write_events(
    conn: Connection, found: Parts, out: IO[bytes], after: int, warn: Callable[[str], None]
) -> int:
    """Write every event above a position as a line of JSON; how many these were.

    Args:
        warn: is told of each event that cannot be read, and is left out.
    """
    keyring = found.keyring()
    position, count = after, 0
    while rows := ledger.read(conn, position, CHUNK):
        batch = readable(conn, keyring, rows)
        for poison in batch.broken.values():
            warn(f"left out: {poison}")
        for recorded in batch.events:
            line = recorded._asdict()
            line["data"] = line.pop("event").shown()
            out.write(orjson.dumps(line, option=orjson.OPT_UTC_Z) + b"\n")
        position = rows[-1].position
        count += len(batch.events)
    return count


def write_list(
    found: Parts, name: str, asked: Mapping[str, str], out: IO[bytes], suffix: str, report: Report
) -> int:
    """Write the whole of a list, as the API's file has it; how many rows these were.

    Raises:
        Failed: when there is no such list or form, or a parameter is wrong.
    """
    if name not in LISTS:
        raise Failed(f"No list is called {name}. There are: {EVENTS}, {', '.join(sorted(LISTS))}.")
    if suffix not in BY_SUFFIX:
        raise Failed(f"The file should end with .{', .'.join(BY_SUFFIX)}.")
    if wrong := sorted({"limit", "cursor"} & asked.keys()):
        raise Failed(f"{wrong[0]} is of pages, and an export has the whole list: leave it out.")
    question = LISTS[name]
    reader = Reader(found.conninfo, found.keyring(), size=1)
    reader.open()
    try:
        wanted = question.asks.model_validate(asked)
        wanted.check()
        with reader.view(Caller("export"), question.needs, wanted) as view:
            first = question.answer(view, wanted)
            pages = _pages(first, partial(following, question, view, (), wanted), report)
            [model] = get_args(question.shape.model_fields["items"].annotation)
            return _written(pages, BY_SUFFIX[suffix].write, out, model)
    except ValidationError as error:
        told = [f"{item['loc'][0]}: {item['msg']}" for item in error.errors()]
        raise Failed("; ".join(told)) from error
    except Unanswerable as error:
        raise Failed(f"{error.field} {error}") from error
    except NotThereYet as error:
        raise Failed(f"{error}. Is the service running, or was it stopped too early?") from error
    finally:
        reader.close()


def _pages(page: Any, more: Callable[[str], Any], report: Report) -> Iterator[Sequence[Any]]:
    count = len(page.items)
    yield page.items
    while page.next is not None:
        report(count)
        page = more(page.next)
        count += len(page.items)
        yield page.items


def _written(
    pages: Iterator[Sequence[Any]], write: Callable[..., None], out: IO[bytes], model: Any
) -> int:
    count = 0

    def counted() -> Iterator[Sequence[Any]]:
        nonlocal count
        for page in pages:
            count += len(page)
            yield page

    write(out, counted(), model)
    return count
