"""Language models: one observation per call, with its tokens and what they cost."""
