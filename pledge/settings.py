"""The operator's settings, read once from the environment."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict

from events.kafka.topic import TOPIC

Size = Annotated[str, Field(pattern=r"^[1-9][0-9]*(MB|GB|TB|MiB|GiB|TiB)$")]
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
        figures_threads: of DuckDB, for all questions about figures together.
        figures_memory: the most that these questions take together, a size with its unit.
        figures_spill: a folder for what does not fit into that; the system's temporary one when not
            given.
        figures_spill_size: the most that lies there.
        url: where the commands of this program find a running service, if it is not the one that
            runs on this ``home``.
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
    figures_threads: int = Field(2, ge=1)
    figures_memory: Size = "1GB"
    figures_spill: Path | None = None
    figures_spill_size: Size = "4GB"
    url: str | None = None

    @property
    def address(self) -> str:
        """Where a service is that is started with these settings."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def note_of_address(self) -> Path:
        """Where a running product notes its address."""
        return self.home / "address"

    @property
    def service(self) -> str:
        """A running service: the one that is named, or else the one that runs on this home."""
        if self.url is not None:
            return self.url
        if not {"host", "port"} & self.model_fields_set:
            with suppress(OSError):
                return self.note_of_address.read_text(encoding="utf-8").strip()
        return self.address
