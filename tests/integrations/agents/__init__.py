"""Tests of the adapters for frameworks of agents."""
