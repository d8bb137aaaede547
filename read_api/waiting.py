"""A question waits for a position without holding a thread or a connection."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from read_api.lanes import Busy
from read_api.reading import NotThereYet, Reader

LOOK_SECONDS = 0.01
FACTS_SECONDS = 0.1
"""How often a question that waits for facts is asked again."""
MOST = 500
"""How many questions wait at once."""


class Watch:
    """Looks how far the read models are, once for all that wait, and only while anybody does."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._waiting: dict[asyncio.Future[None], NotThereYet] = {}
        self._looking: asyncio.Task[None] | None = None

    async def reached(self, wanted: NotThereYet, seconds: float) -> None:
        """Return when it pays to ask again, or when time is up.

        Raises:
            Busy: when too many wait already.
        """
        if len(self._waiting) >= MOST:
            raise Busy("questions for a position")
        if not wanted.models:
            await asyncio.sleep(min(seconds, FACTS_SECONDS))
            return
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting[future] = wanted
        if self._looking is None or self._looking.done():
            self._looking = loop.create_task(self._look())
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await future
        finally:
            del self._waiting[future]

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                found = await loop.run_in_executor(self._reader.aside, self._reader.positions)
            except Exception as error:
                for future in self._waiting:
                    if not future.done():
                        future.set_exception(error)
                return
            for future, wanted in self._waiting.items():
                is_there = all(found.get(name, -1) >= wanted.position for name in wanted.models)
                if is_there and not future.done():
                    future.set_result(None)
