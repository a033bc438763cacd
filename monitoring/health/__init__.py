"""Health: checks, who runs them, what they found, and the life of the process that tells it."""
