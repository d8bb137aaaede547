"""The ledger in PostgreSQL: codec, keys, append, reading, checkpoints, migrations."""
