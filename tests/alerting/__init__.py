"""Tests of what alerts are made of."""
