"""Stands between the service and PostgreSQL, and fails on command."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

READY = b"Z\x00\x00\x00\x05I"
"""How the server ends an answer once its transaction is over."""


@dataclass
class _Line:
    client: socket.socket
    server: socket.socket
    swallowing: bool = False
    threads: list[threading.Thread] = field(default_factory=list)

    def cut(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Forwards bytes between clients and the server of ``url``; ``proxy.url`` leads through it."""

    def __init__(self, url: str) -> None:
        self._target = conninfo_to_dict(url)
        self._cuts: dict[bytes, str] = {}
        self._lines: list[_Line] = []
        self._lock = threading.Lock()
        self._questions_flow, self._answers_flow = threading.Event(), threading.Event()
        self._frozen_by: bytes | None = None
        self.thaw()
        self._port = 0
        self.cuts_made = 0
        self.reopen()
        self.url = make_conninfo(
            url, host="127.0.0.1", port=self._port, sslmode="disable", gssencmode="disable"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self.refuse()
        for line in self._lines:
            for thread in line.threads:
                thread.join()
            line.client.close()
            line.server.close()

    def cut_at(self, marker: bytes, when: str) -> None:
        """Cut the line once, at the next message that holds these bytes.

        "before": the server never gets it whole. "after": the server carries it out and answers,
        and the answer is lost.
        """
        self._cuts[marker] = when

    def freeze(self) -> None:
        """Be like a server that was stopped: take whatever comes, and do nothing with it."""
        self._questions_flow.clear()
        self._answers_flow.clear()

    def freeze_at(self, marker: bytes) -> None:
        """Freeze behind the next message that holds these bytes: the server carries it out."""
        self._frozen_by = marker

    def thaw(self) -> None:
        """Go on; what was taken meanwhile arrives."""
        self._questions_flow.set()
        self._answers_flow.set()

    def refuse(self) -> None:
        """Be away: cut all lines and refuse new ones."""
        self._open = False
        self._accepting.join()
        self._listener.close()
        with self._lock:
            for line in self._lines:
                line.cut()

    def reopen(self) -> None:
        """Be there again, at the same port."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._listener.settimeout(0.02)
        self._port = self._listener.getsockname()[1]
        self._open = True
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            client.settimeout(None)
            line = _Line(client, self._reach_server())
            with self._lock:
                self._lines.append(line)
            for pump in (self._forward_questions, self._forward_answers):
                thread = threading.Thread(target=pump, args=(line,))
                line.threads.append(thread)
                thread.start()

    def _reach_server(self) -> socket.socket:
        host, port = str(self._target.get("host", "localhost")), self._target.get("port", 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, int(str(port))))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _forward_questions(self, line: _Line) -> None:
        tail = b""
        with suppress(OSError):
            while chunk := line.client.recv(65536):
                seen = tail + chunk
                tail = seen[-200:]
                marker = next((marker for marker in self._cuts if marker in seen), None)
                if marker is not None:
                    self.cuts_made += 1
                    if self._cuts.pop(marker) == "before":
                        break
                    line.swallowing = True
                self._questions_flow.wait()
                if self._frozen_by is not None and self._frozen_by in seen:
                    self._frozen_by = None
                    self.freeze()
                line.server.sendall(chunk)
        line.cut()

    def _forward_answers(self, line: _Line) -> None:
        swallowed = b""
        with suppress(OSError):
            while chunk := line.server.recv(65536):
                if line.swallowing:
                    swallowed += chunk
                    if swallowed.endswith(READY):
                        break
                else:
                    self._answers_flow.wait()
                    line.client.sendall(chunk)
        line.cut()
