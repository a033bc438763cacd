"""Tests of the two edges: claims that hold for both, and those of one."""
