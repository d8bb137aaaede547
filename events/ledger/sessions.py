"""Sessions on PostgreSQL that are given up when the server, or the way to it, is silent."""

from __future__ import annotations

import math
import time
from typing import Any

import psycopg
from psycopg import errors
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from events.ledger.steps import newest

SILENCE_SECONDS = 3.0
"""How long a statement runs before the server is asked whether it answers anybody."""
PROBE_SECONDS = 2
LOOK_SECONDS = 0.1
REACHING = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""How libpq notices a network that is gone; what a connection string says itself has precedence."""
WATCHFUL = (
    "-c client_connection_check_interval=2s "
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)
"""How the server notices a client that is gone: it cancels the query and releases its locks."""


class Silent(psycopg.OperationalError):
    """The server does not answer; what became of the statement is not known."""


class Session(psycopg.Connection[Any]):
    """A session that does not wait for a server that hangs.

    A stopped server looks alive, for its kernel acknowledges every packet. A statement may take as
    long as it needs while the server accepts new sessions.

    Attributes:
        limit: the most seconds of a statement all the same, for sessions that callers wait for.
    """

    limit: float = math.inf

    def wait(
        self, gen: PQGen[RV], interval: float = LOOK_SECONDS, timeout: float | None = None
    ) -> RV:
        """Run a statement to its end, as psycopg does.

        Raises:
            Silent: when the server does not answer, or not within the limit; the session is closed.
        """
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        until = time.monotonic() + self.limit
        while True:
            left = until - time.monotonic()
            try:
                return super().wait(gen, interval, min(SILENCE_SECONDS, left))
            except errors._WaitTimeout:  # noqa: SLF001 - as Connection.wait documents
                if left <= SILENCE_SECONDS or not self._is_answered():
                    self.close()
                    raise Silent("the database does not answer any more") from None

    def _is_answered(self) -> bool:
        """Whether the server accepts a session; one that refuses it does answer."""
        probe = make_conninfo(
            self.info.dsn,
            password=self.info.password or None,
            connect_timeout=PROBE_SECONDS,
            application_name="pledge probe",
        )
        try:
            psycopg.connect(probe).close()
        except errors.ConnectionTimeout:
            return False
        except psycopg.OperationalError:
            return True
        return True


def watchful(conninfo: str, options: str, name: str) -> str:
    """The connection string with time limits for both sides.

    Args:
        options: of the session, as ``-c name=value``.
        name: the application's; PostgreSQL shows it, and behind it the newest step that this
            version knows.
    """
    given = conninfo_to_dict(conninfo)
    limits: dict[str, Any] = {key: value for key, value in REACHING.items() if key not in given}
    session = {"options": f"{options} {WATCHFUL}".strip(), "application_name": f"{name} {newest()}"}
    return make_conninfo(conninfo, **session, **limits)
