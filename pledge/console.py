"""What every command prints with: consoles, progress, and failures in one sentence."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

out = Console()
err = Console(stderr=True)


def progress(of: str = "events") -> Progress:
    """A bar on the error console, drawn when it is advanced."""
    return Progress(
        TextColumn("{task.description:<14}"),
        BarColumn(),
        TextColumn(f"{{task.completed}} {of}"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        auto_refresh=False,  # its thread would keep a build from forking
    )


def advance(bar: Progress, task: TaskID, done: int, _head: int) -> None:
    """Show how much is done."""
    bar.update(task, completed=done, refresh=True)


class Failed(RuntimeError):
    """Ends the program with one clear sentence."""
