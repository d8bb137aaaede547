"""Figures, computed over facts."""
