"""Tests of the LLM adapters."""
