"""Lines of commands over HTTP: in order, in chunks, again when the service was away."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    """The service's word on one line: its status, why it refused, the ledger's position."""

    status: int
    reason: str | None = None
    position: int | None = None


class Sender:
    """Sends chunks to one service; a context manager that owns the connection.

    The keys in the lines make a second sending harmless, so a chunk whose answer is lost or
    incomplete is sent again, after each of `WAITS`.
    """

    def __init__(self, url: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._service = url.rstrip("/")
        self._sleep = sleep
        self._met = False
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
                return answers
            if wait is not None:
                self._sleep(wait)
        raise ServiceFailedError(
            f"the service at {self._service} stopped answering ({trouble}); {_AGAIN}"
        )

    def _try(self, lines: Sequence[bytes]) -> list[Answer]:
        response = self._client.post(
            f"{self._service}/commands",
            content=b"\n".join(lines) + b"\n",
            headers={
                "content-type": "application/x-ndjson",
                "x-actor": "import",
                "x-actor-kind": "import",
            },
        )
        self._met = True
        status = response.status_code
        if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _BrokenAnswerError(f"status {status}")
        if status != HTTPStatus.OK:
            raise ServiceFailedError(
                f"{self._service}/commands refuses the request: {status} "
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
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        position = told.get("position")
        return Answer(status, position=position if isinstance(position, int) else None)
    return Answer(status, f"{status} {_reason(told)}".strip())


def _reason(problem: dict[str, Any]) -> str:
    said = str(problem.get("detail") or problem.get("title") or "")
    if problem.get("rule"):
        said = f"{problem['rule']}: {said}"
    errors = problem.get("errors")
    fields = [
        f"{error.get('field')}: {error.get('message')}"
        for error in (errors if isinstance(errors, list) else [])
        if isinstance(error, dict)
    ]
    return "; ".join(part for part in (said, *fields) if part)
