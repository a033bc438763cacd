"""One kit per framework: the same small app in each, and a client to ask it."""
