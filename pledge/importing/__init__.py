"""Bulk import: files become commands through a mapping, and go to a running service."""

from pledge.importing.delivering import Check
from pledge.importing.errors import (
    ImportFailedError,
    MappingError,
    ServiceFailedError,
    ServiceUnreachableError,
    SourceError,
)
from pledge.importing.mapping import shipped_mappings
from pledge.importing.report import Report, Tally
from pledge.importing.running import run_import

__all__ = [
    "Check",
    "ImportFailedError",
    "MappingError",
    "Report",
    "ServiceFailedError",
    "ServiceUnreachableError",
    "SourceError",
    "Tally",
    "run_import",
    "shipped_mappings",
]
