"""Frameworks of agents: they tell of agents, steps and tools; tokens and money are told by the innermost client."""
