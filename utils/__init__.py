"""Helpers. ``logging_helpers`` is for users; everything else is pure and needs the standard library only."""
