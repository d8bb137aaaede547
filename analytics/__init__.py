"""What it means: figures computed over facts."""
