"""A command on its way to the ledger: decided in groups, appended, its outcome known."""
