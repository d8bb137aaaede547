"""Commands that keep a ledger safe: backups, and the way back from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import TaskID

from pledge.console import err, progress
from pledge.settings import Settings
from pledge.wiring import database, facts, master_key, parts


def backup(
    to: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
) -> None:
    """Write a backup of the ledger and the keys, while Pledge runs; the master key is apart."""
    from pledge import backup as backups

    settings = Settings()
    with parts(settings) as found, _bytes_done() as report:
        contents = backups.write(found.conninfo, to, facts(settings), report)
    err.print(f"backup of position {contents.position} written to {to}")
    err.print("the master key is not in it: keep that apart, for without it nobody reads the names")


def restore(
    source: Annotated[Path, typer.Argument(metavar="FROM", help="The folder of a backup.")],
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Restore aside, replay it, and throw it away.")
    ] = False,
) -> None:
    """Fill an empty database from a backup; the service derives the rest when it starts."""
    from pledge import backup as backups

    settings = Settings()
    backups.opened(source)
    key = master_key(settings, is_needed=True)
    with database(settings) as conninfo:
        if verify:
            with _bytes_done() as report:
                position = backups.verify(conninfo, source, key, report)
            err.print(
                f"the backup is whole: restored aside up to position {position}, replay equal"
            )
            return
        with _bytes_done() as report:
            done = backups.restore(conninfo, source, key, facts(settings), report)
    err.print(
        f"restored up to position {done.position}, as of {done.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    if not done.facts_answer:
        err.print("the facts behind figures are written again when Pledge starts")


@contextmanager
def _bytes_done() -> Iterator[Callable[[str, int], None]]:
    """Shows how many bytes of which table are done."""
    with progress("bytes") as bar:
        tasks: dict[str, TaskID] = {}

        def report(table: str, done: int) -> None:
            if table not in tasks:
                tasks[table] = bar.add_task(table, total=None)
            bar.update(tasks[table], completed=done, refresh=True)

        yield report
