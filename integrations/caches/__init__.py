"""Caches: one observation per command or pipeline, with its hits and misses."""
