"""The numbers of all advisory locks; processes of any two versions exclude each other by them."""

from __future__ import annotations

from enum import StrEnum


class Lock(StrEnum):
    """An advisory lock, as PostgreSQL's functions take it; no number ever changes its meaning."""

    APPEND = "7201, 1"  # the migrations that define appends bear it too
    MIGRATE = "7201, 2"
    CREATE = "7201, 3"  # a read model's empty tables
    REBUILD = "7202"  # the second number is the hash of the read model's name
    POLICIES = "7203, 1"
    RELAY = "7203, 2"
    FACTS = "7203, 4"
    SUMS = "7204"  # the second number is the hash of the schema that holds the sums
