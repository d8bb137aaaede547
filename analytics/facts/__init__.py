"""Facts in Parquet files: written as the ledger grows, asked through DuckDB."""
