"""Read models at work: events folded into rows, batch by batch, from the ledger or the topic."""
