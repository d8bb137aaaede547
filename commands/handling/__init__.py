"""A command on its way to the ledger: validated, decided in groups, appended, answered."""
