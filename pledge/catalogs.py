"""What may be commanded and what may be asked, held against each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from commands.catalog import Streams


def check(catalog: Mapping[str, Streams[Any, Any]], routes: Iterable[BaseRoute]) -> None:
    """What a command has created can be read: the answers of commands link there.

    Raises:
        TypeError: saying which question is missing, and where to put it.
    """
    faults = list(_faults(catalog, routes))
    if faults:
        raise TypeError("\n".join(faults))


def _faults(catalog: Mapping[str, Streams[Any, Any]], routes: Iterable[BaseRoute]) -> Iterator[str]:
    names = {
        route.path: route.name
        for route in routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    }
    for plural, streams in catalog.items():
        path = f"/{plural}/{{id}}"
        if streams.creates is not None and names.get(path) != streams.reading:
            yield (
                f"GET {path} has to be a question named {streams.reading!r}, to which answers of "
                f"POST /{plural} link, and is {names.get(path)!r}: "
                f"add it to QUESTIONS in projections/{plural}.py."
            )
