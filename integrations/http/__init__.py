"""HTTP clients: one observation per request sent."""
