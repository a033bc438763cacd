"""Claims over the demo as a user starts it."""
