"""The embedded store: what is kept of what happened, and the roll-ups of what was counted."""
