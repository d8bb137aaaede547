"""The operator's settings, read once from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

from events.kafka.topic import TOPIC

PUBLIC_URL = r"^https?://[A-Za-z0-9.\-\[\]:]+(/[^\s?#]*[^\s?#/])?$"
"""A scheme, a host, and perhaps a path without a slash at its end."""


class Settings(BaseSettings):
    """``PLEDGE_*`` of the environment; every default suits one machine and nothing else installed.

    Attributes:
        home: where the embedded database and the master key live.
        database_url: a PostgreSQL of one's own; None starts the embedded one.
        master_key: 32 bytes in base64, which wrap every person's key.
        master_key_file: a file that holds the same; made under ``home`` when neither is given.
        demo: whether an empty ledger gets a sample company.
        kafka_bootstrap: where Kafka is, for the relay.
        kafka_topic: what carries the events there.
        facts: where the Parquet files of figures are, a path or a URL that fsspec knows; under
            ``home`` when not given.
        public_url: where callers reach the service, for the links in answers; without it these are
            relative.
        url: where the commands of this program find a running service.
    """

    model_config = SettingsConfigDict(env_prefix="PLEDGE_", extra="ignore")

    home: Path = Path(".pledge")
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    database_url: str | None = None
    master_key: SecretStr | None = None
    master_key_file: Path | None = None
    demo: bool = True
    kafka_bootstrap: str | None = None
    kafka_topic: str = TOPIC
    facts: str | None = None
    public_url: Annotated[str, StringConstraints(pattern=PUBLIC_URL)] | None = None
    url: str = "http://127.0.0.1:8000"

    @property
    def local_url(self) -> str:
        """Where this machine reaches the service."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host  # noqa: S104 - only compared
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
