"""Lines of commands over HTTP: in order, in chunks, again when the service was away."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import orjson

from pledge.importing.errors import ServiceFailedError, ServiceUnreachableError

CHUNK_LINES = 500
CHUNK_BYTES = 1_000_000
WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds between the five tries of one chunk."""

_TIMEOUT = httpx2.Timeout(120.0, connect=5.0)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_AGAIN = (
    "what it has taken is kept, and running the same import again is safe: it adds nothing twice"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The service's word on one line: its status, why it refused, the ledger's position.

    Attributes:
        repeated: whether an earlier import got this answer.
        first: of a key that stands for another line, the status that this one got.
    """

    status: int
    reason: str | None = None
    position: int | None = None
    repeated: bool = False
    first: int | None = None

    @property
    def is_changed(self) -> bool:
        """Whether another line with this key was accepted before."""
        return self.first is not None and self.first < HTTPStatus.MULTIPLE_CHOICES


class Sender:
    """Sends chunks to one service; a context manager that owns the connection.

    The keys in the lines make a second sending harmless, so a chunk whose answer is lost or
    incomplete is sent again, after each of `WAITS`.

    Args:
        url: the service.
        sleep: waits so many seconds between two tries.
        actor: who acts in lines that name nobody else.
        checks: only ask what would become of the lines.
    """

    def __init__(
        self,
        url: str,
        sleep: Callable[[float], None] = time.sleep,
        *,
        actor: str = "import",
        checks: bool = False,
    ) -> None:
        self._service = url.rstrip("/")
        self._route = f"{self._service}/commands{'/check' if checks else ''}"
        self._headers = {
            b"content-type": b"application/x-ndjson",
            b"prefer": b"mark-repeated",
            b"x-actor": actor.encode(),
            b"x-actor-kind": b"import",
        }
        self._sleep = sleep
        self._met = False
        self._position: int | None = None
        try:
            local = urlsplit(url).hostname in _LOOPBACK
            self._client = httpx2.Client(timeout=_TIMEOUT, trust_env=not local)
        except ValueError as error:
            raise ServiceUnreachableError(f"{url} is no address: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def send(self, lines: Sequence[bytes]) -> list[Answer]:
        """Send one chunk; return one answer for each line, in order.

        Raises:
            ServiceUnreachableError: nothing listens here, and nothing was sent.
            ServiceFailedError: five tries failed, or the request as a whole is refused.
        """
        trouble = ""
        lost = False
        for wait in (*WAITS, None):
            answers: list[Answer] | None = None
            try:
                answers = self._try(lines)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if not self._met:
                    raise ServiceUnreachableError(
                        f"no service answers at {self._service}; start one with `make run`, or "
                        "name another address with --url"
                    ) from error
                trouble = str(error) or type(error).__name__
            except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
                raise ServiceUnreachableError(f"{self._service} is no address: {error}") from error
            except (httpx2.HTTPError, _BrokenAnswerError) as error:
                self._met = True
                trouble = str(error) or type(error).__name__
            if answers is not None and (wait is None or not any(map(_passing, answers))):
                return self._noted(answers, lost=lost)
            lost = True
            if wait is not None:
                self._sleep(wait)
        raise ServiceFailedError(
            f"the service at {self._service} stopped answering ({trouble}); {_AGAIN}"
        )

    def _noted(self, answers: list[Answer], *, lost: bool) -> list[Answer]:
        """The answers; those that a try of our own got, whose answer was lost, are not repeated."""
        before = self._position
        if lost and before is not None:
            answers = [
                replace(a, repeated=a.repeated and (a.position or 0) <= before) for a in answers
            ]
        reached = [a.position for a in answers if a.position is not None]
        self._position = max(reached, default=before)
        return answers

    def _try(self, lines: Sequence[bytes]) -> list[Answer]:
        response = self._client.post(
            self._route, content=b"\n".join(lines) + b"\n", headers=self._headers
        )
        self._met = True
        status = response.status_code
        if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _BrokenAnswerError(f"status {status}")
        if status != HTTPStatus.OK:
            raise ServiceFailedError(
                f"{self._route} refuses the request: {status} "
                f"{_reason(_parsed(response.content))}".rstrip()
                + "; is this the address of a Pledge service?"
            )
        told = [_parsed(line) for line in response.content.splitlines() if line.strip()]
        if [one.get("line") for one in told] != list(range(1, len(lines) + 1)):
            raise _BrokenAnswerError(f"{len(told)} answers to {len(lines)} commands")
        return [_answer(one) for one in told]


class _BrokenAnswerError(Exception):
    """An answer that is not whole; the service may have handled all, some or none."""


def _passing(answer: Answer) -> bool:
    return answer.status in _PASSING or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _answer(told: dict[str, Any]) -> Answer:
    status = told.get("status")
    if not isinstance(status, int):
        raise _BrokenAnswerError("an answer without a status")
    position = told.get("position")
    position = position if isinstance(position, int) else None
    repeated = told.get("repeated") is True
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Answer(status, None, position, repeated)
    if isinstance(first := told.get("first"), dict):
        known = first.get("status")
        reason = f"its key stands for another command, which was refused: {_reason(first)}"
        return Answer(status, reason, first=known if isinstance(known, int) else None)
    return Answer(status, f"{status} {_reason(told)}".strip(), position, repeated)


def _reason(problem: dict[str, Any]) -> str:
    said = str(problem.get("detail") or problem.get("title") or "")
    if problem.get("rule"):
        said = f"{problem['rule']}: {said}"
    errors = problem.get("errors")
    fields = [
        told
        for error in (errors if isinstance(errors, list) else [])
        if isinstance(error, dict)
        and (told := f"{error.get('field')}: {error.get('message')}") not in said
    ]
    return "; ".join(part for part in (said, *fields) if part)
