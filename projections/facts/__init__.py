"""What each event says, noun by noun, as typed rows: for read models and for Parquet alike."""
