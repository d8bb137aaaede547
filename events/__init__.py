"""What happened: event classes, envelope, codec, the ledger."""
