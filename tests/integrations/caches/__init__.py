"""Tests of the cache adapters."""
