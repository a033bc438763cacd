"""Tests of the seams of the web frameworks."""
