"""The write API over HTTP: routes, bulk import, OpenAPI."""
