"""The front door: CLI, settings, embedded PostgreSQL, the wiring of each process."""
