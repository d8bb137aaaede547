"""From records to the service: commands made, keys compared, lines sent, answers counted."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from pledge.importing.errors import ServiceFailedError, ServiceUnreachableError, UnfitError
from pledge.importing.plan import CommandPlan, Line
from pledge.importing.report import Origin, Rejects, Report, Seen
from pledge.importing.sending import CHUNK_BYTES, CHUNK_LINES, Answer, Sender

UNDER_WAY = 2
"""Chunks that are on their way while further rows are rendered; none before the service answers."""
Check = Callable[[bytes], Sequence[str]]
"""Says what is wrong with one line of NDJSON; nothing when it is a good command."""
ANOTHER = (
    "{} gave the same key with other content: give the command a `key` that tells the rows apart, "
    "or `once = true` if the first one counts"
)
CHANGED = (
    "is there already with other content, which stays: stream {}; correct it with a command of its "
    "own, or give the row another key if it is another thing"
)


class Rehearsal(Protocol):
    """Decides commands as the service would, as far as a file alone tells."""

    def refusal(self, line: bytes) -> str | None:
        """The rule that refuses a line after all the lines before it, or None."""

    def pass_over(self, line: bytes) -> None:
        """Note a line that the service knows already: its stream has a history of its own."""


class Sent(NamedTuple):
    """A line on its way, and the rows that gave it."""

    line: Line
    origin: Origin


class Delivery:
    """Takes records, one after the other; chunks are sent while the next ones are rendered.

    Args:
        sender: to the service; of a dry run, one that only checks.
        check: in a dry run, judges each line.
        rehearsal: in a dry run, says which rules would refuse.
    """

    def __init__(
        self,
        report: Report,
        rejects: Rejects,
        changes: Rejects,
        sender: Sender,
        check: Check | None = None,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        self._report = report
        self._rejects = rejects
        self._changes = changes
        self._sender = sender
        self._check = check
        self._rehearsal = rehearsal
        self._seen = Seen()
        self._chunk: list[Sent] = []
        self._bytes = 0
        self._beside = 0
        self._thread = ThreadPoolExecutor(1, "sending")
        self._under_way: deque[tuple[list[Sent], Future[list[Answer]]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._seen.__exit__(kind, error, trace)

    def take(self, origin: Origin, commands: Sequence[CommandPlan], values: dict[str, Any]) -> None:
        """Make the commands of a record; if one cannot be made, none of them is sent."""
        lines: list[Line] = []
        repeated: list[str] = []
        fit = True
        for command in commands:
            try:
                key = command.key_of(values)
                if key is None:
                    continue
                if command.once and self._seen.knows(key):
                    repeated.append(command.rule.command)
                else:
                    lines.append(command.line(values, key))
            except UnfitError as error:
                self._refuse(origin, command.rule.command, str(error))
                fit = False
        if fit:
            for name in repeated:
                self._report.tally(name).repeated += 1
            for line in lines:
                self._take_line(line, origin)

    def finish(self) -> None:
        """Send what waits, and wait for every answer.

        Raises:
            ServiceUnreachableError, ServiceFailedError: as the sender.
        """
        self._send()
        while self._under_way:
            self._settle()

    def _take_line(self, line: Line, origin: Origin) -> None:
        tally = self._report.tally(line.command)
        first = self._seen.first(line, origin)
        if first is not None:
            where, same = first
            if same or line.once:
                tally.repeated += 1
            else:
                self._refuse(origin, line.command, ANOTHER.format(where))
            return
        problems = self._check(line.body) if self._check is not None else ()
        if problems:
            self._refuse(origin, line.command, "; ".join(problems))
            return
        tally.made += 1
        self._chunk.append(Sent(line, origin))
        self._bytes += len(line.body)
        if len(self._chunk) >= CHUNK_LINES or self._bytes >= CHUNK_BYTES:
            self._send()

    def _refuse(self, origin: Origin, command: str, reason: str) -> None:
        self._report.tally(command).refused += 1
        self._rejects.add(origin, command, reason)

    def _send(self) -> None:
        if not self._chunk:
            return
        lines = [line.body for line, _ in self._chunk]
        self._under_way.append((self._chunk, self._thread.submit(self._asked, lines)))
        self._chunk, self._bytes = [], 0
        while len(self._under_way) > self._beside:
            self._settle()

    def _asked(self, lines: list[bytes]) -> list[Answer]:
        """The answers of the service; in a dry run without one nothing is known."""
        if not self._report.dry_run:
            return self._sender.send(lines)
        if self._report.compared:
            try:
                return self._sender.send(lines)
            except (ServiceUnreachableError, ServiceFailedError):
                self._report.compared = False
        return [Answer(0)] * len(lines)

    def _settle(self) -> None:
        chunk, future = self._under_way.popleft()
        answers = future.result()
        self._beside = UNDER_WAY if self._report.compared else 0
        for (line, origin), answer in zip(chunk, answers, strict=True):
            self._count(line, origin, answer)
            if answer.position is not None and not self._report.dry_run:
                self._report.position = max(self._report.position or 0, answer.position)

    def _count(self, line: Line, origin: Origin, answer: Answer) -> None:
        tally = self._report.tally(line.command)
        if answer.is_changed and not line.once:
            tally.changed += 1
            self._changes.add(origin, line.command, CHANGED.format(line.id))
        elif answer.is_changed or (answer.reason is None and answer.repeated):
            tally.there += 1
        elif answer.reason is not None:
            self._refuse(origin, line.command, answer.reason)
        elif self._rehearsal is not None and (reason := self._rehearsal.refusal(line.body)):
            self._refuse(origin, line.command, reason)
        else:
            tally.accepted += 1
            return
        if self._rehearsal is not None:
            self._rehearsal.pass_over(line.body)
