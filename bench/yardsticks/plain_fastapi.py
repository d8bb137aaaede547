"""A bare FastAPI endpoint that validates a lead's fields and stores nothing."""

from __future__ import annotations

import gc
from uuid import UUID

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from commands.http.wire import ENTRIES
from events.values import ActorId, Email, Instant, Line, Text


class LeadBody(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Line
    email: Email | None = None
    phone: Line | None = None
    need: Text | None = None
    company: Line | None = None
    source: Line | None = None
    campaign: Line | None = None
    region: Line | None = None
    industry: Line | None = None
    owner: ActorId | None = None
    occurred_at: Instant | None = None
    id: UUID | None = None


def serve(port: int) -> None:
    """Uvicorn and the interpreter set up as Pledge sets them up."""
    assert LeadBody.model_fields.keys() == ENTRIES["leads/capture"].body.model_fields.keys()
    app = FastAPI()

    @app.post("/leads", status_code=201)
    async def capture(body: LeadBody) -> dict[str, str]:
        return {"name": body.name}

    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    uvicorn.Server(config).run()
