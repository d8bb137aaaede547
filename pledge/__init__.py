"""The command line, the settings, the embedded PostgreSQL, and the wiring of each process."""
