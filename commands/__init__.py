"""What is asked: command models, the catalog, handling, the write API."""
