"""Log lines: how they are rendered, and where they go."""
