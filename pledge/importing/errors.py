"""Why an import stops. Each text is a sentence for the person who started it."""


class ImportFailedError(Exception):
    """The import did not run to its end."""


class MappingError(ImportFailedError):
    """The mapping says something that cannot be done; nothing was sent."""


class SourceError(ImportFailedError):
    """The file or folder to import cannot be read."""


class ServiceUnreachableError(ImportFailedError):
    """No service answers at the address; nothing was sent."""


class ServiceFailedError(ImportFailedError):
    """The service stopped answering, or refuses the whole request."""


class UnfitError(ValueError):
    """A row does not yield its command; the text says which field and why."""
