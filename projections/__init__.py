"""What is shown: read models, their runtime, their queries."""
