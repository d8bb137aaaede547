"""The read API: queries, figures, the audit and health over HTTP."""
