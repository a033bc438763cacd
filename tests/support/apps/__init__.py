"""Small real apps, configured by the environment, that the server tests put behind real servers."""
