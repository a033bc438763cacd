"""What monitoring costs, measured next to the tools it replaces: one file per question, one harness."""
