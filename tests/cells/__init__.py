"""Tests of the metric cells: each claim of the package's docstrings as a test."""
