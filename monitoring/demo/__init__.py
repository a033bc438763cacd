"""A grant-proposal generator under traffic, to see monitoring-kit at work. Start it with `monitoring demo`."""
