"""Databases: one observation per statement."""
