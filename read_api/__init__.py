"""Who is asking: query and audit endpoints, pages."""
